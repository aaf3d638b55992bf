// device: what requests are done to: a file, a block device, memory. A driver derives from it.
//
// open() gives per-open info that every operation is handed, and release() takes it back exactly once, after the last
// operation that used it (open_file sees to that). An operation comes in two forms:
//
//   try_…     moves what it can without blocking and says how much. What it cannot, or what fails, it leaves to the
//             other form: no error is reported here, because a NOWAIT error may be spurious and a short NOWAIT
//             transfer is not the end of the file.
//   the rest  does all of it or fails. Runs on a worker.
//
// Ranges are checked before any of these is called: inside size(), length > 0 and ≤ the limit for the operation.
//
// A request may take several calls: an attempt inside submit that moves a part, then quanta on workers. A device that
// must treat them as one (a switch, a drill) asks to see requests. Then each request begins once, by begin() or
// try_begin(), all its calls get what that returned in place of the info of the opening, and end() follows the last
// of them. A call that gets the info of the opening all the same is a request of its own:
//
//   inside submit: try_begin → try_… → moved all: end
//                                      moved a part: the rest runs on workers, see below
//                                      moved nothing: end, and begins anew on a worker
//   on workers:    begin → read, write, … as often as it takes → end
//
// Ownership:      kref; an open_file holds one count.
// Thread safety:  every function may be called by any number of threads at once.
// Blocking:       try_… never; open, release and the rest may.
// Errors:         errno values; reading where the file ends before size() is EIO, never silent zeros.
// Limits:         max_transfer bytes per read or write; size() bytes per trim, write_zeroes, cache.
// Invariants:     D1 D2
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "sluice/base/error.h"
#include "sluice/device/io_request.h"
#include "sluice/ref/kref.h"
#include "sluice/wq/hash_domain.h"

namespace sluice {

enum class access_mode : std::uint8_t { read_write, read_only };

// What a device can do. Constant after construction.
struct device_traits {
  std::uint64_t size = 0;                // bytes
  std::uint32_t minimum_block = 1;       // bytes: requests need not be aligned to more than this
  std::uint32_t preferred_block = 4096;  // bytes: what it likes best
  std::uint32_t inline_limit =
      512 << 10;  // bytes: longer transfers are not tried inside submit, they would hold the caller
  bool read_only = false;
  bool flush = true;  // flush does something or need not
  bool fua = true;    // a write can be made stable on its own
  bool trim = false;
  bool write_zeroes = true;
  bool fast_zero = false;  // fast_zero is answered honestly: done fast or ENOTSUP
  bool cache = false;      // the cache hint does something
  bool rotational = false;
  bool extents = false;  // extents() knows more than that all is data
};

// What a stretch of a device holds.
enum class extent_kind : std::uint8_t {
  data,  // may be anything
  hole,  // not allocated, reads as zeros
  zero,  // allocated, reads as zeros
};

struct extent {
  std::uint64_t offset = 0;  // bytes
  std::uint64_t length = 0;  // bytes
  extent_kind kind = extent_kind::data;

  friend bool operator==(const extent&, const extent&) = default;
};

// Per-open info, made by device::open and opaque to all but its driver.
class open_info {
 public:
  open_info(const open_info&) = delete;
  open_info& operator=(const open_info&) = delete;

 protected:
  open_info() = default;
  ~open_info() = default;
};

// A key for works, or none.
struct write_hash {
  hash_domain* domain = nullptr;  // null: writes are not hashed
  std::uint64_t key = 0;
};

class device : public kref<device> {
 public:
  static constexpr std::uint64_t max_transfer = 1ULL << 30;  // bytes of one read or write

  device(const device&) = delete;
  device& operator=(const device&) = delete;

  [[nodiscard]] const device_traits& traits() const noexcept { return traits_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return traits_.size; }

  // What it is, for people: a path, "memory". Lives as long as the device.
  [[nodiscard]] virtual std::string_view name() const noexcept = 0;

  // Makes per-open info. Errors: EROFS for read_write on a read-only device; what the driver says. Blocks.
  [[nodiscard]] virtual result<open_info*> open(access_mode mode) noexcept = 0;
  // Takes it back. Called once per open, after the last operation. Blocks.
  virtual void release(open_info* info) noexcept = 0;

