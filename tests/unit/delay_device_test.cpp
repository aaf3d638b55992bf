// delay_device: what waits, what lets it go on, and the device that is dead. On a pool, with its interrupts.
#include "sluice/device/delay_device.h"

#include <algorithm>
#include <utility>

#include <gtest/gtest.h>

#include "sluice/device/memory_device.h"

#include "support/io_helpers.h"

namespace delay_device_test {
namespace {

using namespace sluice;
using std::chrono::microseconds;
using std::chrono::nanoseconds;

constexpr io_op every_op[] = {io_op::read, io_op::write, io_op::flush, io_op::trim, io_op::write_zeroes, io_op::cache};

struct delay_bench : test::io_bench {
  delay_bench()
      : io_bench({.depth = 16, .max_workers = 8}, 8),
        slow(delay_device::create(memory_device::create(1 << 20).value()).value()),
        file(open_file::open(slow, queue, access_mode::read_write).value()) {}

  // Each has a range of its own: several may be released at once.
  issued submit(test::awaited_request& request, io_op op) {
    test::fill(request, op, std::exchange(offset, offset + 4096), 4096);
    return file->submit(request, *context).value();
  }

  // Tells all that run to stop; the pool interrupts them until they have left. Returns how many these are.
  std::size_t cancel() {
    return wq->cancel_if([](const work_view&) noexcept { return true; }).value().running;
  }

