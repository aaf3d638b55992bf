// Goal: a timer fires at most once per arming, a disarm that says so is right, and who waits for a firing one sees it end.
// Method: the heap of timers on the deterministic scheduler, with one fiber as the manager.
#include <gtest/gtest.h>

#include "race/harness/race.h"
#include "wq/watch/timer_heap.h"

namespace wq_timer_test {
namespace {

using sluice::steady_time;
using sluice::detail::timer_node;
using heap = sluice::detail::basic_timer_heap<race::sync>;

struct counted_timer : timer_node {
  counted_timer() : timer_node(fire) {}
  static void fire(timer_node& node) noexcept {
    static_cast<counted_timer&>(node).fired.update([](int& count) { ++count; });
  }
  race::plain<int> fired{0};
};

struct timers {
  heap all;
  counted_timer one, other;
};

constexpr steady_time late{std::chrono::seconds(2)};

TEST(RaceWqTimer, DisarmedOrFiredNeverBoth) {
  const race::report found = race::explore({.schedules = 30'000}, [](race::run& run) {
    auto state = std::make_shared<timers>();
    static_cast<void>(state->all.arm(state->one, steady_time{std::chrono::seconds(1)}));
    static_cast<void>(state->all.arm(state->other, steady_time{}));
    run.thread([=] {
      while (state->all.fire_one(late)) {
      }
    });
    run.thread([=] {
      if (!state->all.disarm(state->one)) {
        state->all.wait_out(state->one);
      }
      const int fired = state->one.fired.read();  // ordered after a firing that has begun, or there is none
      race::check(fired <= 1, "once per arming");
      race::check(state->all.disarm(state->one), "neither fires nor is firing");
      race::check(state->one.fired.read() == fired, "nor does it fire later");
    });
    run.after([=] { race::check(state->other.fired.read() == 1, "the other one fired"); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RaceWqTimer, ArmedWhileItFiresItFiresAgain) {
  const race::report found = race::explore({.schedules = 30'000}, [](race::run& run) {
    auto state = std::make_shared<timers>();
    static_cast<void>(state->all.arm(state->one, steady_time{}));
    auto armed = std::make_shared<race::sync::atomic<std::uint32_t>>(0U);
    run.thread([=] {
      static_cast<void>(state->all.fire_one(late));
      while (armed->load(std::memory_order_acquire) == 0) {
        race::sync::wait(*armed, 0);
      }
      static_cast<void>(state->all.fire_one(late));
    });
    run.thread([=] {
      static_cast<void>(state->all.arm(state->one, late));
      armed->store(1, std::memory_order_release);
      race::sync::wake(*armed, 1);
      state->all.wait_out(state->one);
    });
    run.after([=] {
      const int fired = state->one.fired.read();
      race::check(fired == 1 || fired == 2, "the second arming fires, and the first if it was not too late");
      race::check(state->all.first() == sluice::no_deadline, "nothing is left");
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

}  // namespace
}  // namespace wq_timer_test
