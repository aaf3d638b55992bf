// Goal: what depends on the core that a thread runs on loses nothing: a worker that stands aside for a submitter on its core, one
// that hands over, one that is chosen because it slept on another core; and the crowd counter sees what waits.
// Method: the engine on the deterministic scheduler, with a core for each fiber. The submitter waits for the releases before it
// stops, and no manager runs meanwhile, so a work that no worker runs is a deadlock.
#include <gtest/gtest.h>

#include "race/wq_rig.h"

namespace wq_cores_test {
namespace {

using namespace sluice;

using traits = detail::pool_traits<race::sync>;

// The submitter and the first worker share a core; the second worker has the other.
struct two_cores {
  two_cores() { traits::cores = {0, 0, 1, 0}; }  // the first fiber is the test itself
  ~two_cores() { traits::cores = {}; }
  two_cores(const two_cores&) = delete;
  two_cores& operator=(const two_cores&) = delete;
};

// Submits the first four jobs, one by one, and waits until they are over.
void submit_and_wait(wq_rig& rig) {
  release_count all;
  for (std::size_t i = 0; i < 4; ++i) {
    all.expect(rig.jobs[i]);
    race::check(rig.submit(rig.jobs[i]), "accepted");
  }
  all.wait_for(4);
  rig.stop();
}

// Both workers were woken from the first core, unless said otherwise, and had works one soon after the other.
std::shared_ptr<wq_rig> rig_with_workers(race::run& run, std::uint32_t woken_from = 0) {
  auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
  for (int i = 0; i < 2; ++i) {
    auto* const one = rig->add_worker();
    one->slept_on = i == 0 ? 0 : 1;
    one->woken_from = woken_from;
    one->stream.apart = {};
    run.thread([=] { rig->pool.worker_loop(*one); });
  }
  return rig;
}

// P5: works come while a worker stands aside for their submitter: it hands over, or runs them, and all are run.
TEST(RaceWqCores, HandsOver) {
  const two_cores given;
  explore([](race::run& run) {
    auto rig = rig_with_workers(run);
    run.thread([=] { submit_and_wait(*rig); });
    run.after([=] {
      for (std::size_t i = 0; i < 4; ++i) {
        rig->jobs[i].check_done();
        race::check(!rig->jobs[i].began_cancelled, "run, not given up");
      }
      rig->check_sampler_found_nothing();
    });
  });
}

// The same for a worker that was woken from another core and moved to the submitter's. It stands aside only if works came one soon
// after the other and then stopped.
TEST(RaceWqCores, HandsOverAfterAMove) {
  const two_cores given;
  traits::moved_yields = 0;
  explore([](race::run& run) {
    auto rig = rig_with_workers(run, 7);
    run.thread([=] { submit_and_wait(*rig); });
    run.after([=] {
      for (std::size_t i = 0; i < 4; ++i) {
        rig->jobs[i].check_done();
      }
      rig->check_sampler_found_nothing();
    });
  });
  EXPECT_GT(traits::moved_yields, 0U) << "no worker stood aside";
}

// P5 H2: the same with keys, whose works wait in the table's inbox.
TEST(RaceWqCores, HandsOverKeys) {
  const two_cores given;
  explore([](race::run& run) {
    auto rig = rig_with_workers(run);
    for (std::size_t i = 0; i < 4; ++i) {
      rig->set_key(rig->jobs[i], i % 2);
      rig->jobs[i].number = static_cast<int>(i);
      rig->jobs[i].log = &rig->log;
    }
    run.thread([=] { submit_and_wait(*rig); });
    run.after([=] {
      std::array<std::vector<int>, 2> order;
      for (const int number : rig->log) {
        order[static_cast<std::size_t>(number) % 2].push_back(number);
      }
      race::check(order[0] == std::vector<int>({0, 2}), "each key's works start in submit order (H2)");
      race::check(order[1] == std::vector<int>({1, 3}), "each key's works start in submit order (H2)");
      for (std::size_t i = 0; i < 4; ++i) {
        rig->jobs[i].check_done();
      }
    });
  });
}

// P5 P6: the worker that took over blocks at once, in a region, until the last of the works runs: the one that handed over must not
// sleep on it.
TEST(RaceWqCores, HeirBlocks) {
  const two_cores given;
  explore([](race::run& run) {
    auto rig = rig_with_workers(run);
    block_until(rig->jobs[1], rig->jobs[3]);
    run.thread([=] { submit_and_wait(*rig); });
    run.after([=] {
      for (std::size_t i = 0; i < 4; ++i) {
        rig->jobs[i].check_done();
      }
      rig->check_sampler_found_nothing();
    });
  });
}

// Many at once are for a worker that slept on another core, though the other one fell asleep last.
TEST(RaceWqCores, StreamIsRunElsewhere) {
  const two_cores given;
  explore(
      [](race::run& run) {
        auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
        auto& at = rig->pool.account_at(0, work_class::bound);
        auto* const here = rig->add_worker();
        auto* const elsewhere = rig->add_worker();
        constexpr std::uint32_t nowhere = 99;
        here->woken_from = elsewhere->woken_from = nowhere;
        run.thread([=, &at] {
          while (at.free_workers() != 1) {
            race::sync::relax();
          }
          rig->pool.worker_loop(*here);
        });
        run.thread([=] { rig->pool.worker_loop(*elsewhere); });
        run.thread([=, &at] {
          while (at.free_workers() != 2) {
            race::sync::relax();
          }
          race::check(rig->submit(rig->jobs[0]), "accepted");
          {
            const scoped_lock held(at.lock);
            // Who was listed and looks for work before he sleeps may find it himself.
            race::check(here->woken_from == nowhere, "nobody chooses the one on this core");
          }
          rig->stop();
        });
        run.after([=] { rig->jobs[0].check_done(); });
      },
      {.schedules = 1000});
}

// crowd says so while much waits, whichever of the two counts grows while the other is looked at.
TEST(RaceWqCores, CrowdIsSeen) {
  explore(
      [](race::run& run) {
        auto crowd = std::make_shared<detail::basic_crowd<race::sync>>(16);
        crowd->add_keyed(9);
        crowd->sub_keyed(9);
        run.thread([=] { crowd->add_keyed(9); });
        run.thread([=] { crowd->note(0); });
        run.after([=] {
          race::check(crowd->crowded(), "nine wait");
          crowd->sub_keyed(9);
          crowd->note(0);
          race::check(!crowd->crowded(), "nothing waits");
        });
      },
      {.schedules = 20'000});
}

}  // namespace
}  // namespace wq_cores_test
