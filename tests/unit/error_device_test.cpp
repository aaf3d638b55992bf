// error_device: which operations fail, with what, how often; the rest reach the target.
#include "sluice/device/error_device.h"

#include <gtest/gtest.h>

#include "sluice/device/memory_device.h"

#include "support/io_helpers.h"

namespace error_device_test {
namespace {

using namespace sluice;

struct error_bench {
  error_bench()
      : bad(error_device::create(memory_device::create(1 << 20).value()).value()),
        info(bad->open(access_mode::read_write).value()) {}
  ~error_bench() { bad->release(info); }

  // The errno of an operation on a worker, 0 if it worked.
  int run(io_op op, std::uint64_t offset = 0, std::uint64_t length = 4096) {
    bytes.resize(length);
    result<void> did;
    switch (op) {
      case io_op::read:
        did = bad->read(*info, offset, bytes, {});
        break;
      case io_op::write:
        did = bad->write(*info, offset, bytes, io_flags::none, {});
        break;
      case io_op::flush:
        did = bad->flush(*info, {});
        break;
      case io_op::trim:
        did = bad->trim(*info, offset, length, io_flags::none, {});
        break;
      case io_op::write_zeroes:
        did = bad->write_zeroes(*info, offset, length, io_flags::none, {});
        break;
      case io_op::cache:
        did = bad->cache(*info, offset, length, {});
        break;
    }
    return did ? 0 : did.error().value();
  }

