// Goal: no request is stranded between one that ends and one that begins to wait, no more than `depth` go at once, and
// who waits for "nothing under way" sees all that was done. Method: slot_counter on the deterministic scheduler under
// the protocol that request_queue drives it with: lock, freeze, decide, settle.
#include <gtest/gtest.h>

#include "sluice/ioc/slot_counter.h"

#include "race/harness/race.h"

namespace request_queue_test {
namespace {

struct queue_model {
  static constexpr std::uint32_t depth = 1;

  // Returns true if the caller goes now; false if somebody who ends will launch it.
  bool enter() {
    if (slots.try_take(depth)) {
      return true;
    }
    lock.lock();
    slots.freeze_locked();
    const bool room = slots.count() < depth;
    if (room) {
      slots.take_locked(1);
    } else {
      waiting.update([](int& count) { ++count; });
    }
    settle_locked();
    lock.unlock();
    return room;
  }

  // Ends one; returns true if the slot went to one that waited, which the caller must end too.
  bool leave() {
    if (slots.try_give()) {
      return false;
    }
    lock.lock();
    slots.freeze_locked();
    slots.give_locked();
    const bool next = waiting.read() != 0 && slots.count() < depth;
    if (next) {
      waiting.update([](int& count) { --count; });
      slots.take_locked(1);
    }
    settle_locked();
    lock.unlock();
    return next;
  }

  // One request from begin to end, and those that its end launches.
  void pass() {
    if (!enter()) {
      return;
    }
    do {
      inside.update([](int& count) { ++count; });  // depth 1: unordered updates are reported
    } while (leave());
  }

  // Looks once, as drain does each time that it wakes.
  bool idle() {
    lock.lock();
    slots.freeze_locked();
    const bool empty = slots.count() == 0;
    if (empty) {
      static_cast<void>(inside.read());  // ordered after every request that is over
    }
    settle_locked();
    lock.unlock();
    return empty;
  }

  void settle_locked() {
    if (waiting.read() != 0) {
      slots.freeze_locked();
    } else {
      slots.thaw_locked();
    }
  }

  race::mutex lock;
  sluice::basic_slot_counter<race::sync> slots;
  race::plain<int> waiting{0};
  race::plain<int> inside{0};
};

TEST(RaceRequestQueue, NobodyIsStrandedAtTheDepth) {
  const race::report found = race::explore({.schedules = 30'000}, [](race::run& run) {
    auto queue = std::make_shared<queue_model>();
    for (int i = 0; i < 3; ++i) {
      run.thread([=] {
        queue->pass();
        queue->pass();
      });
    }
    run.after([=] {
      race::check(queue->inside.read() == 6, "every request went");
      race::check(queue->waiting.read() == 0 && queue->slots.count() == 0, "nobody is left");
      race::check(queue->slots.try_take(1) && queue->slots.try_give(), "and the short way is open again");
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RaceRequestQueue, WhoFindsItIdleSeesWhatWasDone) {
  const race::report found = race::explore({.schedules = 30'000}, [](race::run& run) {
    auto queue = std::make_shared<queue_model>();
    for (int i = 0; i < 2; ++i) {
      run.thread([=] { queue->pass(); });
    }
    run.thread([=] { static_cast<void>(queue->idle()); });
    run.after([=] { race::check(queue->inside.read() == 2, "every request went"); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// The same queue with a share of the workers, and one that quiesces: a request takes a slot, is tried, and must be handed
// to a worker or wait for one.
struct share_model {
  static constexpr std::uint32_t depth = 3;
  static constexpr std::uint32_t workers = 1;

  // Returns how many the caller runs as a worker would: itself, if it could be handed at once.
  int enter() {
    if (!slots.try_take(depth)) {
      lock.lock();
      slots.freeze_locked();
      const bool tried = !quiesced && slots.count() < depth;
      if (tried) {
        slots.take_locked(1);
      } else {
        ++waiting;
      }
      settle_locked();
      lock.unlock();
      if (!tried) {
        return 0;
      }
    }
    attempts.fetch_add(1, std::memory_order_relaxed);
    race::check(!still.load(std::memory_order_relaxed), "nothing is tried in a quiesced queue");
    attempts.fetch_sub(1, std::memory_order_relaxed);
    if (slots.try_hand(workers)) {
      return 1;
    }
    lock.lock();
    slots.freeze_locked();
    int runs = 0;
    if (!quiesced && slots.handed() < workers) {
      slots.hand_locked();
      runs = 1;
    } else {
      slots.give_locked();
      ++waiting;
      runs = collect_locked();
    }
    settle_locked();
    lock.unlock();
    return runs;
  }

  // One is over; returns how many the caller runs next.
  int leave() {
    if (slots.try_give_handed()) {
      return 0;
    }
    lock.lock();
    slots.freeze_locked();
    slots.give_handed_locked();
    const int runs = collect_locked();
    settle_locked();
    lock.unlock();
    return runs;
  }

  void work(int runs) {
    for (; runs > 0; --runs) {
      on_worker.update([](int& count) { ++count; });  // one worker: unordered updates are reported
      runs += leave();
    }
  }

  // Holds the queue still once nothing is being tried; then lets it go on.
  void quiesce() {
    lock.lock();
    quiesced = true;
    slots.freeze_locked();
    const bool quiet = slots.count() == slots.handed();
    if (quiet) {
      still.store(true, std::memory_order_relaxed);
      race::check(attempts.load(std::memory_order_relaxed) == 0, "nothing is being tried");
    }
    lock.unlock();
    still.store(false, std::memory_order_relaxed);
    lock.lock();
    quiesced = false;
    const int runs = collect_locked();
    settle_locked();
    lock.unlock();
    work(runs);
  }

  int collect_locked() {
    int runs = 0;
    for (; !quiesced && waiting != 0 && slots.count() < depth && slots.handed() < workers; ++runs, --waiting) {
      slots.take_locked(1);
      slots.hand_locked();
    }
    return runs;
  }

  void settle_locked() {
    if (waiting != 0 || quiesced) {
      slots.freeze_locked();
    } else {
      slots.thaw_locked();
    }
  }

  race::mutex lock;
  sluice::basic_slot_counter<race::sync> slots;
  int waiting = 0;        // under the lock
  bool quiesced = false;  // the same
  race::plain<int> on_worker{0};
  race::sync::atomic<int> attempts{0};
  race::sync::atomic<bool> still{false};
};

TEST(RaceRequestQueue, NobodyIsStrandedAtTheShareOfTheWorkers) {
  const race::report found = race::explore({.schedules = 30'000}, [](race::run& run) {
    auto queue = std::make_shared<share_model>();
    for (int i = 0; i < 3; ++i) {
      run.thread([=] { queue->work(queue->enter()); });
    }
    run.after([=] {
      race::check(queue->on_worker.read() == 3, "every request went");
      race::check(queue->waiting == 0 && queue->slots.count() == 0 && queue->slots.handed() == 0, "nobody is left");
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RaceRequestQueue, QuiescedNothingIsTriedAndNobodyIsStranded) {
  const race::report found = race::explore({.schedules = 30'000}, [](race::run& run) {
    auto queue = std::make_shared<share_model>();
    for (int i = 0; i < 2; ++i) {
      run.thread([=] { queue->work(queue->enter()); });
    }
    run.thread([=] { queue->quiesce(); });
    run.after([=] {
      race::check(queue->on_worker.read() == 2, "every request went");
      race::check(queue->waiting == 0 && queue->slots.count() == 0, "nobody is left");
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

}  // namespace
}  // namespace request_queue_test
