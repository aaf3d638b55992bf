// Goal: each operation of a refcount does and returns what its table says, and each of the five faults reports,
// saturates, and never frees afterwards. Method: one thread, a handler that records.
#include "sluice/ref/refcount.h"

#include <cstdint>
#include <limits>
#include <mutex>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/base/mutex.h"
#include "sluice/ref/spin_lock.h"

namespace sluice {
namespace refcount_test {
namespace {

std::vector<refcount_fault_report> recorded;

void record(const refcount_fault_report& report) noexcept {
  recorded.push_back(report);
}

class Refcount : public testing::Test {
 protected:
  Refcount() : before_(set_refcount_fault_handler(&record)) { recorded.clear(); }
  ~Refcount() override { set_refcount_fault_handler(before_); }

  static void expect_leaked(refcount& count) {
    EXPECT_EQ(count.read(), refcount::saturated);
    for (int i = 0; i < 100; ++i) {
      EXPECT_FALSE(count.put());
      EXPECT_FALSE(count.sub_and_test(1));
      EXPECT_FALSE(count.put_if_one());
    }
    EXPECT_EQ(count.read(), refcount::saturated);
  }

 private:
  refcount_fault_handler before_;
};

constexpr std::uint32_t top = refcount::max_count;

TEST_F(Refcount, R1_StartsAtOneAndTheLastPutSaysSo) {
  refcount count;
  EXPECT_EQ(count.read(), 1U);
  count.get();
  count.inc();
  EXPECT_EQ(count.read(), 3U);
  EXPECT_FALSE(count.put());
  EXPECT_FALSE(count.dec_and_test());
  EXPECT_TRUE(count.put());
  EXPECT_EQ(count.read(), 0U);
  EXPECT_TRUE(recorded.empty());
}

TEST_F(Refcount, AddAndSubTakeSteps) {
  refcount count(2);
  count.add(5);
  EXPECT_FALSE(count.sub_and_test(6));
  EXPECT_TRUE(count.sub_and_test(1));
  EXPECT_TRUE(recorded.empty());
}

TEST_F(Refcount, R3_GetUnlessZeroOnZeroIsFalseAndChangesNothing) {
  refcount count(0);
  EXPECT_FALSE(count.get_unless_zero());
  EXPECT_FALSE(count.inc_not_zero());
  EXPECT_FALSE(count.add_not_zero(7));
  EXPECT_EQ(count.read(), 0U);
  EXPECT_TRUE(recorded.empty());
}

TEST_F(Refcount, GetUnlessZeroOnALiveCountTakesOne) {
  refcount count;
  EXPECT_TRUE(count.get_unless_zero());
  EXPECT_TRUE(count.add_not_zero(3));
  EXPECT_EQ(count.read(), 5U);
}

TEST_F(Refcount, PutUnlessOneLeavesTheLast) {
  refcount count(2);
  EXPECT_TRUE(count.put_unless_one());
  EXPECT_FALSE(count.put_unless_one());
  EXPECT_FALSE(count.dec_not_one());
  EXPECT_EQ(count.read(), 1U);
}

TEST_F(Refcount, PutIfOneTakesOnlyTheLast) {
  refcount count(2);
  EXPECT_FALSE(count.put_if_one());
  EXPECT_EQ(count.read(), 2U);
  EXPECT_FALSE(count.put());
  EXPECT_TRUE(count.dec_if_one());
  EXPECT_EQ(count.read(), 0U);
  EXPECT_FALSE(count.put_if_one());
}

TEST_F(Refcount, DecTakesACountThatIsNotTheLast) {
  refcount count(2);
  count.dec();
  EXPECT_EQ(count.read(), 1U);
  EXPECT_TRUE(recorded.empty());
}

TEST_F(Refcount, R2_OverflowReportsAndLeaks) {
  refcount count(top);
  count.get();
  ASSERT_EQ(recorded.size(), 1U);
  EXPECT_EQ(recorded[0].fault, refcount_fault::add_overflow);
  EXPECT_EQ(recorded[0].found, top);
  expect_leaked(count);
}

TEST_F(Refcount, TheTopIsReachedAndLeft) {
  refcount count(top - 1);
  count.get();
  EXPECT_EQ(count.read(), top);
  EXPECT_FALSE(count.put());
  EXPECT_TRUE(count.get_unless_zero());
  EXPECT_TRUE(count.put_unless_one());
  EXPECT_FALSE(count.put_if_one());
  EXPECT_EQ(count.read(), top - 1);
  EXPECT_TRUE(recorded.empty());
}

// Every faulty count that a step can meet, at the borders of the signed and the unsigned range.
TEST_F(Refcount, R2_EveryCountOutsideTheRangeFaultsOnGetAndOnPut) {
  for (const std::uint32_t wrong : {0U, top + 1, top + 2, refcount::saturated - 1, refcount::saturated, ~0U - 1, ~0U}) {
    recorded.clear();
    refcount up(wrong);
    up.get();
    ASSERT_EQ(recorded.size(), 1U) << wrong;
    EXPECT_EQ(recorded[0].fault, wrong == 0 ? refcount_fault::add_from_zero : refcount_fault::add_overflow) << wrong;
    EXPECT_EQ(recorded[0].found, static_cast<std::int32_t>(wrong)) << wrong;
    expect_leaked(up);
    recorded.clear();
    refcount down(wrong);
    EXPECT_FALSE(down.put());
    ASSERT_EQ(recorded.size(), 1U) << wrong;
    EXPECT_EQ(recorded[0].fault, refcount_fault::sub_underflow) << wrong;
    EXPECT_EQ(recorded[0].found, static_cast<std::int32_t>(wrong)) << wrong;
    expect_leaked(down);
  }
}

TEST_F(Refcount, R2_AddBeyondTheTopReportsAndLeaks) {
  refcount count(top - 3);
  count.add(3);
  EXPECT_TRUE(recorded.empty());
  count.add(1);
  ASSERT_EQ(recorded.size(), 1U);
  EXPECT_EQ(recorded[0].fault, refcount_fault::add_overflow);
  expect_leaked(count);
}

TEST_F(Refcount, R2_AddNotZeroOverflowReportsAndLeaks) {
  refcount count(top);
  EXPECT_TRUE(count.get_unless_zero());
  ASSERT_EQ(recorded.size(), 1U);
  EXPECT_EQ(recorded[0].fault, refcount_fault::add_not_zero_overflow);
  expect_leaked(count);
}

TEST_F(Refcount, R2_GetFromZeroReportsAndLeaks) {
  refcount count(0);
  count.get();
  ASSERT_EQ(recorded.size(), 1U);
  EXPECT_EQ(recorded[0].fault, refcount_fault::add_from_zero);
  expect_leaked(count);

  refcount other(0);
  other.add(9);
  EXPECT_EQ(recorded.back().fault, refcount_fault::add_from_zero);
  expect_leaked(other);
}

TEST_F(Refcount, R2_PutBelowZeroReportsAndLeaks) {
  refcount count(1);
  EXPECT_TRUE(count.put());
  EXPECT_FALSE(count.put());
  ASSERT_EQ(recorded.size(), 1U);
  EXPECT_EQ(recorded[0].fault, refcount_fault::sub_underflow);
  expect_leaked(count);

  refcount steps(3);
  EXPECT_FALSE(steps.sub_and_test(4));
  EXPECT_EQ(recorded.back().fault, refcount_fault::sub_underflow);
  expect_leaked(steps);

  refcount unless(0);
  EXPECT_TRUE(unless.put_unless_one());
  EXPECT_EQ(recorded.back().fault, refcount_fault::sub_underflow);
  expect_leaked(unless);
}

TEST_F(Refcount, R2_DecOfTheLastReportsAndLeaks) {
  refcount count;
  count.dec();
  ASSERT_EQ(recorded.size(), 1U);
  EXPECT_EQ(recorded[0].fault, refcount_fault::dec_to_zero);
  expect_leaked(count);
}

TEST_F(Refcount, R2_ASaturatedCountStaysThereUnderEveryOperation) {
  refcount count(refcount::saturated);
  count.get();
  count.add(refcount::max_step);
  EXPECT_TRUE(count.get_unless_zero());
  count.dec();
  EXPECT_TRUE(count.put_unless_one());
  mutex lock;
  EXPECT_FALSE(count.put_and_lock(lock).owns_lock());
  expect_leaked(count);
}

template <class Lock>
class PutAndLock : public testing::Test {};
using Locks = testing::Types<mutex, spin_lock, std::mutex>;
TYPED_TEST_SUITE(PutAndLock, Locks);

// R5
TYPED_TEST(PutAndLock, GivesTheLockOnlyToTheLast) {
  TypeParam lock;
  refcount count(2);
  {
    const auto held = count.put_and_lock(lock);
    EXPECT_FALSE(held.owns_lock());
    EXPECT_EQ(held.mutex(), nullptr);
  }
  const auto held = count.put_and_lock(lock);
  EXPECT_TRUE(held.owns_lock());
  EXPECT_EQ(held.mutex(), &lock);
  EXPECT_EQ(count.read(), 0U);
}

struct counting_lock {
  int taken = 0;
  void lock() { ++taken; }
  void unlock() {}
};

TEST_F(Refcount, R5_TheLockIsNotTakenAboveOne) {
  counting_lock lock;
  refcount count(3);
  EXPECT_FALSE(count.put_and_lock(lock).owns_lock());
  EXPECT_FALSE(count.put_and_lock(lock).owns_lock());
  EXPECT_EQ(lock.taken, 0);
  EXPECT_TRUE(count.put_and_lock(lock).owns_lock());
  EXPECT_EQ(lock.taken, 1);
}

TEST_F(Refcount, TheHandlerIsReplacedAndGivenBack) {
  EXPECT_EQ(set_refcount_fault_handler(nullptr), &record);
  EXPECT_EQ(set_refcount_fault_handler(&record), &report_refcount_fault_once);
}

TEST_F(Refcount, R2_TheDefaultHandlerReportsOncePerKind) {
  set_refcount_fault_handler(nullptr);
  testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) {
    refcount zero(0);
    zero.get({.object = &zero, .type = "test object"});
    refcount full(top);
    full.get();
  }
  const std::string text = testing::internal::GetCapturedStderr();
  const auto times = [&text](const std::string& what) {
    std::size_t found = 0;
    for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) {
      ++found;
    }
    return found;
  };
  EXPECT_EQ(times(to_string(refcount_fault::add_from_zero)), 1U) << text;
  EXPECT_EQ(times(to_string(refcount_fault::add_overflow)), 1U) << text;
  EXPECT_EQ(times("test object"), 1U) << text;
}

TEST(RefcountDeathTest, StepsBeyondTheLimitDie) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(refcount(1).add(refcount::max_step + 1), "max_step");
  EXPECT_DEATH(refcount(1).add(0), "max_step");
  EXPECT_DEATH(static_cast<void>(refcount(1).sub_and_test(-1)), "max_step");
}

}  // namespace
}  // namespace refcount_test
}  // namespace sluice
