// The elevator `fair`, called as a queue calls it, in simulated time: flows by context, quanta, cancels, exits.
//
// The pairs come from a queue that is never used: who waits in the elevator under test is up to the test alone.
#include <deque>
#include <numeric>

#include <gtest/gtest.h>

#include "sluice/ioc/fair.h"

#include "support/io_helpers.h"

namespace fair_elevator_test {
namespace {

using namespace sluice;

struct piece : request {
  piece(int value, std::uint64_t bytes, std::uint64_t owner) : number(value) {
    set_bytes_left(bytes);
    set_owner(owner);
  }
  using request::set_bytes_left;
  int number;
  io_cq* flow = nullptr;
};

class fair_elevator_bench {
 public:
  explicit fair_elevator_bench(const fair_options& options = {})
      : order(make_fair_elevator(options)), pairs_({}, 1, make_fair_elevator(options)) {
    order->set_quantum_locked(128 << 10);
  }
  // A context and its pair.
  io_cq* context(std::uint32_t weight = io_context::default_weight, ioprio prio = {}, io_limits limits = {}) {
    const ref<io_context> made = tasks_.emplace_back().get_task_io_context(task_side::current).value();
    EXPECT_TRUE(made->set_weight(weight).has_value());
    made->set_ioprio(prio);
    made->set_limits(limits);
    return pairs_.queue->get_io_cq(*made).value();
  }
  piece& insert(io_cq* flow, std::uint64_t bytes = 4096, std::uint64_t owner = 1) {
    piece& made = pieces_.emplace_back(static_cast<int>(pieces_.size()), bytes, owner);
    made.flow = flow;
    order->insert_locked(made, flow);
    return made;
  }
  void insert_many(io_cq* flow, int count) {
    for (int i = 0; i < count; ++i) {
      insert(flow);
    }
  }
  piece* next() {
    found = order->next_locked(now);
    return static_cast<piece*>(found.next);
  }
  // Lets one go that is over at once. Returns its number, or -1.
  int go() {
    piece* went = next();
    if (went == nullptr) {
      return -1;
    }
    order->served_locked(*went, went->flow, take_all(*went), now);
    return went->number;
  }
  static std::uint64_t take_all(piece& from) {
    const std::uint64_t bytes = from.bytes_left();
    from.set_bytes_left(0);
    return bytes;
  }
  // How many of `count` picks were of a flow.
  int share(io_cq* flow, int count) {
    int mine = 0;
    for (int i = 0; i < count; ++i) {
      piece* went = next();
      mine += went != nullptr && went->flow == flow ? 1 : 0;
    }
    return mine;
  }
  void clear() {
    request_fifo rest;
    static_cast<void>(order->extract_all_locked(rest));
    while (rest.pop() != nullptr) {
    }
  }

