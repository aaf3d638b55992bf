// Goal: a key is never forgotten and never run twice at once, whoever comes, goes or cancels ("stall" and "unstall").
// Method: the engine on the deterministic scheduler. A key with works that nobody owns and nobody lists is a deadlock.
#include <gtest/gtest.h>

#include "race/wq_rig.h"

namespace wq_keys_test {
namespace {

using namespace sluice;

// Jobs [0, count) share key 7; each checks that it is alone (H1).
void share_key(wq_rig& rig, std::size_t count, const std::shared_ptr<race::plain<int>>& alone) {
  for (std::size_t i = 0; i < count; ++i) {
    rig.set_key(rig.jobs[i], 7);
    rig.jobs[i].number = static_cast<int>(i);
    rig.jobs[i].log = &rig.log;
    rig.jobs[i].body = [alone](work_context&) { alone->update([](int& n) { ++n; }); };
  }
}

// H2: workers started the jobs `expected`, all of one key, in this order, without those that a canceller gave up.
void check_order(const wq_rig& rig, std::vector<int> expected) {
  std::erase_if(expected, [&rig](int number) { return !rig.jobs[static_cast<std::size_t>(number)].on_worker; });
  std::vector<int> started = rig.started();
  std::erase_if(started, [&expected](int number) { return std::ranges::find(expected, number) == expected.end(); });
  race::check(started == expected, "the whole start order is the submit order (H2)");
}

// C1 C3: what the cancel of one work, which has no chain, says is true at its return.
void check_said(const race_job& job, cancel_result said) {
  race::check(said != cancel_result::cancelled || (job.releases == 1 && !job.on_worker), "over at the return (C1)");
  race::check(said != cancel_result::not_found || job.ended, "not found: its run is over (C3)");
}

// H1 H2 H4 H5 H6: the run of a key ends while another work of it arrives: stall against unstall.
TEST(RaceWqKeys, StallAgainstUnstall) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
    share_key(*rig, 3, std::make_shared<race::plain<int>>(0));
    for (int i = 0; i < 2; ++i) {
      auto* const one = rig->add_worker();
      one->pace.batch_limit = 1;  // each work is a run of its own: the key changes hands as often as it can
      run.thread([=] { rig->pool.worker_loop(*one); });
    }
    run.thread([=] {
      for (std::size_t i = 0; i < 3; ++i) {
        race::check(rig->submit(rig->jobs[i]), "accepted");
      }
      rig->stop();
    });
    run.after([=] {
      for (std::size_t i = 0; i < 3; ++i) {
        rig->jobs[i].check_done();
      }
      check_order(*rig, {0, 1, 2});
      race::check(rig->domain->table.size() == 0, "no entry is left (H4)");
    });
  });
}

// H2 H4: the first, the middle or the last of a key's works is cancelled at any moment (defect 2).
TEST(RaceWqKeys, CancelInTheMiddleOfAKey) {
  for (const std::size_t which : {std::size_t{0}, std::size_t{1}, std::size_t{2}}) {
    explore([which](race::run& run) {
      auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
      share_key(*rig, 4, std::make_shared<race::plain<int>>(0));
      auto* const one = rig->add_worker();
      run.thread([=] { rig->pool.worker_loop(*one); });
      run.thread([=] {
        std::array<work_handle, 3> names;
        for (std::size_t i = 0; i < 3; ++i) {
          names[i] = rig->submit_tracked(rig->jobs[i]);
        }
        check_said(rig->jobs[which], rig->pool.cancel(names[which]));
        race::check(rig->submit(rig->jobs[3]), "accepted");
        rig->stop();
      });
      run.after([=] {
        for (std::size_t i = 0; i < 4; ++i) {
          rig->jobs[i].check_done();
        }
        check_order(*rig, {0, 1, 2, 3});
        race::check(rig->domain->table.size() == 0, "no entry is left (H4)");
      });
    });
  }
}

