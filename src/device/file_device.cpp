#include "sluice/device/file_device.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>

#include <algorithm>
#include <array>
#include <bit>
#include <new>
#include <optional>
#include <utility>

#include "sluice/identity/identity.h"
#include "sluice/wq/blocking_region.h"

#include "direct_io.h"
#include "file_extents.h"

namespace sluice {
namespace {

// Nothing of a file is kept per opening; an object all the same, so that tools see a second release.
struct file_open_info final : open_info {};

// One domain for all files of the process: two devices on one inode must meet there. Null if memory is short; the
// next device tries again.
ref<hash_domain> inode_domain() noexcept {
  static constinit std::atomic<hash_domain*> shared{nullptr};
  // acquire: pairs with the exchange below.
  hash_domain* found = shared.load(std::memory_order_acquire);
  if (found == nullptr) {
    result<ref<hash_domain>> made = hash_domain::create();
    if (!made) {
      return {};
    }
    if (shared.compare_exchange_strong(found, made->get(), std::memory_order_acq_rel, std::memory_order_acquire)) {
      found = made->release();  // never freed: works may be released late in the process
    }
  }
  return ref<hash_domain>::retain(found);
}

// Where the kernel or the file system does not know the request at all, as opposed to failing it.
bool unknown_to_file(int err) noexcept {
  return err == EOPNOTSUPP || err == ENOSYS || err == EINVAL || err == ENODEV;
}

// Exact for inodes below 2^40 and devices below 2^24; beyond that two files may share a key, and wait for each other.
std::uint64_t key_of(const struct ::stat& about) noexcept {
  constexpr std::uint64_t block_device_bit = 1ULL << 63;
  return S_ISBLK(about.st_mode) ? std::rotl(std::uint64_t{about.st_rdev}, 40) | block_device_bit
                                : std::rotl(std::uint64_t{about.st_dev}, 40) ^ std::uint64_t{about.st_ino};
}

// Of a block of a file with that key. Different blocks may share one, and then wait for each other.
std::uint64_t key_of_block(std::uint64_t key, std::uint64_t block) noexcept {
  constexpr std::uint64_t golden = 0x9E3779B97F4A7C15;  // spreads neighbours
  return key ^ ((block + 1) * golden);
}

// The size, or why it cannot be a device.
result<std::uint64_t> size_of(file_seam& system, int fd, const struct ::stat& about) noexcept {
  if (S_ISDIR(about.st_mode)) {
    return fail(EISDIR);
  }
  if (S_ISREG(about.st_mode)) {
    return static_cast<std::uint64_t>(about.st_size);
  }
  if (!S_ISBLK(about.st_mode)) {
    return fail(EINVAL);
  }
  std::uint64_t bytes = 0;
  if (system.block_device_size(fd, &bytes) != 0) {
    return fail_errno();
  }
  return bytes;
}

// Unknown counts as disk: then nothing is done inside submit that might wait.
file_home home_of(file_seam& system, int fd, const struct ::stat& about) noexcept {
  std::int64_t type = 0;
  // A disk's node in /dev is on a file system in memory: only the bytes of regular files are.
  const bool known = S_ISREG(about.st_mode) && system.file_system_type(fd, &type) == 0;
  return known && (type == TMPFS_MAGIC || type == RAMFS_MAGIC) ? file_home::memory : file_home::disk;
}

// Of a transfer with NOWAIT. Uses errno.
nowait_outcome outcome_of(ssize_t moved, std::size_t bytes) noexcept {
  if (moved < 0) {
    return unknown_to_file(errno) ? nowait_outcome::refused : nowait_outcome::part;
  }
  return static_cast<std::size_t>(moved) == bytes ? nowait_outcome::all : nowait_outcome::part;
}

// After a system call that was interrupted: go on, or stop because somebody asked for it.
result<void> interrupted(cancel_probe probe) noexcept {
  return probe.cancelled() ? fail(ECANCELED) : result<void>{};
}

// Calls step(offset, length) for the pieces of a range; stops at the first error or when the probe says so.
template <class Step>
result<void> in_pieces(std::uint64_t offset, std::uint64_t length, std::uint64_t piece, cancel_probe probe,
                       Step step) noexcept {
  while (length != 0) {
    if (probe.cancelled()) {
      return fail(ECANCELED);
    }
    const std::uint64_t now = std::min(length, piece);
    if (result<void> did = step(offset, now); !did) {
      return did;
    }
    offset += now;
    length -= now;
  }
  return {};
}

}  // namespace

// What create finds out about a file. Owns the descriptor until a device takes it.
struct file_device::opened {
  explicit opened(const file_device_options& options) noexcept
      : system(options.system != nullptr ? *options.system : file_seam::real()),
        clock(options.clock != nullptr ? *options.clock : clock_seam::real()) {}
  ~opened() {
    direct.reset();
    if (fd >= 0) {
      system.close(fd);
    }
  }
  opened(const opened&) = delete;
  opened& operator=(const opened&) = delete;

