// null_device: reads zeros, forgets what is written, and does it all inside submit.
#include "sluice/device/null_device.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "support/io_helpers.h"

namespace null_device_test {
namespace {

using namespace sluice;

TEST(NullDevice, EverythingCompletesInsideSubmitAndReadsAreZeros) {
  test::io_bench bench;
  const ref<device> target = null_device::create(1ULL << 40).value();
  const ref<open_file> file = open_file::open(target, bench.queue, access_mode::read_write).value();
  for (const io_op op : {io_op::write, io_op::read, io_op::flush, io_op::trim, io_op::write_zeroes, io_op::cache}) {
    test::awaited_request request;
    test::fill(request, op, 1ULL << 39, 4 << 20);
    std::ranges::fill(request.space, std::byte{0xAA});
    ASSERT_EQ(file->submit(request, *bench.context).value(), issued::completed);
    EXPECT_EQ(request.result(), op == io_op::read || op == io_op::write ? 4 << 20 : 0);
    if (op == io_op::read) {
      EXPECT_EQ(std::ranges::count(request.space, std::byte{0}), 4 << 20);
    }
  }
}

TEST(NullDevice, TheWorkersFormDoesTheSame) {
  const ref<device> target = null_device::create(4096).value();
  open_info* info = target->open(access_mode::read_write).value();
  std::vector<std::byte> bytes(4096, std::byte{1});
  EXPECT_TRUE(target->write(*info, 0, bytes, io_flags::fua, {}).has_value());
  EXPECT_TRUE(target->read(*info, 0, bytes, {}).has_value());
  EXPECT_EQ(std::ranges::count(bytes, std::byte{0}), 4096);
  EXPECT_TRUE(target->flush(*info, {}).has_value());
  EXPECT_TRUE(target->trim(*info, 0, 4096, io_flags::none, {}).has_value());
  EXPECT_TRUE(target->write_zeroes(*info, 0, 4096, io_flags::fast_zero, {}).has_value());
  target->release(info);
}

TEST(NullDevice, RefusesSizeZeroAndWritersOfReadOnly) {
  EXPECT_EQ(null_device::create(0).error(), error_of(EINVAL));
  const ref<device> fixed = null_device::create(4096, access_mode::read_only).value();
  EXPECT_EQ(fixed->open(access_mode::read_write).error(), error_of(EROFS));
  EXPECT_FALSE(fixed->traits().trim);
}

}  // namespace
}  // namespace null_device_test
