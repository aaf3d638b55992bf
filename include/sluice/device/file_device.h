// file_device: a regular file or a block device as a device, read and written through the page cache, or past it.
//
// The size is what the file had when it was opened; nothing is ever written beyond it. If the file shrinks later,
// reading what is gone is EIO.
//
// | operation    | without blocking      | on a worker                                                     |
// |--------------|-----------------------|-----------------------------------------------------------------|
// | read         | preadv2 RWF_NOWAIT    | preadv2 until all is there                                      |
// | write        | pwritev2 RWF_NOWAIT   | pwritev2 until all is gone, hashed by inode                     |
// | write, fua   |                       | the same with RWF_DSYNC, or followed by fdatasync               |
// | flush        |                       | fdatasync                                                       |
// | trim         |                       | punch a hole, on a block device discard its whole blocks; where |
// |              |                       | that is unknown nothing: it is a hint                           |
// | write_zeroes |                       | punch a hole, or with no_hole zero the range; where that is     |
// |              |                       | unknown write zeros, or with fast_zero ENOTSUP. fast_zero with  |
// |              |                       | no_hole on a block device is always ENOTSUP: the kernel does    |
// |              |                       | not say whether it would write                                  |
// | cache        |                       | posix_fadvise WILLNEED                                          |
// | extents      |                       | lseek SEEK_DATA and SEEK_HOLE; all is data where these are      |
// |              |                       | unknown (block devices)                                         |
//
// Whether the file takes non-blocking transfers and whether they pay is learned for each file; whether its file system
// keeps its word for all devices on it together (nowait.h). An error or a short count of such an attempt is never
// reported: a worker goes on from there.
//
// A file in memory (tmpfs, ramfs) refuses NOWAIT although it has nothing to wait for but memory that was swapped out:
// its reads, writes, flushes, cache hints and short trims and zeroes are done plainly inside submit.
//
// Past the page cache (file_caching::direct, O_DIRECT) the file wants aligned offsets, lengths and memory; what it
// wants is learned at create. A request that is aligned goes straight from or to the caller's memory. What is not
// goes through one of four bounce buffers; a write of part of a block reads it, changes it and writes it, and holds
// it meanwhile against all other changes of that block by this process. Or, with misaligned::refuse, a read, write,
// trim or write_zeroes whose range is not aligned is EINVAL (memory may still be anywhere). Nothing is tried inside
// submit: a direct transfer waits for the disk. Do not use one file both ways at once: the kernel keeps the two
// together only as well as it can.
//
// Buffered writes to one inode take one lock in most file systems: sixteen threads that write it spend three times the
// CPU of one. So they carry the inode as their key and run one at a time. Direct writes of whole blocks, which share
// that lock, carry no key and run at once. Direct writes of a part of a block carry that block as their key: they
// would take turns anyhow, and wait for their turn without a worker.
//
// Ownership:      owns the descriptor; closes it with the last count.
// Thread safety:  as device.
// Blocking:       create blocks. Long ranges go in chunks of `chunk` bytes; the probe is asked between chunks and after
//                 every EINTR.
// Errors:         of create: what open(2) says; EISDIR for a directory; EINVAL for what is neither a regular file nor a
//                 block device; of direct also EOPNOTSUPP the file system has no direct I/O, and EINVAL a size to write to
//                 that is no multiple of its block. Of operations: errno; EIO when the file is shorter than announced.
// Limits:         length of a file < 2^63.
// Invariants:     D1 D2
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "sluice/base/clock.h"
#include "sluice/device/device.h"
#include "sluice/device/file_seam.h"
#include "sluice/device/nowait.h"
#include "sluice/ref/ref.h"
#include "sluice/wq/hash_domain.h"

namespace sluice {

// Non-blocking attempts of this device in each direction, and what is known now. Those of a file in memory, which are
// made plainly, are counted too.
struct nowait_stats {
  nowait_figures reads;
  nowait_figures writes;
};

// Where the bytes of a file live when nobody has read them lately.
enum class file_home : std::uint8_t { disk, memory };

enum class file_caching : std::uint8_t { page_cache, direct };

// What becomes of a direct request whose offset or length is not aligned to the file's block.
enum class misaligned : std::uint8_t { bounce, refuse };

struct file_device_options {
  file_caching caching = file_caching::page_cache;
  misaligned policy = misaligned::bounce;
  file_seam* system = nullptr;    // null: the kernel's
  clock_seam* clock = nullptr;    // null: the machine's
  nowait_table* known = nullptr;  // null: the process's
};

namespace detail {
class direct_io;
}

class file_device final : public device {
 public:
  static constexpr std::uint64_t chunk = 64ULL << 20;      // bytes of one system call that changes or advises a range
  static constexpr std::size_t transfer_chunk = 8U << 20;  // bytes of one read or write call
  static constexpr std::size_t zero_buffer = 256U
                                             << 10;  // bytes of zeros written at once where the file cannot do better

