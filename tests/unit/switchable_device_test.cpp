// switchable_device: what goes where, what becomes of the old target, and what is refused.
#include "sluice/device/switchable_device.h"

#include <algorithm>
#include <semaphore>
#include <span>
#include <thread>
#include <tuple>

#include <gtest/gtest.h>

#include "sluice/device/delay_device.h"
#include "sluice/device/error_device.h"
#include "sluice/device/memory_device.h"
#include "sluice/device/null_device.h"

#include "support/io_helpers.h"
#include "support/joined_threads.h"

namespace switchable_device_test {
namespace {

using namespace sluice;

constexpr std::uint64_t size = 1 << 20;

// Two gated devices and a switch that begins with the first.
struct switch_bench : test::io_bench {
  switch_bench() {
    std::tie(first, one) = test::make_gated_device(size);
    std::tie(second, two) = test::make_gated_device(size);
    disk = switchable_device::create(first).value();
    file = open_file::open(disk, queue, access_mode::read_write).value();
    std::ranges::fill(one->bytes(), std::byte{1});
    std::ranges::fill(two->bytes(), std::byte{2});
  }
  // Of the byte at 0.
  int read() {
    test::awaited_request request;
    test::fill(request, io_op::read, 0, 1);
    EXPECT_EQ(file->submit(request, *context).value(), issued::queued);
    EXPECT_EQ(request.wait(), 1);
    return static_cast<int>(request.space[0]);
  }

