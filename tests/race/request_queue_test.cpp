// Goal: no request is stranded between one that ends and one that begins to wait, no more than `depth` go at once, and
// who waits for "nothing under way" sees all that was done. Method: slot_counter on the deterministic scheduler under
// the protocol that request_queue drives it with: lock, freeze, decide, settle.
#include "sluice/ioc/slot_counter.h"

#include "race/harness/race.h"

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

}  // namespace
