// file: what a program opens, reads and writes; the way that the server's requests take, for callers in C++.
//
//   auto wq = io_wq::create();
//   task self;
//   auto f = file::open(**wq, self, "/etc/hostname", access_mode::read_only);
//   auto n = f->read_at(0, buffer);                                // blocks if the bytes are not in memory
//
//   file_operation op;                                             // ours until it is done
//   auto how = f->async_read(op, 0, buffer, [](result<std::size_t> n) noexcept { use(n); });
//   if (how && *how == issued::completed) use(op.transferred());   // done inside the call: no callback comes
//
// An operation is tried at once without blocking (the page cache often has the bytes); only what would block goes to
// the io_wq, and only then the callback comes, on a worker.
//
// Ownership:      owns the opening and its queue; moved, not copied. The io_wq outlives it. An operation and its buffer
//                 belong to the file from a successful async call until the answer.
// Thread safety:  read_at, write_at, flush and async_… by any number of threads at once; moving and close alone.
// Blocking:       async_… never. The others until done; on a worker of the io_wq they say so to the pool. close and the
//                 destructor wait for operations under way: never in a callback.
// Ordering:       operations in flight at once have no order. What was done before async_… is visible to the callback.
// Errors:         errno. open: as open(2), EISDIR, EINVAL for what is no file or disk, EBUSY for a task that has left.
//                 EBADF after close; ENOSPC for a write past the size that the file had when opened; EIO for a file
//                 that became shorter; and what the device says.
// Limits:         1 GiB per operation; request_queue_options at open.
// Cost:           one system call when the bytes are in memory; else one hop to a worker and back. No allocation per
//                 operation with a callback of up to two pointers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>

#include "sluice/base/error.h"
#include "sluice/device/device.h"
#include "sluice/device/io_request.h"
#include "sluice/device/open_file.h"
#include "sluice/ioc/request_queue.h"
#include "sluice/ioc/task.h"
#include "sluice/ref/ref.h"
#include "sluice/wq/io_wq.h"

namespace sluice {

// One asynchronous operation. Reusable once answered; may be reused or freed in its own callback.
class file_operation : private io_request {
 public:
  file_operation() = default;

  // Bytes moved, or why not. Valid once answered.
  [[nodiscard]] sluice::result<std::size_t> transferred() const noexcept {
    return result() < 0 ? sluice::result<std::size_t>(fail(static_cast<int>(-result())))
                        : static_cast<std::size_t>(result());
  }

 private:
  friend class file;

  std::move_only_function<void(sluice::result<std::size_t>) noexcept> callback_;
};

class file {
 public:
  // Given what the operation's transferred() says. Captures of up to two pointers are kept without an allocation.
  using callback = std::move_only_function<void(result<std::size_t>) noexcept>;

  // Opens a regular file or a block device on behalf of a task. Blocks.
  [[nodiscard]] static result<file> open(io_wq& workers, task& self, const std::string& path, access_mode mode,
                                         request_queue_options options = {});
  // The same for a device that is there already.
  [[nodiscard]] static result<file> open(io_wq& workers, task& self, const ref<device>& target, access_mode mode,
                                         request_queue_options options = {});

  file(file&&) noexcept = default;
  file& operator=(file&& other) noexcept;
  // Closes, if that was not done.
  ~file();

  // Bytes. Fixed when it was opened.
  [[nodiscard]] std::uint64_t size() const noexcept { return open_ ? open_->size() : 0; }

  // Reads into all of the buffer, or up to the end of the file. Returns how many bytes; 0 at or past the end. Blocks.
  [[nodiscard]] result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> into) noexcept;
  // Writes all of it or fails. Returns from.size(). Blocks.
  [[nodiscard]] result<std::size_t> write_at(std::uint64_t offset, std::span<const std::byte> from) noexcept;
  // Makes stable all that was answered before. Blocks.
  [[nodiscard]] result<void> flush() noexcept;

  // Starts an operation. See above for what completed and queued mean; after an error the operation is the caller's and
  // the callback is not called. A range must lie inside the file and not be empty (EINVAL; ENOSPC for a write).
  [[nodiscard]] result<issued> async_read(file_operation& op, std::uint64_t offset, std::span<std::byte> into,
                                          callback done) noexcept;
  [[nodiscard]] result<issued> async_write(file_operation& op, std::uint64_t offset, std::span<const std::byte> from,
                                           callback done) noexcept;

  // Refuses further operations with EBADF, waits for those under way, and lets the file go. Idempotent. Blocks.
  void close() noexcept;

 private:
  file(ref<open_file> open, ref<io_context> context) noexcept : open_(std::move(open)), context_(std::move(context)) {}

  [[nodiscard]] result<issued> start(file_operation& op, callback done) noexcept;
  [[nodiscard]] result<std::size_t> wait_for(io_request& request) noexcept;

  ref<open_file> open_;
  ref<io_context> context_;
};

}  // namespace sluice
