// rate_gate and the caps of fair_order, in simulated time: the rate is exact, the burst is the one that is stated, and
// who is capped costs nobody else.
#include <deque>

#include <gtest/gtest.h>

#include "sluice/ioc/fair_order.h"
#include "sluice/ioc/rate_gate.h"

#include "bench/workloads/fair_bench.h"

namespace fair_caps_test {
namespace {

using namespace sluice;
using test::fair_bench;
using test::sent_flow;

constexpr std::uint64_t second_ns = 1'000'000'000;

// How many pieces of `amount` go in a span by a gate that is asked as soon as it says.
std::uint64_t through(std::uint64_t amount, std::uint64_t rate, std::uint64_t span_ns, std::uint64_t burst_ns) {
  rate_gate gate;
  const std::uint64_t begin = 5 * second_ns;
  std::uint64_t count = 0;
  for (std::uint64_t now = begin; now < begin + span_ns; now = std::max(now, gate.ready_ns(burst_ns))) {
    gate.charge(amount, rate, now);
    ++count;
  }
  return count;
}

TEST(RateGate, LetsThroughTheRateExactly) {
  EXPECT_EQ(through(1, 1'000, 10 * second_ns, 0), 10'000U);
  EXPECT_EQ(through(1, 3, 100 * second_ns, 0), 300U) << "thirds of a second are carried";
  EXPECT_EQ(through(1, 7'777'777, second_ns, 0), 7'777'777U);
  EXPECT_EQ(through(4096, 4096 * 11, 10 * second_ns, 0), 110U);
  EXPECT_EQ(through(1 << 20, 1 << 10, 4096 * second_ns, 0), 4U) << "a piece larger than a second's worth";
}

TEST(RateGate, TheBurstIsTheOneThatIsStated) {
  constexpr std::uint64_t burst = 10'000'000;
  EXPECT_EQ(through(1, 1'000, second_ns, burst), 1'000U + 10);
  EXPECT_EQ(through(1, 10, second_ns, burst), 11U) << "less than one piece in the burst: one piece ahead";
  rate_gate gate;
  gate.charge(1, 1'000, second_ns);
  gate.charge(1, 1'000, 100 * second_ns);
  EXPECT_EQ(gate.ready_ns(0), 100 * second_ns + 1'000'000) << "an hour of silence is worth no more than the burst";
}

TEST(RateGate, KeepsToVastRates) {
  rate_gate gate;
  constexpr std::uint64_t rate = 1ULL << 60U;
  for (int i = 0; i < 4; ++i) {
    gate.charge(1ULL << 59U, rate, second_ns);
  }
  EXPECT_EQ(gate.ready_ns(0), 3 * second_ns);
}

// Amounts that are small beside a vast rate: no fraction is lost, however many they are.
TEST(RateGate, CarriesFractionsOfVastRates) {
  rate_gate gate;
  constexpr std::uint64_t rate = 1ULL << 35U;
  constexpr std::uint64_t count = 1'000'000;
  for (std::uint64_t i = 0; i < count; ++i) {
    gate.charge(515, rate, second_ns);
  }
  EXPECT_EQ(gate.ready_ns(0), second_ns + 14'988'472U) << "515 MB at 32 GiB/s";
}

TEST(FairCaps, AFlowGetsItsIopsAndNoMore) {
  fair_bench bench({.burst = std::chrono::nanoseconds(0)});
  sent_flow capped;
  capped.terms.limits = {.iops = 500};
  sent_flow slow;
  slow.terms.limits = {.iops = 3};
  bench.add(capped, fair_bench::for_ever);
  bench.add(slow, fair_bench::for_ever);
  bench.run_until(bench.now_ns + 20 * second_ns - 1);
  EXPECT_EQ(capped.pieces, 10'000U);
  EXPECT_EQ(slow.pieces, 60U);
  bench.clear(capped);
  bench.clear(slow);
}

TEST(FairCaps, AFlowGetsItsBandwidthAndNoMore) {
  fair_bench bench({.burst = std::chrono::nanoseconds(0)});
  sent_flow capped;
  capped.bytes = 64 << 10;
  capped.terms.limits = {.iops = 1'000'000, .bytes_per_second = 1 << 20};
  bench.add(capped, fair_bench::for_ever);
  bench.run_until(bench.now_ns + 30 * second_ns - 1);
  EXPECT_EQ(capped.sum_bytes, 30ULL << 20U);
  bench.clear(capped);
}

// What went under one limit, and is taken back under the next, is no credit for that.
TEST(FairCaps, ALimitThatWasChangedGivesNothingBackForWhatWentBeforeIt) {
  fair_bench bench({.burst = std::chrono::nanoseconds(0)});
  sent_flow capped;
  capped.terms.limits = {.iops = 10};
  bench.add(capped, 1);
  ASSERT_NE(bench.pick(), nullptr);
  const std::uint16_t version = capped.limits_version();
  capped.terms.limits = {.iops = 1};
  bench.add(capped, 1);  // the new limit is noticed here
  ASSERT_NE(bench.pick(), nullptr);
  EXPECT_NE(capped.limits_version(), version);
  bench.order.take_back(capped, capped.bytes, version, bench.now_ns);
  const std::uint64_t begin = bench.now_ns;
  bench.add(capped, 1);
  bench.run_until(begin + second_ns - 1);
  EXPECT_EQ(capped.pieces, 2U) << "one piece a second, and that of this second has gone";
  bench.run_until(begin + second_ns);
  EXPECT_EQ(capped.pieces, 3U);
  bench.clear(capped);
}

TEST(FairCaps, WhoIsCappedCostsTheOthersNothing) {
  fair_bench bench;
  std::deque<sent_flow> flows(3);
  flows[0].terms.limits = {.iops = 10};
  for (sent_flow& each : flows) {
    bench.add(each, fair_bench::for_ever);
  }
  // A device that does a piece per 100 µs.
  for (int i = 0; i < 100'000; ++i) {
    ASSERT_NE(bench.pick(), nullptr);
    bench.now_ns += 100'000;
  }
  EXPECT_NEAR(static_cast<double>(flows[0].pieces), 100, 1);
  EXPECT_NEAR(static_cast<double>(flows[1].pieces), static_cast<double>(flows[2].pieces), 1);
  EXPECT_EQ(flows[0].pieces + flows[1].pieces + flows[2].pieces, 100'000U);
  for (sent_flow& each : flows) {
    bench.clear(each);
  }
}

// Without a clamp, what a capped flow did not use while it stood aside would be a credit over the others.
TEST(FairCaps, WhoWasCappedSavesNothingUp) {
  fair_bench bench;
  std::deque<sent_flow> flows(2);
  flows[0].terms.limits = {.iops = 10};
  bench.add(flows[0], fair_bench::for_ever);
  bench.add(flows[1], fair_bench::for_ever);
  for (int i = 0; i < 10'000; ++i) {
    bench.pick();
    bench.now_ns += 100'000;
  }
  flows[0].terms.limits = {};
  bench.add(flows[0], 1);
  const std::uint64_t before = flows[0].pieces;
  bench.pick(1'000);
  EXPECT_NEAR(static_cast<double>(flows[0].pieces - before), 500, 1);
  for (sent_flow& each : flows) {
    bench.clear(each);
  }
}

TEST(FairCaps, TheQueueHasALimitOfItsOwn) {
  fair_bench bench({.limits = {.iops = 700}, .burst = std::chrono::nanoseconds(0)});
  std::deque<sent_flow> flows(3);
  std::uint32_t weight = 100;
  for (sent_flow& each : flows) {
    each.terms.weight = weight;
    weight *= 2;
    bench.add(each, fair_bench::for_ever);
  }
  bench.run_until(bench.now_ns + 10 * second_ns - 1);
  EXPECT_NEAR(static_cast<double>(flows[0].pieces), 1'000, 1);
  EXPECT_NEAR(static_cast<double>(flows[1].pieces), 2'000, 1);
  EXPECT_NEAR(static_cast<double>(flows[2].pieces), 4'000, 1);
  EXPECT_EQ(bench.picks, 7'000U);
  for (sent_flow& each : flows) {
    bench.clear(each);
  }
}

TEST(FairCaps, WhoMustWaitIsToldUntilWhen) {
  fair_bench bench({.burst = std::chrono::nanoseconds(0)});
  sent_flow capped;
  capped.terms.limits = {.iops = 100};
  bench.add(capped, 5);
  EXPECT_EQ(bench.pick(), &capped);
  EXPECT_EQ(bench.pick(), nullptr);
  EXPECT_EQ(bench.ask_again_ns, bench.now_ns + 10'000'000);
  bench.now_ns = bench.ask_again_ns - 1;
  EXPECT_EQ(bench.pick(), nullptr);
  bench.now_ns += 1;
  EXPECT_EQ(bench.pick(), &capped);
  bench.clear(capped);
}

TEST(FairCaps, ARaisedLimitIsNoticedSoon) {
  fair_bench bench({.burst = std::chrono::nanoseconds(0)});
  sent_flow capped;
  capped.bytes = 1 << 20;
  capped.terms.limits = {.bytes_per_second = 1};  // a piece per twelve days
  bench.add(capped, fair_bench::for_ever);
  EXPECT_EQ(bench.pick(), &capped);
  EXPECT_EQ(bench.pick(), nullptr);
  capped.terms.limits = {};
  EXPECT_LE(bench.ask_again_ns, bench.now_ns + fair_order::look_again_ns);
  bench.now_ns = bench.ask_again_ns;
  EXPECT_EQ(bench.pick(), &capped);
  bench.clear(capped);
}

TEST(FairCaps, NobodyPassesALimit) {
  fair_bench bench({.limits = {.iops = 1'000}, .burst = std::chrono::nanoseconds(0)});
  sent_flow capped, free;
  capped.terms.limits = {.iops = 100};
  EXPECT_TRUE(bench.order.try_pass(capped, capped.terms, 1, bench.now_ns));
  EXPECT_FALSE(bench.order.try_pass(free, free.terms, 1, bench.now_ns)) << "the queue's";
  bench.now_ns += 1'000'000;
  EXPECT_FALSE(bench.order.try_pass(capped, capped.terms, 1, bench.now_ns)) << "its own";
  EXPECT_TRUE(bench.order.try_pass(free, free.terms, 1, bench.now_ns));
  bench.now_ns += 9'000'000;
  EXPECT_TRUE(bench.order.try_pass(capped, capped.terms, 1, bench.now_ns));
}

}  // namespace
}  // namespace fair_caps_test
