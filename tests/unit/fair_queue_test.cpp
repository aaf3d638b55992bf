// Goal: a request queue with the elevator `fair` keeps shares and limits from the first request on: what a flow took
// while no other wanted the device costs it nothing later; a limit is asked at each quantum; a stop and a freeze do
// not wait for a limit. Method: long requests on real workers, in time that the test moves, so that a limit holds for
// ever unless the test lets it pass.
#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <semaphore>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/ioc/fair.h"

#include "support/queue_helpers.h"

namespace fair_queue_test {
namespace {

using namespace sluice;
using std::chrono::milliseconds;
using test::probe_request;

constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint64_t quantum = 128 << 10;

class FairQueue : public testing::Test {
 protected:
  void make(const fair_options& options, std::uint32_t depth = 32) {
    queue_ =
        request_queue::create(*wq_, {.depth = depth, .quantum = quantum, .clock = &clock_}, make_fair_elevator(options))
            .value();
  }
  ref<io_context> make_context(io_limits limits = {}) {
    const ref<io_context> made = tasks_.emplace_back().get_task_io_context(task_side::current).value();
    made->set_limits(limits);
    return made;
  }
  // Lets time go on, while no worker runs, until a condition holds. Returns false if it does not come true.
  template <class Condition>
  bool lets_time_pass_until(Condition condition) {
    for (int turn = 0; turn < 20'000; ++turn) {
      static_cast<void>(moved_at_rest());
      if (condition()) {
        return true;
      }
      clock_.move(milliseconds(10));
      test::make_manager_look(*wq_);
    }
    return false;
  }
  // What has been moved does not change any more: no worker runs.
  std::uint64_t moved_at_rest() {
    while (queue_->stats().on_workers != 0) {
      std::this_thread::yield();
    }
    return queue_->stats().bytes;
  }

