// memory_device: bytes come back as written, trimmed ranges read as zeros, whatever the alignment.
#include "sluice/device/memory_device.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "support/io_helpers.h"

namespace memory_device_test {
namespace {

using namespace sluice;

constexpr std::uint64_t size = 64 << 10;

struct memory_bench : test::io_bench {
  memory_bench() : target(memory_device::create(size).value()), info(target->open(access_mode::read_write).value()) {}
  ~memory_bench() { target->release(info); }

  std::vector<std::byte> all() {
    std::vector<std::byte> bytes(size);
    EXPECT_TRUE(target->read(*info, 0, bytes, {}).has_value());
    return bytes;
  }

  ref<device> target;
  open_info* info;
};

TEST(MemoryDevice, StartsAsZerosAndKeepsWhatIsWritten) {
  memory_bench bench;
  EXPECT_EQ(std::ranges::count(bench.all(), std::byte{0}), static_cast<std::ptrdiff_t>(size));
  std::vector<std::byte> bytes(5000, std::byte{0xAB});
  ASSERT_TRUE(bench.target->write(*bench.info, 4095, bytes, io_flags::fua, {}).has_value());
  const std::vector<std::byte> now = bench.all();
  EXPECT_EQ(std::ranges::count(now, std::byte{0xAB}), 5000);
  EXPECT_EQ(now[4094], std::byte{0});
  EXPECT_EQ(now[4095], std::byte{0xAB});
}

TEST(MemoryDevice, TrimAndZeroesReadAsZerosAtOddOffsets) {
  for (const auto& [offset, length] : std::vector<std::pair<std::uint64_t, std::uint64_t>>{
           {0, size}, {1, 1}, {100, 200}, {4096, 4096}, {4095, 4098}, {1, size - 2}, {8000, 9000}}) {
    for (const io_op op : {io_op::trim, io_op::write_zeroes}) {
      memory_bench bench;
      std::vector<std::byte> full(size, std::byte{0xFF});
      ASSERT_TRUE(bench.target->write(*bench.info, 0, full, io_flags::none, {}).has_value());
      ASSERT_EQ(bench.target->try_range(*bench.info, op, offset, length, io_flags::none), attempt::done);
      std::fill_n(full.begin() + static_cast<std::ptrdiff_t>(offset), length, std::byte{0});
      EXPECT_EQ(bench.all(), full) << offset << '+' << length;
    }
  }
}

TEST(MemoryDevice, EverythingShortCompletesInsideSubmit) {
  memory_bench bench;
  const ref<open_file> file = open_file::open(bench.target, bench.queue, access_mode::read_write).value();
  for (const io_op op : {io_op::write, io_op::read, io_op::flush, io_op::trim, io_op::write_zeroes, io_op::cache}) {
    test::awaited_request request;
    test::fill(request, op, 0, 4096);
    EXPECT_EQ(file->submit(request, *bench.context).value(), issued::completed);
  }
}

TEST(MemoryDevice, WhatIsTooLongToCopyInSubmitGoesToAWorker) {
  test::io_bench bench;
  const ref<device> large = memory_device::create(4 << 20).value();
  const ref<open_file> file = open_file::open(large, bench.queue, access_mode::read_write).value();
  test::awaited_request request;
  test::fill(request, io_op::write, 0, 2 << 20);
  ASSERT_EQ(file->submit(request, *bench.context).value(), issued::queued);
  EXPECT_EQ(request.wait(), 2 << 20);
}

TEST(MemoryDevice, RefusesSenselessSizesAndWritersOfReadOnly) {
  EXPECT_EQ(memory_device::create(0).error(), error_of(EINVAL));
  EXPECT_EQ(memory_device::create(~0ULL).error(), error_of(ENOMEM));
  const ref<device> fixed = memory_device::create(size, access_mode::read_only).value();
  EXPECT_EQ(fixed->open(access_mode::read_write).error(), error_of(EROFS));
}

}  // namespace
}  // namespace memory_device_test