  // Bytes moved without blocking, from the start of the span; 0 if none could be.
  [[nodiscard]] virtual std::size_t try_read(open_info& info, std::uint64_t offset, std::span<std::byte> into) noexcept;
  [[nodiscard]] virtual std::size_t try_write(open_info& info, std::uint64_t offset, std::span<const std::byte> from,
                                              io_flags flags) noexcept;
  // Does a flush, trim, write_zeroes or cache at once if that cannot block.
  [[nodiscard]] virtual attempt try_range(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length,
                                          io_flags flags) noexcept;

  // All of these do the whole range or fail. ECANCELED: the probe said so on the way; a part may be done.
  [[nodiscard]] virtual result<void> read(open_info& info, std::uint64_t offset, std::span<std::byte> into,
                                          cancel_probe probe) noexcept = 0;
  // flags: fua.
  [[nodiscard]] virtual result<void> write(open_info& info, std::uint64_t offset, std::span<const std::byte> from,
                                           io_flags flags, cancel_probe probe) noexcept = 0;
  // Makes stable what was written before, through whichever open.
  [[nodiscard]] virtual result<void> flush(open_info& info, cancel_probe probe) noexcept = 0;
  // A hint that the contents are not needed. flags: fua.
  [[nodiscard]] virtual result<void> trim(open_info& info, std::uint64_t offset, std::uint64_t length, io_flags flags,
                                          cancel_probe probe) noexcept = 0;
  // flags: fua, no_hole, fast_zero. Errors: ENOTSUP with fast_zero if it would have to write.
  [[nodiscard]] virtual result<void> write_zeroes(open_info& info, std::uint64_t offset, std::uint64_t length,
                                                  io_flags flags, cancel_probe probe) noexcept = 0;
  // A hint that the range will be read soon.
  [[nodiscard]] virtual result<void> cache(open_info& info, std::uint64_t offset, std::uint64_t length,
                                           cancel_probe probe) noexcept;

  // What the stretches of a range hold, in order, without gaps, from its start; the last one ends with the range, or
  // all of `into` is used. Neighbours differ in kind. Returns how many these are, at least one. Blocks: for workers.
  // What was data before the call began, and stayed so, is told as data. A hole may be written or made meanwhile.
  // Errors: ECANCELED the probe said so; errno. Requires: a range inside size(), not empty; `into` not empty.
  [[nodiscard]] virtual result<std::size_t> extents(open_info& info, std::uint64_t offset, std::uint64_t length,
                                                    std::span<extent> into, cancel_probe probe) noexcept;

  // How a write of this range is hashed when it goes to the pool: those of one domain and key run one at a time.
  [[nodiscard]] virtual write_hash hash_of_write(std::uint64_t /*offset*/, std::uint64_t /*length*/) noexcept {
    return {};
  }

  // Whether begin, try_begin and end are to be called.
  [[nodiscard]] bool sees_requests() const noexcept { return sees_requests_; }
  // A request begins on a worker: its kind and its whole range (a flush has none: 0, 0). Returns the info that its
  // calls get. An error is its answer, and end is not called. May block.
  [[nodiscard]] virtual result<open_info*> begin(open_info& info, io_op /*op*/, std::uint64_t /*offset*/,
                                                 std::uint64_t /*length*/, cancel_probe /*probe*/) noexcept {
    return &info;
  }
  // The same inside submit. Null: it is not to be tried, and begins on a worker. Must not block.
  [[nodiscard]] virtual open_info* try_begin(open_info& info, io_op /*op*/, std::uint64_t /*offset*/,
                                             std::uint64_t /*length*/) noexcept {
    return &info;
  }
  // The request has ended, or moved nothing in its attempt and begins again later. By any thread. Must not block.
  virtual void end(open_info& /*begun*/) noexcept {}

 protected:
  enum class requests : bool { unseen, seen };
  explicit device(device_traits traits, requests sees = requests::unseen) noexcept
      : traits_(traits), sees_requests_(sees == requests::seen) {}
  virtual ~device() = default;

 private:
  friend struct delete_release;

  const device_traits traits_;
  const bool sees_requests_;
};

}  // namespace sluice
