// Goal: no internal lock is held in a callback: it may call whatever the pool offers (W2).
// Method: the engine on the deterministic scheduler. Each kind of callback makes every call; a lock that is held then closes
// a cycle, which ends the schedule as a deadlock. Meanwhile other fibers take those locks too.
#include <stop_token>

#include <gtest/gtest.h>

#include "race/wq_cancel_counts.h"
#include "race/wq_rig.h"

namespace wq_callbacks_test {
namespace {

using namespace sluice;
using test::cancel_by;
using test::cancel_kind;

constexpr std::uint64_t nobodys = 99;

// Fires at once when armed.
struct rig_timer : detail::timer_node {
  explicit rig_timer(std::function<void()> what) : timer_node(fire), act_on(std::move(what)) {}
  static void fire(detail::timer_node& node) noexcept { static_cast<rig_timer&>(node).act_on(); }
  std::function<void()> act_on;
};

// The calls that a callback makes. Job 5 is submitted by the first that gets here.
struct caller {
  explicit caller(wq_rig& of) : rig(of) {}

  void call_everything() {
    if (calls++ == 0) {
      handle = rig.submit_tracked(rig.jobs[5]);
    }
    static_cast<void>(rig.pool.cancel(handle));
    rig.pool.cancel_owner(nobodys);
    const auto none = [](void*, const work_view&) { return false; };
    race::check(rig.pool.cancel_chosen(none, nullptr).has_value(), "there is memory");
    rig.pool.set_max(work_class::bound, 1);
    static_cast<void>(rig.pool.stats());
    rig.pool.arm(timer, no_deadline - std::chrono::hours(1));
  }

  // Every fiber but the last to come makes its calls without the pool's end in sight.
  void check_called(int least) const {
    race::check(calls >= least, "the callbacks were called");
    rig.jobs[5].check_done();
  }

