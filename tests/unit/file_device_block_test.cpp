// file_device on a real block device: a loop device, where there is one to be had. Size, alignment, flush, zeroes, trim;
// through the page cache and past it.
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <memory>

#include <gtest/gtest.h>

#include "sluice/base/unique_fd.h"
#include "sluice/device/file_device.h"

#include "support/file_helpers.h"
#include "support/io_helpers.h"

namespace file_device_block_test {
namespace {

using namespace sluice;
using test::scratch_file;

constexpr std::uint64_t size = 8 << 20;

// A loop device with a logical block of 4096 on a sparse file. why() says what is missing where there is none.
class loop_device {
 public:
  loop_device() {
    const unique_fd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    const unique_fd backing(::open(file_.path().c_str(), O_RDWR | O_CLOEXEC));
    if (!control || !backing) {
      why_ = "no loop devices here";
      return;
    }
    // Somebody else may take the free one first.
    for (int attempt = 0; attempt < 20 && !device_; ++attempt) {
      number_ = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
      unique_fd found(number_ < 0 ? -1 : ::open(path().c_str(), O_RDWR | O_CLOEXEC));
      if (found && ::ioctl(found.get(), LOOP_SET_FD, backing.get()) == 0) {
        device_ = std::move(found);
      }
    }
    if (!device_) {
      why_ = "no free loop device that may be used";
    } else if (::ioctl(device_.get(), LOOP_SET_BLOCK_SIZE, 4096UL) != 0) {
      why_ = "the kernel's loop devices have one block size";
    }
  }
  ~loop_device() {
    if (device_) {
      ::ioctl(device_.get(), LOOP_CLR_FD, 0);
    }
  }
  loop_device(const loop_device&) = delete;
  loop_device& operator=(const loop_device&) = delete;