// A queued key all of whose works are cancelled, while a worker comes for it.
TEST(RaceWqKeys, CancelTheOnlyWorkOfAKey) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
    share_key(*rig, 2, std::make_shared<race::plain<int>>(0));
    for (int i = 0; i < 2; ++i) {
      auto* const one = rig->add_worker();
      run.thread([=] { rig->pool.worker_loop(*one); });
    }
    run.thread([=] {
      check_said(rig->jobs[0], rig->pool.cancel(rig->submit_tracked(rig->jobs[0])));
      race::check(rig->submit(rig->jobs[1]), "accepted");
      rig->stop();
    });
    run.after([=] {
      rig->jobs[0].check_done();
      rig->jobs[1].check_done();
      race::check(rig->domain->table.size() == 0, "no entry is left (H4)");
    });
  });
}

// H2: works of one key in two classes: the key moves between two queues.
TEST(RaceWqKeys, AKeyOfTwoClasses) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
    share_key(*rig, 3, std::make_shared<race::plain<int>>(0));
    rig->jobs[1].set_class(work_class::unbound);
    auto* const bound = rig->add_worker();
    auto* const unbound = rig->add_worker(work_class::unbound);
    run.thread([=] { rig->pool.worker_loop(*bound); });
    run.thread([=] { rig->pool.worker_loop(*unbound); });
    run.thread([=] {
      const work_handle first = rig->submit_tracked(rig->jobs[0]);
      race::check(rig->submit(rig->jobs[1]) && rig->submit(rig->jobs[2]), "accepted");
      check_said(rig->jobs[0], rig->pool.cancel(first));
      rig->stop();
    });
    run.after([=] {
      for (std::size_t i = 0; i < 3; ++i) {
        rig->jobs[i].check_done();
      }
      check_order(*rig, {0, 1, 2});
    });
  });
}

// H1 H2: one domain, two pools, each with one worker; each may end as soon as its own works are over.
TEST(RaceWqKeys, AKeyOfTwoPools) {
  explore([](race::run& run) {
    auto a = std::make_shared<wq_rig>(wq_rig::options(1));
    auto b = std::make_shared<wq_rig>(wq_rig::options(1));
    auto alone = std::make_shared<race::plain<int>>(0);
    auto order = std::make_shared<std::vector<int>>();
    share_key(*a, 2, alone);
    b->domain = a->domain;
    share_key(*b, 1, alone);
    for (auto* const job : {&a->jobs[0], &a->jobs[1], &b->jobs[0]}) {
      job->log = order.get();
    }
    a->jobs[1].number = 2;
    b->jobs[0].number = 1;
    auto* const of_a = a->add_worker();
    auto* const of_b = b->add_worker();
    run.thread([=] { a->pool.worker_loop(*of_a); });
    run.thread([=] { b->pool.worker_loop(*of_b); });
    run.thread([=] {
      race::check(a->submit(a->jobs[0]) && b->submit(b->jobs[0]) && a->submit(a->jobs[1]), "accepted");
      b->stop();
      a->stop();
    });
    run.after([=] {
      a->jobs[0].check_done();
      a->jobs[1].check_done();
      b->jobs[0].check_done();
      race::check(*order == std::vector<int>({0, 1, 2}), "start order is submit order, across pools (H2)");
    });
  });
}

// H2: a linked work of the same key is queued again behind those that wait by then, also when one of these is cancelled.
TEST(RaceWqKeys, LinkedWorkOfTheSameKey) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
    share_key(*rig, 5, std::make_shared<race::plain<int>>(0));
    auto all_queued = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
    rig->jobs[0].body = [=](work_context&) {
      while (all_queued->load(std::memory_order_acquire) == 0) {
        race::sync::wait(*all_queued, 0);
      }
    };
    rig->jobs[1].then(&rig->jobs[4]);
    auto* const one = rig->add_worker();
    run.thread([=] { rig->pool.worker_loop(*one); });
    run.thread([=] {
      race::check(rig->submit(rig->jobs[0]) && rig->submit(rig->jobs[1]), "accepted");
      const work_handle name = rig->submit_tracked(rig->jobs[2]);
      race::check(rig->submit(rig->jobs[3]), "accepted");
      all_queued->store(1, std::memory_order_release);
      race::sync::wake(*all_queued, wake_all);
      check_said(rig->jobs[2], rig->pool.cancel(name));
      rig->stop();
    });
    run.after([=] {
      for (std::size_t i = 0; i < 5; ++i) {
        rig->jobs[i].check_done();
      }
      check_order(*rig, {0, 1, 2, 3, 4});
      race::check(rig->domain->table.size() == 0, "no entry is left (H4)");
    });
  });
}