  wq_rig& rig;
  int calls = 0;
  work_handle handle;
  rig_timer timer{[] {}};
};

struct scene {
  std::shared_ptr<wq_rig> rig = std::make_shared<wq_rig>(wq_rig::options(2));
  std::shared_ptr<caller> calls = std::make_shared<caller>(*rig);
};

constexpr race::options callback_schedules{.schedules = 2000, .max_steps = 60'000};

// W2: from a run and from the release after it, while another fiber cancels and counts.
TEST(RaceWqCallbacks, RunAndReleaseMayCallThePool) {
  explore(
      [](race::run& run) {
        scene at;
        auto* const one = at.rig->add_worker();
        at.rig->jobs[0].body = [=](work_context&) { at.calls->call_everything(); };
        at.rig->jobs[0].released = [=] { at.calls->call_everything(); };
        at.rig->set_key(at.rig->jobs[1], 7);
        run.thread([=] { at.rig->pool.worker_loop(*one); });
        run.thread([=] {
          at.rig->pool.cancel_owner(nobodys);
          static_cast<void>(at.rig->pool.stats());
        });
        run.thread([=] {
          race::check(at.rig->submit(at.rig->jobs[0]) && at.rig->submit(at.rig->jobs[1]), "accepted");
          while (at.rig->jobs[0].releases == 0) {
            race::sync::relax();
          }
          at.rig->stop();
        });
        run.after([=] {
          at.rig->jobs[0].check_done();
          at.rig->jobs[1].check_done();
          at.calls->check_called(2);
        });
      },
      callback_schedules);
}

// W2: from the cancelled run and the release of a work that waits in a queue, for its key, or as a member of a chain.
TEST(RaceWqCallbacks, CancelledRunAndItsReleaseMayCallThePool) {
  for (const cancel_kind how : {cancel_kind::by_handle, cancel_kind::by_owner, cancel_kind::chosen}) {
    for (const bool keyed : {false, true}) {
      explore(
          [=](race::run& run) {
            scene at;
            auto* const one = at.rig->add_worker();
            constexpr std::uint64_t victim = 7;
            race_job& job = at.rig->jobs[0];
            job.set_owner(victim);
            job.when_cancelled = [=] { at.calls->call_everything(); };
            job.released = [=] { at.calls->call_everything(); };
            job.then(&at.rig->jobs[1]);
            at.rig->jobs[1].released = [=] { at.calls->call_everything(); };
            if (keyed) {
              at.rig->set_key(job, 7);
            }
            run.thread([=] { at.rig->pool.worker_loop(*one); });
            run.thread([=] {
              cancel_by(*at.rig, how, at.rig->submit_tracked(at.rig->jobs[0]), victim);
              while (at.rig->jobs[1].releases == 0) {
                race::sync::relax();
              }
              at.rig->stop();
            });
            run.after([=] {
              at.rig->jobs[0].check_done();
              at.rig->jobs[1].check_done();
              at.calls->check_called(2);
            });
          },
          callback_schedules);
    }
  }
}

// W2: from a stop callback, whichever kind of cancel calls it.
TEST(RaceWqCallbacks, StopCallbackMayCallThePool) {
  for (const cancel_kind how : {cancel_kind::by_handle, cancel_kind::by_owner, cancel_kind::chosen}) {
    explore(
        [how](race::run& run) {
          scene at;
          auto* const one = at.rig->add_worker();
          constexpr std::uint64_t victim = 7;
          auto called = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
          auto ready = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
          race_job& job = at.rig->jobs[0];
          job.set_owner(victim);
          job.body = [=](work_context& ctx) {
            const auto hear = [=] {
              at.calls->call_everything();
              called->store(1, std::memory_order_release);
              race::sync::wake(*called, wake_all);
            };
            const std::stop_callback heard(ctx.stop_token(), hear);
            ready->store(1, std::memory_order_release);
            race::sync::wake(*ready, wake_all);
            while (called->load(std::memory_order_acquire) == 0) {
              race::sync::wait(*called, 0);
            }
          };
          run.thread([=] { at.rig->pool.worker_loop(*one); });
          run.thread([=] {
            const work_handle name = at.rig->submit_tracked(at.rig->jobs[0]);
            while (ready->load(std::memory_order_acquire) == 0) {
              race::sync::wait(*ready, 0);
            }
            cancel_by(*at.rig, how, name, victim);
            at.rig->stop();
          });
          run.after([=] {
            at.rig->jobs[0].check_done();
            at.calls->check_called(1);
          });
        },
        callback_schedules);
  }
}

// W2: from a cancel's predicate and from a timer function.
TEST(RaceWqCallbacks, PredicateAndTimerFunctionMayCallThePool) {
  explore(
      [](race::run& run) {
        scene at;
        auto* const one = at.rig->add_worker();
        auto fired = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
        auto timer = std::make_shared<rig_timer>([=] {
          at.calls->call_everything();
          fired->store(1, std::memory_order_release);
          race::sync::wake(*fired, wake_all);
        });
        run.thread([=] { at.rig->pool.worker_loop(*one); });
        at.rig->pool.expect_manager();
        run.thread([=] { at.rig->pool.manager_loop(); });
        run.thread([=] {
          at.rig->pool.arm(*timer, steady_time::min());
          race::check(at.rig->submit(at.rig->jobs[0]) && at.rig->submit(at.rig->jobs[1]), "accepted");
          const auto choose = [](void* calls, const work_view&) {
            static_cast<caller*>(calls)->call_everything();
            return false;
          };
          race::check(at.rig->pool.cancel_chosen(choose, at.calls.get()).has_value(), "there is memory");
          while (fired->load(std::memory_order_acquire) == 0) {
            race::sync::wait(*fired, 0);
          }
          at.rig->stop();
        });
        run.after([=] {
          at.rig->jobs[0].check_done();
          at.rig->jobs[1].check_done();
          at.calls->check_called(1);
        });
      },
      callback_schedules);
}

}  // namespace
}  // namespace wq_callbacks_test
