// Goal: with the tracker on, every ref names itself and a leak or a put too many names the holders; off, nothing of it
// is there. Method: one object, counts and messages; the half that fits the build.
#include "sluice/ref/ref_tracker.h"

#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"

namespace sluice {
namespace ref_tracker_test {
namespace {

struct held : kref<held> {};

#if SLUICE_REF_TRACKER

TEST(RefTracker, CountsLiveHolders) {
  ref<held> one = make_ref<held>();
  EXPECT_EQ(ref_tracker_holders(*one), 1U);
  {
    const ref<held> two = one;
    const ref<held> three = ref<held>::retain(one.get(), "third");
    EXPECT_EQ(ref_tracker_holders(*one), 3U);
    const ref<held> moved = std::move(one);
    EXPECT_EQ(ref_tracker_holders(*two), 3U);
    one = moved;
  }
  EXPECT_EQ(ref_tracker_holders(*one), 1U);
  held* bare = one.release();
  EXPECT_EQ(ref_tracker_holders(*bare), 0U);
  one = ref<held>::adopt(bare);
}

TEST(RefTracker, PrintsTheHoldersOfWhatShouldBeGone) {
  ref<held> owner = make_ref<held>();
  held* bare = ref<held>::retain(owner.get(), "not printed").release();
  const ref<held> reply = ref<held>::retain(bare, "reply in flight");
  const ref<held> copy = reply;
  bare->put();
  testing::internal::CaptureStderr();
  EXPECT_FALSE(ref_tracker_expect_gone(*bare));
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_NE(text.find("held at 0x"), std::string::npos) << text;
  EXPECT_NE(text.find("\"reply in flight\""), text.rfind("\"reply in flight\"")) << "a copy keeps the tag\n" << text;
  EXPECT_EQ(text.find("not printed"), std::string::npos) << text;
}

TEST(RefTracker, SaysNothingOfWhatIsGone) {
  struct kept : kref<kept, decltype([](auto* /*object*/) noexcept {})> {};
  kept object;
  ref<kept>::adopt(&object).reset();
  EXPECT_TRUE(ref_tracker_expect_gone(object));
}

TEST(RefTrackerDeathTest, APutTooManyNamesTheHolder) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto misuse = [] {
    const ref<held> victim = ref<held>::adopt(new held, "the victim");
    victim->put();  // not ours to put: the object ends while victim points at it
  };
  EXPECT_DEATH(misuse(), "is held as \"the victim\"");
}

#else

TEST(RefTracker, OffCostsNothing) {
  static_assert(sizeof(ref<held>) == sizeof(held*));
  static_assert(sizeof(held) == 4);
  static_assert(std::is_empty_v<ref_tag> && std::is_empty_v<detail::ref_token>);
  const ref<held> one = ref<held>::adopt(new held, "unused");
  EXPECT_EQ(ref_tracker_holders(*one), 0U);
  EXPECT_TRUE(ref_tracker_expect_gone(*one));
}

#endif

}  // namespace
}  // namespace ref_tracker_test
}  // namespace sluice
