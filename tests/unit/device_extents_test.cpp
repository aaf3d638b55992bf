// extents: in order, without gaps, and never a hole where there is data; for files as lseek tells it, for others as they
// are.
#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

#include "sluice/base/unique_fd.h"
#include "sluice/device/delay_device.h"
#include "sluice/device/file_device.h"
#include "sluice/device/memory_device.h"
#include "sluice/device/null_device.h"

#include "support/file_helpers.h"

namespace device_extents_test {
namespace {

using namespace sluice;
using test::faulty_seam;
using test::scratch_file;

constexpr std::uint64_t size = 1 << 20;
constexpr std::uint64_t block = 4096;

struct extent_bench {
  extent_bench() { writer.reset(::open(scratch.path().c_str(), O_RDWR | O_CLOEXEC)); }
  ~extent_bench() { target->release(info); }

  void write(std::uint64_t offset, std::uint64_t length) {
    const std::vector<std::byte> ones(length, std::byte{1});
    ASSERT_EQ(::pwrite(writer.get(), ones.data(), length, static_cast<off_t>(offset)), static_cast<ssize_t>(length));
  }
  // Whether this file system tells holes at all.
  bool tells_holes() { return ::lseek(writer.get(), 0, SEEK_DATA) < 0 && errno == ENXIO; }

  // All of a range, asked for so many stretches at a time.
  std::vector<extent> ask(std::uint64_t offset, std::uint64_t length, std::size_t at_once = 64) {
    std::vector<extent> all;
    const std::uint64_t end = offset + length;
    while (offset < end) {
      std::vector<extent> some(at_once);
      const std::size_t count = target->extents(*info, offset, end - offset, some, {}).value();
      EXPECT_GE(count, 1U);
      for (const extent& each : std::span(some).first(count)) {
        EXPECT_EQ(each.offset, offset) << "in order, without gaps";
        EXPECT_GT(each.length, 0U);
        if (!all.empty() && all.back().kind == each.kind) {
          all.back().length += each.length;
        } else {
          all.push_back(each);
        }
        offset += each.length;
      }
      EXPECT_TRUE(count == at_once || offset == end);
    }
    EXPECT_EQ(offset, end);
    return all;
  }