  [[nodiscard]] const std::string& why() const { return why_; }
  [[nodiscard]] std::string path() const { return "/dev/loop" + std::to_string(number_); }
  // What the file below occupies, in bytes.
  [[nodiscard]] std::uint64_t allocated() const {
    struct ::stat about{};
    EXPECT_EQ(::stat(file_.path().c_str(), &about), 0);
    return static_cast<std::uint64_t>(about.st_blocks) * 512;
  }
  [[nodiscard]] std::vector<std::byte> below(std::uint64_t offset, std::size_t length) const {
    std::vector<std::byte> bytes(length);
    const unique_fd fd(::open(file_.path().c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(::pread(fd.get(), bytes.data(), length, static_cast<off_t>(offset)), static_cast<ssize_t>(length));
    return bytes;
  }

 private:
  scratch_file file_{size};
  unique_fd device_;
  int number_ = -1;
  std::string why_;
};

class FileDeviceBlock : public ::testing::TestWithParam<file_caching> {
 protected:
  void SetUp() override {
    if (!loop.why().empty()) {
      GTEST_SKIP() << loop.why();
    }
    target = file_device::create(loop.path(), access_mode::read_write, {.caching = GetParam()}).value();
    info = target->open(access_mode::read_write).value();
  }
  void TearDown() override {
    if (target) {
      target->release(info);
    }
  }
  void write(std::uint64_t offset, std::size_t length, std::byte value, io_flags flags = io_flags::none) {
    const std::vector<std::byte> bytes(length, value);
    ASSERT_TRUE(target->write(*info, offset, bytes, flags, {}).has_value());
  }
  std::vector<std::byte> read(std::uint64_t offset, std::size_t length) {
    std::vector<std::byte> bytes(length);
    EXPECT_TRUE(target->read(*info, offset, bytes, {}).has_value());
    return bytes;
  }

  loop_device loop;
  ref<device> target;
  open_info* info = nullptr;
};

TEST_P(FileDeviceBlock, SizeAndTraitsAreTheDisks) {
  EXPECT_EQ(target->size(), size);
  EXPECT_FALSE(target->traits().extents);
  EXPECT_EQ(target->traits().minimum_block, 1U);
  if (GetParam() == file_caching::direct) {
    const ref<device> strict =
        file_device::create(loop.path(), access_mode::read_write, {.caching = GetParam(), .policy = misaligned::refuse})
            .value();
    EXPECT_EQ(strict->traits().minimum_block, 4096U) << "the logical block";
  }
}

TEST_P(FileDeviceBlock, AnyAlignmentMovesTheRightBytes) {
  write(0, 64 << 10, std::byte{1});
  write(5, 3, std::byte{2});
  write(4090, 5000, std::byte{3});
  write(size - 1, 1, std::byte{4});
  std::vector<std::byte> expected(64 << 10, std::byte{1});
  std::fill_n(expected.begin() + 5, 3, std::byte{2});
  std::fill_n(expected.begin() + 4090, 5000, std::byte{3});
  EXPECT_EQ(read(0, 64 << 10), expected);
  EXPECT_EQ(read(4089, 10), std::vector<std::byte>(expected.begin() + 4089, expected.begin() + 4099));
  EXPECT_EQ(read(size - 2, 2), (std::vector<std::byte>{std::byte{0}, std::byte{4}}));
}

TEST_P(FileDeviceBlock, FlushedAndFuaWritesAreBelow) {
  write(0, 8192, std::byte{7});
  ASSERT_TRUE(target->flush(*info, {}).has_value());
  EXPECT_EQ(loop.below(0, 8192), std::vector<std::byte>(8192, std::byte{7}));
  write(100, 200, std::byte{8}, io_flags::fua);
  EXPECT_EQ(loop.below(100, 200), std::vector<std::byte>(200, std::byte{8}));
}

TEST_P(FileDeviceBlock, TrimGivesSpaceBackAndIsAHint) {
  write(0, 4 << 20, std::byte{9}, io_flags::fua);
  const std::uint64_t before = loop.allocated();
  ASSERT_TRUE(target->trim(*info, 0, 4 << 20, io_flags::fua, {}).has_value());
  if (loop.allocated() == before) {
    GTEST_SKIP() << "this loop device discards nothing";
  }
  EXPECT_EQ(read(0, 4096), std::vector<std::byte>(4096));
  ASSERT_TRUE(target->trim(*info, 4097, 5000, io_flags::none, {}).has_value()) << "misaligned: a hint all the same";
}

TEST_P(FileDeviceBlock, ZeroesReadAsZerosAlignedOrNot) {
  write(0, 1 << 20, std::byte{9});
  ASSERT_TRUE(target->write_zeroes(*info, 8192, 64 << 10, io_flags::none, {}).has_value());
  ASSERT_TRUE(target->write_zeroes(*info, 300'001, 70'003, io_flags::no_hole, {}).has_value());
  std::vector<std::byte> expected(1 << 20, std::byte{9});
  std::fill_n(expected.begin() + 8192, 64 << 10, std::byte{0});
  std::fill_n(expected.begin() + 300'001, 70'003, std::byte{0});
  EXPECT_EQ(read(0, 1 << 20), expected);
}

// The whole way, through a queue.
TEST_P(FileDeviceBlock, RequestsGoThroughAQueue) {
  test::io_bench bench;
  const ref<open_file> file = open_file::open(target, bench.queue, access_mode::read_write).value();
  for (const io_op op : {io_op::write, io_op::read, io_op::flush, io_op::trim, io_op::write_zeroes, io_op::cache}) {
    test::awaited_request request;
    test::fill(request, op, 1000, 10'000);
    const issued how = file->submit(request, *bench.context).value();
    EXPECT_EQ(how == issued::queued ? request.wait() : request.result(),
              op == io_op::read || op == io_op::write ? 10'000 : 0);
  }
  ASSERT_TRUE(bench.queue->drain().has_value());
}

INSTANTIATE_TEST_SUITE_P(Both, FileDeviceBlock, ::testing::Values(file_caching::page_cache, file_caching::direct),
                         [](const auto& each) { return each.param == file_caching::direct ? "Direct" : "PageCache"; });

}  // namespace
}  // namespace file_device_block_test
