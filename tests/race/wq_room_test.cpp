// Goal: a submit that waits for room in a full queue is woken by the thread that makes room, and by a stop; it is never forgotten.
// Method: the engine on the deterministic scheduler. The wait has no time limit, so a wake that is lost is a deadlock.
#include <gtest/gtest.h>

#include "race/wq_cancel_counts.h"
#include "race/wq_rig.h"

namespace wq_room_test {
namespace {

using namespace sluice;
using test::cancel_by;
using test::cancel_kind;

// A queue with room for one work, and submitters that wait for room without a time limit: a wake that is lost is a deadlock.
io_wq_options one_place() {
  io_wq_options how = wq_rig::options(1);
  how.queue_limit = 1;
  how.full = when_full::wait;
  how.full_wait = std::chrono::milliseconds::max();
  return how;
}

// A submit that waits for room is woken by the worker that makes it.
TEST(RaceWqRoom, WaitForRoomAgainstDequeue) {
  for (const bool keyed : {false, true}) {
    explore([keyed](race::run& run) {
      auto rig = std::make_shared<wq_rig>(one_place());
      auto* const one = rig->add_worker();
      for (std::size_t i = 0; keyed && i < 3; ++i) {
        rig->set_key(rig->jobs[i], i);
      }
      run.thread([=] { rig->pool.worker_loop(*one); });
      run.thread([=] {
        for (std::size_t i = 0; i < 3; ++i) {
          race::check(rig->submit(rig->jobs[i]), "accepted as soon as there is room");
        }
        rig->stop();
      });
      run.after([=] {
        for (std::size_t i = 0; i < 3; ++i) {
          rig->jobs[i].check_done();
        }
      });
    });
  }
}

// The only worker is held until the submit that waits was accepted: nothing but the cancel can make room for it.
TEST(RaceWqRoom, WaitForRoomAgainstCancel) {
  for (const bool keyed : {false, true}) {
    for (const cancel_kind how :
         {cancel_kind::by_handle, cancel_kind::by_owner, cancel_kind::all, cancel_kind::chosen}) {
      explore(
          [=](race::run& run) {
            auto rig = std::make_shared<wq_rig>(one_place());
            auto running = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
            auto accepted = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
            auto* const one = rig->add_worker();
            constexpr std::uint64_t victim = 7;
            rig->jobs[1].set_owner(victim);
            if (keyed) {
              rig->set_key(rig->jobs[1], 1);
              rig->set_key(rig->jobs[2], 2);
            }
            rig->jobs[0].set_flags(work_flags::no_cancel);
            rig->jobs[2].set_flags(work_flags::no_cancel);
            rig->jobs[0].body = [=](work_context&) {
              running->store(1, std::memory_order_release);
              race::sync::wake(*running, wake_all);
              while (accepted->load(std::memory_order_acquire) == 0) {
                race::sync::wait(*accepted, 0);
              }
            };
            auto name = std::make_shared<work_handle>();
            auto queued = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
            run.thread([=] { rig->pool.worker_loop(*one); });
            run.thread([=] {
              race::check(rig->submit(rig->jobs[0]), "accepted");
              while (running->load(std::memory_order_acquire) == 0) {
                race::sync::wait(*running, 0);
              }
              *name = rig->submit_tracked(rig->jobs[1]);
              queued->store(1, std::memory_order_release);
              race::sync::wake(*queued, wake_all);
              race::check(rig->submit(rig->jobs[2]), "accepted as soon as there is room");
              accepted->store(1, std::memory_order_release);
              race::sync::wake(*accepted, wake_all);
              rig->stop();
            });
            run.thread([=] {
              while (queued->load(std::memory_order_acquire) == 0) {
                race::sync::wait(*queued, 0);
              }
              cancel_by(*rig, how, *name, victim);
            });
            run.after([=] {
              for (std::size_t i = 0; i < 3; ++i) {
                rig->jobs[i].check_done();
              }
              // What a predicate chose may run before it is taken.
              race::check(how == cancel_kind::chosen || rig->jobs[1].began_cancelled, "the one that was cancelled");
              race::check(!rig->jobs[2].began_cancelled, "the one that waited is run");
            });
          },
          {.schedules = 10'000});
    }
  }
}

// A stop ends the wait of a submit for room: it is refused, or was accepted before.
TEST(RaceWqRoom, WaitForRoomAgainstStop) {
  explore(
      [](race::run& run) {
        auto rig = std::make_shared<wq_rig>(one_place());
        auto running = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
        auto returned = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
        auto* const one = rig->add_worker();
        rig->jobs[0].body = [=](work_context&) {
          running->store(1, std::memory_order_release);
          race::sync::wake(*running, wake_all);
          while (returned->load(std::memory_order_acquire) == 0) {
            race::sync::wait(*returned, 0);
          }
        };
        run.thread([=] { rig->pool.worker_loop(*one); });
        run.thread([=] {
          race::check(rig->submit(rig->jobs[0]), "accepted");
          while (running->load(std::memory_order_acquire) == 0) {
            race::sync::wait(*running, 0);
          }
          rig->jobs[1].number = rig->submit(rig->jobs[1]) ? 1 : 0;
          const auto second = rig->pool.submit(rig->jobs[2], nullptr);  // the queue is full, or the pool is stopped
          race::check(!second.has_value() && second.error().value() == ESHUTDOWN, "refused as stopped (X3)");
          returned->store(1, std::memory_order_release);
          race::sync::wake(*returned, wake_all);
        });
        run.thread([=] {
          while (running->load(std::memory_order_acquire) == 0) {
            race::sync::wait(*running, 0);
          }
          rig->stop();
        });
        run.after([=] {
          rig->jobs[0].check_done();
          rig->jobs[1].number == 1 ? rig->jobs[1].check_done() : rig->jobs[1].check_untouched();
          rig->jobs[2].check_untouched();
        });
      },
      {.schedules = 30'000});
}

}  // namespace
}  // namespace wq_room_test
