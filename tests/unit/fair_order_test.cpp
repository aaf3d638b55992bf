// fair_order: shares, classes and their bounds, who goes next, in simulated time: no clock, no thread, exact figures.
#include "sluice/ioc/fair_order.h"

#include <deque>
#include <limits>

#include <gtest/gtest.h>

#include "bench/workloads/fair_bench.h"

namespace fair_order_test {
namespace {

using namespace sluice;
using test::fair_bench;
using test::sent_flow;

sent_flow& flow_of(std::deque<sent_flow>& flows, fair_terms terms, std::uint64_t bytes = 4096) {
  sent_flow& made = flows.emplace_back();
  made.terms = terms;
  made.bytes = bytes;
  return made;
}

void clear(fair_bench& bench, std::deque<sent_flow>& flows) {
  for (sent_flow& each : flows) {
    bench.clear(each);
  }
}

TEST(FairOrder, AFlowIsAsBigAsItsContractSays) {
  EXPECT_EQ(sizeof(sent_flow) - 5 * sizeof(std::uint64_t) - sizeof(fair_terms), 136U);
}

TEST(FairOrder, SharesAreExactlyTheWeights) {
  fair_bench bench;
  std::deque<sent_flow> flows;
  for (const std::uint32_t weight : {100U, 200U, 400U}) {
    bench.add(flow_of(flows, {.weight = weight}), fair_bench::for_ever);
  }
  bench.pick(7'000);
  // Every seven picks of equal cost are 1, 2 and 4: no flow is ever off by more than one.
  EXPECT_NEAR(static_cast<double>(flows[0].pieces), 1'000, 1);
  EXPECT_NEAR(static_cast<double>(flows[1].pieces), 2'000, 1);
  EXPECT_NEAR(static_cast<double>(flows[2].pieces), 4'000, 1);
  clear(bench, flows);
}

TEST(FairOrder, SharesAreOfCostAndNotOfPieces) {
  fair_bench bench({.op_cost_ns = 100'000, .mib_cost_ns = 1'000'000});
  std::deque<sent_flow> flows;
  sent_flow& small = flow_of(flows, {}, 0);
  sent_flow& large = flow_of(flows, {}, 1 << 20);
  EXPECT_EQ(bench.order.cost_of(small.bytes), 100'000U);
  EXPECT_EQ(bench.order.cost_of(large.bytes), 1'100'000U);
  bench.add(small, fair_bench::for_ever);
  bench.add(large, fair_bench::for_ever);
  bench.pick(12'000);
  EXPECT_NEAR(static_cast<double>(small.pieces), 11'000, 11);
  EXPECT_NEAR(static_cast<double>(large.pieces), 1'000, 1);
  clear(bench, flows);
}

// Remainders are carried: no weight is favoured by rounding, however long it runs and however fine it is.
TEST(FairOrder, RoundingFavoursNobody) {
  fair_bench bench({.op_cost_ns = 1, .mib_cost_ns = 0});
  std::deque<sent_flow> flows;
  sent_flow& odd = flow_of(flows, {.prio = {ioprio_class::be, 0}, .weight = 9'999});
  sent_flow& even = flow_of(flows, {.prio = {ioprio_class::be, 0}, .weight = 10'000});
  bench.add(odd, fair_bench::for_ever);
  bench.add(even, fair_bench::for_ever);
  bench.pick(19'999 * 100);
  EXPECT_NEAR(static_cast<double>(odd.pieces), 999'900, 2);
  EXPECT_NEAR(static_cast<double>(even.pieces), 1'000'000, 2);
  clear(bench, flows);
}

TEST(FairOrder, ALevelCountsAsTheKernelsBfqDoes) {
  EXPECT_EQ(fair_order::shares_of({.prio = {ioprio_class::be, 0}, .weight = 100}), 800U);
  EXPECT_EQ(fair_order::shares_of({.prio = {ioprio_class::be, 7}, .weight = 100}), 100U);
  EXPECT_EQ(fair_order::shares_of({.weight = 100}), 400U) << "NONE is BE/4";
  EXPECT_EQ(fair_order::shares_of({.prio = {ioprio_class::be, 7}, .weight = 0}), 1U);
  EXPECT_EQ(fair_order::shares_of({.prio = {ioprio_class::be, 0}, .weight = 1'000'000}), 80'000U);
  fair_bench bench;
  std::deque<sent_flow> flows;
  sent_flow& first = flow_of(flows, {.prio = {ioprio_class::be, 0}});
  sent_flow& last = flow_of(flows, {.prio = {ioprio_class::be, 7}});
  bench.add(first, fair_bench::for_ever);
  bench.add(last, fair_bench::for_ever);
  bench.pick(900);
  EXPECT_NEAR(static_cast<double>(first.pieces), 800, 1);
  EXPECT_NEAR(static_cast<double>(last.pieces), 100, 1);
  clear(bench, flows);
}

// The heavy ones stand at one and the same tag: by turns alone the light one would wait for all of them.
TEST(FairOrder, ALightFlowAmongHeavyOnesGoesNext) {
  fair_bench bench;
  std::deque<sent_flow> flows;
  sent_flow& light = flow_of(flows, {});
  for (int i = 0; i < 64; ++i) {
    bench.add(flow_of(flows, {}), fair_bench::for_ever);
  }
  bench.pick(64 * 3);
  for (unsigned round = 0; round < 200; ++round) {
    bench.add(light, 1);
    EXPECT_EQ(bench.pick(), &light) << round;
    bench.pick(65 + round);  // the others had as much meanwhile: it asks for less than its share
  }
  clear(bench, flows);
}

// A light flow that asks for more than its share is a heavy one.
TEST(FairOrder, WhoComesBackAtOnceGetsItsShareAndNoMore) {
  fair_bench bench;
  std::deque<sent_flow> flows;
  sent_flow& eager = flow_of(flows, {});
  for (int i = 0; i < 9; ++i) {
    bench.add(flow_of(flows, {}), fair_bench::for_ever);
  }
  for (int i = 0; i < 10'000; ++i) {
    if (eager.waiting == 0) {
      bench.add(eager, 1);
    }
    bench.pick();
  }
  EXPECT_NEAR(static_cast<double>(eager.pieces), 1'000, 2);
  clear(bench, flows);
}

TEST(FairOrder, ASleeperSavesNothingUp) {
  fair_bench bench;
  std::deque<sent_flow> flows;
  sent_flow& sleeper = flow_of(flows, {});
  sent_flow& worker = flow_of(flows, {});
  bench.add(worker, fair_bench::for_ever);
  bench.pick(10'000);
  bench.add(sleeper, fair_bench::for_ever);
  bench.pick(1'000);
  EXPECT_NEAR(static_cast<double>(sleeper.pieces), 500, 1);
  clear(bench, flows);
}

TEST(FairOrder, ClassesGoInOrder) {
  fair_bench bench;
  std::deque<sent_flow> flows;
  sent_flow& idle = flow_of(flows, {.prio = {ioprio_class::idle, 0}});
  sent_flow& be = flow_of(flows, {});
  sent_flow& rt = flow_of(flows, {.prio = {ioprio_class::rt, 7}});
  for (sent_flow* each : {&idle, &be, &rt}) {
    bench.add(*each, 3);
  }
  for (sent_flow* expected : {&rt, &rt, &rt, &be, &be, &be, &idle, &idle, &idle}) {
    EXPECT_EQ(bench.pick(), expected);
  }
  EXPECT_EQ(bench.pick(), nullptr);
  EXPECT_EQ(bench.ask_again_ns, fair_order::never_ns);
}

TEST(FairOrder, ALowerClassWaitsForSoManyAndNoMore) {
  fair_bench bench({.be_after = 16, .idle_after = 128});
  std::deque<sent_flow> flows;
  sent_flow& rt = flow_of(flows, {.prio = {ioprio_class::rt, 0}});
  sent_flow& be = flow_of(flows, {});
  sent_flow& idle = flow_of(flows, {.prio = {ioprio_class::idle, 0}});
  bench.add(rt, fair_bench::for_ever);
  bench.add(be, fair_bench::for_ever);
  bench.add(idle, fair_bench::for_ever);
  std::uint64_t be_wait = 0;
  std::uint64_t idle_wait = 0;
  std::uint64_t be_longest = 0;
  std::uint64_t idle_longest = 0;
  for (int i = 0; i < 129 * 170; ++i) {
    const sent_flow* went = bench.pick();
    be_wait = went == &be ? 0 : be_wait + 1;
    idle_wait = went == &idle ? 0 : idle_wait + 1;
    be_longest = std::max(be_longest, be_wait);
    idle_longest = std::max(idle_longest, idle_wait);
  }
  EXPECT_LE(be_longest, 17U) << "one more where IDLE's turn is the same";
  EXPECT_EQ(idle_longest, 128U);
  EXPECT_EQ(idle.pieces, 170U);
  EXPECT_GT(rt.pieces, be.pieces * 15);
  clear(bench, flows);
}

TEST(FairOrder, ABoundCountsOnlyWhileSomebodyWaits) {
  fair_bench bench({.be_after = 4});
  std::deque<sent_flow> flows;
  sent_flow& rt = flow_of(flows, {.prio = {ioprio_class::rt, 0}});
  sent_flow& be = flow_of(flows, {});
  bench.add(rt, fair_bench::for_ever);
  bench.pick(100);
  bench.add(be, 1);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(bench.pick(), &rt) << i;
  }
  EXPECT_EQ(bench.pick(), &be);
  clear(bench, flows);
}

TEST(FairOrder, ANewWeightCountsFromTheNextCharge) {
  fair_bench bench;
  std::deque<sent_flow> flows;
  sent_flow& a = flow_of(flows, {});
  sent_flow& b = flow_of(flows, {});
  bench.add(a, fair_bench::for_ever);
  bench.add(b, fair_bench::for_ever);
  bench.pick(100);
  a.terms.weight = 300;
  const std::uint64_t before = a.pieces;
  bench.pick(400);
  EXPECT_NEAR(static_cast<double>(a.pieces - before), 300, 2);
  clear(bench, flows);
}

// A flow that changes to and fro between classes gets no more than its share: its debt goes along.
TEST(FairOrder, AChangeOfClassIsNoWayOutOfADebt) {
  fair_bench bench;
  std::deque<sent_flow> flows;
  sent_flow& shifty = flow_of(flows, {}, 1 << 20);
  sent_flow& honest = flow_of(flows, {}, 1 << 20);
  bench.add(honest, fair_bench::for_ever);
  for (int i = 0; i < 1'000; ++i) {
    shifty.terms.prio = {};
    if (shifty.waiting == 0) {
      bench.add(shifty, 1);
    }
    bench.pick();
    shifty.terms.prio = {ioprio_class::idle, 0};
    if (shifty.in()) {
      bench.order.refile(shifty, shifty.terms, bench.now_ns);
      shifty.terms.prio = {};
      bench.order.refile(shifty, shifty.terms, bench.now_ns);
    }
  }
  EXPECT_NEAR(static_cast<double>(honest.pieces), 500, 5);
  clear(bench, flows);
}

TEST(FairOrder, ARefiledFlowStandsInItsNewClass) {
  fair_bench bench;
  std::deque<sent_flow> flows;
  sent_flow& a = flow_of(flows, {.prio = {ioprio_class::idle, 0}});
  sent_flow& b = flow_of(flows, {});
  bench.add(a, 5);
  bench.add(b, 5);
  EXPECT_EQ(bench.pick(), &b);
  a.terms.prio = {ioprio_class::rt, 0};
  bench.add(a, 1);
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(bench.pick(), &a);
  }
  EXPECT_EQ(bench.pick(), &b);
  clear(bench, flows);
}

TEST(FairOrder, WhoPassesIsChargedLikeTheOthers) {
  fair_bench bench({.op_cost_ns = 100, .mib_cost_ns = 0});  // 400 shares divide it: tags are equal to the last bit
  std::deque<sent_flow> flows;
  sent_flow& passed = flow_of(flows, {});
  sent_flow& other = flow_of(flows, {});
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(bench.order.try_pass(passed, passed.terms, passed.bytes, bench.now_ns));
  }
  EXPECT_TRUE(bench.order.try_pass(other, other.terms, other.bytes, bench.now_ns));
  // Virtual time stands at the last that went: both owe the piece that went there.
  bench.add(passed, 4);
  bench.add(other, 4);
  EXPECT_EQ(bench.pick(), &passed) << "tags are equal, and it came first";
  EXPECT_EQ(bench.pick(), &other);
  clear(bench, flows);
}

TEST(FairOrder, WhatWasMovedBeyondTheChargeIsSettledWithTheNext) {
  fair_bench bench({.op_cost_ns = 100, .mib_cost_ns = 1 << 20});  // 1 ns a byte
  std::deque<sent_flow> flows;
  sent_flow& more = flow_of(flows, {}, 900);
  sent_flow& less = flow_of(flows, {}, 900);
  bench.add(more, fair_bench::for_ever);
  bench.add(less, fair_bench::for_ever);
  for (int i = 0; i < 3'000; ++i) {
    sent_flow* went = bench.pick();
    bench.order.settle(*went, 900, went == &more ? 1'900 : 400, bench.now_ns);
  }
  // 2000 against 500 each.
  EXPECT_NEAR(static_cast<double>(more.pieces), 600, 2);
  EXPECT_NEAR(static_cast<double>(less.pieces), 2'400, 2);
  clear(bench, flows);
}

// A request moved all of itself at once while no other flow waited.
TEST(FairOrder, WhatWasMovedWhileNoFlowWaitedCostsNothingLater) {
  fair_bench bench({.op_cost_ns = 100, .mib_cost_ns = 1 << 20});
  std::deque<sent_flow> flows;
  sent_flow& alone = flow_of(flows, {}, 900);
  sent_flow& other = flow_of(flows, {}, 900);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(bench.order.try_pass(alone, alone.terms, 900, bench.now_ns));
    bench.order.settle(alone, 900, 1 << 20, bench.now_ns);
  }
  bench.add(alone, fair_bench::for_ever);
  bench.add(other, fair_bench::for_ever);
  for (int i = 0; i < 1'000; ++i) {
    bench.pick();
  }
  EXPECT_NEAR(static_cast<double>(alone.pieces), 500, 2);
  clear(bench, flows);
}

// Tags do not overflow in years: the finest weight at the dearest cost moves virtual time by 2^50 a second of work.
TEST(FairOrder, VirtualTimeGoesOnAcrossTheEndOfAWord) {
  constexpr std::uint64_t near_end = std::numeric_limits<std::uint64_t>::max() - (1ULL << 40U);
  fair_bench bench({}, {.high = 0, .low = near_end});
  std::deque<sent_flow> flows;
  sent_flow& sleeper = flow_of(flows, {.weight = 1});
  sent_flow& one = flow_of(flows, {.weight = 1});
  sent_flow& two = flow_of(flows, {.weight = 2});
  bench.add(sleeper, 1);
  EXPECT_EQ(bench.pick(), &sleeper);
  bench.add(one, fair_bench::for_ever);
  bench.add(two, fair_bench::for_ever);
  bench.pick(30'000);  // 10 000 ns * 2^20 / 4 each: far over the end
  EXPECT_NEAR(static_cast<double>(one.pieces), 10'000, 1);
  EXPECT_NEAR(static_cast<double>(two.pieces), 20'000, 1);
  bench.add(sleeper, 1);
  EXPECT_EQ(bench.pick(), &sleeper) << "who slept across the end is not in the future";
  clear(bench, flows);
}

// Who passes while others wait for something else (a worker) is charged, and does not make those late.
TEST(FairOrder, WhoPassesDoesNotMakeTheWaitingLate) {
  fair_bench bench({.op_cost_ns = 100, .mib_cost_ns = 0});
  std::deque<sent_flow> flows;
  sent_flow& passes = flow_of(flows, {});
  sent_flow& waits = flow_of(flows, {});
  sent_flow& comes = flow_of(flows, {});
  bench.add(waits, fair_bench::for_ever);
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(bench.order.try_pass(passes, passes.terms, passes.bytes, bench.now_ns));
  }
  bench.add(comes, 1);
  bench.add(passes, 1);
  EXPECT_EQ(bench.pick(), &waits);
  EXPECT_EQ(bench.pick(), &comes);
  for (int i = 0; i < 9; ++i) {
    EXPECT_EQ(bench.pick(), &waits) << i;
  }
  EXPECT_EQ(bench.pick(), &passes) << "its ten are made up for";
  clear(bench, flows);
}

// Who went and found no worker stands where it stood: charged twice, a light flow would stand behind the heavy ones.
TEST(FairOrder, WhatIsTakenBackWasNeverServed) {
  fair_bench bench({.limits = {.iops = 1'000'000}});
  std::deque<sent_flow> flows;
  sent_flow& light = flow_of(flows, {.limits = {.iops = 10, .bytes_per_second = 1 << 20}}, 3 << 18);
  for (int i = 0; i < 64; ++i) {
    bench.add(flow_of(flows, {}), fair_bench::for_ever);
  }
  bench.pick(100);
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(bench.order.try_pass(light, light.terms, light.bytes, bench.now_ns)) << i;
    if (i % 2 == 0) {
      bench.order.take_back(light, light.bytes, light.limits_version(), bench.now_ns);
      bench.add(light, 1);
    } else {
      bench.add(light, 1);  // another of it came meanwhile
      bench.order.take_back(light, light.bytes, light.limits_version(), bench.now_ns);
    }
    ASSERT_EQ(bench.pick(), &light) << i;
    bench.order.take_back(light, light.bytes, light.limits_version(), bench.now_ns);
  }
  clear(bench, flows);
}

TEST(FairOrderDeathTest, RefusesWhatItsTableForbids) {
  fair_order order;
  sent_flow flow;
  EXPECT_DEATH(order.refile(flow, {}, 1), "out");
  EXPECT_DEATH(order.serve(flow, {}, 1, fair_order::more::no, 1), "ready");
  order.wake(flow, {}, 1);
  EXPECT_DEATH(order.wake(flow, {}, 1), "twice");
  EXPECT_DEATH(static_cast<void>(order.try_pass(flow, {}, 1, 1)), "waits");
  order.sleep(flow);
  order.sleep(flow);
}

}  // namespace
}  // namespace fair_order_test
