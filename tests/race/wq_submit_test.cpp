// Goal: no work is lost, doubled or stranded between submitters, workers that fall idle or leave, and a stop.
// Method: the engine on the deterministic scheduler; each scenario ends in a stop, so work that nobody runs is a deadlock.
#include <gtest/gtest.h>

#include "race/wq_rig.h"

namespace wq_submit_test {
namespace {

using namespace sluice;

// P5 W7: park against wake: a worker falls idle while works come.
TEST(RaceWq, ParkAgainstWake) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
    auto* const one = rig->add_worker();
    run.thread([=] { rig->pool.worker_loop(*one); });
    run.thread([=] {
      race::check(rig->submit(rig->jobs[0]) && rig->submit(rig->jobs[1]), "accepted");
      rig->stop();
    });
    run.after([=] {
      rig->jobs[0].check_done();
      rig->jobs[1].check_done();
      race::check(!rig->jobs[0].began_cancelled && !rig->jobs[1].began_cancelled, "run, not given up");
      rig->check_sampler_found_nothing();
    });
  });
}

// P5: two submitters, two workers.
TEST(RaceWq, TwoSubmittersTwoWorkers) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
    auto done = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
    for (int i = 0; i < 2; ++i) {
      auto* const one = rig->add_worker();
      run.thread([=] { rig->pool.worker_loop(*one); });
    }
    const auto submitter = [=](std::size_t first) {
      race::check(rig->submit(rig->jobs[first]) && rig->submit(rig->jobs[first + 1]), "accepted");
      done->fetch_add(1, std::memory_order_seq_cst);
      race::sync::wake(*done, wake_all);
    };
    run.thread([=] { submitter(0); });
    run.thread([=] {
      submitter(2);
      while (done->load(std::memory_order_seq_cst) == 1) {
        race::sync::wait(*done, 1);
      }
      rig->stop();
    });
    run.after([=] {
      for (std::size_t i = 0; i < 4; ++i) {
        rig->jobs[i].check_done();
      }
    });
  });
}

// X3 W6 W7: submit against stop: refused and untouched, or accepted and over when stop returns.
TEST(RaceWq, SubmitAgainstStop) {
  for (const stop_policy policy : {stop_policy::run_queued, stop_policy::cancel_queued}) {
    explore([policy](race::run& run) {
      auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
      auto* const one = rig->add_worker();
      auto accepted = std::make_shared<std::array<bool, 2>>();
      run.thread([=] { rig->pool.worker_loop(*one); });
      run.thread([=] {
        (*accepted)[0] = rig->submit(rig->jobs[0]);
        (*accepted)[1] = rig->submit(rig->jobs[1]);
      });
      run.thread([=] { rig->stop(policy); });
      run.after([=] {
        race::check((*accepted)[0] || !(*accepted)[1], "after one refusal all are refused");
        for (std::size_t i = 0; i < 2; ++i) {
          (*accepted)[i] ? rig->jobs[i].check_done() : rig->jobs[i].check_untouched();
          race::check(policy == stop_policy::cancel_queued || !rig->jobs[i].began_cancelled,
                      "run_queued runs what was accepted (X6)");
        }
      });
    });
  }
}

// X6: a work that was queued while stop(cancel_queued) looked at all others is given up too, or asked to stop. Its run ends
// only then, so a work that stop misses is a livelock.
TEST(RaceWq, SubmitAgainstCancellingStop) {
  for (const bool keyed : {false, true}) {
    explore([keyed](race::run& run) {
      auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
      auto* const one = rig->add_worker();
      auto accepted = std::make_shared<bool>(false);
      if (keyed) {
        rig->set_key(rig->jobs[0], 7);
      }
      rig->jobs[0].then(&rig->jobs[1]);
      for (std::size_t i = 0; i < 2; ++i) {
        rig->jobs[i].body = [](work_context& ctx) {
          while (!ctx.cancelled()) {
            race::sync::relax();
          }
        };
      }
      run.thread([=] { rig->pool.worker_loop(*one); });
      run.thread([=] { *accepted = rig->submit(rig->jobs[0]); });
      run.thread([=] { rig->stop(stop_policy::cancel_queued); });
      run.after([=] {
        for (std::size_t i = 0; i < 2; ++i) {
          *accepted ? rig->jobs[i].check_done() : rig->jobs[i].check_untouched();
        }
      });
    });
  }
}

