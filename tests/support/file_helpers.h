// file_helpers: a scratch file, and the system calls of a file device behind scripts of faults; for tests of device.
#pragma once

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/base/check.h"
#include "sluice/base/clock.h"
#include "sluice/device/file_device.h"
#include "sluice/device/file_seam.h"
#include "sluice/device/nowait.h"

namespace test {

// A file of its own, removed at the end.
class scratch_file {
 public:
  explicit scratch_file(std::uint64_t bytes) {
    const int fd = ::mkstemp(path_.data());
    SLUICE_CHECK(fd >= 0);
    SLUICE_CHECK(::ftruncate(fd, static_cast<off_t>(bytes)) == 0);
    ::close(fd);
  }
  ~scratch_file() { ::unlink(path_.c_str()); }
  scratch_file(const scratch_file&) = delete;
  scratch_file& operator=(const scratch_file&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_ = ::testing::TempDir() + "/sluice-file-device-XXXXXX";
};

// A figure that any thread may raise.
class figure {
 public:
  // Relaxed: it orders nothing.
  void operator++() noexcept { value_.fetch_add(1, std::memory_order_relaxed); }
  // NOLINTNEXTLINE(google-explicit-constructor): it reads as a number
  operator int() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int> value_{0};
};

// Stands still unless it is advanced.
class manual_clock final : public sluice::clock_seam {
 public:
  [[nodiscard]] sluice::steady_time now() noexcept override {
    return sluice::steady_time(std::chrono::nanoseconds(at_.load(std::memory_order_relaxed)));
  }
  void advance(std::chrono::nanoseconds by) noexcept { at_.fetch_add(by.count(), std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> at_{0};
};

// The real calls, behind scripts: a fault is an errno, or a limit on how many bytes one call moves.
struct faulty_seam final : sluice::file_seam {
  struct fault {
    int err = 0;            // fail with it
    std::size_t limit = 0;  // or move at most so much
  };
  std::deque<fault> preads, pwrites, nowait_preads, nowait_pwrites, dsync_pwrites, syncs, fallocates, seek_faults;
  std::vector<int> fallocate_modes;
  std::vector<off_t> fallocate_lengths;
  figure preadv2_calls, pwritev2_calls, nowait_reads, nowait_writes, dsync_writes, fsync_calls, opened, closed, advised,
      seeks;
  int stat_error = 0;
  dev_t device_id = 0;  // of the file system; 0: the real one
  std::int64_t system_type = EXT4_SUPER_MAGIC;
  bool pretend_block_device = false;
  std::uint64_t block_device_bytes = 12345;
  std::deque<fault> discard_faults;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> discards;  // offset and length
  // Of direct transfers. The file below is opened without O_DIRECT; that they are aligned is checked here.
  bool takes_direct = true, says_alignment = true, opened_direct = false;
  std::uint32_t block = 4096, memory_alignment = 512;
  figure direct_transfers;
  std::function<void()> in_pwrite;  // what a write does first, if anything

  // What is learned about NOWAIT is this seam's own, by a clock that only its calls advance.
  manual_clock clock;
  std::chrono::nanoseconds nowait_takes{0};
  sluice::nowait_table known;
  // To create a device with.
  [[nodiscard]] sluice::file_device_options options() { return {.system = this, .clock = &clock, .known = &known}; }

  static bool take(std::deque<fault>& script, fault& next) {
    if (script.empty()) {
      return false;
    }
    next = script.front();
    script.pop_front();
    return true;
  }

  int open(const char* path, int flags) noexcept override {
    if ((flags & O_DIRECT) != 0 && !takes_direct) {
      errno = EINVAL;
      return -1;
    }
    opened_direct = (flags & O_DIRECT) != 0;
    const int fd = ::open(path, flags & ~O_DIRECT);
    if (fd >= 0) {
      ++opened;
    }
    return fd;
  }
  int close(int fd) noexcept override {
    ++closed;
    return ::close(fd);
  }
  int fstat(int fd, struct ::stat* into) noexcept override {
    if (stat_error != 0) {
      errno = stat_error;
      return -1;
    }
    const int rc = ::fstat(fd, into);
    if (device_id != 0) {
      into->st_dev = device_id;
    }
    if (pretend_block_device) {
      into->st_mode = (into->st_mode & ~static_cast<mode_t>(S_IFMT)) | S_IFBLK;
    }
    return rc;
  }
  int file_system_type(int, std::int64_t* type) noexcept override {
    *type = system_type;
    return 0;
  }
  int block_device_size(int, std::uint64_t* bytes) noexcept override {
    *bytes = block_device_bytes;
    return 0;
  }
  int logical_block_size(int, std::uint32_t* bytes) noexcept override {
    *bytes = block;
    return 0;
  }
  int direct_alignment(int, std::uint32_t* memory, std::uint32_t* offset) noexcept override {
    if (!says_alignment) {
      errno = EOPNOTSUPP;
      return -1;
    }
    *memory = memory_alignment;
    *offset = block;
    return 0;
  }
  ssize_t preadv2(int fd, const ::iovec* parts, int count, off_t offset, int flags) noexcept override {
    if (!aligned(*parts, offset)) {
      return -1;
    }
    ++preadv2_calls;
    if ((flags & RWF_NOWAIT) != 0) {
      ++nowait_reads;
      clock.advance(nowait_takes);
    }
    return transfer((flags & RWF_NOWAIT) != 0 ? nowait_preads : preads, parts, [&](const ::iovec* now) {
      // Whether the page cache has it is not what these tests are about: without NOWAIT it always moves.
      return ::preadv2(fd, now, count, offset, flags & ~RWF_NOWAIT);
    });
  }
  ssize_t pwritev2(int fd, const ::iovec* parts, int count, off_t offset, int flags) noexcept override {
    if (in_pwrite) {
      in_pwrite();
    }
    if (!aligned(*parts, offset)) {
      return -1;
    }
    ++pwritev2_calls;
    if ((flags & RWF_NOWAIT) != 0) {
      ++nowait_writes;
      clock.advance(nowait_takes);
    }
    if ((flags & RWF_DSYNC) != 0) {
      ++dsync_writes;
    }
    auto& script = (flags & RWF_NOWAIT) != 0 ? nowait_pwrites : (flags & RWF_DSYNC) != 0 ? dsync_pwrites : pwrites;
    return transfer(script, parts, [&](const ::iovec* now) { return ::pwritev2(fd, now, count, offset, 0); });
  }
  int fdatasync(int) noexcept override {
    ++fsync_calls;
    fault next;
    if (take(syncs, next) && next.err != 0) {
      errno = next.err;
      return -1;
    }
    return 0;
  }
  int fallocate(int fd, int mode, off_t offset, off_t length) noexcept override {
    fallocate_modes.push_back(mode);
    fallocate_lengths.push_back(length);
    fault next;
    if (take(fallocates, next) && next.err != 0) {
      errno = next.err;
      return -1;
    }
    return ::fallocate(fd, mode, offset, length);
  }
  int discard(int fd, std::uint64_t offset, std::uint64_t length) noexcept override {
    discards.emplace_back(offset, length);
    fault next;
    if (take(discard_faults, next) && next.err != 0) {
      errno = next.err;
      return -1;
    }
    if (offset % block != 0 || length % block != 0) {
      errno = EINVAL;
      return -1;
    }
    return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                       static_cast<off_t>(length));
  }
  off_t lseek(int fd, off_t offset, int whence) noexcept override {
    ++seeks;
    fault next;
    if (take(seek_faults, next)) {
      errno = next.err;
      return -1;
    }
    return ::lseek(fd, offset, whence);
  }
  int fadvise(int fd, off_t offset, off_t length, int advice) noexcept override {
    ++advised;
    return ::posix_fadvise(fd, offset, length, advice);
  }

 private:
  // As the kernel: EINVAL.
  bool aligned(const ::iovec& part, off_t offset) {
    if (!opened_direct) {
      return true;
    }
    ++direct_transfers;
    const bool good = static_cast<std::uint64_t>(offset) % block == 0 && part.iov_len % block == 0 &&
                      reinterpret_cast<std::uintptr_t>(part.iov_base) % memory_alignment == 0;
    errno = EINVAL;
    return good;
  }
  template <class Call>
  static ssize_t transfer(std::deque<fault>& script, const ::iovec* parts, Call call) {
    fault next;
    ::iovec limited = *parts;
    if (take(script, next)) {
      if (next.err != 0) {
        errno = next.err;
        return -1;
      }
      limited.iov_len = std::min(limited.iov_len, next.limit);
      if (limited.iov_len == 0) {
        return 0;
      }
    }
    return call(&limited);
  }
};

}  // namespace test
