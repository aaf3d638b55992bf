#include "sluice/device/file_seam.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "sluice/base/immortal.h"

namespace sluice {
namespace {

class real_file_seam final : public file_seam {
 public:
  [[nodiscard]] int open(const char* path, int flags) noexcept override { return ::open(path, flags); }
  int close(int fd) noexcept override { return ::close(fd); }
  [[nodiscard]] int fstat(int fd, struct ::stat* into) noexcept override { return ::fstat(fd, into); }
  [[nodiscard]] int file_system_type(int fd, std::int64_t* type) noexcept override {
    struct ::statfs about{};
    const int rc = ::fstatfs(fd, &about);
    *type = static_cast<std::int64_t>(about.f_type);
    return rc;
  }
  [[nodiscard]] int block_device_size(int fd, std::uint64_t* bytes) noexcept override {
    return ::ioctl(fd, BLKGETSIZE64, bytes);
  }
  [[nodiscard]] int logical_block_size(int fd, std::uint32_t* bytes) noexcept override {
    int size = 0;
    const int rc = ::ioctl(fd, BLKSSZGET, &size);
    *bytes = static_cast<std::uint32_t>(size);
    return rc;
  }
  [[nodiscard]] int direct_alignment(int fd, std::uint32_t* memory, std::uint32_t* offset) noexcept override {
#ifdef STATX_DIOALIGN
    struct ::statx about{};
    if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &about) != 0) {
      return -1;
    }
    if ((about.stx_mask & STATX_DIOALIGN) != 0) {
      *memory = about.stx_dio_mem_align;
      *offset = about.stx_dio_offset_align;
      return 0;
    }
#endif
    errno = EOPNOTSUPP;
    return -1;
  }
  [[nodiscard]] ssize_t preadv2(int fd, const ::iovec* parts, int count, off_t offset, int flags) noexcept override {
    return ::preadv2(fd, parts, count, offset, flags);
  }
  [[nodiscard]] ssize_t pwritev2(int fd, const ::iovec* parts, int count, off_t offset, int flags) noexcept override {
    return ::pwritev2(fd, parts, count, offset, flags);
  }
  [[nodiscard]] int fdatasync(int fd) noexcept override { return ::fdatasync(fd); }
  [[nodiscard]] int fallocate(int fd, int mode, off_t offset, off_t length) noexcept override {
    return ::fallocate(fd, mode, offset, length);
  }
  [[nodiscard]] int discard(int fd, std::uint64_t offset, std::uint64_t length) noexcept override {
    std::array<std::uint64_t, 2> range{offset, length};
    return ::ioctl(fd, BLKDISCARD, range.data());
  }
  [[nodiscard]] off_t lseek(int fd, off_t offset, int whence) noexcept override { return ::lseek(fd, offset, whence); }
  [[nodiscard]] int fadvise(int fd, off_t offset, off_t length, int advice) noexcept override {
    return ::posix_fadvise(fd, offset, length, advice);
  }
};

}  // namespace

file_seam& file_seam::real() noexcept {
  // Never destroyed: threads that still run at exit may use it. Holds nothing.
  static immortal<real_file_seam> seam;
  return *seam;
}

}  // namespace sluice