// X6: stop(cancel_queued) asks what runs, gives up what is queued, and runs pending no_cancel works. The works that run end
// only when they are asked, so one that stop forgets is a livelock.
TEST(RaceWq, CancellingStopAsksWhatRuns) {
  for (const bool keyed : {false, true}) {
    explore(
        [keyed](race::run& run) {
          auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
          for (int i = 0; i < 2; ++i) {
            auto* const one = rig->add_worker();
            run.thread([=] { rig->pool.worker_loop(*one); });
          }
          for (std::size_t i = 0; i < 4; ++i) {
            run_until_asked(rig->jobs[i]);
            if (keyed && i % 2 == 1) {
              rig->set_key(rig->jobs[i], 7);
            }
          }
          rig->jobs[2].then(&rig->jobs[4]);
          rig->jobs[5].set_flags(work_flags::no_cancel);
          run.thread([=] {
            for (const std::size_t i :
                 {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{5}}) {
              race::check(rig->submit(rig->jobs[i]), "accepted");
            }
            const stop_report report = rig->pool.stop(stop_policy::cancel_queued, no_deadline);
            race::check(report.finished, "stop ends");
            rig->threads.close();
          });
          run.after([=] {
            for (std::size_t i = 0; i < 6; ++i) {
              rig->jobs[i].check_done();
              race::check(i >= 4 || rig->jobs[i].asked, "each was asked, or given up");
            }
            race::check(rig->jobs[4].began_cancelled, "the member after a cancelled one is given up (W5)");
            race::check(!rig->jobs[5].began_cancelled && !rig->jobs[5].asked, "no_cancel work is run (C4)");
          });
        },
        {.schedules = 30'000});
  }
}

// X6: stop(run_queued) runs all that was accepted: works with and without a key, chains, and what is still in an inbox.
TEST(RaceWq, RunningStopRunsAllThatIsQueued) {
  explore(
      [](race::run& run) {
        auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
        for (int i = 0; i < 2; ++i) {
          auto* const one = rig->add_worker();
          run.thread([=] { rig->pool.worker_loop(*one); });
        }
        rig->set_key(rig->jobs[1], 7);
        rig->set_key(rig->jobs[2], 7);
        rig->set_key(rig->jobs[5], 7);
        rig->jobs[3].then(&rig->jobs[4]);
        rig->jobs[4].then(&rig->jobs[5]);
        run.thread([=] {
          for (std::size_t i = 0; i < 4; ++i) {
            race::check(rig->submit(rig->jobs[i]), "accepted");
          }
          const stop_report report = rig->pool.stop(stop_policy::run_queued, no_deadline);
          race::check(report.finished && report.cancelled == 0, "nothing is cancelled (X6)");
          rig->threads.close();
        });
        run.after([=] {
          for (const race_job& each : rig->jobs) {
            each.check_done();
            race::check(!each.began_cancelled && !each.asked, "run, not given up (X6)");
          }
        });
      },
      {.schedules = 30'000});
}

// P3 P4 P5: an idle time-out against a submit: the worker looks again before it leaves, or another is created.
TEST(RaceWq, SpawnAgainstTimeout) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
    rig->threads.spare = 1;  // the second creation fails, and the rescuer is there for what is left
    auto* const one = rig->add_worker(work_class::bound, 0, false);
    run.thread([=] { rig->pool.worker_loop(*one); });
    run.thread([=] { rig->threads.run_body(0); });
    rig->pool.expect_rescuer();
    run.thread([=] { rig->pool.rescuer_loop(); });
    rig->pool.expect_manager();
    run.thread([=] { rig->pool.manager_loop(); });
    run.thread([=] {
      race::check(rig->submit(rig->jobs[0]) && rig->submit(rig->jobs[1]), "accepted");
      rig->stop();
    });
    run.after([=] {
      rig->jobs[0].check_done();
      rig->jobs[1].check_done();
    });
  });
}

// P10 X4: no thread can be created: the rescuer runs what is queued.
TEST(RaceWq, RescuerAgainstFailedCreation) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
    rig->pool.expect_rescuer();
    rig->pool.expect_manager();
    run.thread([=] { rig->pool.rescuer_loop(); });
    run.thread([=] { rig->pool.manager_loop(); });
    run.thread([=] {
      race::check(rig->submit(rig->jobs[0]) && rig->submit(rig->jobs[1]), "accepted");
      rig->stop();
    });
    run.after([=] {
      rig->jobs[0].check_done();
      rig->jobs[1].check_done();
    });
  });
}

