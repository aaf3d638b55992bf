// Goal: the file-size limit of an identity binds the writes done under it as RLIMIT_FSIZE binds a process's: what begins
// below the limit is cut there, what begins at it is EFBIG; reads and others' writes know nothing of it.
// Method: a real file; this thread wears an identity that carries a limit and nothing else, so no privilege is needed.
#include <unistd.h>

#include <array>

#include <gtest/gtest.h>

#include "sluice/device/file_device.h"
#include "sluice/identity/wardrobe.h"

#include "support/io_helpers.h"

namespace file_size_limit_test {
namespace {

using namespace sluice;

constexpr std::uint64_t file_bytes = 16384;
constexpr std::uint64_t limit = 5000;

TEST(FileSizeLimit, BindsTheWritesOfWhoWearsIt) {
  std::string path = testing::TempDir() + "/sluice-file-size-limit-XXXXXX";
  const int fd = ::mkstemp(path.data());
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::ftruncate(fd, static_cast<off_t>(file_bytes)), 0);
  const auto made = file_device::create(path, access_mode::read_write);
  ASSERT_TRUE(made);
  device& disk = **made;
  const auto info = disk.open(access_mode::read_write);
  ASSERT_TRUE(info);
  const identity_result who = identity_builder().set_file_size_limit(limit).build();
  ASSERT_TRUE(who) << who.error().message();
  std::array<std::byte, 4096> bytes;
  bytes.fill(std::byte{7});
  {
    wardrobe clothes;
    ASSERT_TRUE(clothes.put_on(who->get()));
    EXPECT_TRUE(disk.write(**info, 0, bytes, io_flags::none, {}));
    const result<void> over = disk.write(**info, 4096, bytes, io_flags::none, {});
    ASSERT_FALSE(over);
    EXPECT_EQ(over.error().value(), EFBIG);
    EXPECT_EQ(disk.try_write(**info, 4096, bytes, io_flags::none), 0U) << "left to write(), which says why";
    EXPECT_TRUE(disk.read(**info, 8192, bytes, {})) << "it is no limit for reads";
  }
  std::array<unsigned char, file_bytes> now{};
  ASSERT_EQ(::pread(fd, now.data(), now.size(), 0), static_cast<ssize_t>(now.size()));
  EXPECT_EQ(now[limit - 1], 7);
  EXPECT_EQ(now[limit], 0) << "cut at the limit";
  bytes.fill(std::byte{7});
  EXPECT_TRUE(disk.write(**info, 8192, bytes, io_flags::none, {})) << "it was taken off";
  disk.release(*info);
  ::close(fd);
  ::unlink(path.c_str());
}

}  // namespace
}  // namespace file_size_limit_test
