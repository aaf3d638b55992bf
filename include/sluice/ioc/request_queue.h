// request_queue: what stands before a device. It lets a bounded number of requests go at once, inline if they need not
// block, else on an io_wq; the others wait in an elevator.
//
//   submit → a slot free and nobody waiting? ──no──→ elevator (bounded) ──slot comes free──→ io_wq
//              │ yes
//              └→ try it here → done: completed
//                             → would block: io_wq → worker → complete
//
// A request that waited goes straight to the io_wq when its turn comes: whoever finishes a request must not be held up
// by the next one.
//
// | operation    | open                        | stopped          | from complete()         |
// |--------------|-----------------------------|------------------|-------------------------|
// | submit       | completed, queued, refused  | ESHUTDOWN        | allowed                 |
// | cancel_owner | answers what is not running | nothing is there | allowed                 |
// | drain        | waits until it was empty    | the same         | never: waits for itself |
// | stop         | → stopped, waits            | waits            | never: waits for itself |
//
// Ownership:      kref. The io_wq outlives the queue and is stopped after it. A queue whose elevator keeps io_cqs is
//                 stopped before its last put (checked); one without requests or io_cqs may just go.
// Thread safety:  any thread that holds a count.
// Blocking:       submit and cancel_owner never wait for a request that runs; drain and stop wait, up to a deadline.
// Ordering:       what was done before submit is visible to try_run, run and complete; run to complete; and every
//                 completion to whoever returns from the drain or stop that waited for it.
// Errors:         of submit: EAGAIN max_waiting reached; ESHUTDOWN stopped; what io_wq::submit says. The request stays
//                 the caller's and complete() is not called.
// Limits:         depth requests at once, max_waiting behind them.
// Cost:           inline: two compare-exchanges, one count and the attempt; no lock, no allocation. Punted: four counts
//                 and the io_wq's hop.
// Invariants:     O4 O5 W1 W2 W6
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "sluice/base/clock.h"
#include "sluice/base/error.h"
#include "sluice/base/mutex.h"
#include "sluice/ioc/elevator.h"
#include "sluice/ioc/io_context.h"
#include "sluice/ioc/io_cq_links.h"
#include "sluice/ioc/request.h"
#include "sluice/ioc/slot_counter.h"
#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"
#include "sluice/wq/io_wq.h"

namespace sluice {

struct request_queue_options {
  std::uint32_t depth = 256;          // requests under way at once
  std::uint32_t max_waiting = 65536;  // requests that wait for a slot
};

// Counted since the start. Figures of one queue are read one after the other, not at one instant.
struct request_queue_stats {
  std::uint64_t inline_done = 0;  // completed inside submit
  std::uint64_t punted = 0;       // tried inside submit, went to a worker
  std::uint64_t waited = 0;       // found no slot
  std::uint64_t cancelled = 0;    // answered by cancel_owner without running
  std::uint32_t in_flight = 0;    // now
};

class request_queue : public kref<request_queue>,
                      public request_queue_links<io_cq, io_context, request_queue, os_sync> {
 public:
  // Errors: EINVAL a limit of 0 or above slot_counter::limit; ENOMEM.
  [[nodiscard]] static result<ref<request_queue>> create(io_wq& workers, request_queue_options options = {},
                                                         std::unique_ptr<elevator> order = nullptr);

  request_queue(const request_queue&) = delete;
  request_queue& operator=(const request_queue&) = delete;

  // Issues a request on behalf of a context. Requires: the request is idle and complete; a count on the context.
  [[nodiscard]] result<issued> submit(request& issue, io_context& context) noexcept;

  // Answers with ECANCELED the requests of one owner that do not run yet, here and in the io_wq (an owner is the same
  // for all queues of one io_wq). Their complete() has returned when this does. Those that run finish as usual, only
  // one that begins during the call may be asked to stop. Returns how many were answered. Requires: owner is not 0.
  std::size_t cancel_owner(std::uint64_t owner) noexcept;

  // Waits for a moment at which nothing is under way or waiting. Errors: ETIMEDOUT.
  [[nodiscard]] result<void> drain(steady_time deadline = no_deadline) noexcept;
  // Refuses from now on, waits for all that was accepted, then ends the io_cqs. Errors: ETIMEDOUT: still refuses;
  // call it again.
  [[nodiscard]] result<void> stop(steady_time deadline = no_deadline) noexcept;

  // The io_cq of a context on this queue; made if there is none. Valid until either side ends (see io_cq.h).
  // Errors: ESHUTDOWN the queue is stopped or the context has exited; ENOMEM.
  [[nodiscard]] result<io_cq*> get_io_cq(io_context& context) noexcept;
  // lookup_io_cq(context): the same, or null if there is none (io_cq_links.h).

  [[nodiscard]] request_queue_stats stats() const noexcept;
  [[nodiscard]] const elevator& order() const noexcept { return *order_; }
  // Never the same for two queues of a process, also not one after the other.
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }

 private:
  friend struct delete_release;
  template <class, class, class, class, std::size_t>
  friend class request_queue_links;

  request_queue(io_wq& workers, request_queue_options options, std::unique_ptr<elevator> order) noexcept;
  ~request_queue();

  static void work_run(work& node, work_context& scope) noexcept;
  static void work_release(work& node) noexcept;
  static const work_ops work_operations;

  [[nodiscard]] result<issued> submit_slow(request& issue, io_context& context) noexcept;
  // Tries it, or sends it to the io_wq. The caller holds a slot for it, which goes with it or is given back.
  [[nodiscard]] result<issued> start(request& issue, io_context& context) noexcept;
  // The request is on its way: takes the counts that its end needs.
  void accept(request& issue, io_context& context) noexcept;
  // The end of an accepted request: complete(), then whoever waits.
  void finish(request& answered) noexcept;
  // Gives a slot back and launches who waited for it.
  void finish_slot() noexcept;
  // Sends requests that hold slots to the io_wq until one is accepted; those that are refused end here.
  void launch(request* next) noexcept;
  // Gives a slot back. Returns the request that takes it, or null.
  [[nodiscard]] request* give_slot() noexcept;
  [[nodiscard]] request* next_locked() noexcept SLUICE_REQUIRES(lock_);
  // Lets the lock-free path in again if nothing needs the lock.
  void settle_locked() noexcept SLUICE_REQUIRES(lock_);
  [[nodiscard]] bool wait_idle_locked(steady_time deadline) noexcept SLUICE_REQUIRES(lock_);

  // An io_cq leaves: the elevator is told.
  void io_cq_exits_locked(io_cq& pair) noexcept SLUICE_REQUIRES(lock_) { order_->exit_io_cq_locked(pair); }

  // Constant after construction.
  io_wq& workers_;
  const request_queue_options options_;
  const std::uint64_t id_;
  const std::unique_ptr<elevator> order_;  // the pointer; the elevator itself is guarded by lock_

  // Synchronise themselves. A line of their own: every submit writes the slots.
  alignas(64) slot_counter slots_;
  std::atomic<std::uint64_t> inline_done_{0};
  std::atomic<std::uint64_t> punted_{0};
  std::atomic<std::uint64_t> waited_{0};
  std::atomic<std::uint64_t> cancelled_{0};

  // lock_, the queue's lock, is the base's.
  cond_var idle_;
  std::uint32_t waiting_ SLUICE_GUARDED_BY(lock_) = 0;   // requests in the elevator
  std::uint32_t drainers_ SLUICE_GUARDED_BY(lock_) = 0;  // threads that wait for idle
  bool stopped_ SLUICE_GUARDED_BY(lock_) = false;
};

}  // namespace sluice