// P6 P8: the first work of a batch blocks, and says so, until the second has run: that one must be taken over.
TEST(RaceWq, RegionAgainstBatch) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
    for (int i = 0; i < 2; ++i) {
      auto* const one = rig->add_worker();
      run.thread([=] { rig->pool.worker_loop(*one); });
    }
    block_until(rig->jobs[0], rig->jobs[1]);
    run.thread([=] {
      std::array<work*, 2> both{&rig->jobs[0], &rig->jobs[1]};
      const auto accepted = rig->pool.submit(std::span<work* const>(both));
      race::check(accepted.has_value() && *accepted == 2, "both accepted");
      rig->stop();
    });
    run.after([=] {
      rig->jobs[0].check_done();
      rig->jobs[1].check_done();
      rig->check_sampler_found_nothing();
    });
  });
}

// P5: it blocks without saying so: the sampler finds it, takes the rest of its batch away, and somebody else runs that.
TEST(RaceWq, SilentBlockAgainstSampler) {
  explore(
      [](race::run& run) {
        auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
        auto second_ran = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
        for (int i = 0; i < 2; ++i) {
          auto* const one = rig->add_worker();
          run.thread([=] { rig->pool.worker_loop(*one); });
        }
        rig->jobs[0].body = [=](work_context&) {
          while (second_ran->load(std::memory_order_acquire) == 0) {
            race::sync::wait(*second_ran, 0);
          }
        };
        rig->jobs[1].body = [=](work_context&) {
          second_ran->store(1, std::memory_order_release);
          race::sync::wake(*second_ran, 1);
        };
        rig->pool.expect_manager();
        run.thread([=] { rig->pool.manager_loop(); });
        run.thread([=] {
          std::array<work*, 2> both{&rig->jobs[0], &rig->jobs[1]};
          race::check(rig->pool.submit(std::span<work* const>(both)).has_value(), "accepted");
          rig->stop();
        });
        run.after([=] {
          rig->jobs[0].check_done();
          rig->jobs[1].check_done();
        });
      },
      {.schedules = 100'000, .max_timeouts = 40});
}

// Works that wait although somebody runs, for some ticks, get another worker, within the limit and the CPUs that there are:
// workers that compute never block.
TEST(RaceWq, WorksThatComputeGetAnotherWorker) {
  struct growth {
    unsigned max;
    unsigned asked_for;
  };
  for (const growth& expected : {growth{4, 1}, growth{2, 1}, growth{1, 0}}) {  // of two CPUs, one is in use
    explore(
        [expected](race::run& run) {
          auto rig = std::make_shared<wq_rig>(wq_rig::options(expected.max));
          auto& at = rig->pool.account_at(0, work_class::bound);
          auto* const busy = rig->add_worker();
          auto computes = std::make_shared<race::sync::atomic<std::uint32_t>>(1);
          run.thread([=] {
            while (computes->load(std::memory_order_acquire) != 0) {
              race::sync::relax();
            }
            rig->pool.worker_loop(*busy);
          });
          run.thread([=, &at] {
            race::check(rig->submit(rig->jobs[0]), "accepted");
            const auto asked_after = [&](unsigned ticks) {
              for (unsigned i = 0; i < ticks; ++i) {
                rig->pool.sample();
              }
              const sluice::scoped_lock held(at.lock);
              return at.spawns_locked();
            };
            race::check(asked_after(2) == 0, "not for a moment's wait");
            race::check(asked_after(10) == expected.asked_for, "up to the CPUs and the limit");
            computes->store(0, std::memory_order_release);
            rig->stop();
          });
          run.after([=] { rig->jobs[0].check_done(); });
        },
        {.schedules = 1});
  }
}

// P1: a lowered limit against workers that fall idle: one stays, and the work is run.
TEST(RaceWq, LoweredLimitAgainstIdle) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
    for (int i = 0; i < 2; ++i) {
      auto* const one = rig->add_worker();
      run.thread([=] { rig->pool.worker_loop(*one); });
    }
    run.thread([=] { static_cast<void>(rig->pool.set_max(work_class::bound, 1)); });
    run.thread([=] {
      race::check(rig->submit(rig->jobs[0]) && rig->submit(rig->jobs[1]), "accepted");
      rig->stop();
    });
    run.after([=] {
      rig->jobs[0].check_done();
      rig->jobs[1].check_done();
    });
  });
}

// Work on a node whose class is at its limit elsewhere: a worker of another node takes it rather than let it wait.
TEST(RaceWq, WorkOfANodeWithoutWorkers) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(1), "node:2 pu:1");
    auto* const one = rig->add_worker(work_class::bound, 1);
    run.thread([=] { rig->pool.worker_loop(*one); });
    run.thread([=] {
      race::check(rig->submit(rig->jobs[0]) && rig->submit(rig->jobs[1]), "accepted");
      rig->stop();
    });
    run.after([=] {
      rig->jobs[0].check_done();
      rig->jobs[1].check_done();
    });
  });
}

}  // namespace
}  // namespace wq_submit_test
