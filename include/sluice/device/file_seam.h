// file_seam: every system call that a file device makes, so that tests make them fail, stop short or be interrupted.
//
// Each function is the system call of its name: same arguments, same return, errno set on -1. Nothing is retried here.
//
// Thread safety:  any thread.
// Blocking:       as the system call.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>

namespace sluice {

class file_seam {
 public:
  file_seam() = default;
  file_seam(const file_seam&) = delete;
  file_seam& operator=(const file_seam&) = delete;
  virtual ~file_seam() = default;

  [[nodiscard]] virtual int open(const char* path, int flags) noexcept = 0;
  virtual int close(int fd) noexcept = 0;
  [[nodiscard]] virtual int fstat(int fd, struct ::stat* into) noexcept = 0;
  // The f_type of fstatfs(2).
  [[nodiscard]] virtual int file_system_type(int fd, std::int64_t* type) noexcept = 0;
  // ioctl BLKGETSIZE64.
  [[nodiscard]] virtual int block_device_size(int fd, std::uint64_t* bytes) noexcept = 0;
  // ioctl BLKSSZGET.
  [[nodiscard]] virtual int logical_block_size(int fd, std::uint32_t* bytes) noexcept = 0;
  // The stx_dio_… of statx(2): what direct transfers must be aligned to; 0: the file has none. EOPNOTSUPP: not told.
  [[nodiscard]] virtual int direct_alignment(int fd, std::uint32_t* memory, std::uint32_t* offset) noexcept = 0;
  [[nodiscard]] virtual ssize_t preadv2(int fd, const ::iovec* parts, int count, off_t offset, int flags) noexcept = 0;
  [[nodiscard]] virtual ssize_t pwritev2(int fd, const ::iovec* parts, int count, off_t offset, int flags) noexcept = 0;
  [[nodiscard]] virtual int fdatasync(int fd) noexcept = 0;
  [[nodiscard]] virtual int fallocate(int fd, int mode, off_t offset, off_t length) noexcept = 0;
  // ioctl BLKDISCARD: of a block device, whole blocks.
  [[nodiscard]] virtual int discard(int fd, std::uint64_t offset, std::uint64_t length) noexcept = 0;
  [[nodiscard]] virtual off_t lseek(int fd, off_t offset, int whence) noexcept = 0;
  // Returns 0 or an errno, as posix_fadvise(2).
  [[nodiscard]] virtual int fadvise(int fd, off_t offset, off_t length, int advice) noexcept = 0;

  // The kernel's. Lives for the whole process.
  [[nodiscard]] static file_seam& real() noexcept;
};

}  // namespace sluice