  ref<device> first, second;
  test::gated_device *one = nullptr, *two = nullptr;
  ref<switchable_device> disk;
  ref<open_file> file;
};

TEST(SwitchableDevice, LaterOperationsGoToTheNewTarget) {
  switch_bench bench;
  EXPECT_EQ(bench.read(), 1);
  const switch_report how = bench.disk->replace(bench.second).value();
  EXPECT_EQ(how.old, old_target::released);
  EXPECT_FALSE(how.flush);
  EXPECT_EQ(bench.read(), 2);
  EXPECT_EQ(bench.one->opened.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(bench.one->released.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(bench.two->released.load(std::memory_order_seq_cst), 0);
  EXPECT_TRUE(bench.disk->replace(bench.first).has_value());
  EXPECT_EQ(bench.read(), 1);
  EXPECT_EQ(bench.disk->replacements(), 2U);
  ASSERT_TRUE(bench.queue->drain().has_value());
  bench.file.reset();
  bench.disk.reset();
  EXPECT_EQ(bench.one->released.load(std::memory_order_seq_cst), 2);
  EXPECT_EQ(bench.two->released.load(std::memory_order_seq_cst), 1);
}

TEST(SwitchableDevice, EveryOperationPassesThrough) {
  test::io_bench bench;
  const ref<switchable_device> disk = switchable_device::create(memory_device::create(size).value()).value();
  const ref<open_file> file = open_file::open(disk, bench.queue, access_mode::read_write).value();
  for (const io_op op : {io_op::write, io_op::read, io_op::flush, io_op::trim, io_op::write_zeroes, io_op::cache}) {
    for (const io_flags flags : {io_flags::none, io_flags::no_inline}) {
      test::awaited_request request;
      test::fill(request, op, 0, 4096, flags);
      const issued how = file->submit(request, *bench.context).value();
      EXPECT_EQ(how, flags == io_flags::none ? issued::completed : issued::queued);
      EXPECT_EQ(how == issued::queued ? request.wait() : request.result(),
                op == io_op::read || op == io_op::write ? 4096 : 0);
    }
  }
  open_info* info = disk->open(access_mode::read_only).value();
  std::vector<extent> told(1);
  EXPECT_EQ(disk->extents(*info, 0, 512, told, {}).value(), 1U);
  EXPECT_TRUE(disk->replace(null_device::create(size).value()).has_value());
  EXPECT_EQ(disk->extents(*info, 0, 512, told, {}).value(), 1U);
  EXPECT_EQ(told[0].kind, extent_kind::zero);
  disk->release(info);
}

// D2: the old one is released after the last operation on it, and flushed before.
TEST(SwitchableDevice, TheOldTargetIsFlushedAndReleasedAfterItsLastOperation) {
  switch_bench bench;
  bench.one->gate.shut();
  test::awaited_request slow;
  test::fill(slow, io_op::read, 0, 1);
  ASSERT_EQ(bench.file->submit(slow, *bench.context).value(), issued::queued);
  bench.one->gate.await_arrivals(1);
  test::joined_threads replacing([&] { bench.one->gate.open(); });
  replacing.start([&] { EXPECT_EQ(bench.disk->replace(bench.second).value().old, old_target::released); });
  while (bench.disk->replacements() == 0 && !HasFailure()) {
    std::this_thread::yield();
  }
  EXPECT_EQ(bench.read(), 2);
  EXPECT_EQ(bench.one->released.load(std::memory_order_seq_cst), 0) << "one is on it";
  bench.one->gate.open();
  EXPECT_EQ(slow.wait(), 1);
  EXPECT_EQ(slow.space[0], std::byte{1}) << "to its end on the old target";
  replacing.join();
  EXPECT_EQ(bench.one->released.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(bench.one->operations.load(std::memory_order_seq_cst), 2) << "the read, and the flush before the release";
}

// A request is done by one target as a whole: its attempt inside submit and all of its quanta.
TEST(SwitchableDevice, ARequestIsNeverHalfOnEachTarget) {
  for (const std::size_t inside_submit : {std::size_t{0}, std::size_t{1000}}) {
    for (const io_op op : {io_op::read, io_op::write}) {
      test::io_bench bench({.quantum = 512});
      auto [first, one] = test::make_gated_device(size);
      auto [second, two] = test::make_gated_device(size);
      std::ranges::fill(one->bytes(), std::byte{1});
      std::ranges::fill(two->bytes(), std::byte{2});
      one->inline_bytes.store(inside_submit, std::memory_order_seq_cst);
      const ref<switchable_device> disk = switchable_device::create(first).value();
      const ref<open_file> file = open_file::open(disk, bench.queue, access_mode::read_write).value();
      // A second request makes the first one give way after each quantum.
      one->gate.shut();
      test::awaited_request mine, other;
      test::fill(mine, op, 0, 8192);
      std::ranges::fill(mine.space, std::byte{9});
      test::fill(other, io_op::read, 0, 4096);
      ASSERT_EQ(file->submit(mine, *bench.context).value(), issued::queued);
      one->gate.await_arrivals(1);
      test::joined_threads replacing([gated = one] { gated->gate.open(); });
      replacing.start([&] { EXPECT_EQ(disk->replace(second).value().old, old_target::released); });
      while (disk->replacements() == 0 && !HasFailure()) {
        std::this_thread::yield();
      }
      EXPECT_EQ(file->submit(other, *bench.context).value(), issued::queued);
      EXPECT_EQ(other.wait(), 4096);
      EXPECT_EQ(std::ranges::count(other.space, std::byte{2}), 4096) << "the new target serves meanwhile";
      one->gate.open();
      EXPECT_EQ(mine.wait(), 8192);
      replacing.join();
      EXPECT_EQ(one->released.load(std::memory_order_seq_cst), 1);
      if (op == io_op::read) {
        EXPECT_EQ(std::ranges::count(mine.space, std::byte{1}), 8192);
      } else {
        EXPECT_EQ(std::ranges::count(std::span(one->bytes()).first(8192), std::byte{9}), 8192);
        EXPECT_EQ(std::ranges::count(two->bytes(), std::byte{2}), static_cast<std::ptrdiff_t>(size));
      }
      ASSERT_TRUE(bench.queue->drain().has_value());
    }
  }
}

// A part was moved inside submit, and no worker is free for the rest while the target is replaced.
TEST(SwitchableDevice, TheRestOfAnAttemptGoesToTheSameTarget) {
  for (const io_op op : {io_op::read, io_op::write}) {
    test::io_bench bench({.max_workers = 1}, 1);
    auto [first, one] = test::make_gated_device(size);
    auto [second, two] = test::make_gated_device(size);
    std::ranges::fill(one->bytes(), std::byte{1});
    std::ranges::fill(two->bytes(), std::byte{2});
    one->inline_bytes.store(1000, std::memory_order_seq_cst);
    const ref<switchable_device> disk = switchable_device::create(first).value();
    const ref<open_file> file = open_file::open(disk, bench.queue, access_mode::read_write).value();
    std::binary_semaphore started{0};
    std::binary_semaphore go{0};
    ASSERT_TRUE(bench.wq
                    ->submit([&] {
                      started.release();
                      go.acquire();
                    })
                    .has_value());
    started.acquire();  // the worker is taken
    test::joined_threads replacing([&] { go.release(); });
    test::awaited_request mine;
    test::fill(mine, op, 0, 8192);
    std::ranges::fill(mine.space, std::byte{9});
    ASSERT_EQ(file->submit(mine, *bench.context).value(), issued::queued);
    replacing.start([&] { EXPECT_EQ(disk->replace(second).value().old, old_target::released); });
    while (disk->replacements() == 0 && !HasFailure()) {
      std::this_thread::yield();
    }
    replacing.stop_and_join();
    EXPECT_EQ(mine.wait(), 8192);
    if (op == io_op::read) {
      EXPECT_EQ(std::ranges::count(mine.space, std::byte{1}), 8192);
    } else {
      EXPECT_EQ(std::ranges::count(std::span(one->bytes()).first(8192), std::byte{9}), 8192);
      EXPECT_EQ(std::ranges::count(two->bytes(), std::byte{2}), static_cast<std::ptrdiff_t>(size));
    }
    ASSERT_TRUE(bench.queue->drain().has_value());
  }
}

// A call that gets the info of the opening is a request of its own, on each device of a stack.
TEST(SwitchableDevice, ACallWithoutABeginIsARequestOfItsOwn) {
  const ref<switchable_device> inner = switchable_device::create(memory_device::create(size).value()).value();
  const ref<error_device> drill = error_device::create(inner).value();
  const ref<switchable_device> outer = switchable_device::create(drill).value();
  ASSERT_TRUE(drill->add({.ops = io_op::write, .every = 2, .err = EIO}).has_value());
  open_info* const info = outer->open(access_mode::read_write).value();
  std::vector<std::byte> bytes(512, std::byte{7});
  for (const bool works : {true, false, true, false}) {
    EXPECT_EQ(outer->write(*info, 0, bytes, io_flags::none, {}).has_value(), works);
    EXPECT_EQ(outer->try_write(*info, 0, bytes, io_flags::none), 0U) << "a rule may pick it";
    EXPECT_EQ(outer->try_read(*info, 0, bytes), 512U);
    EXPECT_EQ(outer->try_range(*info, io_op::flush, 0, 0, io_flags::none), attempt::done);
    EXPECT_TRUE(outer->read(*info, 0, bytes, {}).has_value());
    EXPECT_TRUE(outer->trim(*info, 0, 512, io_flags::none, {}).has_value());
    EXPECT_TRUE(outer->write_zeroes(*info, 0, 512, io_flags::none, {}).has_value());
    EXPECT_TRUE(outer->cache(*info, 0, 512, {}).has_value());
    EXPECT_TRUE(outer->flush(*info, {}).has_value());
    EXPECT_EQ(inner->replace(memory_device::create(size).value()).value().old, old_target::released)
        << "nothing is left on it";
  }
  outer->release(info);
}

// A request that waits and has not begun holds no target.
TEST(SwitchableDevice, AWaitingRequestGoesToTheTargetOfItsBegin) {
  switch_bench bench;
  ASSERT_TRUE(bench.queue->quiesce().has_value());
  test::awaited_request waits;
  test::fill(waits, io_op::read, 0, 1);
  ASSERT_EQ(bench.file->submit(waits, *bench.context).value(), issued::queued);
  EXPECT_EQ(bench.disk->replace(bench.second).value().old, old_target::released);
  bench.queue->unquiesce();
  EXPECT_EQ(waits.wait(), 1);
  EXPECT_EQ(waits.space[0], std::byte{2});
}

// A switch over a drill over a switch: each sees a request begin once.
TEST(SwitchableDevice, DevicesThatSeeRequestsStandOnEachOther) {
  test::io_bench bench({.quantum = 512});
  const ref<switchable_device> inner = switchable_device::create(memory_device::create(size).value()).value();
  const ref<error_device> drill = error_device::create(inner).value();
  const ref<switchable_device> outer = switchable_device::create(drill).value();
  const ref<open_file> file = open_file::open(outer, bench.queue, access_mode::read_write).value();
  ASSERT_TRUE(drill->add({.ops = io_op::write, .every = 2, .err = EIO}).has_value());
  for (const std::int64_t expected : {std::int64_t{8192}, std::int64_t{-EIO}, std::int64_t{8192}, std::int64_t{-EIO}}) {
    test::awaited_request write, read;
    test::fill(write, io_op::write, 0, 8192, io_flags::no_inline);
    ASSERT_EQ(file->submit(write, *bench.context).value(), issued::queued);
    EXPECT_EQ(write.wait(), expected);
    test::fill(read, io_op::read, 0, 512);
    EXPECT_EQ(file->submit(read, *bench.context).value(), issued::completed) << "no rule is for reads";
    EXPECT_TRUE(inner->replace(memory_device::create(size).value()).has_value());
  }
  EXPECT_EQ(drill->failed(), 2U);
  ASSERT_TRUE(drill->add({.ops = io_op::flush, .err = ENOSPC}).has_value());
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(outer->replace(memory_device::create(size).value()).value().flush, error_of(ENOSPC));
}

TEST(SwitchableDevice, AnOldTargetThatDoesNotComeBackIsLeftBehind) {
  test::io_bench bench;
  const ref<delay_device> dead = delay_device::create(memory_device::create(size).value()).value();
  const ref<switchable_device> disk = switchable_device::create(dead).value();
  const ref<open_file> file = open_file::open(disk, bench.queue, access_mode::read_write).value();
  dead->set_delay(op_set(io_op::read), delay_time::for_ever());
  dead->set_cancels(delay_cancels::ignored);
  test::awaited_request stuck;
  test::fill(stuck, io_op::read, 0, 512);
  ASSERT_EQ(file->submit(stuck, *bench.context).value(), issued::queued);
  ASSERT_TRUE(dead->await_waiting(1));
  const steady_time passed{};
  EXPECT_EQ(disk->replace(memory_device::create(size).value(), passed).value().old, old_target::still_used);
  test::awaited_request read;
  test::fill(read, io_op::read, 0, 512);
  EXPECT_EQ(file->submit(read, *bench.context).value(), issued::completed) << "the new one serves";
  EXPECT_EQ(disk->replace(memory_device::create(size).value(), passed).error(), error_of(EBUSY));
  EXPECT_EQ(disk->settle(passed).value().old, old_target::still_used);
  EXPECT_EQ(dead->release_all(), 1U);
  EXPECT_EQ(stuck.wait(), 512);
  EXPECT_EQ(disk->settle().value().old, old_target::released);
  EXPECT_TRUE(disk->replace(memory_device::create(size).value(), passed).has_value());
}

TEST(SwitchableDevice, TheEndReleasesWhatWasLeftBehind) {
  test::io_bench bench;
  auto [made, gated] = test::make_gated_device(size);
  ref<switchable_device> disk = switchable_device::create(made).value();
  ref<open_file> file = open_file::open(disk, bench.queue, access_mode::read_write).value();
  gated->gate.shut();
  test::awaited_request slow;
  test::fill(slow, io_op::read, 0, 512);
  ASSERT_EQ(file->submit(slow, *bench.context).value(), issued::queued);
  gated->gate.await_arrivals(1);
  EXPECT_EQ(disk->replace(memory_device::create(size).value(), steady_time{}).value().old, old_target::still_used);
  gated->gate.open();
  EXPECT_EQ(slow.wait(), 512);
  ASSERT_TRUE(bench.queue->drain().has_value());
  file.reset();
  disk.reset();
  EXPECT_EQ(gated->released.load(std::memory_order_seq_cst), 1);
}

TEST(SwitchableDevice, WhatDoesNotFitIsRefusedAndNothingIsSwitched) {
  switch_bench bench;
  EXPECT_EQ(bench.disk->replace(memory_device::create(size / 2).value()).error(), error_of(EINVAL));
  EXPECT_EQ(bench.disk->replace(memory_device::create(size, access_mode::read_only).value()).error(), error_of(EROFS));
  const ref<error_device> closed = error_device::create(memory_device::create(size).value()).value();
  closed->fail_opens(EACCES);
  EXPECT_EQ(bench.disk->replace(closed).error(), error_of(EACCES));
  EXPECT_EQ(switchable_device::create(closed).error(), error_of(EACCES));
  EXPECT_EQ(bench.disk->replacements(), 0U);
  EXPECT_EQ(bench.read(), 1);
  const ref<switchable_device> able = switchable_device::create(memory_device::create(size).value()).value();
  EXPECT_EQ(able->replace(ref<device>::adopt(new test::gated_device(device_traits{.size = size}))).error(),
            error_of(EOPNOTSUPP))
      << "it cannot trim";
}

TEST(SwitchableDevice, AFailedFlushOfTheOldTargetIsReported) {
  test::io_bench bench;
  const ref<error_device> bad = error_device::create(memory_device::create(size).value()).value();
  const ref<switchable_device> disk = switchable_device::create(bad).value();
  ASSERT_TRUE(bad->add({.ops = io_op::flush, .err = EIO}).has_value());
  const switch_report how = disk->replace(memory_device::create(size).value()).value();
  EXPECT_EQ(how.old, old_target::released);
  EXPECT_EQ(how.flush, error_of(EIO));
}

TEST(SwitchableDevice, AReadOnlySwitchTakesReadOnlyTargets) {
  const ref<switchable_device> disk =
      switchable_device::create(memory_device::create(size, access_mode::read_only).value()).value();
  EXPECT_EQ(disk->open(access_mode::read_write).error(), error_of(EROFS));
  EXPECT_TRUE(disk->replace(null_device::create(size, access_mode::read_only).value()).has_value());
  EXPECT_TRUE(disk->replace(memory_device::create(size).value()).has_value()) << "one that can do more will do";
}

}  // namespace
}  // namespace switchable_device_test