// H2: a linked work that comes from elsewhere has its place behind those that waited, and before those that come later.
TEST(RaceWqKeys, LinkedWorkThatComesFromElsewhere) {
  explore(
      [](race::run& run) {
        auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
        share_key(*rig, 4, std::make_shared<race::plain<int>>(0));
        auto all_queued = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
        rig->jobs[0].body = [=](work_context&) {
          while (all_queued->load(std::memory_order_acquire) == 0) {
            race::sync::wait(*all_queued, 0);
          }
        };
        rig->jobs[5].set_class(work_class::unbound);  // the head, which has no key
        rig->jobs[5].then(&rig->jobs[2]);
        auto* const bound = rig->add_worker();
        auto* const unbound = rig->add_worker(work_class::unbound);
        run.thread([=] { rig->pool.worker_loop(*bound); });
        run.thread([=] { rig->pool.worker_loop(*unbound); });
        run.thread([=] {
          race::check(rig->submit(rig->jobs[0]) && rig->submit(rig->jobs[1]), "accepted");
          // The first runs: what waits for the key is the second, and then the linked one too.
          const auto waiting = [&] { return rig->pool.stats().bound.waiting_on_key; };
          while (rig->jobs[0].runs == 0 || rig->domain->table.size() == 0) {
            race::sync::relax();
          }
          const std::size_t before = waiting();
          race::check(rig->submit(rig->jobs[5]), "accepted");
          while (waiting() == before) {
            race::sync::relax();
          }
          race::check(rig->submit(rig->jobs[3]), "accepted");
          all_queued->store(1, std::memory_order_release);
          race::sync::wake(*all_queued, wake_all);
          rig->stop();
        });
        run.after([=] {
          for (const std::size_t i : {0U, 1U, 2U, 3U, 5U}) {
            rig->jobs[i].check_done();
          }
          check_order(*rig, {0, 1, 2, 3});
          race::check(rig->domain->table.size() == 0, "no entry is left (H4)");
        });
      },
      {.schedules = 10'000});
}

// P5 H2: two submitters put works of one domain into its inbox while its worker falls idle: whoever was first may be kept
// from telling, and whoever came second must not rely on him.
TEST(RaceWqKeys, TwoSubmittersOfOneDomainAgainstIdle) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
    share_key(*rig, 4, std::make_shared<race::plain<int>>(0));
    rig->set_key(rig->jobs[2], 9);
    rig->set_key(rig->jobs[3], 9);
    auto done = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
    auto* const one = rig->add_worker();
    run.thread([=] { rig->pool.worker_loop(*one); });
    run.thread([=] {
      race::check(rig->submit(rig->jobs[0]) && rig->submit(rig->jobs[1]), "accepted");
      done->store(1, std::memory_order_seq_cst);
      race::sync::wake(*done, 1);
    });
    run.thread([=] {
      race::check(rig->submit(rig->jobs[2]) && rig->submit(rig->jobs[3]), "accepted");
      while (done->load(std::memory_order_seq_cst) == 0) {
        race::sync::wait(*done, 0);
      }
      rig->stop();
    });
    run.after([=] {
      for (std::size_t i = 0; i < 4; ++i) {
        rig->jobs[i].check_done();
      }
      check_order(*rig, {0, 1});
      check_order(*rig, {2, 3});
      race::check(rig->domain->table.size() == 0, "no entry is left (H4)");
    });
  });
}

}  // namespace
}  // namespace wq_keys_test
