// file_device past the page cache: whatever the alignment of a request, the file sees aligned ones only and the bytes
// are right; nothing of a neighbour is undone. On a file whose system calls demand alignment, and on the real thing.
#include <fcntl.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/base/unique_fd.h"
#include "sluice/device/file_device.h"

#include "support/file_helpers.h"
#include "support/io_helpers.h"

namespace file_device_direct_test {
namespace {

using namespace sluice;
using test::faulty_seam;
using test::scratch_file;

constexpr std::uint64_t size = 1 << 20;

// The device on a file that demands blocks of 4096 and memory at 512, unless told otherwise before open().
struct direct_bench {
  ~direct_bench() {
    if (target) {
      target->release(info);
    }
  }
  void open(misaligned policy = misaligned::bounce, access_mode mode = access_mode::read_write) {
    target = create(policy, mode).value();
    info = target->open(mode).value();
  }
  result<ref<device>> create(misaligned policy = misaligned::bounce, access_mode mode = access_mode::read_write) {
    file_device_options options = system.options();
    options.caching = file_caching::direct;
    options.policy = policy;
    return file_device::create(scratch.path(), mode, options);
  }
  std::vector<std::byte> contents() const {
    std::vector<std::byte> bytes(size);
    const unique_fd fd(::open(scratch.path().c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(::pread(fd.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(size));
    return bytes;
  }

  scratch_file scratch{size};
  faulty_seam system;
  ref<device> target;
  open_info* info = nullptr;
};

// Memory that begins at a chosen distance from a page.
struct placed_bytes {
  placed_bytes(std::size_t length, std::size_t shift) : space(length + shift + 4096) {
    const auto start = reinterpret_cast<std::uintptr_t>(space.data());
    bytes = std::span(space).subspan((4096 - start % 4096) % 4096 + shift, length);
  }
  std::vector<std::byte> space;
  std::span<std::byte> bytes;
};

TEST(FileDeviceDirect, TraitsSayTheTruth) {
  direct_bench bench;
  bench.system.block = 8192;
  bench.open();
  EXPECT_TRUE(bench.system.opened_direct);
  EXPECT_EQ(bench.target->traits().minimum_block, 1U) << "misaligned requests are bounced";
  EXPECT_EQ(bench.target->traits().preferred_block, 8192U);
  EXPECT_EQ(bench.target->hash_of_write(0, 16384).domain, nullptr) << "whole blocks";
  const ref<device> strict = bench.create(misaligned::refuse).value();
  EXPECT_EQ(strict->traits().minimum_block, 8192U);
}

TEST(FileDeviceDirect, AlignmentIsLearnedWhereNobodySaysIt) {
  for (const std::uint32_t block : {512U, 4096U}) {
    direct_bench bench;
    bench.system.says_alignment = false;
    bench.system.block = bench.system.memory_alignment = block;
    bench.open(misaligned::refuse);
    EXPECT_EQ(bench.target->traits().minimum_block, block) << "by trying";
  }
  direct_bench disk;
  disk.system.says_alignment = false;
  disk.system.block = 1024;
  disk.system.block_device_bytes = size;
  disk.system.pretend_block_device = true;
  disk.open(misaligned::refuse);
  EXPECT_EQ(disk.target->traits().minimum_block, 1024U) << "the logical block size";
}

TEST(FileDeviceDirect, AFileSystemWithoutItIsAClearError) {
  {
    direct_bench bench;
    bench.system.takes_direct = false;
    EXPECT_EQ(bench.create().error(), error_of(EOPNOTSUPP)) << "refused at open";
  }
  for (const std::uint32_t block : {0U, 1000U, 1U << 20}) {
    direct_bench bench;
    bench.system.block = block;
    EXPECT_EQ(bench.create().error(), error_of(EOPNOTSUPP)) << "nothing that can be served: " << block;
    EXPECT_EQ(bench.system.opened, bench.system.closed);
  }
  direct_bench bench;
  bench.system.says_alignment = false;
  bench.system.block = 32768;
  EXPECT_EQ(bench.create().error(), error_of(EOPNOTSUPP)) << "neither 512 nor 4096 worked";
}

TEST(FileDeviceDirect, ASizeThatIsNoMultipleOfTheBlockCanOnlyBeRead) {
  direct_bench bench;
  const std::uint64_t odd = size - 1000;
  ASSERT_EQ(::truncate(bench.scratch.path().c_str(), static_cast<off_t>(odd)), 0);
  EXPECT_EQ(bench.create().error(), error_of(EINVAL));
  bench.open(misaligned::bounce, access_mode::read_only);
  placed_bytes tail(5000, 0);
  EXPECT_TRUE(bench.target->read(*bench.info, odd - 5000, tail.bytes, {}).has_value());
  ASSERT_EQ(::truncate(bench.scratch.path().c_str(), static_cast<off_t>(odd - 10)), 0);
  EXPECT_EQ(bench.target->read(*bench.info, odd - 5000, tail.bytes, {}).error(), error_of(EIO)) << "never zeros";
}

TEST(FileDeviceDirect, NothingIsTriedInsideSubmit) {
  direct_bench bench;
  bench.system.system_type = TMPFS_MAGIC;  // also where a buffered file would be served plainly
  bench.open();
  placed_bytes bytes(4096, 0);
  EXPECT_EQ(bench.target->try_read(*bench.info, 0, bytes.bytes), 0U);
  EXPECT_EQ(bench.target->try_write(*bench.info, 0, bytes.bytes, io_flags::none), 0U);
  EXPECT_EQ(bench.target->try_range(*bench.info, io_op::flush, 0, 0, io_flags::none), attempt::would_block);
}

TEST(FileDeviceDirect, WhatIsAlignedGoesStraight) {
  direct_bench bench;
  bench.open();
  placed_bytes bytes(64 << 10, 512);
  std::ranges::fill(bytes.bytes, std::byte{0x5A});
  ASSERT_TRUE(bench.target->write(*bench.info, 8192, bytes.bytes, io_flags::none, {}).has_value());
  EXPECT_EQ(bench.system.pwritev2_calls, 1);
  EXPECT_EQ(bench.system.preadv2_calls, 0);
  ASSERT_TRUE(bench.target->read(*bench.info, 8192, bytes.bytes, {}).has_value());
  EXPECT_EQ(bench.system.preadv2_calls, 1);
}

// Random ranges in random memory, against the same in an array: what it is, whatever goes straight or bounces.
TEST(FileDeviceDirect, AnyAlignmentMovesTheRightBytes) {
  for (const std::uint32_t block : {512U, 4096U, 65536U}) {
    direct_bench bench;
    bench.system.block = block;
    bench.open();
    std::vector<std::byte> expected(size);
    std::mt19937_64 random(block);  // a fixed seed: the same requests each time
    const auto below = [&](std::uint64_t end) { return static_cast<std::size_t>(random() % end); };
    for (int i = 0; i < 400; ++i) {
      const std::size_t grid = i % 3 == 0 ? block : 1;
      const std::size_t offset = below(size) / grid * grid;
      const std::size_t length =
          std::max(grid, std::min<std::size_t>(below(i % 7 == 0 ? 700'000 : 20'000), size - offset) / grid * grid);
      placed_bytes data(length, i % 2 == 0 ? below(8) * 512 : below(4096));
      if (i % 4 != 0) {
        std::ranges::generate(data.bytes, [&] { return static_cast<std::byte>(random()); });
        ASSERT_TRUE(bench.target->write(*bench.info, offset, data.bytes, io_flags::none, {}).has_value());
        std::ranges::copy(data.bytes, expected.begin() + static_cast<std::ptrdiff_t>(offset));
      } else {
        ASSERT_TRUE(bench.target->read(*bench.info, offset, data.bytes, {}).has_value());
        ASSERT_TRUE(std::ranges::equal(data.bytes, std::span(expected).subspan(offset, length)));
      }
    }
    EXPECT_EQ(bench.contents(), expected) << "block " << block;
    EXPECT_GT(bench.system.direct_transfers, 400);
  }
}

TEST(FileDeviceDirect, ShortTransfersSignalsAndErrorsInTheMiddle) {
  direct_bench bench;
  bench.open();
  placed_bytes data(10'000, 0), back(10'000, 0);
  std::ranges::fill(data.bytes, std::byte{7});
  bench.system.preads = {{.err = EINTR}};
  bench.system.pwrites = {{.err = EINTR}, {.limit = 4096}, {.err = EINTR}};
  ASSERT_TRUE(bench.target->write(*bench.info, 77, data.bytes, io_flags::none, {}).has_value());
  bench.system.preads = {{.limit = 4096}, {.err = EINTR}};
  ASSERT_TRUE(bench.target->read(*bench.info, 77, back.bytes, {}).has_value());
  EXPECT_TRUE(std::ranges::equal(back.bytes, data.bytes));

  bench.system.preads = {{.err = EIO}};
  EXPECT_EQ(bench.target->write(*bench.info, 77, data.bytes, io_flags::none, {}).error(), error_of(EIO))
      << "a block that cannot be read cannot be changed in part";
  bench.system.pwrites = {{.err = ENOSPC}};
  EXPECT_EQ(bench.target->write(*bench.info, 0, data.bytes, io_flags::none, {}).error(), error_of(ENOSPC));
  bench.system.preads = {{.limit = 100}};
  EXPECT_EQ(bench.target->read(*bench.info, 0, back.bytes, {}).error(), error_of(EIO)) << "the file ends in a block";
  ASSERT_TRUE(bench.target->write(*bench.info, 77, data.bytes, io_flags::none, {}).has_value())
      << "no block stays held";
}

TEST(FileDeviceDirect, FuaAndFlushAreStableBeforeTheAnswer) {
  direct_bench bench;
  bench.open();
  placed_bytes data(100, 0);
  ASSERT_TRUE(bench.target->write(*bench.info, 50, data.bytes, io_flags::fua, {}).has_value());
  EXPECT_EQ(bench.system.dsync_writes, 1);
  ASSERT_TRUE(bench.target->flush(*bench.info, {}).has_value());
  EXPECT_EQ(bench.system.fsync_calls, 1);
}

TEST(FileDeviceDirect, RefusesWhatIsNotAlignedIfThatIsWanted) {
  direct_bench bench;
  bench.open(misaligned::refuse);
  placed_bytes data(8192, 1);
  EXPECT_EQ(bench.target->read(*bench.info, 100, data.bytes, {}).error(), error_of(EINVAL));
  EXPECT_EQ(bench.target->write(*bench.info, 0, data.bytes.first(100), io_flags::none, {}).error(), error_of(EINVAL));
  EXPECT_EQ(bench.target->trim(*bench.info, 100, 4096, io_flags::none, {}).error(), error_of(EINVAL));
  EXPECT_EQ(bench.target->write_zeroes(*bench.info, 4096, 100, io_flags::none, {}).error(), error_of(EINVAL));
  EXPECT_EQ(bench.target->write_zeroes(*bench.info, 1, 4096, io_flags::fast_zero, {}).error(), error_of(EINVAL));
  EXPECT_EQ(bench.system.direct_transfers, 0);
  EXPECT_TRUE(bench.system.fallocate_modes.empty());
  EXPECT_TRUE(bench.target->trim(*bench.info, 4096, 4096, io_flags::none, {}).has_value());
  EXPECT_TRUE(bench.target->write_zeroes(*bench.info, 4096, 8192, io_flags::none, {}).has_value());
  EXPECT_TRUE(bench.target->write(*bench.info, 4096, data.bytes, io_flags::none, {}).has_value())
      << "memory is no range";
}

TEST(FileDeviceDirect, ZeroesAtOddPlaces) {
  for (const bool known : {true, false}) {
    direct_bench bench;
    bench.open();
    placed_bytes full(size, 0);
    std::ranges::fill(full.bytes, std::byte{0xFF});
    ASSERT_TRUE(bench.target->write(*bench.info, 0, full.bytes, io_flags::none, {}).has_value());
    if (!known) {
      bench.system.fallocates = {{.err = EOPNOTSUPP}};
    }
    ASSERT_TRUE(bench.target->write_zeroes(*bench.info, 1001, 600'000, io_flags::none, {}).has_value());
    std::ranges::fill(full.bytes.subspan(1001, 600'000), std::byte{0});
    EXPECT_TRUE(std::ranges::equal(bench.contents(), full.bytes));
  }
}

// A write of part of a block reads it first: another one in between must not be undone. Each thread has bytes of its
// own in every block, some through a second device on the same file.
TEST(FileDeviceDirect, NeighboursInABlockAreNotUndone) {
  direct_bench bench;
  bench.open();
  const ref<device> other = bench.create().value();
  open_info* other_info = other->open(access_mode::read_write).value();
  constexpr std::size_t threads = 4, blocks = 8, rounds = 60, part = 4096 / threads;
  std::vector<std::thread> crowd;
  for (std::size_t t = 0; t < threads; ++t) {
    crowd.emplace_back([&, t] {
      device& mine = t % 2 == 0 ? *bench.target : *other;
      open_info& info = t % 2 == 0 ? *bench.info : *other_info;
      placed_bytes data(part, t);
      for (std::size_t round = 1; round <= rounds; ++round) {
        for (std::size_t block = 0; block < blocks; ++block) {
          std::ranges::fill(data.bytes, static_cast<std::byte>(round * threads + t));
          ASSERT_TRUE(mine.write(info, block * 4096 + t * part, data.bytes, io_flags::none, {}).has_value());
        }
      }
    });
  }
  for (std::thread& each : crowd) {
    each.join();
  }
  const std::vector<std::byte> now = bench.contents();
  for (std::size_t i = 0; i < blocks * 4096; ++i) {
    ASSERT_EQ(now[i], static_cast<std::byte>(rounds * threads + i % 4096 / part)) << "byte " << i;
  }
  other->release(other_info);
}

// Writes to one block, of parts of it, of all of it, or that meet in it, do not take the queue's workers from the
// others.
TEST(FileDeviceDirect, WritesToOneBlockLeaveTheOthersTheirWorkers) {
  struct range {
    std::uint64_t offset, length;
  };
  for (const range& each : {range{100, 64}, range{0, 4096}, range{4096 - 100, 200}}) {
    direct_bench system;
    system.open();
    test::barrier_gate gate;
    system.system.in_pwrite = [&] { gate.pass(); };
    test::io_bench bench({.depth = 64, .max_workers = 4}, 4);
    const ref<open_file> file = open_file::open(system.target, bench.queue, access_mode::read_write).value();
    gate.shut();
    std::vector<std::unique_ptr<test::awaited_request>> writes;
    const bool whole = each.length % 4096 == 0;
    for (int i = 0; i < (whole ? 2 : 32); ++i) {
      writes.push_back(std::make_unique<test::awaited_request>());
      test::fill(*writes.back(), io_op::write, each.offset, each.length);
      ASSERT_EQ(file->submit(*writes.back(), *bench.context).value(), issued::queued);
    }
    gate.await_arrivals(whole ? 2 : 1);  // writes of whole blocks go at once
    test::awaited_request read;
    test::fill(read, io_op::read, 64 << 10, 4096);
    ASSERT_EQ(file->submit(read, *bench.context).value(), issued::queued);
    EXPECT_EQ(read.wait(), 4096);
    gate.open();
    for (const auto& write : writes) {
      EXPECT_EQ(write->wait(), static_cast<std::int64_t>(each.length));
    }
    ASSERT_TRUE(bench.queue->drain().has_value());
  }
}

// Writes that follow each other and meet inside blocks, all under way at once: each byte is there.
TEST(FileDeviceDirect, ASequenceOfMisalignedWritesMeetsInBlocks) {
  direct_bench system;
  system.open();
  test::io_bench bench({.depth = 64, .max_workers = 4}, 4);
  const ref<open_file> file = open_file::open(system.target, bench.queue, access_mode::read_write).value();
  constexpr std::uint64_t start = 1000, length = 5000, count = 64;
  std::vector<std::unique_ptr<test::awaited_request>> writes;
  for (std::uint64_t i = 0; i < count; ++i) {
    writes.push_back(std::make_unique<test::awaited_request>());
    test::fill(*writes.back(), io_op::write, start + i * length, length);
    std::ranges::fill(writes.back()->space, static_cast<std::byte>(i + 1));
    ASSERT_EQ(file->submit(*writes.back(), *bench.context).value(), issued::queued);
  }
  for (const auto& write : writes) {
    EXPECT_EQ(write->wait(), static_cast<std::int64_t>(length));
  }
  ASSERT_TRUE(bench.queue->drain().has_value());
  const std::vector<std::byte> now = system.contents();
  for (std::uint64_t i = 0; i < count * length; ++i) {
    ASSERT_EQ(now[start + i], static_cast<std::byte>(i / length + 1)) << "byte " << i;
  }
}

TEST(FileDeviceDirect, AWriteOfAPartIsHashedByItsBlock) {
  direct_bench bench;
  bench.open();
  const auto key = [&](std::uint64_t offset, std::uint64_t length) {
    const write_hash found = bench.target->hash_of_write(offset, length);
    EXPECT_NE(found.domain, nullptr);
    return found.key;
  };
  EXPECT_EQ(key(0, 100), key(4000, 96)) << "of one block";
  EXPECT_EQ(key(0, 4196), key(4100, 8192)) << "the end of one and the start of the other";
  EXPECT_NE(key(0, 100), key(4096, 100));
  const ref<device> other = bench.create().value();
  EXPECT_EQ(other->hash_of_write(0, 100).key, key(0, 100)) << "of one file";
}

// With the machine's own calls, through a queue: bytes come back as written, and the page cache sees them too.
TEST(FileDeviceDirect, TheRealThingMovesBytesBothWays) {
  const scratch_file scratch(size);
  const result<ref<device>> made =
      file_device::create(scratch.path(), access_mode::read_write, {.caching = file_caching::direct});
  if (!made && made.error() == error_of(EOPNOTSUPP)) {
    GTEST_SKIP() << "no direct I/O on the file system of " << scratch.path();
  }
  test::io_bench bench;
  const ref<open_file> file = open_file::open(made.value(), bench.queue, access_mode::read_write).value();
  std::mt19937_64 random(1);
  std::vector<std::byte> expected(size);
  for (const std::size_t step : {std::size_t{4096}, std::size_t{10'000}, std::size_t{300'001}, std::size_t{size}}) {
    for (std::size_t at = 0; at < size; at += step) {
      test::awaited_request write;
      test::fill(write, io_op::write, at, std::min(step, size - at));
      std::ranges::generate(write.space, [&] { return static_cast<std::byte>(random()); });
      std::ranges::copy(write.space, expected.begin() + static_cast<std::ptrdiff_t>(at));
      ASSERT_EQ(file->submit(write, *bench.context).value(), issued::queued);
      ASSERT_EQ(write.wait(), static_cast<std::int64_t>(write.length));
    }
    test::awaited_request read;
    test::fill(read, io_op::read, 1, size - 1);
    ASSERT_EQ(file->submit(read, *bench.context).value(), issued::queued);
    ASSERT_EQ(read.wait(), static_cast<std::int64_t>(size - 1));
    EXPECT_TRUE(std::ranges::equal(read.space, std::span(expected).subspan(1)));
  }
  ASSERT_TRUE(bench.queue->drain().has_value());
}

// The queue's quantum is no multiple of the block: a request is cut between two blocks all the same.
TEST(FileDeviceDirect, ARequestIsCutBetweenTwoBlocks) {
  for (const std::uint64_t quantum : {std::uint64_t{100'000}, std::uint64_t{1000}, std::uint64_t{4096}}) {
    direct_bench system;
    system.open(misaligned::refuse);
    test::io_bench bench({.quantum = quantum});
    const ref<open_file> file = open_file::open(system.target, bench.queue, access_mode::read_write).value();
    test::awaited_request write;
    test::fill(write, io_op::write, 4096, 512 << 10, io_flags::no_inline);
    for (std::size_t i = 0; i < write.space.size(); ++i) {
      write.space[i] = static_cast<std::byte>(i * 7 + i / 4096);
    }
    ASSERT_EQ(file->submit(write, *bench.context).value(), issued::queued);
    EXPECT_EQ(write.wait(), 512 << 10) << "a quantum of " << quantum;
    const std::vector<std::byte> all = system.contents();
    EXPECT_TRUE(std::ranges::equal(write.space, std::span(all).subspan(4096, 512 << 10)));
  }
}

}  // namespace
}  // namespace file_device_direct_test
