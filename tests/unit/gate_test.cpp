// Goal: each row of the gate's state table. Method: one thread, and one more where something waits.
#include "sluice/ref/gate.h"

#include <atomic>
#include <bit>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace sluice {
namespace gate_test {
namespace {

class Gate : public testing::TestWithParam<gate_width> {
 protected:
  gate door{GetParam()};
};

TEST_P(Gate, OpenLetsIn) {
  EXPECT_TRUE(door.try_enter());
  EXPECT_TRUE(door.try_enter());
  door.leave();
  door.leave();
  EXPECT_FALSE(door.closing());
  EXPECT_FALSE(door.drained());
}

TEST_P(Gate, ClosedLetsNobodyInAndAnEmptyOneIsDrainedAtOnce) {
  EXPECT_TRUE(door.close());
  EXPECT_FALSE(door.try_enter());
  EXPECT_TRUE(door.closing());
  EXPECT_TRUE(door.drained());
  door.wait();
}

TEST_P(Gate, TheLastOutDrainsIt) {
  EXPECT_TRUE(door.try_enter());
  EXPECT_TRUE(door.try_enter());
  EXPECT_TRUE(door.close());
  EXPECT_FALSE(door.try_enter());
  EXPECT_FALSE(door.drained());
  door.leave();
  EXPECT_FALSE(door.drained());
  door.leave();
  EXPECT_TRUE(door.drained());
}

TEST_P(Gate, PassesTakenAtOnceLeaveInParts) {
  EXPECT_TRUE(door.try_enter(5));
  EXPECT_TRUE(door.try_enter());
  door.leave(2);
  EXPECT_TRUE(door.close());
  EXPECT_FALSE(door.try_enter(5));
  door.leave(3);
  EXPECT_FALSE(door.drained());
  door.leave();
  EXPECT_TRUE(door.drained());
}

TEST_P(Gate, AsManyPassesAsTheLimitGoThroughAtOnce) {
  EXPECT_TRUE(door.try_enter(gate::max_passes));
  EXPECT_TRUE(door.close());
  EXPECT_FALSE(door.try_enter(gate::max_passes));
  door.leave(gate::max_passes - 1);
  EXPECT_FALSE(door.drained());
  door.leave();
  EXPECT_TRUE(door.drained());
}

// Beside a pass that is held one more comes in, open or closing, and holds the gate as any other.
TEST_P(Gate, APassBesideAnotherHoldsAClosingGate) {
  ASSERT_TRUE(door.try_enter());
  door.enter_beside();
  door.close();
  door.enter_beside(2);
  EXPECT_FALSE(door.try_enter());
  door.leave();
  door.leave(2);
  EXPECT_FALSE(door.drained());
  door.leave();
  EXPECT_TRUE(door.drained());
}

TEST_P(Gate, OnlyOneCloseClosed) {
  EXPECT_TRUE(door.close());
  EXPECT_FALSE(door.close());
  door.close_and_wait();
}

TEST_P(Gate, WaitUntilSaysWhenSomebodyIsStillInside) {
  EXPECT_TRUE(door.try_enter());
  door.close();
  EXPECT_FALSE(door.wait_until(std::chrono::steady_clock::now()));
  door.leave();
  EXPECT_TRUE(door.wait_until(std::chrono::steady_clock::now()));
  EXPECT_TRUE(door.wait_until(no_deadline));
}

TEST_P(Gate, WaitEndsWithALeaveOnAnotherThread) {
  EXPECT_TRUE(door.try_enter());
  int plain = 0;
  std::thread visitor([this, &plain] {
    plain = 1;
    door.leave();
  });
  door.close_and_wait();
  EXPECT_EQ(plain, 1);
  visitor.join();
}

TEST_P(Gate, KillCallsBackOnceWhenNobodyIsInside) {
  int calls = 0;
  const auto count = [](void* where) noexcept { ++*static_cast<int*>(where); };
  EXPECT_TRUE(door.try_enter());
  EXPECT_TRUE(door.kill(count, &calls));
  EXPECT_FALSE(door.kill(count, &calls));
  EXPECT_EQ(calls, 0);
  door.leave();
  EXPECT_EQ(calls, 1);

  gate empty(GetParam());
  EXPECT_TRUE(empty.kill(count, &calls));
  EXPECT_EQ(calls, 2);
}

TEST_P(Gate, APassLeavesOnce) {
  {
    gate_pass first(door);
    EXPECT_TRUE(first);
    gate_pass second(std::move(first));
    EXPECT_TRUE(second);
    gate_pass third(door);
    third = std::move(second);
    EXPECT_TRUE(third);
    third.leave();
    EXPECT_FALSE(third);
  }
  door.close_and_wait();
  const gate_pass late(door);
  EXPECT_FALSE(late);
}

INSTANTIATE_TEST_SUITE_P(Widths, Gate, testing::Values(gate_width::wide, gate_width::narrow));

TEST(GateStripes, AreAPowerOfTwoUpTo64) {
  EXPECT_TRUE(std::has_single_bit(this_core::stripes()));
  EXPECT_LE(this_core::stripes(), 64U);
  EXPECT_EQ(sizeof(gate), 128U);
}

// The promise that a gate of restartable_core stands on, in one thread.
TEST(RestartableCore, AddsToOneNumberUnlessItIsToStop) {
  const std::uint32_t count = restartable_core::numbers();
  if (count == 0) {
    GTEST_SKIP() << "no restartable sequences here";
  }
  std::vector<core_number<>> numbers(count);
  std::atomic<std::uint32_t> stop{0};
  const auto sum = [&numbers] {
    std::int64_t all = 0;
    for (const core_number<>& each : numbers) {
      all += each.value.load(std::memory_order_relaxed);
    }
    return all;
  };
  EXPECT_TRUE(restartable_core::add(numbers.data(), count, stop, 5));
  EXPECT_TRUE(restartable_core::add(numbers.data(), count, stop, -7));
  EXPECT_EQ(sum(), -2);
  EXPECT_FALSE(restartable_core::add(numbers.data(), 0, stop, 1)) << "a core beyond the numbers";
  stop.store(1, std::memory_order_relaxed);
  restartable_core::fence();
  EXPECT_FALSE(restartable_core::add(numbers.data(), count, stop, 1));
  EXPECT_EQ(sum(), -2);
}

TEST(GateDeathTest, LeaveWithoutEnterDies) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto open = [] {
    gate door;
    door.leave();
    door.close();
  };
  EXPECT_DEATH(open(), "leave\\(\\) without try_enter\\(\\)");
  const auto closed = [] {
    gate door;
    door.close();
    door.leave();
  };
  EXPECT_DEATH(closed(), "leave\\(\\) without try_enter\\(\\)");
  const auto too_many = [] {
    gate door;
    static_cast<void>(door.try_enter(2));
    door.close();
    door.leave(3);
  };
  EXPECT_DEATH(too_many(), "leave\\(\\) without try_enter\\(\\)");
}

TEST(GateDeathTest, NoPassesOrTooManyAtOnceDie) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  gate door;
  EXPECT_DEATH(static_cast<void>(door.try_enter(0)), "1 to max_passes at a time");
  EXPECT_DEATH(static_cast<void>(door.try_enter(gate::max_passes + 1)), "1 to max_passes at a time");
  EXPECT_DEATH(door.leave(0), "1 to max_passes at a time");
  EXPECT_DEATH(door.leave(-1), "1 to max_passes at a time");
}

}  // namespace
}  // namespace gate_test
}  // namespace sluice
