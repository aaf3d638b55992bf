// Goal: a kref releases once, by the last put, through its policy; misuse names the object. Method: one thread;
// objects that count their ends and stay in memory, so that misuse can be looked at.
#include "sluice/ref/kref.h"

#include <memory>
#include <mutex>
#include <string>

#include <gtest/gtest.h>

#include "sluice/ref/ref.h"

namespace sluice {
namespace kref_test {
namespace {

struct count_release;

// Lives in the test's frame; its release only counts.
class observed : public kref<observed, count_release> {
 public:
  int released = 0;
  bool locked_at_unlink = false;
};

struct count_release {
  void operator()(observed* object) const noexcept { ++object->released; }
};

static_assert(sizeof(basic_refcount<>) == 4);
struct plain : kref<plain> {};
static_assert(sizeof(plain) == 4, "a kref costs its count and nothing else");
static_assert(!std::is_copy_constructible_v<plain> && !std::is_copy_assignable_v<plain>);
static_assert(noexcept(std::declval<const plain&>().get()) && noexcept(std::declval<const plain&>().put()));

TEST(Kref, R1_ReleaseRunsOnceAtTheLastPut) {
  observed object;
  EXPECT_EQ(object.use_count(), 1U);
  object.get();
  EXPECT_FALSE(object.put());
  EXPECT_EQ(object.released, 0);
  EXPECT_TRUE(object.put());
  EXPECT_EQ(object.released, 1);
}

TEST(Kref, R3_GetUnlessZeroFailsAfterTheLastPut) {
  observed object;
  EXPECT_TRUE(object.get_unless_zero());
  EXPECT_FALSE(object.put());
  EXPECT_TRUE(object.put());
  EXPECT_FALSE(object.get_unless_zero());
  EXPECT_EQ(object.use_count(), 0U);
  EXPECT_EQ(object.released, 1);
}

TEST(Kref, PutUnlessOneLeavesTheLast) {
  observed object;
  object.get();
  EXPECT_TRUE(object.put_unless_one());
  EXPECT_FALSE(object.put_unless_one());
  EXPECT_EQ(object.use_count(), 1U);
  EXPECT_TRUE(object.put());
}

TEST(Kref, DeleteReleaseDeletes) {
  struct counted : kref<counted> {
    explicit counted(int& ends) : ends_(ends) {}
    ~counted() { ++ends_; }
    int& ends_;
  };
  int ends = 0;
  auto* object = new counted(ends);
  object->get();
  EXPECT_FALSE(object->put());
  EXPECT_EQ(ends, 0);
  EXPECT_TRUE(object->put());
  EXPECT_EQ(ends, 1);
}

TEST(Kref, R5_PutAndLockUnlinksUnderTheLockAndReleasesOutsideIt) {
  std::mutex lock;
  observed object;
  object.get();
  const auto unlink = [&lock](observed& last) noexcept {
    last.locked_at_unlink = !lock.try_lock();
    EXPECT_EQ(last.released, 0);
    if (!last.locked_at_unlink) {
      lock.unlock();
    }
  };
  EXPECT_FALSE(object.put_and_lock(lock, unlink));
  EXPECT_FALSE(object.locked_at_unlink);
  EXPECT_TRUE(object.put_and_lock(lock, unlink));
  EXPECT_TRUE(object.locked_at_unlink);
  EXPECT_EQ(object.released, 1);
  EXPECT_TRUE(lock.try_lock());
  lock.unlock();
}

TEST(Kref, R5_PutAndLockHandsTheLockToTheLast) {
  std::mutex lock;
  observed object;
  object.get();
  EXPECT_FALSE(object.put_and_lock(lock).owns_lock());
  std::unique_lock<std::mutex> held = object.put_and_lock(lock);
  ASSERT_TRUE(held.owns_lock());
  EXPECT_EQ(object.released, 0);
  held.unlock();
  object.release_last();
  EXPECT_EQ(object.released, 1);
}

TEST(KrefDeathTest, R2_DoublePutNamesTheObject) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto misuse = [] {
    set_refcount_fault_handler(&abort_on_refcount_fault);
    observed object;
    object.put();
    object.put();
  };
  EXPECT_DEATH(misuse(), "put without a count \\(double put\\): .*observed at 0x");
}

TEST(KrefDeathTest, R2_GetAfterZeroNamesTheObject) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto misuse = [] {
    set_refcount_fault_handler(&abort_on_refcount_fault);
    observed object;
    object.put();
    object.get();
  };
  EXPECT_DEATH(misuse(), "get after the last put \\(use after free\\): .*observed at 0x");
}

TEST(KrefDeathTest, ReleaseLastIsOnlyForTheLast) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto misuse = [] {
    observed object;
    object.release_last();
  };
  EXPECT_DEATH(misuse(), "release_last");
}

#ifndef NDEBUG
TEST(KrefDeathTest, DestructionWhileOthersHoldACountDies) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto misuse = [] {
    observed object;
    object.get();
  };
  EXPECT_DEATH(misuse(), "destroyed while others hold a count");
}
#endif

}  // namespace
}  // namespace kref_test
}  // namespace sluice
