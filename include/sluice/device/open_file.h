// open_file: one opening of a device: where requests are submitted, and what close() closes.
//
//   auto file = open_file::open(device, queue, access_mode::read_write);    // result<ref<open_file>>
//   auto got = (*file)->submit(request, context);                           // completed, queued, or an error
//   (*file)->close();
//
// | state  | submit        | operations under way | close        | driver's release             |
// |--------|---------------|----------------------|--------------|------------------------------|
// | open   | goes          | go on                | → closed     | not yet                      |
// | closed | EBADF at once | finish               | nothing more | once, after the last of them |
//
// A plain counter in the per-open info is not enough: an operation that has loaded the info and not yet counted itself
// would see it freed. Here "still open" and "one more operation" are one atomic step (open_life.h).
//
// Ownership:      kref. The last put closes. Operations under way keep the object, its device and its queue.
// Thread safety:  any thread that holds a count.
// Blocking:       submit and close do not wait for operations. The thread that ends the last operation after a close
//                 runs the driver's release, which may block.
// Ordering:       whatever an operation did is visible to the release.
// Errors:         of submit: EBADF closed; EINVAL a read past the end, zero length, or flags that do not apply; ENOSPC
//                 a write past the end; EPERM a change through a read-only opening; EOPNOTSUPP what the device has not;
//                 EAGAIN too many queued; ESHUTDOWN the queue or the wq has stopped. The request stays the caller's.
// Cost:           one read-modify-write to enter and one to leave, on top of the queue's; no allocation per request.
// Invariants:     D1 D2 D3
#pragma once

#include "sluice/device/device.h"
#include "sluice/device/open_life.h"
#include "sluice/ioc/request_queue.h"
#include "sluice/rcu/rcu.h"
#include "sluice/ref/ref.h"

namespace sluice {

class open_file;

// What the reclaimer runs: a file_table's lookup may still look at the count of a file that is gone.
struct open_file_delete {
  void operator()(open_file* file) const noexcept;
};

class open_file : public open_life<open_file>, public rcu_obj_base<open_file, open_file_delete> {
 public:
  // Opens a device. The requests of this opening pass through `queue`. Blocks as the driver's open does.
  // Errors: what device::open says; ENOMEM.
  [[nodiscard]] static result<ref<open_file>> open(const ref<device>& target, ref<request_queue> queue,
                                                   access_mode mode);

  open_file(const open_file&) = delete;
  open_file& operator=(const open_file&) = delete;

  // Issues a request on behalf of a context. See io_request.h for when done is called.
  [[nodiscard]] result<issued> submit(io_request& request, io_context& context) noexcept;

  // Checks what submit would check about the request itself (range, flags, access). Returns 0 or a positive errno.
  [[nodiscard]] int validate(const io_request& request) const noexcept;

  // close(): from its return on no operation starts; EBADF if it was closed before. closed(): whether it was.
  using open_life<open_file>::close;
  using open_life<open_file>::closed;

  [[nodiscard]] device& target() const noexcept { return *device_; }
  [[nodiscard]] request_queue& queue() const noexcept { return *queue_; }
  [[nodiscard]] access_mode mode() const noexcept { return mode_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return device_->size(); }

 private:
  friend class open_life<open_file>;
  friend struct open_file_delete;

  open_file(ref<device> target, ref<request_queue> queue, open_info* info, access_mode mode);
  ~open_file() = default;

  static attempt try_run(request& base) noexcept;
  static void run(request& base, std::uint64_t budget, cancel_probe probe) noexcept;
  static void complete(request& base) noexcept;
  static const request_ops operations;

  // Begins a request on its device, if that sees requests. Returns the info for its calls.
  [[nodiscard]] open_info* try_begin(io_request& request) noexcept;
  [[nodiscard]] result<open_info*> begin(io_request& request, cancel_probe probe) noexcept;
  // Ends what has begun. Idempotent.
  void end(io_request& request) noexcept;
  [[nodiscard]] result<void> serve(io_request& request, std::uint64_t budget, cancel_probe probe) noexcept;
  [[nodiscard]] result<void> transfer(io_request& request, open_info& info, std::uint64_t budget,
                                      cancel_probe probe) noexcept;
  [[nodiscard]] result<void> perform(io_request& request, open_info& info, cancel_probe probe) noexcept;
  // What open_life asks for.
  void release_info() noexcept;
  void free_memory() noexcept;

  // Constant from construction until neither a count nor an operation is left.
  ref<device> device_;
  ref<request_queue> queue_;
  open_info* const info_;  // given back by release_info, when no operation can use it
  const access_mode mode_;
};

}  // namespace sluice