  ref<delay_device> slow;
  ref<open_file> file;
  std::uint64_t offset = 0;
};

TEST(DelayDevice, WithoutADelayItIsItsTarget) {
  delay_bench bench;
  EXPECT_EQ(bench.slow->name(), "delay:memory");
  EXPECT_EQ(bench.slow->size(), 1U << 20);
  for (const io_op op : every_op) {
    test::awaited_request request;
    EXPECT_EQ(bench.submit(request, op), issued::completed);
  }
  EXPECT_EQ(bench.slow->stats().delayed, 0U);
}

TEST(DelayDevice, TimedOperationsComeBackByThemselves) {
  delay_bench bench;
  bench.slow->set_delay(op_set::all(), {.fixed = microseconds(100), .per_kib = microseconds(1)});
  for (const io_op op : every_op) {
    test::awaited_request request;
    ASSERT_EQ(bench.submit(request, op), issued::queued) << "never tried inside submit";
    EXPECT_EQ(request.wait(), op == io_op::read || op == io_op::write ? 4096 : 0);
  }
  EXPECT_EQ(bench.slow->stats().delayed, 6U);
  bench.slow->set_delay(io_op::read, {});
  test::awaited_request read, write;
  EXPECT_EQ(bench.submit(read, io_op::read), issued::completed);
  ASSERT_EQ(bench.submit(write, io_op::write), issued::queued) << "its delay was left alone";
  EXPECT_EQ(write.wait(), 4096);
}

TEST(DelayDevice, TimesAddUpAndJitterHasASeed) {
  constexpr delay_time time{.fixed = nanoseconds(100), .per_kib = nanoseconds(10), .jitter = nanoseconds(1000)};
  EXPECT_EQ((delay_time{.fixed = nanoseconds(100), .per_kib = nanoseconds(10)}).of(4097, 0, 1), nanoseconds(150));
  EXPECT_EQ(time.of(4096, 7, 3), time.of(4096, 7, 3));
  bool differ = false;
  for (std::uint64_t nth = 0; nth < 100; ++nth) {
    const nanoseconds one = time.of(4096, 7, nth);
    EXPECT_GE(one, nanoseconds(140));
    EXPECT_LT(one, nanoseconds(1140));
    differ = differ || one != time.of(4096, 8, nth);
  }
  EXPECT_TRUE(differ) << "another seed, other times";
}

TEST(DelayDevice, WhatWaitsForEverGoesOnWhenReleased) {
  delay_bench bench;
  bench.slow->set_delay(op_set(io_op::write) | io_op::read, delay_time::for_ever());
  test::awaited_request one, two;
  ASSERT_EQ(bench.submit(one, io_op::write), issued::queued);
  ASSERT_TRUE(bench.slow->await_waiting(1));
  ASSERT_EQ(bench.submit(two, io_op::read), issued::queued);
  ASSERT_TRUE(bench.slow->await_waiting(2));
  EXPECT_EQ(one.calls.load(std::memory_order_seq_cst), 0);
  EXPECT_EQ(bench.slow->release_all(), 2U);
  EXPECT_EQ(one.wait(), 4096);
  EXPECT_EQ(two.wait(), 4096);
  test::awaited_request later;
  ASSERT_EQ(bench.submit(later, io_op::read), issued::queued);
  ASSERT_TRUE(bench.slow->await_waiting(1)) << "those that come later wait again";
  bench.slow->set_delay(op_set::all(), {});
  EXPECT_EQ(bench.slow->release_all(), 1U);
  EXPECT_EQ(later.wait(), 4096);
  EXPECT_EQ(bench.slow->stats().waiting, 0U);
}

TEST(DelayDevice, ACancelEndsTheWaitAndNothingIsDone) {
  delay_bench bench;
  bench.slow->set_delay(io_op::write, delay_time::for_ever());
  test::awaited_request write;
  write.space.assign(4096, std::byte{0xEE});
  ASSERT_EQ(bench.submit(write, io_op::write), issued::queued);
  ASSERT_TRUE(bench.slow->await_waiting(1));
  EXPECT_EQ(bench.cancel(), 1U);
  EXPECT_EQ(write.wait(), -ECANCELED);
  EXPECT_EQ(bench.slow->stats().cancelled, 1U);
  test::awaited_request read;
  ASSERT_EQ(bench.submit(read, io_op::read), issued::completed);
  EXPECT_EQ(std::ranges::count(read.space, std::byte{0}), 4096);
}

// The dead device: cancels do not reach it until it is told to obey them.
TEST(DelayDevice, IgnoredCancelsWaitUntilTheyAreObeyed) {
  delay_bench bench;
  bench.slow->set_delay(io_op::read, delay_time::for_ever());
  bench.slow->set_cancels(delay_cancels::ignored);
  test::awaited_request dead, revived;
  ASSERT_EQ(bench.submit(dead, io_op::read), issued::queued);
  ASSERT_TRUE(bench.slow->await_waiting(1));
  EXPECT_EQ(bench.cancel(), 1U);
  // Another operation that is cancelled as well, and comes later: when it is over, the first one is still there.
  bench.slow->set_delay(io_op::write, {.fixed = microseconds(100)});
  test::awaited_request write;
  ASSERT_EQ(bench.submit(write, io_op::write), issued::queued);
  EXPECT_EQ(write.wait(), 4096);
  EXPECT_EQ(bench.slow->stats().waiting, 1U);
  EXPECT_EQ(dead.calls.load(std::memory_order_seq_cst), 0);
  bench.slow->set_cancels(delay_cancels::obeyed);
  EXPECT_EQ(dead.wait(), -ECANCELED);

  bench.slow->set_cancels(delay_cancels::ignored);
  ASSERT_EQ(bench.submit(revived, io_op::read), issued::queued);
  ASSERT_TRUE(bench.slow->await_waiting(1));
  EXPECT_EQ(bench.cancel(), 1U);
  EXPECT_EQ(bench.slow->release_all(), 1U);
  EXPECT_EQ(revived.wait(), 4096) << "released, it is done as if nothing had been";
}

// D2: closed while its reads wait for ever; the release comes when they have gone on.
TEST(DelayDevice, AClosedFileIsReleasedAfterTheLastWait) {
  test::io_bench bench;
  auto [made, gated] = test::make_gated_device();
  const ref<delay_device> slow = delay_device::create(made).value();
  const ref<open_file> file = open_file::open(slow, bench.queue, access_mode::read_write).value();
  slow->set_delay(io_op::read, delay_time::for_ever());
  test::awaited_request read;
  test::fill(read, io_op::read, 0, 512);
  ASSERT_EQ(file->submit(read, *bench.context).value(), issued::queued);
  ASSERT_TRUE(slow->await_waiting(1));
  EXPECT_TRUE(file->close().has_value());
  EXPECT_EQ(gated->released.load(std::memory_order_seq_cst), 0);
  slow->release_all();
  EXPECT_EQ(read.wait(), 512);
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(gated->released.load(std::memory_order_seq_cst), 1);
}

// A request waits once, for its whole length, however many quanta it has.
TEST(DelayDevice, ARequestOfManyQuantaWaitsOnce) {
  test::io_bench bench({.depth = 16, .quantum = 4096, .max_workers = 8}, 8);
  const ref<delay_device> slow = delay_device::create(memory_device::create(1 << 20).value()).value();
  const ref<open_file> file = open_file::open(slow, bench.queue, access_mode::read_write).value();
  slow->set_delay(op_set(io_op::read), delay_time::for_ever());
  test::awaited_request large, other;
  test::fill(large, io_op::read, 0, 256 << 10);
  ASSERT_EQ(file->submit(large, *bench.context).value(), issued::queued);
  ASSERT_TRUE(slow->await_waiting(1));
  EXPECT_EQ(slow->release_all(), 1U);
  EXPECT_EQ(large.wait(), 256 << 10);
  EXPECT_EQ(slow->stats().delayed, 1U);
  slow->set_delay(op_set(io_op::read), {.per_kib = nanoseconds(1)});
  test::fill(other, io_op::read, 0, 256 << 10);
  ASSERT_EQ(file->submit(other, *bench.context).value(), issued::queued);
  EXPECT_EQ(other.wait(), 256 << 10);
  EXPECT_EQ(slow->stats().delayed, 2U);
}

TEST(DelayDevice, TheBlockedOnesDoNotHoldUpTheRest) {
  delay_bench bench;
  bench.slow->set_delay(io_op::read, delay_time::for_ever());
  std::vector<std::unique_ptr<test::awaited_request>> stuck;
  for (int i = 0; i < 6; ++i) {
    stuck.push_back(std::make_unique<test::awaited_request>());
    ASSERT_EQ(bench.submit(*stuck.back(), io_op::read), issued::queued);
  }
  ASSERT_TRUE(bench.slow->await_waiting(6));
  bench.slow->set_delay(io_op::write, {.fixed = nanoseconds(1)});
  test::awaited_request write;
  ASSERT_EQ(bench.submit(write, io_op::write), issued::queued);
  EXPECT_EQ(write.wait(), 4096);
  EXPECT_EQ(bench.slow->release_all(), 6U);
  for (const auto& each : stuck) {
    EXPECT_EQ(each->wait(), 4096);
  }
}

}  // namespace
}  // namespace delay_device_test