  scratch_file scratch{size};
  faulty_seam system;
  unique_fd writer;
  ref<device> target = file_device::create(scratch.path(), access_mode::read_write, system.options()).value();
  open_info* info = target->open(access_mode::read_write).value();
};

TEST(DeviceExtents, DevicesThatDoNotKnowSayData) {
  const ref<device> memory = memory_device::create(size).value();
  open_info* info = memory->open(access_mode::read_only).value();
  std::vector<extent> told(4);
  ASSERT_EQ(memory->extents(*info, 100, 5000, told, {}).value(), 1U);
  EXPECT_EQ(told[0], (extent{100, 5000, extent_kind::data}));
  EXPECT_FALSE(memory->traits().extents);
  memory->release(info);
}

TEST(DeviceExtents, NullIsAllZerosAlsoThroughAFilter) {
  const ref<device> filtered = delay_device::create(null_device::create(size).value()).value();
  open_info* info = filtered->open(access_mode::read_only).value();
  std::vector<extent> told(1);
  ASSERT_EQ(filtered->extents(*info, 0, size, told, {}).value(), 1U);
  EXPECT_EQ(told[0], (extent{0, size, extent_kind::zero}));
  EXPECT_TRUE(filtered->traits().extents);
  filtered->release(info);
}

TEST(DeviceExtents, AFileTellsItsHoles) {
  extent_bench bench;
  if (!bench.tells_holes()) {
    GTEST_SKIP() << "no holes on the file system of " << bench.scratch.path();
  }
  EXPECT_EQ(bench.ask(0, size), (std::vector<extent>{{0, size, extent_kind::hole}}));
  bench.write(64 << 10, 64 << 10);
  const std::vector<extent> expected{{0, 64 << 10, extent_kind::hole},
                                     {64 << 10, 64 << 10, extent_kind::data},
                                     {128 << 10, size - (128 << 10), extent_kind::hole}};
  EXPECT_EQ(bench.ask(0, size), expected);
  EXPECT_EQ(bench.ask(0, size, 1), expected) << "one at a time";
  EXPECT_EQ(bench.ask((64 << 10) + 5, 10), (std::vector<extent>{{(64 << 10) + 5, 10, extent_kind::data}}));
  EXPECT_EQ(bench.ask((64 << 10) - 1, 2),
            (std::vector<extent>{{(64 << 10) - 1, 1, extent_kind::hole}, {64 << 10, 1, extent_kind::data}}));
  EXPECT_EQ(bench.ask(size - 1, 1), (std::vector<extent>{{size - 1, 1, extent_kind::hole}}));
}

// Random data and holes: what was written is told as data, whatever the file system's grain.
TEST(DeviceExtents, NeverAHoleWhereThereIsData) {
  extent_bench bench;
  std::mt19937 random(3);  // a fixed seed: the same files each time
  std::vector<bool> written(size / block);
  for (int round = 0; round < 60; ++round) {
    const std::uint64_t at = random() % written.size();
    const std::uint64_t count = std::min<std::uint64_t>(1 + random() % 8, written.size() - at);
    const bool punch =
        round % 3 == 2 && ::fallocate(bench.writer.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                      static_cast<off_t>(at * block), static_cast<off_t>(count * block)) == 0;
    if (!punch) {
      bench.write(at * block, count * block);
    }
    std::fill_n(written.begin() + static_cast<std::ptrdiff_t>(at), count, !punch);
    for (const extent& each : bench.ask(0, size, 1 + static_cast<std::size_t>(round % 5))) {
      for (std::uint64_t i = each.offset; each.kind == extent_kind::hole && i < each.offset + each.length; i += block) {
        ASSERT_FALSE(written[i / block]) << "block " << i / block << " in round " << round;
      }
    }
  }
}

TEST(DeviceExtents, BeyondTheEndOfAFileThatShrankIsNoHole) {
  extent_bench bench;
  ASSERT_EQ(::ftruncate(bench.writer.get(), size / 2), 0);
  const std::vector<extent> told = bench.ask(0, size);
  EXPECT_EQ(told.back().kind, extent_kind::data) << "reading there is EIO, not zeros";
  EXPECT_LE(told.back().offset, size / 2);
}

TEST(DeviceExtents, WhatLseekDoesNotKnowIsData) {
  extent_bench bench;
  for (const int err : {EINVAL, EOPNOTSUPP}) {
    bench.system.seek_faults = {{.err = err}};
    EXPECT_EQ(bench.ask(0, size), (std::vector<extent>{{0, size, extent_kind::data}}));
  }
  bench.write(0, size);
  bench.system.seek_faults = {{.err = EINTR}};
  EXPECT_EQ(bench.ask(0, size), (std::vector<extent>{{0, size, extent_kind::data}}));
  std::vector<extent> told(4);
  bench.system.seek_faults = {{.err = EIO}};
  EXPECT_EQ(bench.target->extents(*bench.info, 0, size, told, {}).error(), error_of(EIO));
}

struct told_to_stop {
  [[nodiscard]] bool cancelled() const noexcept { return true; }
};

TEST(DeviceExtents, StopsWhenCancelled) {
  extent_bench bench;
  const told_to_stop stop;
  std::vector<extent> told(4);
  EXPECT_EQ(bench.target->extents(*bench.info, 0, size, told, cancel_probe(stop)).error(), error_of(ECANCELED));
  EXPECT_EQ(bench.system.seeks, 0);
}

TEST(DeviceExtents, ABlockDeviceIsAllData) {
  const scratch_file scratch(size);
  faulty_seam system;
  system.pretend_block_device = true;
  const ref<device> disk = file_device::create(scratch.path(), access_mode::read_only, system.options()).value();
  EXPECT_FALSE(disk->traits().extents);
  open_info* info = disk->open(access_mode::read_only).value();
  std::vector<extent> told(4);
  ASSERT_EQ(disk->extents(*info, 0, 4096, told, {}).value(), 1U);
  EXPECT_EQ(told[0].kind, extent_kind::data);
  EXPECT_EQ(system.seeks, 0);
  disk->release(info);
}

}  // namespace
}  // namespace device_extents_test
