// Goal: works that come from different cores, and so lie in different lanes, are all run, each once; a class with one
// worker starts them in submit order all the same; a cancel finds them in whichever lane they are.
// Method: the engine on the deterministic scheduler; fibers that say which core they are on. Nobody is the manager until
// all is over where lost work is looked for, so work that nobody runs is a deadlock.
#include "race/wq_rig.h"

namespace {

using namespace sluice;

using traits = detail::pool_traits<race::sync>;

template <class Scenario>
void explore(Scenario scenario, race::options how = wq_schedules) {
  const race::report found = race::explore(how, scenario);
  EXPECT_TRUE(found.ok()) << found;
}

// The calling fiber goes on there.
void go_to(std::uint32_t core) {
  traits::cores[race::detail::engine::active()->self_index()] = core;
}

struct counted {
  race::sync::atomic<std::uint32_t> over{0};

  void expect(race_job& job) {
    job.released = [this] {
      over.fetch_add(1, std::memory_order_release);
      race::sync::wake(over, wake_all);
    };
  }
  void wait_for(std::uint32_t all) {
    for (std::uint32_t seen = 0; (seen = over.load(std::memory_order_acquire)) != all;) {
      race::sync::wait(over, seen);
    }
  }
};

// P5 W1: two submitters on two cores, and one worker that is on one of them.
TEST(RaceWqLanes, TwoSubmittersOneWorker) {
  explore([](race::run& run) {
    traits::cores = {};
    auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
    auto all = std::make_shared<counted>();
    for (std::size_t i = 0; i < 4; ++i) {
      all->expect(rig->jobs[i]);
    }
    auto* const one = rig->add_worker();
    run.thread([=] { rig->pool.worker_loop(*one); });
    run.thread([=] {
      go_to(1);
      race::check(rig->submit(rig->jobs[0]) && rig->submit(rig->jobs[1]), "accepted");
    });
    run.thread([=] {
      race::check(rig->submit(rig->jobs[2]) && rig->submit(rig->jobs[3]), "accepted");
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

// P5 W1: one submitter that is moved between its works, and a worker on each core that takes them.
TEST(RaceWqLanes, MovedSubmitterTwoWorkers) {
  explore([](race::run& run) {
    traits::cores = {};
    auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
    auto all = std::make_shared<counted>();
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
        go_to(i % 2);
        race::check(rig->submit(rig->jobs[i]), "accepted");
      }
      all->wait_for(5);
      rig->stop();
    });
    run.after([=] {
      for (std::size_t i = 0; i < 5; ++i) {
        rig->jobs[i].check_done();
      }
    });
  });
}

// P6 P8: the first of a batch blocks, and says so, until the last has run: the rest goes back to the lane it came from.
TEST(RaceWqLanes, RegionAgainstBatch) {
  explore([](race::run& run) {
    traits::cores = {};
    auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
    auto last_ran = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
    for (std::uint32_t core = 0; core < 2; ++core) {
      auto* const one = rig->add_worker();
      run.thread([=] {
        go_to(core);
        rig->pool.worker_loop(*one);
      });
    }
    rig->jobs[0].body = [=](work_context&) {
      auto& self = *traits::this_worker();
      self.pool.enter_region(self);
      while (last_ran->load(std::memory_order_acquire) == 0) {
        race::sync::wait(*last_ran, 0);
      }
      self.pool.leave_region(self);
    };
    rig->jobs[2].body = [=](work_context&) {
      last_ran->store(1, std::memory_order_release);
      race::sync::wake(*last_ran, 1);
    };
    run.thread([=] {
      go_to(1);
      std::array<work*, 3> some{&rig->jobs[0], &rig->jobs[1], &rig->jobs[2]};
      const auto accepted = rig->pool.submit(std::span<work* const>(some));
      race::check(accepted.has_value() && *accepted == 3, "all accepted");
      go_to(0);
      race::check(rig->submit(rig->jobs[3]), "accepted");
      rig->stop();
    });
    run.after([=] {
      for (std::size_t i = 0; i < 4; ++i) {
        rig->jobs[i].check_done();
      }
    });
  });
}

// A class that may have one worker starts works in submit order, wherever they come from: across cores and threads.
TEST(RaceWqLanes, OneWorkerKeepsTheOrder) {
  explore([](race::run& run) {
    traits::cores = {};
    auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
    auto submitted = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
    auto* const one = rig->add_worker();
    for (std::size_t i = 0; i < 4; ++i) {
      rig->jobs[i].number = static_cast<int>(i);
      rig->jobs[i].log = &rig->log;
    }
    run.thread([=] { rig->pool.worker_loop(*one); });
    run.thread([=] {
      go_to(1);
      race::check(rig->submit(rig->jobs[0]), "accepted");
      go_to(0);
      race::check(rig->submit(rig->jobs[1]), "accepted");
      submitted->store(1, std::memory_order_release);
      race::sync::wake(*submitted, 1);
    });
    run.thread([=] {
      while (submitted->load(std::memory_order_acquire) == 0) {
        race::sync::wait(*submitted, 0);
      }
      go_to(1);
      race::check(rig->submit(rig->jobs[2]), "accepted");
      go_to(0);
      race::check(rig->submit(rig->jobs[3]), "accepted");
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
        names[i] = rig->submit_tracked(rig->jobs[i]);
      }
      for (const std::uint32_t i : {1U, 2U}) {
        const cancel_result said = rig->pool.cancel(names[i]);
        race::check(said != cancel_result::cancelled || (rig->jobs[i].releases == 1 && rig->jobs[i].began_cancelled),
                    "cancelled: it was pending, and is over (C1)");
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
    auto second_ran = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
    auto all = std::make_shared<counted>();
    for (std::size_t i = 0; i < 2; ++i) {
      all->expect(rig->jobs[i]);
      auto* const one = rig->add_worker();
      run.thread([=] { rig->pool.worker_loop(*one); });
    }
    rig->jobs[0].body = [=](work_context&) {
      auto& self = *traits::this_worker();
      self.pool.enter_region(self);
      while (second_ran->load(std::memory_order_acquire) == 0) {
        race::sync::wait(*second_ran, 0);
      }
      self.pool.leave_region(self);
    };
    rig->jobs[1].body = [=](work_context&) {
      second_ran->store(1, std::memory_order_release);
      race::sync::wake(*second_ran, 1);
    };
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

}  // namespace