  [[nodiscard]] result<void> open(const char* path, access_mode mode, file_caching caching) noexcept;
  [[nodiscard]] result<void> examine(access_mode mode) noexcept;
  // Throws bad_alloc.
  [[nodiscard]] result<void> prepare_direct(misaligned policy);
  [[nodiscard]] result<void> find_record(nowait_table& table) noexcept;

  file_seam& system;
  clock_seam& clock;
  int fd = -1;
  struct ::stat about{};
  device_traits traits;
  file_home home = file_home::disk;
  std::uint32_t discard_block = 0;
  ref<hash_domain> inodes = inode_domain();
  std::unique_ptr<detail::direct_io> direct;
  ref<nowait_record> known;
};

result<void> file_device::opened::open(const char* path, access_mode mode, file_caching caching) noexcept {
  // NONBLOCK: opening a pipe or a tape must not wait before we can see that it is no file. Files and disks ignore it.
  const int access = (mode == access_mode::read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  const bool past_cache = caching == file_caching::direct;
  fd = system.open(path, past_cache ? access | O_DIRECT : access);
  if (fd < 0) {
    // open(2): EINVAL is how a file system says that it has no O_DIRECT.
    return past_cache && errno == EINVAL ? fail(EOPNOTSUPP) : fail_errno();
  }
  return {};
}

result<void> file_device::opened::examine(access_mode mode) noexcept {
  if (system.fstat(fd, &about) != 0) {
    return fail_errno();
  }
  const result<std::uint64_t> bytes = size_of(system, fd, about);
  if (!bytes) {
    return std::unexpected(bytes.error());
  }
  const bool writable = mode == access_mode::read_write;
  traits = {.size = *bytes,
            .read_only = !writable,
            .trim = writable,
            .write_zeroes = writable,
            .fast_zero = writable,
            .cache = true,
            .extents = S_ISREG(about.st_mode)};
  home = home_of(system, fd, about);
  if (S_ISBLK(about.st_mode) && system.logical_block_size(fd, &discard_block) != 0) {
    return fail_errno();
  }
  return inodes ? result<void>{} : fail(ENOMEM);
}

result<void> file_device::opened::prepare_direct(misaligned policy) {
  const result<detail::direct_alignment> wanted = detail::learn_alignment(system, fd, about);
  if (!wanted) {
    return std::unexpected(wanted.error());
  }
  // A part of a block at the end could only be written by making the file longer.
  if (!traits.read_only && traits.size % wanted->block != 0) {
    return fail(EINVAL);
  }
  direct = std::make_unique<detail::direct_io>(
      detail::direct_file{.fd = fd, .key = key_of(about), .alignment = *wanted, .policy = policy}, system);
  if (!direct->made()) {
    return fail(ENOMEM);
  }
  home = file_home::disk;  // nothing plainly inside submit
  traits.minimum_block = policy == misaligned::refuse ? wanted->block : 1;
  traits.preferred_block = std::max(traits.preferred_block, wanted->block);
  return {};
}

result<void> file_device::opened::find_record(nowait_table& table) noexcept {
  constexpr std::uint64_t block_device_bit = 1ULL << 63;
  known =
      table.of(S_ISBLK(about.st_mode) ? std::uint64_t{about.st_rdev} | block_device_bit : std::uint64_t{about.st_dev});
  return known ? result<void>{} : fail(ENOMEM);
}

result<ref<device>> file_device::create(const std::string& path, access_mode mode, const file_device_options& options) {
  opened made(options);
  result<void> ready = made.open(path.c_str(), mode, options.caching);
  if (ready) {
    ready = made.examine(mode);
  }
  try {
    if (ready && options.caching == file_caching::direct) {
      ready = made.prepare_direct(options.policy);
    }
    if (ready) {
      ready = made.find_record(options.known != nullptr ? *options.known : nowait_table::process());
    }
    if (!ready) {
      return std::unexpected(ready.error());
    }
    return ref<device>::adopt(new file_device(path, made));
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
}

file_device::file_device(std::string path, opened& from) noexcept
    : device(from.traits),
      path_(std::move(path)),
      fd_(std::exchange(from.fd, -1)),
      key_(key_of(from.about)),
      home_(from.home),
      discard_block_(from.discard_block),
      inodes_(std::move(from.inodes)),
      direct_(std::move(from.direct)),
      known_(std::move(from.known)),
      system_(from.system),
      clock_(from.clock) {}

file_device::~file_device() {
  system_.close(fd_);
}

result<open_info*> file_device::open(access_mode mode) noexcept {
  if (mode == access_mode::read_write && traits().read_only) {
    return fail(EROFS);
  }
  auto* info = new (std::nothrow) file_open_info;
  if (info == nullptr) {
    return fail(ENOMEM);
  }
  return info;
}

void file_device::release(open_info* info) noexcept {
  delete static_cast<file_open_info*>(info);
}

nowait_stats file_device::nowait() const noexcept {
  return {.reads = reads_.figures(known_->read), .writes = writes_.figures(known_->write)};
}

write_hash file_device::hash_of_write(std::uint64_t offset, std::uint64_t length) noexcept {
  if (!direct_) {
    return {inodes_.get(), key_};
  }
  const std::optional<std::uint64_t> block = direct_->cut_block(offset, length);
  return block ? write_hash{inodes_.get(), key_of_block(key_, *block)} : write_hash{};
}

template <class Call>
std::size_t file_device::attempt_now(nowait_lane& lane, nowait_file& mine, std::size_t bytes, Call call) noexcept {
  if (home_ == file_home::memory) {
    const ssize_t moved = call(0);  // there is no flag to learn about
    mine.count_plain(outcome_of(moved, bytes));
    return moved < 0 ? 0 : static_cast<std::size_t>(moved);
  }
  const nowait_trial now = mine.begin(lane, clock_);
  if (!now.go) {
    return 0;
  }
  const ssize_t moved = call(RWF_NOWAIT);
  mine.end(lane, now, outcome_of(moved, bytes), clock_);
  return moved < 0 ? 0 : static_cast<std::size_t>(moved);
}

std::size_t file_device::try_read(open_info& /*info*/, std::uint64_t offset, std::span<std::byte> into) noexcept {
  if (direct_) {
    return 0;
  }
  const ::iovec part{.iov_base = into.data(), .iov_len = into.size()};
  return attempt_now(known_->read, reads_, into.size(),
                     [&](int flags) { return system_.preadv2(fd_, &part, 1, static_cast<off_t>(offset), flags); });
}

std::size_t file_device::try_write(open_info& /*info*/, std::uint64_t offset, std::span<const std::byte> from,
                                   io_flags flags) noexcept {
  // What must be stable waits for the disk; where there is none it is as stable as it will be.
  const bool waits = has(flags, io_flags::fua) && home_ == file_home::disk;
  if (direct_ || waits) {
    return 0;
  }
  if (fsize_allows(current_identity(), offset, from.size()).value_or(0) != from.size()) {
    return 0;  // write() says what is wrong with it
  }
  const ::iovec part{.iov_base = const_cast<std::byte*>(from.data()), .iov_len = from.size()};
  return attempt_now(known_->write, writes_, from.size(),
                     [&](int how) { return system_.pwritev2(fd_, &part, 1, static_cast<off_t>(offset), how); });
}

attempt file_device::try_range(open_info& /*info*/, io_op op, std::uint64_t offset, std::uint64_t length,
                               io_flags flags) noexcept {
  if (home_ == file_home::disk) {
    return attempt::would_block;
  }
  if (op == io_op::flush || op == io_op::cache) {
    return attempt::done;
  }
  if (length > traits().inline_limit || has(flags, io_flags::no_hole)) {
    return attempt::would_block;
  }
  const int failed = system_.fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                                       static_cast<off_t>(length));
  return failed == 0 ? attempt::done : attempt::would_block;
}

result<void> file_device::read(open_info& /*info*/, std::uint64_t offset, std::span<std::byte> into,
                               cancel_probe probe) noexcept {
  const blocking_region region;
  if (direct_) {
    return direct_->read(offset, into, probe);
  }
  while (!into.empty()) {
    if (probe.cancelled()) {
      return fail(ECANCELED);
    }
    const ::iovec part{.iov_base = into.data(), .iov_len = std::min(into.size(), transfer_chunk)};
    const ssize_t got = system_.preadv2(fd_, &part, 1, static_cast<off_t>(offset), 0);
    if (got == 0) {
      return fail(EIO);  // inside the announced size: somebody made the file shorter
    }
    if (got < 0) {
      if (errno != EINTR) {
        return fail_errno();
      }
      continue;
    }
    offset += static_cast<std::uint64_t>(got);
    into = into.subspan(static_cast<std::size_t>(got));
  }
  return {};
}

result<void> file_device::write(open_info& info, std::uint64_t offset, std::span<const std::byte> from, io_flags flags,
                                cancel_probe probe) noexcept {
  if (!has(flags, io_flags::fua)) {
    // No blocking_region here: it is mostly copying, and those behind it wait for its key or its inode anyway. When
    // it does wait for the disk, the sampler notices.
    return write_all(offset, from, 0, probe);
  }
  const bool tries = with_dsync();
  if (tries) {
    const blocking_region region;
    const result<void> did = write_all(offset, from, RWF_DSYNC, probe);
    if (did || !unknown_to_file(did.error().value())) {
      return did;
    }
  }
  if (result<void> did = write_all(offset, from, 0, probe); !did) {
    return did;  // the request is wrong, and says nothing of the flag
  }
  if (tries) {
    without_dsync_.store(dsync_rest, std::memory_order_relaxed);  // only the flag was wrong
  }
  return flush(info, probe);
}

bool file_device::with_dsync() noexcept {
  std::uint32_t left = without_dsync_.load(std::memory_order_relaxed);
  while (left != 0) {
    if (without_dsync_.compare_exchange_weak(left, left - 1, std::memory_order_relaxed)) {
      return false;
    }
  }
  return true;
}

result<void> file_device::write_all(std::uint64_t offset, std::span<const std::byte> from, int flags,
                                    cancel_probe probe) noexcept {
  if (direct_) {
    const blocking_region region;
    return direct_->write(offset, from, flags, probe);
  }
  while (!from.empty()) {
    if (probe.cancelled()) {
      return fail(ECANCELED);
    }
    // The file-size limit of whom it is done for, as the kernel would have it: cut at the limit, refused behind it.
    const result<std::size_t> allowed = fsize_allows(current_identity(), offset, std::min(from.size(), transfer_chunk));
    if (!allowed) {
      return std::unexpected(allowed.error());
    }
    const ::iovec part{.iov_base = const_cast<std::byte*>(from.data()), .iov_len = *allowed};
    const ssize_t put = system_.pwritev2(fd_, &part, 1, static_cast<off_t>(offset), flags);
    if (put == 0) {
      return fail(EIO);  // no error and no progress: never ask for ever
    }
    if (put < 0) {
      if (errno != EINTR) {
        return fail_errno();
      }
      continue;
    }
    offset += static_cast<std::uint64_t>(put);
    from = from.subspan(static_cast<std::size_t>(put));
  }
  return {};
}

result<void> file_device::flush(open_info& /*info*/, cancel_probe probe) noexcept {
  const blocking_region region;
  while (system_.fdatasync(fd_) != 0) {
    if (errno != EINTR) {
      return fail_errno();
    }
    if (result<void> go_on = interrupted(probe); !go_on) {
      return go_on;
    }
  }
  return {};
}

result<void> file_device::check_alignment(std::uint64_t offset, std::uint64_t length) const noexcept {
  return direct_ && direct_->refuses(offset, length) ? fail(EINVAL) : result<void>{};
}

result<void> file_device::trim(open_info& info, std::uint64_t offset, std::uint64_t length, io_flags flags,
                               cancel_probe probe) noexcept {
  if (result<void> aligned = check_alignment(offset, length); !aligned) {
    return aligned;
  }
  // To punch a hole in a block device is to zero it, which disks may know less of than of discarding.
  const result<void> did =
      discard_block_ != 0 ? discard(offset, length, probe) : allocate(FALLOC_FL_PUNCH_HOLE, offset, length, probe);
  if (!did && !unknown_to_file(did.error().value())) {
    return did;
  }
  return has(flags, io_flags::fua) ? flush(info, probe) : result<void>{};
}

result<void> file_device::write_zeroes(open_info& info, std::uint64_t offset, std::uint64_t length, io_flags flags,
                                       cancel_probe probe) noexcept {
  if (result<void> aligned = check_alignment(offset, length); !aligned) {
    return aligned;
  }
  const bool stays = has(flags, io_flags::no_hole);
  // ZERO_RANGE on a block device writes zeros where the disk cannot do better, and does not say so (blkdev_fallocate).
  if (stays && has(flags, io_flags::fast_zero) && discard_block_ != 0) {
    return fail(EOPNOTSUPP);
  }
  result<void> did = allocate(stays ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE, offset, length, probe);
  if (!did && unknown_to_file(did.error().value())) {
    if (has(flags, io_flags::fast_zero)) {
      return fail(EOPNOTSUPP);
    }
    did = write_zero_bytes(offset, length, probe);
  }
  if (!did || !has(flags, io_flags::fua)) {
    return did;
  }
  return flush(info, probe);
}

template <class Call>
result<void> file_device::change_range(std::uint64_t offset, std::uint64_t length, cancel_probe probe,
                                       Call change) noexcept {
  const blocking_region region;
  return in_pieces(offset, length, chunk, probe, [&](std::uint64_t at, std::uint64_t bytes) -> result<void> {
    const auto until_it_ends = [&]() -> result<void> {
      while (change(at, bytes) != 0) {
        if (errno != EINTR) {
          return fail_errno();
        }
        if (result<void> go_on = interrupted(probe); !go_on) {
          return go_on;
        }
      }
      return {};
    };
    return direct_ ? direct_->with_blocks(at, bytes, probe, until_it_ends) : until_it_ends();
  });
}

result<void> file_device::allocate(int mode, std::uint64_t offset, std::uint64_t length, cancel_probe probe) noexcept {
  return change_range(offset, length, probe, [&](std::uint64_t at, std::uint64_t bytes) {
    return system_.fallocate(fd_, mode | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at), static_cast<off_t>(bytes));
  });
}

result<void> file_device::discard(std::uint64_t offset, std::uint64_t length, cancel_probe probe) noexcept {
  const std::uint64_t block = discard_block_;
  const std::uint64_t first = (offset + block - 1) / block * block;
  const std::uint64_t end = (offset + length) / block * block;
  if (first >= end) {
    return {};  // no whole block: it is a hint
  }
  return change_range(first, end - first, probe,
                      [&](std::uint64_t at, std::uint64_t bytes) { return system_.discard(fd_, at, bytes); });
}

result<void> file_device::write_zero_bytes(std::uint64_t offset, std::uint64_t length, cancel_probe probe) noexcept {
  // Not const: untouched it takes no room in the binary. Aligned for direct writes.
  alignas(4096) static constinit std::array<std::byte, zero_buffer> zeros{};
  return in_pieces(offset, length, zeros.size(), probe, [&](std::uint64_t at, std::uint64_t bytes) {
    return write_all(at, std::span<const std::byte>(zeros).first(static_cast<std::size_t>(bytes)), 0, probe);
  });
}

result<void> file_device::cache(open_info& /*info*/, std::uint64_t offset, std::uint64_t length,
                                cancel_probe probe) noexcept {
  const blocking_region region;
  return in_pieces(offset, length, chunk, probe, [&](std::uint64_t at, std::uint64_t bytes) -> result<void> {
    const int err = system_.fadvise(fd_, static_cast<off_t>(at), static_cast<off_t>(bytes), POSIX_FADV_WILLNEED);
    // A hint that the file does not know is taken all the same.
    return err == 0 || unknown_to_file(err) ? result<void>{} : fail(err);
  });
}

result<std::size_t> file_device::extents(open_info& info, std::uint64_t offset, std::uint64_t length,
                                         std::span<extent> into, cancel_probe probe) noexcept {
  if (!traits().extents) {
    return device::extents(info, offset, length, into, probe);
  }
  const blocking_region region;
  return detail::file_extents(system_, fd_, offset, length, into, probe);
}

}  // namespace sluice
