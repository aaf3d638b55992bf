// Goal: a ref owns exactly one count through every way of making, moving and dropping it. Method: one thread, counts
// read after each step.
#include "sluice/ref/ref.h"

#include <map>
#include <memory>
#include <unordered_set>
#include <utility>

#include <gtest/gtest.h>

#include "sluice/ref/kref.h"

namespace sluice {
namespace ref_test {
namespace {

class base : public kref<base> {
 public:
  explicit base(int& ends) : ends_(ends) {}
  virtual ~base() { ++ends_; }
  base(const base&) = delete;
  base& operator=(const base&) = delete;

  ref<base> next;

 private:
  int& ends_;
};

class derived : public base {
 public:
  using base::base;
  int value = 7;
};

TEST(Ref, EmptyOwnsNothing) {
  const ref<base> empty;
  EXPECT_FALSE(empty);
  EXPECT_EQ(empty, nullptr);
  EXPECT_EQ(empty.get(), nullptr);
  EXPECT_FALSE(ref<base>::adopt(nullptr));
  EXPECT_FALSE(ref<base>::retain(nullptr));
  EXPECT_FALSE(ref<base>::try_get(nullptr));
}

TEST(Ref, R1_MakeRefOwnsTheFirstCount) {
  int ends = 0;
  {
    const ref<base> made = make_ref<base>(ends);
    EXPECT_EQ(made->use_count(), 1U);
    EXPECT_TRUE(made);
  }
  EXPECT_EQ(ends, 1);
}

TEST(Ref, CopiesAddAndMovesDoNot) {
  int ends = 0;
  ref<base> one = make_ref<base>(ends);
  ref<base> two = one;
  EXPECT_EQ(one->use_count(), 2U);
  ref<base> three = std::move(two);
  EXPECT_EQ(one->use_count(), 2U);
  two = three;
  EXPECT_EQ(one->use_count(), 3U);
  two = std::move(three);
  EXPECT_EQ(one->use_count(), 2U);
  two.reset();
  EXPECT_EQ(one->use_count(), 1U);
  EXPECT_EQ(ends, 0);
  one = nullptr;
  EXPECT_EQ(ends, 1);
}

TEST(Ref, SelfAssignmentKeepsTheCount) {
  int ends = 0;
  ref<base> one = make_ref<base>(ends);
  const ref<base>& same = one;
  one = same;
  EXPECT_EQ(one->use_count(), 1U);
  one.swap(one);
  EXPECT_EQ(one->use_count(), 1U);
  EXPECT_EQ(ends, 0);
}

TEST(Ref, AssignmentFromInsideTheOldObjectIsSafe) {
  int ends = 0;
  ref<base> head = make_ref<base>(ends);
  head->next = make_ref<base>(ends);
  head = head->next;
  EXPECT_EQ(ends, 1);
  EXPECT_EQ(head->use_count(), 1U);
}

TEST(Ref, RetainAddsAndReleaseGivesAway) {
  int ends = 0;
  ref<base> one = make_ref<base>(ends);
  ref<base> two = ref<base>::retain(one.get());
  EXPECT_EQ(one->use_count(), 2U);
  base* bare = two.release();
  EXPECT_FALSE(two);
  EXPECT_EQ(bare->use_count(), 2U);
  two = ref<base>::adopt(bare);
  EXPECT_EQ(one->use_count(), 2U);
}

TEST(Ref, R3_TryGetIsEmptyAfterTheLastPut) {
  struct parked;
  struct keep {
    void operator()(parked* /*object*/) const noexcept {}
  };
  struct parked : kref<parked, keep> {};
  parked object;
  EXPECT_EQ(ref<parked>::try_get(&object)->use_count(), 2U);
  EXPECT_EQ(object.use_count(), 1U);
  object.put();
  EXPECT_FALSE(ref<parked>::try_get(&object));
}

TEST(Ref, ConvertsToTheBase) {
  int ends = 0;
  {
    ref<derived> special = make_ref<derived>(ends);
    ref<base> general = special;
    EXPECT_EQ(special->use_count(), 2U);
    EXPECT_EQ(special->value, 7);
    general = std::move(special);
    EXPECT_EQ(general->use_count(), 1U);
    static_assert(!std::is_convertible_v<ref<base>, ref<derived>>);
    const ref<const base> constant = general;
    EXPECT_EQ(constant->use_count(), 2U);
  }
  EXPECT_EQ(ends, 1);
}

TEST(Ref, ComparesAndHashesByAddress) {
  int ends = 0;
  const ref<base> one = make_ref<base>(ends);
  const ref<base> same = one;  // NOLINT(performance-unnecessary-copy-initialization): the copy is what is tested
  const ref<base> other = make_ref<base>(ends);
  EXPECT_EQ(one, same);
  EXPECT_NE(one, other);
  EXPECT_EQ(one < other, std::less<>{}(one.get(), other.get()));
  EXPECT_EQ(std::hash<ref<base>>{}(one), std::hash<ref<base>>{}(same));
  const std::unordered_set<ref<base>> set{one, same, other};
  EXPECT_EQ(set.size(), 2U);
  const std::map<ref<base>, int> map{{one, 1}, {same, 2}, {other, 3}};
  EXPECT_EQ(map.size(), 2U);
}

}  // namespace
}  // namespace ref_test
}  // namespace sluice
