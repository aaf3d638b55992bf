// block_ranges on the deterministic scheduler: overlapping changes exclude each other and are seen by the next; others do
// not wait; one that gives up lets those behind it go.
#include "device/block_ranges.h"

#include <gtest/gtest.h>

#include "race/harness/race.h"

namespace block_ranges_test {
namespace {

using ranges = sluice::detail::basic_block_ranges<race::sync>;

struct two_blocks {
  ranges all;
  race::plain<int> first{0}, second{0};

  void change(std::uint64_t from, std::uint64_t to) {
    ranges::hold mine(7, from, to);
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
      ranges::hold mine(7, 0, 4);
      race::check(state->all.acquire(mine, {}).has_value(), "free");
      ranges::hold next(7, 5, 5);
      race::check(state->all.acquire(next, {}).has_value(), "it would wait for itself");
      state->all.release(next);
      // More files than there are shards.
      for (std::uint64_t key = 8; key < 60; ++key) {
        ranges::hold other(key, 0, 4);
        race::check(state->all.acquire(other, {}).has_value(), "it would wait for itself");
        state->all.release(other);
      }
      state->all.release(mine);
    });
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
      ranges::hold mine(7, 0, 1);
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
