// cancel_scene: works that stand where a test wants them, and cancels of many at once, for tests of what a cancel counts.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <latch>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/wq/blocking_region.h"
#include "sluice/wq/io_wq.h"

#include "support/wq_probe.h"

namespace test {

inline constexpr std::uint64_t wanted = 7;
inline constexpr std::uint64_t other = 8;

enum class cancel_kind : std::uint8_t { all, by_owner, by_predicate };
inline constexpr std::array all_kinds{cancel_kind::all, cancel_kind::by_owner, cancel_kind::by_predicate};

// Cancels what belongs to `wanted`, or everything. A predicate is asked about each work at most once.
inline sluice::cancel_counts cancel_wanted(sluice::io_wq& wq, cancel_kind how) {
  if (how == cancel_kind::all) {
    return wq.cancel_all();
  }
  if (how == cancel_kind::by_owner) {
    return wq.cancel_owner(wanted);
  }
  std::vector<const sluice::work*> seen;
  const auto counts = wq.cancel_if([&](const sluice::work_view& v) {
    EXPECT_FALSE(std::ranges::find(seen, v.address) != seen.end()) << "asked twice about one work";
    seen.push_back(v.address);
    return v.owner == wanted;
  });
  EXPECT_TRUE(counts);
  return counts.value_or(sluice::cancel_counts{});
}

// Runs until it is asked to stop, and then until it may leave: what waits behind it stays there while a cancel looks.
struct obedient : probe {
  explicit obedient(std::uint64_t owner = wanted)
      : probe([this](sluice::work_context& ctx) {
          started.count_down();
          const sluice::blocking_region region;
          while (!ctx.cancelled()) {
            std::this_thread::yield();
          }
          leave.wait();
        }) {
    set_owner(owner);
  }
  std::latch started{1};
  std::latch leave{1};
};

// Keeps the bound worker from `pending` works. It has no owner, and no cancel matches it.
struct gate : probe {
  explicit gate(sluice::io_wq& wq)
      : probe(
            [this](sluice::work_context&) {
              started.count_down();
              const sluice::blocking_region region;
              open.wait();
            },
            sluice::work_class::bound, sluice::work_flags::no_cancel) {
    EXPECT_TRUE(wq.submit(*this));
    started.wait();
  }
  std::latch started{1};
  std::latch open{1};
};

inline void expect_given_up_here(const probe& one) {
  EXPECT_TRUE(one.was_cancelled());
  EXPECT_EQ(one.runs() + one.releases(), 2);
  EXPECT_EQ(one.ran_on(), std::this_thread::get_id());
}

}  // namespace test
