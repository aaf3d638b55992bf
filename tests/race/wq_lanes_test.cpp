// Goal: works that come from different cores, and so lie in different lanes, are all run, each once; a class with one
// worker starts them in submit order all the same; a cancel finds them in whichever lane they are.
// Method: the engine on the deterministic scheduler; fibers that say which core they are on. Nobody is the manager until
// all is over where lost work is looked for, so work that nobody runs is a deadlock.
#include <gtest/gtest.h>

#include "race/wq_rig.h"

namespace wq_lanes_test {
namespace {

using namespace sluice;

using traits = detail::pool_traits<race::sync>;

// The calling fiber goes on there.
void go_to(std::uint32_t core) {
  traits::cores[race::detail::engine::active()->self_index()] = core;
}
// From there, and works are quick: they have lanes.
[[nodiscard]] bool submit_quick(wq_rig& rig, race_job& job, std::uint32_t core) {
  go_to(core);
  rig.pool.account_at(0, work_class::bound).set_quick(true);
  return rig.submit(job);
}

// P5 W1: two submitters on two cores, and one worker that is on one of them.
TEST(RaceWqLanes, TwoSubmittersOneWorker) {
  explore([](race::run& run) {
    traits::cores = {};
    auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
    auto all = std::make_shared<release_count>();
    for (std::size_t i = 0; i < 4; ++i) {
      all->expect(rig->jobs[i]);
    }
    auto* const one = rig->add_worker();
    run.thread([=] { rig->pool.worker_loop(*one); });
    run.thread(
        [=] { race::check(submit_quick(*rig, rig->jobs[0], 1) && submit_quick(*rig, rig->jobs[1], 1), "accepted"); });
    run.thread([=] {
      race::check(submit_quick(*rig, rig->jobs[2], 0) && submit_quick(*rig, rig->jobs[3], 0), "accepted");
      all->wait_for(4);
      rig->stop();
    });
    run.after([=] {
      for (std::size_t i = 0; i < 4; ++i) {
        rig->jobs[i].check_done();
      }
    });
  });
}

// P5 W1: one submitter that is moved between its works, and a worker on each core that takes them: with lanes that have
// waited for long, and on a clock that stands, so that each worker has its own lane first.
TEST(RaceWqLanes, MovedSubmitterTwoWorkers) {
  for (const auto step : {std::chrono::milliseconds(1), std::chrono::milliseconds(0)}) {
    explore([step](race::run& run) {
      traits::cores = {};
      auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
      rig->clock.step = step;
      auto all = std::make_shared<release_count>();
      for (std::uint32_t core = 0; core < 2; ++core) {
        auto* const one = rig->add_worker();
        run.thread([=] {
          go_to(core);
          rig->pool.worker_loop(*one);
        });
      }
      for (std::size_t i = 0; i < 5; ++i) {
        all->expect(rig->jobs[i]);
      }
      run.thread([=] {
        for (const std::uint32_t i : {0U, 1U, 2U, 3U, 4U}) {
          race::check(submit_quick(*rig, rig->jobs[i], i % 2), "accepted");
        }
        all->wait_for(5);
        rig->clock.step = std::chrono::milliseconds(1);
        rig->stop();
      });
      run.after([=] {
        for (std::size_t i = 0; i < 5; ++i) {
          rig->jobs[i].check_done();
        }
      });
    });
  }
}

// P6 P8: the first of a batch blocks, and says so, until the last has run: the rest goes back to the lane it came from.
TEST(RaceWqLanes, RegionAgainstBatch) {
  explore([](race::run& run) {
    traits::cores = {};
    auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
    for (std::uint32_t core = 0; core < 2; ++core) {
      auto* const one = rig->add_worker();
      run.thread([=] {
        go_to(core);
        rig->pool.worker_loop(*one);
      });
    }
    block_until(rig->jobs[0], rig->jobs[2]);
    run.thread([=] {
      go_to(1);
      rig->pool.account_at(0, work_class::bound).set_quick(true);
      std::array<work*, 3> some{&rig->jobs[0], &rig->jobs[1], &rig->jobs[2]};
      const auto accepted = rig->pool.submit(std::span<work* const>(some));
      race::check(accepted.has_value() && *accepted == 3, "all accepted");
      race::check(submit_quick(*rig, rig->jobs[3], 0), "accepted");
      rig->stop();
    });
    run.after([=] {
      for (std::size_t i = 0; i < 4; ++i) {
        rig->jobs[i].check_done();
      }
    });
  });
}

// Works that two threads submit, one after the other and from core to core, are started by one worker in that order.
template <class Submit>
void keeps_the_order(unsigned max, Submit submit) {
  explore([=](race::run& run) {
    traits::cores = {};
    auto rig = std::make_shared<wq_rig>(wq_rig::options(max));
    auto submitted = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
    auto* const one = rig->add_worker();
    for (std::size_t i = 0; i < 4; ++i) {
      rig->jobs[i].number = static_cast<int>(i);
      rig->jobs[i].log = &rig->log;
    }
    run.thread([=] { rig->pool.worker_loop(*one); });
    run.thread([=] {
      race::check(submit(*rig, rig->jobs[0], 1) && submit(*rig, rig->jobs[1], 0), "accepted");
      submitted->store(1, std::memory_order_release);
      race::sync::wake(*submitted, 1);
    });
    run.thread([=] {
      while (submitted->load(std::memory_order_acquire) == 0) {
        race::sync::wait(*submitted, 0);
      }
      race::check(submit(*rig, rig->jobs[2], 1) && submit(*rig, rig->jobs[3], 0), "accepted");
      rig->stop();
    });
    run.after([=] {
      race::check(rig->log == std::vector<int>{0, 1, 2, 3}, "in submit order");
      for (std::size_t i = 0; i < 4; ++i) {
        rig->jobs[i].check_done();
      }
    });
  });
}

TEST(RaceWqLanes, OneWorkerKeepsTheOrder) {
  keeps_the_order(1, submit_quick);
}

TEST(RaceWqLanes, WorksThatAreNotQuickKeepTheOrder) {
  keeps_the_order(2, [](wq_rig& rig, race_job& job, std::uint32_t core) {
    go_to(core);
    return rig.submit(job);
  });
}

// C1 C3 W1: works of both lanes, cancelled one by one while they are taken, by whoever is on the other core.
TEST(RaceWqLanes, CancelAgainstDequeue) {
  explore([](race::run& run) {
    traits::cores = {};
    auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
    auto* const one = rig->add_worker();
    run.thread([=] {
      go_to(1);
      rig->pool.worker_loop(*one);
    });
    run.thread([=] {
      std::array<work_handle, 4> names;
      for (const std::uint32_t i : {0U, 1U, 2U, 3U}) {
        go_to(i / 2);
        rig->pool.account_at(0, work_class::bound).set_quick(true);
        names[i] = rig->submit_tracked(rig->jobs[i]);
      }
      for (const std::uint32_t i : {1U, 2U}) {
        const cancel_result said = rig->pool.cancel(names[i]);
        race::check(said != cancel_result::cancelled || (rig->jobs[i].releases == 1 && rig->jobs[i].began_cancelled),
                    "cancelled: it was pending, and is over (C1)");
        race::check(said != cancel_result::not_found || rig->jobs[i].ended, "not found: its run is over (C3)");
      }
      race::check(rig->submit(rig->jobs[4]), "accepted");
      rig->stop();
    });
    run.after([=] {
      for (std::size_t i = 0; i < 5; ++i) {
        rig->jobs[i].check_done();
      }
    });
  });
}

// P5: a worker that says it blocks looks for works without the account's lock, while somebody who only counts them, or
// takes others back, moves them from the inbox to the lists.
TEST(RaceWqLanes, RegionAgainstStats) {
  explore([](race::run& run) {
    traits::cores = {};
    auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
    auto all = std::make_shared<release_count>();
    for (std::size_t i = 0; i < 2; ++i) {
      all->expect(rig->jobs[i]);
      auto* const one = rig->add_worker();
      run.thread([=] { rig->pool.worker_loop(*one); });
    }
    block_until(rig->jobs[0], rig->jobs[1]);
    run.thread([=] { static_cast<void>(rig->pool.stats()); });
    run.thread([=] {
      race::check(rig->submit(rig->jobs[0]) && rig->submit(rig->jobs[1]), "accepted");
      all->wait_for(2);
      rig->stop();
    });
    run.after([=] {
      rig->jobs[0].check_done();
      rig->jobs[1].check_done();
    });
  });
}

// A work of priority that comes as the next of a chain is expected as one that was submitted: works that would go before it
// are looked for everywhere.
TEST(RaceWqLanes, PromotedWorkOfPriorityIsExpected) {
  explore(
      [](race::run& run) {
        auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
        auto* const head = rig->add_worker(work_class::unbound);
        auto* const rest = rig->add_worker(work_class::bound);
        rig->jobs[0].set_class(work_class::unbound);
        rig->jobs[1].set_ioprio_class(ioprio_class::idle);
        rig->jobs[0].then(&rig->jobs[1]);
        run.thread([=] { rig->pool.worker_loop(*head); });
        run.thread([=] { rig->pool.worker_loop(*rest); });
        run.thread([=] {
          race::check(rig->submit(rig->jobs[0]), "accepted");
          rig->stop();
        });
        run.after([=] {
          rig->jobs[0].check_done();
          rig->jobs[1].check_done();
          race::check(rig->pool.account_at(0, work_class::bound).expects_grades(), "expected");
        });
      },
      {.schedules = 1000});
}

// How much a worker takes at once grows only if it had that much: one work after the other says nothing of many.
TEST(RaceWqLanes, SingleWorksMakeNoLargeBatches) {
  explore(
      [](race::run& run) {
        auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
        rig->clock.step = std::chrono::nanoseconds(0);  // each batch is over at once
        auto* const one = rig->add_worker();
        one->pace.batch_limit = 1;
        auto all = std::make_shared<release_count>();
        run.thread([=] { rig->pool.worker_loop(*one); });
        run.thread([=] {
          for (std::uint32_t i = 0; i < 5; ++i) {
            all->expect(rig->jobs[i]);
            race::check(rig->submit(rig->jobs[i]), "accepted");
            all->wait_for(i + 1);
          }
          rig->clock.step = std::chrono::milliseconds(1);
          rig->stop();
        });
        run.after([=] { race::check(one->pace.batch_limit <= 4, "of one work each"); });
      },
      {.schedules = 1000});
}

}  // namespace
}  // namespace wq_lanes_test
