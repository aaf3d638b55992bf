// block_ranges on the deterministic scheduler: overlapping changes exclude each other and are seen by the next;
// others do not wait; one that gives up lets those behind it go.
#include "device/block_ranges.h"

#include <gtest/gtest.h>

#include "race/harness/race.h"

namespace block_ranges_test {
namespace {

using ranges = sluice::detail::basic_block_ranges<race::sync>;
using sluice::detail::change_kind;
constexpr change_kind part = change_kind::part;

struct two_blocks {
  ranges all;
  race::plain<int> first{0}, second{0};

  void change(std::uint64_t from, std::uint64_t to) {
    ranges::hold mine(7, from, to, part);
    race::check(all.acquire(mine, {}).has_value(), "nobody cancels it");
    if (from == 0) {
      first.write(first.read() + 1);
    }
    if (to == 1) {
      second.write(second.read() + 1);
    }
    all.release(mine);
  }
};

TEST(RaceBlockRanges, OverlappingChangesTakeTurns) {
  const race::report found = race::explore({.schedules = 30'000}, [](race::run& run) {
    auto state = std::make_shared<two_blocks>();
    run.thread([=] { state->change(0, 0); });
    run.thread([=] { state->change(0, 1); });
    run.thread([=] { state->change(1, 1); });
    run.after([=] { race::check(state->first.read() == 2 && state->second.read() == 2, "each change is there"); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RaceBlockRanges, TwoChangesInEverySchedule) {
  const race::report found =
      race::explore({.schedules = 2'000'000, .how = race::mode::exhaustive, .max_spurious = 1}, [](race::run& run) {
        auto state = std::make_shared<two_blocks>();
        run.thread([=] { state->change(0, 1); });
        run.thread([=] { state->change(1, 1); });
        run.after([=] { race::check(state->second.read() == 2, "each change is there"); });
      });
  EXPECT_TRUE(found.ok() && found.complete) << found;
}

// Who holds one block does not keep others from the next, or from the same of another file.
TEST(RaceBlockRanges, StrangersDoNotWait) {
  const race::report found = race::explore({.schedules = 1'000}, [](race::run& run) {
    auto state = std::make_shared<two_blocks>();
    run.thread([=] {
      ranges::hold mine(7, 0, 4, part);
      race::check(state->all.acquire(mine, {}).has_value(), "free");
      ranges::hold next(7, 5, 5, part);
      race::check(state->all.acquire(next, {}).has_value(), "it would wait for itself");
      state->all.release(next);
      // Nor do whole blocks wait for whole blocks.
      ranges::hold whole(7, 6, 9, change_kind::whole);
      ranges::hold beside(7, 8, 10, change_kind::whole);
      race::check(state->all.acquire(whole, {}).has_value(), "free");
      race::check(state->all.acquire(beside, {}).has_value(), "it would wait for itself");
      state->all.release(beside);
      state->all.release(whole);
      // More files than there are shards.
      for (std::uint64_t key = 8; key < 60; ++key) {
        ranges::hold other(key, 0, 4, part);
        race::check(state->all.acquire(other, {}).has_value(), "it would wait for itself");
        state->all.release(other);
      }
      state->all.release(mine);
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// Changes of whole blocks of one range go at once; a change of a part excludes both and is excluded by them.
TEST(RaceBlockRanges, WholeBlocksGoAtOnceAndPartsExcludeThem) {
  struct whole_blocks {
    ranges all;
    race::sync::atomic<int> inside{0};
    race::plain<int> parts{0};
  };
  const race::report found = race::explore({.schedules = 30'000}, [](race::run& run) {
    auto state = std::make_shared<whole_blocks>();
    run.thread([=] {
      ranges::hold mine(7, 0, 4, change_kind::whole);
      race::check(state->all.acquire(mine, {}).has_value(), "no cancel");
      state->all.release(mine);
    });
    for (int i = 0; i < 2; ++i) {
      run.thread([=] {
        ranges::hold mine(7, 3, 3, part);
        race::check(state->all.acquire(mine, {}).has_value(), "no cancel");
        state->parts.update([](int& count) { ++count; });
        race::check(state->inside.load(std::memory_order_relaxed) == 0, "no whole block is being changed");
        state->all.release(mine);
      });
    }
    run.thread([=] {
      ranges::hold mine(7, 3, 5, change_kind::whole);
      race::check(state->all.acquire(mine, {}).has_value(), "no cancel");
      state->inside.store(1, std::memory_order_relaxed);
      state->inside.store(0, std::memory_order_relaxed);
      state->all.release(mine);
    });
    run.after([=] { race::check(state->parts.read() == 2, "each change is there"); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

struct told_to_stop {
  [[nodiscard]] bool cancelled() const noexcept { return true; }
};

// One waits, is cancelled there or gets its turn; the one behind it is let go either way.
TEST(RaceBlockRanges, OneThatGivesUpLetsTheNextGo) {
  const race::report found = race::explore({.schedules = 30'000}, [](race::run& run) {
    auto state = std::make_shared<two_blocks>();
    run.thread([=] { state->change(0, 0); });
    run.thread([=] {
      const told_to_stop stop;
      ranges::hold mine(7, 0, 1, part);
      if (state->all.acquire(mine, sluice::cancel_probe(stop))) {
        state->second.write(state->second.read() + 1);
        state->all.release(mine);
      }
    });
    run.thread([=] { state->change(1, 1); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

}  // namespace
}  // namespace block_ranges_test