  std::unique_ptr<elevator> order;
  elevator_pick found;
  steady_time now{std::chrono::seconds(1'000)};

 private:
  test::io_bench pairs_;
  std::deque<task> tasks_;
  std::deque<piece> pieces_;
};

TEST(FairElevator, IsAFifoForOneContext) {
  fair_elevator_bench bench;
  EXPECT_EQ(bench.order->name(), "fair");
  EXPECT_EQ(bench.order->use(), io_cq_use::wanted);
  EXPECT_TRUE(bench.order->empty_locked());
  EXPECT_EQ(bench.go(), -1);
  EXPECT_EQ(bench.found.ask_again, no_deadline);
  bench.insert_many(bench.context(), 3);
  EXPECT_FALSE(bench.order->empty_locked());
  for (const int expected : {0, 1, 2, -1}) {
    EXPECT_EQ(bench.go(), expected);
  }
  EXPECT_TRUE(bench.order->empty_locked());
}

TEST(FairElevator, SharesByTheWeightsOfTheContexts) {
  fair_elevator_bench bench;
  io_cq* a = bench.context(100);
  io_cq* b = bench.context(200);
  io_cq* c = bench.context(400);
  for (io_cq* each : {a, b, c}) {
    bench.insert_many(each, 800);
  }
  EXPECT_NEAR(bench.share(c, 700), 400, 1);
  bench.clear();
}

TEST(FairElevator, WhoComesLateGoesNext) {
  fair_elevator_bench bench;
  for (int i = 0; i < 64; ++i) {
    bench.insert_many(bench.context(), 10);
  }
  io_cq* light = bench.context();
  EXPECT_EQ(bench.share(light, 100), 0);
  const piece& late = bench.insert(light);
  EXPECT_EQ(bench.next(), &late);
  bench.clear();
}

TEST(FairElevator, TakesTheClassFromTheContext) {
  fair_elevator_bench bench;
  bench.insert_many(bench.context(100, {ioprio_class::idle, 0}), 1);
  bench.insert_many(bench.context(100, {ioprio_class::be, 7}), 1);
  bench.insert_many(bench.context(100, {ioprio_class::rt, 7}), 1);
  for (const int expected : {2, 1, 0, -1}) {
    EXPECT_EQ(bench.go(), expected);
  }
}

// A large request gives way after each quantum, and is the next of its own flow.
TEST(FairElevator, AQuantumIsATurn) {
  constexpr std::uint64_t quantum = 128 << 10;
  fair_elevator_bench bench({.op_cost_ns = 1});
  io_cq* large = bench.context();
  io_cq* small = bench.context();
  piece& first = bench.insert(large, 4 * quantum);
  bench.insert(large, quantum);
  bench.insert(small, quantum);
  bench.insert(small, quantum);
  bench.insert(small, quantum);
  std::vector<int> went;
  while (piece* each = bench.next()) {
    went.push_back(each->number);
    each->set_bytes_left(each->bytes_left() - quantum);
    bench.order->served_locked(*each, each->flow, quantum, bench.now);
    if (each->bytes_left() != 0) {
      bench.order->insert_again_locked(*each, each->flow);
    }
  }
  EXPECT_EQ(first.number, 0);
  EXPECT_EQ(went, (std::vector<int>{0, 2, 0, 3, 0, 4, 0, 1}));
}

TEST(FairElevator, WhatWasNotMovedIsGivenBack) {
  fair_elevator_bench bench({.op_cost_ns = 1'000, .mib_cost_ns = 1'000'000});
  io_cq* fails = bench.context();
  io_cq* works = bench.context();
  for (int i = 0; i < 400; ++i) {
    bench.insert(fails, 64 << 10);
    bench.insert(works, 64 << 10);
  }
  // 64 KiB cost 62 500 beside 1000 for a request that moved nothing.
  int failed = 0;
  int worked = 0;
  while (worked < 4) {
    piece* went = bench.next();
    if (went->flow == fails) {
      ++failed;
      bench.order->served_locked(*went, fails, 0, bench.now);
    } else {
      ++worked;
      bench.order->served_locked(*went, works, bench.take_all(*went), bench.now);
    }
  }
  EXPECT_NEAR(failed, 63 * 3, 64);
  bench.clear();
}

// O1: the pair has exited, once; its requests go on, in the order in which they would have.
TEST(FairElevator, WhatWaitsGoesOnAfterItsContextExited) {
  fair_elevator_bench bench;
  io_cq* gone = bench.context();
  io_cq* stays = bench.context();
  bench.insert_many(gone, 3);
  bench.insert_many(stays, 3);
  bench.order->exit_io_cq_locked(*gone);
  for (const int expected : {0, 3, 1, 4, 2, 5, -1}) {
    EXPECT_EQ(bench.go(), expected);
  }
  bench.order->exit_io_cq_locked(*stays);
}

TEST(FairElevator, GivesUpOneOwnerFromAnyFlow) {
  fair_elevator_bench bench;
  io_cq* mixed = bench.context();
  io_cq* others = bench.context();
  io_cq* only = bench.context();
  bench.insert(mixed, 4096, 7);
  bench.insert(mixed, 4096, 8);
  bench.insert(mixed, 4096, 7);
  bench.insert(others, 4096, 8);
  piece& begun = bench.insert(only, 4096, 7);
  bench.insert(only, 4096, 7);
  EXPECT_EQ(bench.next()->number, 0);
  EXPECT_EQ(bench.next()->number, 3);
  EXPECT_EQ(bench.next(), &begun);
  bench.order->insert_again_locked(begun, only);
  request_fifo taken;
  EXPECT_EQ(bench.order->extract_owner_locked(7, taken), 3U);
  EXPECT_EQ(bench.order->extract_owner_locked(7, taken), 0U);
  std::vector<int> numbers;
  while (request* each = taken.pop()) {
    numbers.push_back(static_cast<piece*>(each)->number);
  }
  std::ranges::sort(numbers);
  EXPECT_EQ(numbers, (std::vector<int>{2, 4, 5}));
  bench.insert(mixed, 4096, 7);
  EXPECT_EQ(bench.order->extract_owner_locked(8, taken), 1U) << "behind another owner's";
  EXPECT_EQ(static_cast<piece*>(taken.pop())->number, 1);
  EXPECT_EQ(bench.go(), 6);
  EXPECT_EQ(bench.go(), -1);
  EXPECT_TRUE(bench.order->empty_locked());
  bench.insert(only, 4096, 9);
  EXPECT_EQ(bench.order->extract_owner_locked(7, taken), 0U);
  EXPECT_EQ(bench.order->extract_owner_locked(9, taken), 1U) << "an emptied flow has new owners";
  EXPECT_NE(taken.pop(), nullptr);
}

TEST(FairElevator, GivesUpAllOfIt) {
  fair_elevator_bench bench;
  for (int i = 0; i < 10; ++i) {
    bench.insert_many(bench.context(100, {}, {.iops = i % 2 == 0 ? 1U : 0U}), 5);
  }
  EXPECT_EQ(bench.share(nullptr, 20), 0);
  request_fifo taken;
  EXPECT_EQ(bench.order->extract_all_locked(taken), 30U);
  EXPECT_TRUE(bench.order->empty_locked());
  EXPECT_EQ(bench.go(), -1);
  std::size_t count = 0;
  while (taken.pop() != nullptr) {
    ++count;
  }
  EXPECT_EQ(count, 30U);
}

TEST(FairElevator, SaysWhenWhoIsCappedMayGo) {
  fair_elevator_bench bench({.burst = std::chrono::nanoseconds(0)});
  io_cq* capped = bench.context(100, {}, {.iops = 100});
  bench.insert_many(capped, 3);
  EXPECT_EQ(bench.go(), 0);
  EXPECT_EQ(bench.go(), -1);
  EXPECT_EQ(bench.found.ask_again, bench.now + std::chrono::milliseconds(10));
  bench.now = bench.found.ask_again;
  EXPECT_EQ(bench.go(), 1);
  EXPECT_EQ(bench.go(), -1);
  bench.insert(bench.context());
  EXPECT_EQ(bench.go(), 3) << "others are not held up";
  bench.now += std::chrono::milliseconds(10);
  EXPECT_EQ(bench.go(), 2);
}

TEST(FairElevator, WhoMayGoGoesAndIsCharged) {
  fair_elevator_bench bench({.burst = std::chrono::nanoseconds(0)});
  io_cq* capped = bench.context(100, {}, {.iops = 100});
  io_cq* free = bench.context();
  piece coming(100, 4096, 1);
  EXPECT_TRUE(bench.order->may_go_locked(coming, capped, bench.now));
  EXPECT_FALSE(bench.order->may_go_locked(coming, capped, bench.now)) << "over its limit";
  EXPECT_TRUE(bench.order->may_go_locked(coming, free, bench.now));
  bench.insert(capped);
  bench.now += std::chrono::milliseconds(10);
  EXPECT_FALSE(bench.order->may_go_locked(coming, capped, bench.now)) << "not before its own that wait";
  EXPECT_EQ(bench.go(), 0);
}

TEST(FairElevator, WhoComesBackUntouchedStandsWhereItStood) {
  fair_elevator_bench bench;
  for (int i = 0; i < 8; ++i) {
    bench.insert_many(bench.context(), 20);
  }
  io_cq* light = bench.context();
  EXPECT_EQ(bench.share(light, 50), 0);
  piece coming(1'000, 4096, 1);
  ASSERT_TRUE(bench.order->may_go_locked(coming, light, bench.now));
  bench.order->take_back_locked(coming, light, bench.now);
  bench.order->insert_locked(coming, light);
  EXPECT_EQ(bench.next(), &coming) << "no worker was free for it: it has had nothing";
  bench.clear();
}

// Knows how many were over before it.
struct ranked_request : test::awaited_request {
  explicit ranked_request(std::atomic<int>& over) : counter(over) {
    done = [](io_request& each) noexcept {
      auto& mine = static_cast<ranked_request&>(each);
      mine.rank = mine.counter.fetch_add(1, std::memory_order_seq_cst);
      mine.sleeper.wake();
    };
  }
  std::atomic<int>& counter;
  int rank = -1;
};

// A queue from one end to the other: the elevator's calls come from it.
TEST(FairElevator, OrdersARealQueue) {
  test::io_bench bench({.depth = 1}, 1, make_fair_elevator());
  auto [target, device] = test::make_gated_device();
  const ref<open_file> file = open_file::open(target, bench.queue, access_mode::read_write).value();
  task other;
  const ref<io_context> light = other.get_task_io_context(task_side::current).value();
  device->gate.shut();
  std::atomic<int> over{0};
  std::deque<ranked_request> all;
  for (int i = 0; i < 9; ++i) {
    test::fill(all.emplace_back(over), io_op::read, 0, 512);
    EXPECT_EQ(file->submit(all.back(), i == 8 ? *light : *bench.context).value(), issued::queued);
  }
  device->gate.await_arrivals(1);
  device->gate.open();
  for (ranked_request& each : all) {
    EXPECT_EQ(each.wait(), 512);
  }
  EXPECT_EQ(all[0].rank, 0) << "it was under way";
  EXPECT_EQ(all[8].rank, 1) << "it came last, and did not wait for the seven before it";
  for (int i = 1; i < 8; ++i) {
    EXPECT_EQ(all[static_cast<std::size_t>(i)].rank, i + 1);
  }
  EXPECT_TRUE(bench.queue->stop().has_value());
}

}  // namespace
}  // namespace fair_elevator_test
