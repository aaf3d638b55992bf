// Goal: whatever is done to an io_wq at once, each accepted work is run and released exactly once, keys keep their order,
// limits hold and the counters agree. Method: the storm of bench/workloads/wq_storm.h, bounded by a count of works.
#include <iostream>

#include <gtest/gtest.h>

#include "bench/workloads/wq_storm.h"
#include "race/harness/sanitizers.h"
#include "support/stress.h"

namespace io_wq_test {
namespace {

std::uint64_t storm_works() {
#if defined(RACE_TSAN) || defined(RACE_ASAN)
  constexpr double works = 500'000;
#else
  constexpr double works = 2'000'000;
#endif
  return static_cast<std::uint64_t>(works * test::stress_factor());
}

std::chrono::milliseconds storm_cap() {
  return std::chrono::milliseconds(static_cast<std::int64_t>(60'000 * std::max(1.0, test::stress_factor())));
}

// W1 W4 W6 W7 H1 H2 H4 P1 P2 P9 P10 C1 C4 C5 X1: eight submitters and everything at once.
TEST(StressIoWq, StormLosesDoublesAndReordersNothing) {
  test::storm storm({.works = storm_works(), .cap = storm_cap()});
  const test::storm_report over = storm.run();
  EXPECT_EQ(over.faults, std::vector<std::string>{});
  std::cout << over.accepted << " accepted, " << over.gave_up << " of them cancelled (" << over.cancels
            << " by handle), " << over.refused << " refused; " << over.not_started << " threads not created, "
            << over.stats.bound.workers_created + over.stats.unbound.workers_created << " created, "
            << over.stats.bound.rescued + over.stats.unbound.rescued << " works rescued, "
            << over.stats.bound.found_blocked + over.stats.unbound.found_blocked << " found blocked\n";
}

// H1 H2 W1: the same with one worker per class and few keys, so that nearly every work waits for its key.
TEST(StressIoWq, StormOfFewKeysOnOneWorker) {
  test::storm storm({.works = storm_works() / 4, .cap = storm_cap(), .keys = 2, .max_workers = 1, .seed = 2});
  const test::storm_report over = storm.run();
  EXPECT_EQ(over.faults, std::vector<std::string>{});
}

// W1 W4 W5 C3 C4 I1 X6: members of chains have all that single works may have, most works carry an identity, and each storm
// ends in a stop that cancels while submitters still submit.
TEST(StressIoWq, StormsOfWholeChainsEndInAStopThatCancels) {
  constexpr std::uint64_t storms = 8;
  for (std::uint64_t seed = 1; seed <= storms && !testing::Test::HasFailure(); ++seed) {
    test::storm storm({.works = storm_works() / (4 * storms),
                       .cap = storm_cap() / storms,
                       .max_workers = seed % 2 == 0 ? 8U : 2U,
                       .seed = seed,
                       .whole_chains = true,
                       .identities = true,
                       .ends = sluice::stop_policy::cancel_queued});
    const test::storm_report over = storm.run();
    EXPECT_EQ(over.faults, std::vector<std::string>{}) << "storm " << seed;
  }
}

}  // namespace
}  // namespace io_wq_test