  // Opens a path. Blocks.
  [[nodiscard]] static result<ref<device>> create(const std::string& path, access_mode mode,
                                                  const file_device_options& options = {});

  [[nodiscard]] std::string_view name() const noexcept override { return path_; }
  [[nodiscard]] result<open_info*> open(access_mode mode) noexcept override;
  void release(open_info* info) noexcept override;

  [[nodiscard]] std::size_t try_read(open_info& info, std::uint64_t offset,
                                     std::span<std::byte> into) noexcept override;
  [[nodiscard]] std::size_t try_write(open_info& info, std::uint64_t offset, std::span<const std::byte> from,
                                      io_flags flags) noexcept override;
  [[nodiscard]] attempt try_range(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length,
                                  io_flags flags) noexcept override;
  [[nodiscard]] result<void> read(open_info& info, std::uint64_t offset, std::span<std::byte> into,
                                  cancel_probe probe) noexcept override;
  [[nodiscard]] result<void> write(open_info& info, std::uint64_t offset, std::span<const std::byte> from,
                                   io_flags flags, cancel_probe probe) noexcept override;
  [[nodiscard]] result<void> flush(open_info& info, cancel_probe probe) noexcept override;
  [[nodiscard]] result<void> trim(open_info& info, std::uint64_t offset, std::uint64_t length, io_flags flags,
                                  cancel_probe probe) noexcept override;
  [[nodiscard]] result<void> write_zeroes(open_info& info, std::uint64_t offset, std::uint64_t length, io_flags flags,
                                          cancel_probe probe) noexcept override;
  [[nodiscard]] result<void> cache(open_info& info, std::uint64_t offset, std::uint64_t length,
                                   cancel_probe probe) noexcept override;

  [[nodiscard]] result<std::size_t> extents(open_info& info, std::uint64_t offset, std::uint64_t length,
                                            std::span<extent> into, cancel_probe probe) noexcept override;

  // By the inode with its file system, or the device number: the same for all file_devices on the same file. A direct
  // write of a part of a block by that block of it.
  [[nodiscard]] write_hash hash_of_write(std::uint64_t offset, std::uint64_t length) noexcept override;
  [[nodiscard]] nowait_stats nowait() const noexcept;

 private:
  struct opened;

  file_device(std::string path, opened& from) noexcept;
  ~file_device() override;

  // One transfer that must not block. call(flags) is the system call. Returns the bytes moved.
  template <class Call>
  [[nodiscard]] std::size_t attempt_now(nowait_lane& lane, nowait_file& mine, std::size_t bytes, Call call) noexcept;
  // Whether to try RWF_DSYNC. Where a file did not know the flag, and took the same write without, dsync_rest writes
  // go without.
  [[nodiscard]] bool with_dsync() noexcept;
  static constexpr std::uint32_t dsync_rest = 4096;
  [[nodiscard]] result<void> write_all(std::uint64_t offset, std::span<const std::byte> from, int flags,
                                       cancel_probe probe) noexcept;
  [[nodiscard]] result<void> allocate(int mode, std::uint64_t offset, std::uint64_t length,
                                      cancel_probe probe) noexcept;
  // EINVAL for a range that is to be refused.
  [[nodiscard]] result<void> check_alignment(std::uint64_t offset, std::uint64_t length) const noexcept;
  // Of a block device: the whole blocks of the range.
  [[nodiscard]] result<void> discard(std::uint64_t offset, std::uint64_t length, cancel_probe probe) noexcept;
  // Calls change(offset, bytes), which is a system call, for the pieces of a range; again while it is interrupted.
  template <class Call>
  [[nodiscard]] result<void> change_range(std::uint64_t offset, std::uint64_t length, cancel_probe probe,
                                          Call change) noexcept;
  [[nodiscard]] result<void> write_zero_bytes(std::uint64_t offset, std::uint64_t length, cancel_probe probe) noexcept;

  // Constant after construction.
  const std::string path_;
  const int fd_;
  const std::uint64_t key_;
  const file_home home_;
  const std::uint32_t discard_block_;  // of a block device: bytes; 0: this is a regular file
  const ref<hash_domain> inodes_;
  const std::unique_ptr<detail::direct_io> direct_;  // null: through the page cache
  const ref<nowait_record> known_;
  file_seam& system_;
  clock_seam& clock_;
  // Synchronise themselves. Relaxed everywhere: figures and once-only hints that order nothing else.
  std::atomic<std::uint32_t> without_dsync_{0};  // writes with fua until RWF_DSYNC is tried again
  nowait_file reads_;
  nowait_file writes_;
};

}  // namespace sluice