  test::moved_clock clock_;
  ref<io_wq> wq_ = io_wq::create({.max_bound = 4, .name = "test", .clock = &clock_}).value();
  std::deque<task> tasks_;
  ref<request_queue> queue_;
};

TEST_F(FairQueue, ALimitIsAskedAtEachQuantum) {
  make({});
  const ref<io_context> limited = make_context({.bytes_per_second = 10 * mib});
  probe_request large, next;
  large.has_bytes(32 * mib);
  ASSERT_EQ(queue_->submit(large, *limited).value(), issued::queued);
  const std::uint64_t burst = 10 * mib / 100;
  EXPECT_LE(moved_at_rest(), burst + quantum) << "the rate times the burst, and one quantum";
  const steady_time begin = clock_.now();
  next.has_bytes(mib);
  ASSERT_EQ(queue_->submit(next, *limited).value(), issued::queued);
  ASSERT_TRUE(lets_time_pass_until([&] { return large.completions.load(std::memory_order_seq_cst) == 1; }));
  EXPECT_GE(clock_.now() - begin, milliseconds(3100)) << "32 MiB at 10 MiB a second";
  EXPECT_LE(clock_.now() - begin, milliseconds(4000));
  const steady_time end = clock_.now();
  ASSERT_TRUE(lets_time_pass_until([&] { return next.completions.load(std::memory_order_seq_cst) == 1; }));
  EXPECT_LE(clock_.now() - end, milliseconds(400)) << "it does not pay for the request before it again";
  EXPECT_TRUE(queue_->stop());
}

TEST_F(FairQueue, ALimitOfAllFlowsIsAskedAtEachQuantum) {
  make({.limits = {.bytes_per_second = 10 * mib}});
  probe_request large;
  large.has_bytes(4 * mib);
  const ref<io_context> any = make_context();
  ASSERT_EQ(queue_->submit(large, *any).value(), issued::queued);
  EXPECT_LE(moved_at_rest(), 10 * mib / 100 + quantum);
  EXPECT_TRUE(lets_time_pass_until([&] { return large.completions.load(std::memory_order_seq_cst) == 1; }));
  EXPECT_TRUE(queue_->stop());
}

// A request that would be done inside submit is longer than a quantum.
TEST_F(FairQueue, AnAttemptDoesNotPassALimit) {
  make({});
  const ref<io_context> limited = make_context({.bytes_per_second = 10 * mib});
  probe_request large;
  large.inline_ok = true;
  large.has_bytes(32 * mib);
  ASSERT_EQ(queue_->submit(large, *limited).value(), issued::queued);
  EXPECT_LE(moved_at_rest(), 10 * mib / 100 + quantum);
  EXPECT_TRUE(queue_->stop());
  EXPECT_EQ(large.completions.load(std::memory_order_seq_cst), 1);
}

TEST_F(FairQueue, AStopDoesNotWaitForALimit) {
  make({});
  const ref<io_context> limited = make_context({.iops = 1, .bytes_per_second = mib});
  std::array<probe_request, 4> all;
  for (probe_request& one : all) {
    one.has_bytes(64 * mib);
    ASSERT_EQ(queue_->submit(one, *limited).value(), issued::queued);
  }
  EXPECT_TRUE(queue_->stop(steady_time::max())) << "time stands still";
  for (const probe_request& one : all) {
    EXPECT_EQ(one.completions.load(std::memory_order_seq_cst), 1);
    EXPECT_EQ(one.result(), 2) << "it ran to its end";
  }
}

TEST_F(FairQueue, AFreezeDoesNotWaitForALimitAndPutsItBack) {
  make({});
  const ref<io_context> limited = make_context({.bytes_per_second = 10 * mib});
  std::array<probe_request, 2> before;
  for (probe_request& one : before) {
    one.has_bytes(64 * mib);
    ASSERT_EQ(queue_->submit(one, *limited).value(), issued::queued);
  }
  ASSERT_TRUE(queue_->freeze());
  EXPECT_EQ(before[1].completions.load(std::memory_order_seq_cst), 1);
  const std::uint64_t moved = queue_->stats().bytes;
  probe_request after;
  after.has_bytes(mib);
  ASSERT_EQ(queue_->submit(after, *limited).value(), issued::queued);
  queue_->unfreeze();
  EXPECT_LE(moved_at_rest() - moved, quantum);
  EXPECT_EQ(after.completions.load(std::memory_order_seq_cst), 0) << "128 MiB are to be paid for";
  EXPECT_TRUE(queue_->stop());
}

// A flow that is filed as ready while the limits are lifted is asked for its limit again when they are put back.
TEST_F(FairQueue, AFlowThatWaitsWhileLimitsAreLiftedIsLimitedAfterwards) {
  make({}, 1);
  const ref<io_context> limited = make_context({.bytes_per_second = 10 * mib});
  probe_request before, waits;
  before.has_bytes(64 * mib);
  ASSERT_EQ(queue_->submit(before, *limited).value(), issued::queued);
  ASSERT_TRUE(queue_->freeze());
  ASSERT_TRUE(queue_->quiesce());
  // Held aside, then let go into a queue that is quiesced: it waits in the elevator when the next freeze lifts the
  // limits.
  waits.has_bytes(mib);
  ASSERT_EQ(queue_->submit(waits, *limited).value(), issued::queued);
  queue_->unfreeze();
  EXPECT_EQ(queue_->freeze(clock_seam::real().now()).error(), error_of(ETIMEDOUT));
  const std::uint64_t moved = queue_->stats().bytes;
  queue_->unquiesce();
  EXPECT_EQ(moved_at_rest(), moved) << "64 MiB are to be paid for";
  EXPECT_TRUE(queue_->stop());
}

// A request that a worker has taken up in a quiesced queue has not run: it pays its limit when it does.
TEST_F(FairQueue, ARequestThatIsQuiescedBeforeItRanPaysOnce) {
  wq_ = io_wq::create({.max_bound = 1, .name = "test", .clock = &clock_}).value();
  make({});
  const ref<io_context> limited = make_context({.iops = 10});
  std::binary_semaphore started{0};
  std::binary_semaphore go{0};
  ASSERT_TRUE(wq_->submit([&] {
                   started.release();
                   go.acquire();
                 })
                  .has_value());
  started.acquire();  // the worker is taken
  probe_request once, next;
  ASSERT_EQ(queue_->submit(once, *limited).value(), issued::queued);
  ASSERT_TRUE(queue_->quiesce());
  go.release();
  while (queue_->stats().on_workers != 0) {
    std::this_thread::yield();
  }
  EXPECT_EQ(once.runs.load(std::memory_order_seq_cst), 0);
  const steady_time begin = clock_.now();
  queue_->unquiesce();
  EXPECT_TRUE(lets_time_pass_until([&] { return once.completions.load(std::memory_order_seq_cst) == 1; }));
  EXPECT_EQ(clock_.now(), begin) << "its piece was given back";
  ASSERT_EQ(queue_->submit(next, *limited).value(), issued::queued);
  EXPECT_TRUE(lets_time_pass_until([&] { return next.completions.load(std::memory_order_seq_cst) == 1; }));
  EXPECT_LE(clock_.now() - begin, milliseconds(110)) << "a tenth of a second, not two";
  EXPECT_TRUE(queue_->stop());
}

// 400 MiB have the device alone. Then another flow comes: each gets half of what goes.
TEST_F(FairQueue, ServiceThatNobodyWaitedForCostsNothingLater) {
  make({}, 1);
  test::barrier_gate gate;
  const ref<io_context> first = make_context();
  const ref<io_context> second = make_context();
  probe_request alone;
  alone.has_bytes(400 * mib);
  ASSERT_EQ(queue_->submit(alone, *first).value(), issued::queued);
  alone.wait();
  std::vector<int> order;  // the depth is 1
  gate.shut();
  std::array<probe_request, 3> all{probe_request(&gate), probe_request(&gate), probe_request(&gate)};
  const auto begins = [&](std::size_t which, io_context& of, int name) {
    all[which].has_bytes(64 * quantum);
    all[which].in_run = [&order, name](cancel_probe) { order.push_back(name); };
    ASSERT_EQ(queue_->submit(all[which], of).value(), issued::queued);
  };
  begins(0, *first, 1);
  gate.await_arrivals(1);
  begins(1, *second, 2);
  gate.open();
  all[0].wait();
  all[1].wait();
  ASSERT_GE(order.size(), 64U);
  const auto mine = std::count(order.begin(), order.begin() + 64, 1);
  EXPECT_GE(mine, 30);
  EXPECT_LE(mine, 34);
  EXPECT_TRUE(queue_->stop());
}

}  // namespace
}  // namespace fair_queue_test
