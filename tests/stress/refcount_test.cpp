// Goal: with real threads a misused count never frees and never comes back, and a dead count stays dead. Method:
// time-boxed rounds; a handler counts what is reported.
#include "sluice/ref/refcount.h"

#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/ref/fault.h"

#include "support/stress.h"

namespace sluice {
namespace refcount_test {
namespace {

constexpr unsigned threads_used = 4;
constexpr int steps = 1000;

constinit std::atomic<std::uint64_t> faults{0};

void count_fault(const refcount_fault_report&) noexcept {
  faults.fetch_add(1, std::memory_order_relaxed);  // a figure
}

class StressRefcount : public testing::Test {
 protected:
  void SetUp() override {
    before_ = set_refcount_fault_handler(count_fault);
    faults.store(0, std::memory_order_relaxed);
  }
  void TearDown() override { set_refcount_fault_handler(before_); }

  // Runs body(which) in some threads at once and waits for them.
  template <class Body>
  static void together(const Body& body) {
    std::vector<std::jthread> running;
    for (unsigned which = 0; which < threads_used; ++which) {
      running.emplace_back([&body, which] { body(which); });
    }
  }

 private:
  refcount_fault_handler before_ = nullptr;
};

TEST_F(StressRefcount, R2_OnceOverflowedNoStormOfGetsAndPutsFreesIt) {
  for (const test::stress_time time; !time.over();) {
    refcount count(refcount::max_count);
    std::atomic<int> freed{0};
    together([&](unsigned which) {
      for (int i = 0; i < steps; ++i) {
        if (which % 2 == 0) {
          count.get();
        } else if (count.put()) {
          freed.fetch_add(1, std::memory_order_relaxed);
        }
      }
    });
    // Puts may have come before the first overflow; whatever they took, from the top it is far from zero.
    EXPECT_EQ(freed.load(std::memory_order_relaxed), 0);
  }
}

TEST_F(StressRefcount, R2_PutsBelowZeroReleaseOnceAndReport) {
  for (const test::stress_time time; !time.over();) {
    refcount count(1);
    std::atomic<int> freed{0};
    together([&](unsigned) {
      for (int i = 0; i < steps; ++i) {
        if (count.put()) {
          freed.fetch_add(1, std::memory_order_relaxed);
        }
      }
    });
    ASSERT_EQ(freed.load(std::memory_order_relaxed), 1) << "the last put, and none of the wrong ones after it";
  }
  EXPECT_GT(faults.load(std::memory_order_relaxed), 0U);
}

TEST_F(StressRefcount, R3_ADeadCountStaysDead) {
  for (const test::stress_time time; !time.over();) {
    refcount count(1);
    std::atomic<int> released{0};
    std::atomic<int> borrowed{0};
    together([&](unsigned which) {
      if (which == 0 && count.put()) {
        released.fetch_add(1, std::memory_order_relaxed);
      }
      for (int i = 0; i < steps && which != 0; ++i) {
        if (count.get_unless_zero()) {
          borrowed.fetch_add(1, std::memory_order_relaxed);
          if (count.put()) {
            released.fetch_add(1, std::memory_order_relaxed);
          }
        }
      }
    });
    ASSERT_EQ(released.load(std::memory_order_relaxed), 1);
    EXPECT_FALSE(count.get_unless_zero());
    EXPECT_EQ(count.read(), 0U);
  }
  EXPECT_EQ(faults.load(std::memory_order_relaxed), 0U);
}

}  // namespace
}  // namespace refcount_test
}  // namespace sluice