  ref<error_device> bad;
  open_info* info;
  std::vector<std::byte> bytes;
};

constexpr io_op every_op[] = {io_op::read, io_op::write, io_op::flush, io_op::trim, io_op::write_zeroes, io_op::cache};

TEST(ErrorDevice, WithoutRulesItIsItsTarget) {
  error_bench bench;
  EXPECT_EQ(bench.bad->name(), "error:memory");
  for (const io_op op : every_op) {
    EXPECT_EQ(bench.run(op), 0);
  }
  bench.bytes.resize(4096);
  EXPECT_EQ(bench.bad->try_read(*bench.info, 0, bench.bytes), 4096U);
  EXPECT_EQ(bench.bad->failed(), 0U);
}

TEST(ErrorDevice, ByKindOfOperation) {
  for (const io_op failing : every_op) {
    error_bench bench;
    ASSERT_TRUE(bench.bad->add({.ops = failing, .err = ENOSPC}).has_value());
    for (const io_op op : every_op) {
      EXPECT_EQ(bench.run(op), op == failing ? ENOSPC : 0);
    }
    EXPECT_EQ(bench.bad->failed(), 1U);
  }
}

TEST(ErrorDevice, ByRangeWithItsEdges) {
  error_bench bench;
  ASSERT_TRUE(bench.bad->add({.offset = 8192, .length = 4096}).has_value());
  EXPECT_EQ(bench.run(io_op::read, 4096, 4096), 0) << "ends where it begins";
  EXPECT_EQ(bench.run(io_op::read, 12288, 4096), 0) << "begins where it ends";
  EXPECT_EQ(bench.run(io_op::read, 4096, 4097), EIO);
  EXPECT_EQ(bench.run(io_op::write, 12287, 1), EIO);
  EXPECT_EQ(bench.run(io_op::trim, 0, 1 << 20), EIO);
  EXPECT_EQ(bench.run(io_op::flush), EIO) << "a flush has no range";
}

TEST(ErrorDevice, EveryNthAfterSomeAtMostSoOften) {
  error_bench bench;
  const std::size_t rule = bench.bad->add({.ops = io_op::write, .skip = 2, .every = 3, .times = 2}).value();
  std::vector<int> failed;
  for (int nth = 1; nth <= 20; ++nth) {
    if (bench.run(io_op::write) != 0) {
      failed.push_back(nth);
    }
  }
  EXPECT_EQ(failed, (std::vector<int>{5, 8}));
  EXPECT_EQ(bench.bad->failed_by(rule).value(), 2U);
}

TEST(ErrorDevice, ChanceHasASeedAndIsAboutWhatWasAskedFor) {
  const auto picked = [](std::uint64_t seed) {
    error_bench bench;
    EXPECT_TRUE(bench.bad->add({.per_million = 100'000, .seed = seed}).has_value());
    std::vector<int> failed;
    for (int nth = 0; nth < 2000; ++nth) {
      if (bench.run(io_op::read, 0, 512) != 0) {
        failed.push_back(nth);
      }
    }
    return failed;
  };
  EXPECT_EQ(picked(1), picked(1));
  EXPECT_NE(picked(1), picked(2));
  EXPECT_GT(picked(1).size(), 100U);
  EXPECT_LT(picked(1).size(), 300U);
  error_bench never;
  ASSERT_TRUE(never.bad->add({.per_million = 0}).has_value());
  EXPECT_EQ(never.run(io_op::read), 0);
}

TEST(ErrorDevice, TheFirstRuleDecidesAndRulesComeAndGo) {
  error_bench bench;
  const std::size_t first = bench.bad->add({.ops = io_op::read, .err = EIO}).value();
  const std::size_t second = bench.bad->add({.ops = io_op::read, .err = ENODEV}).value();
  EXPECT_EQ(bench.run(io_op::read), EIO);
  ASSERT_TRUE(bench.bad->remove(first).has_value());
  EXPECT_EQ(bench.bad->remove(first).error(), error_of(ENOENT));
  EXPECT_EQ(bench.run(io_op::read), ENODEV);
  EXPECT_EQ(bench.bad->failed_by(second).value(), 1U);
  EXPECT_EQ(bench.bad->failed_by(first).error(), error_of(ENOENT));
  bench.bad->clear();
  EXPECT_EQ(bench.run(io_op::read), 0);
  EXPECT_EQ(bench.bad->failed(), 2U);
  for (std::size_t i = 0; i < error_device::max_rules; ++i) {
    ASSERT_TRUE(bench.bad->add({}).has_value());
  }
  EXPECT_EQ(bench.bad->add({}).error(), error_of(ENOSPC));
}

TEST(ErrorDevice, WhatMayFailIsNotTriedInsideSubmit) {
  error_bench bench;
  ASSERT_TRUE(bench.bad->add({.ops = io_op::write, .offset = 4096, .length = 4096}).has_value());
  bench.bytes.resize(4096);
  EXPECT_EQ(bench.bad->try_write(*bench.info, 0, bench.bytes, io_flags::none), 4096U);
  EXPECT_EQ(bench.bad->try_write(*bench.info, 4096, bench.bytes, io_flags::none), 0U);
  EXPECT_EQ(bench.bad->try_read(*bench.info, 4096, bench.bytes), 4096U);
  EXPECT_EQ(bench.bad->try_range(*bench.info, io_op::flush, 0, 0, io_flags::none), attempt::done);
}

TEST(ErrorDevice, OpensFailWhenAsked) {
  error_bench bench;
  bench.bad->fail_opens(EBUSY);
  EXPECT_EQ(bench.bad->open(access_mode::read_only).error(), error_of(EBUSY));
  bench.bad->fail_opens(0);
  open_info* info = bench.bad->open(access_mode::read_only).value();
  bench.bad->release(info);
  EXPECT_EQ(bench.bad->failed(), 1U);
}

// The whole way: the error is the answer of the request.
TEST(ErrorDevice, TheErrorIsTheAnswerOfTheRequest) {
  test::io_bench bench;
  const ref<error_device> bad = error_device::create(memory_device::create(1 << 20).value()).value();
  const ref<open_file> file = open_file::open(bad, bench.queue, access_mode::read_write).value();
  ASSERT_TRUE(bad->add({.ops = io_op::write, .every = 2, .err = ENOSPC}).has_value());
  for (const std::int64_t expected : {4096, -ENOSPC, 4096, -ENOSPC}) {
    test::awaited_request write;
    test::fill(write, io_op::write, 0, 4096);
    ASSERT_EQ(file->submit(write, *bench.context).value(), issued::queued);
    EXPECT_EQ(write.wait(), expected);
  }
  ASSERT_TRUE(bench.queue->drain().has_value());
}

// A request counts once, with all of its range, however many quanta it has.
TEST(ErrorDevice, ARequestOfManyQuantaCountsOnce) {
  test::io_bench bench({.quantum = 4096});
  const ref<error_device> bad = error_device::create(memory_device::create(1 << 20).value()).value();
  const ref<open_file> file = open_file::open(bad, bench.queue, access_mode::read_write).value();
  ASSERT_TRUE(bad->add({.ops = io_op::write, .every = 3, .err = ENOSPC}).has_value());
  ASSERT_TRUE(bad->add({.ops = io_op::read, .offset = 60'000, .length = 1, .err = EIO}).has_value());
  constexpr std::int64_t length = 64 << 10;
  for (const std::int64_t expected : {length, length, std::int64_t{-ENOSPC}, length, length, std::int64_t{-ENOSPC}}) {
    test::awaited_request write;
    test::fill(write, io_op::write, 0, length);
    ASSERT_EQ(file->submit(write, *bench.context).value(), issued::queued);
    EXPECT_EQ(write.wait(), expected);
  }
  test::awaited_request read;
  test::fill(read, io_op::read, 0, length);
  read.space.assign(length, std::byte{0x55});
  ASSERT_EQ(file->submit(read, *bench.context).value(), issued::queued);
  EXPECT_EQ(read.wait(), -EIO);
  EXPECT_EQ(read.space[0], std::byte{0x55}) << "the target never heard of it, in no quantum";
  EXPECT_EQ(bad->failed(), 3U);
  ASSERT_TRUE(bench.queue->drain().has_value());
}

}  // namespace
}  // namespace error_device_test
