// basic_parker on the deterministic scheduler: a permit is never lost, whoever comes first and whatever the deadline
// does; and what came before wake() is there after park().
#include "sluice/base/park.h"

#include <gtest/gtest.h>

#include "race/harness/race.h"

namespace park_test {
namespace {

using parker = sluice::basic_parker<race::sync>;

// Any deadline: it passes when the scheduler says so.
constexpr sluice::steady_time some_deadline{};

constexpr race::options random_schedules{.schedules = 100'000};
constexpr race::options every_schedule{.schedules = 2'000'000, .how = race::mode::exhaustive, .max_spurious = 1};

struct meeting {
  parker place;
  race::plain<int> work{0};
  race::sync::atomic<int> arrived{0};
  int permits = 0;
};

void park_against_wake(race::run& run) {
  auto state = std::make_shared<meeting>();
  run.thread([=] {
    state->place.park();
    race::check(state->work.read() == 7, "park shows what came before wake");
  });
  run.thread([=] {
    state->work.write(7);
    state->place.wake();
  });
}

TEST(RacePark, ParkAgainstWake) {
  const race::report found = race::explore(random_schedules, park_against_wake);
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RacePark, ParkAgainstWakeInEverySchedule) {
  const race::report found = race::explore(every_schedule, park_against_wake);
  EXPECT_TRUE(found.ok() && found.complete) << found;
}

// The permit that park_until did not take is still there afterwards: one wake, one success, now or later.
void park_until_against_wake(race::run& run) {
  auto state = std::make_shared<meeting>();
  run.thread([=] {
    state->permits += state->place.park_until(some_deadline) ? 1 : 0;
    if (state->permits == 1) {
      race::check(state->work.read() == 7, "a permit shows what came before wake");
    }
  });
  run.thread([=] {
    state->work.write(7);
    state->place.wake();
  });
  run.after([=] {
    const bool left = state->place.park_until(some_deadline);
    race::check(state->permits + (left ? 1 : 0) == 1, "the permit was taken exactly once, or is still there");
  });
}

TEST(RacePark, ParkUntilAgainstWake) {
  const race::report found = race::explore(random_schedules, park_until_against_wake);
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RacePark, ParkUntilAgainstWakeInEverySchedule) {
  const race::report found = race::explore(every_schedule, park_until_against_wake);
  EXPECT_TRUE(found.ok() && found.complete) << found;
}

// Two wakers count as one permit or as two, but each is seen: the owner parks until both have arrived.
void two_wakers(race::run& run) {
  auto state = std::make_shared<meeting>();
  run.thread([=] {
    // relaxed: the permit orders; the point is that no waker's arrival is slept through.
    while (state->arrived.load(std::memory_order_relaxed) < 2) {
      state->place.park();
    }
  });
  for (int i = 0; i < 2; ++i) {
    run.thread([=] {
      state->arrived.fetch_add(1, std::memory_order_relaxed);
      state->place.wake();
    });
  }
}

TEST(RacePark, TwoWakers) {
  const race::report found = race::explore(random_schedules, two_wakers);
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RacePark, TwoWakersInEveryScheduleOfTwoPreemptions) {
  race::options bounded = every_schedule;
  bounded.max_preemptions = 2;
  const race::report found = race::explore(bounded, two_wakers);
  EXPECT_TRUE(found.ok() && found.complete) << found;
}

// A worker's loop: park with a deadline, look for work on the way out, leave for good only if there is none.
void idle_worker(race::run& run) {
  auto state = std::make_shared<meeting>();
  run.thread([=] {
    while (state->arrived.load(std::memory_order_relaxed) == 0) {
      static_cast<void>(state->place.park_until(some_deadline));
    }
  });
  run.thread([=] {
    state->arrived.store(1, std::memory_order_relaxed);
    state->place.wake();
  });
}

TEST(RacePark, AWorkerWithATimeoutFindsTheWork) {
  const race::report found = race::explore(random_schedules, idle_worker);
  EXPECT_TRUE(found.ok()) << found;
}

// What the harness would say if wake() looked before it left the permit: the seeded bug of this file.
template <class Sync>
class forgetful_parker {
 public:
  void park() noexcept {
    std::uint32_t seen = 0;
    if (word_.compare_exchange_strong(seen, 2, std::memory_order_acquire, std::memory_order_acquire)) {
      while (Sync::wait(word_, 2) && word_.load(std::memory_order_relaxed) == 2) {
      }
    }
    word_.store(0, std::memory_order_relaxed);
  }
  void wake() noexcept {
    if (word_.load(std::memory_order_relaxed) == 2) {
      word_.store(1, std::memory_order_release);
      Sync::wake(word_, 1);
    }
  }

 private:
  typename Sync::template atomic<std::uint32_t> word_{0};
};

TEST(RacePark, SeededForgetfulWakeIsFound) {
  const race::report found = race::explore({.schedules = 1'000}, [](race::run& run) {
    auto place = std::make_shared<forgetful_parker<race::sync>>();
    run.thread([=] { place->park(); });
    run.thread([=] { place->wake(); });
  });
  EXPECT_TRUE(found.failed);
  EXPECT_NE(found.message.find("lost wake-up"), std::string::npos) << found;
}

}  // namespace
}  // namespace park_test
