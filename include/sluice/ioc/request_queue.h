// request_queue: what stands before a device. It lets a bounded number of requests go at once, inline if they need not
// block, else on an io_wq; the others wait in an elevator.
//
//   submit → a slot free and nobody waiting? ──no──→ elevator (bounded) ──slot and worker come free──→ io_wq
//              │ yes                                   ↑        ↑
//              └→ try it here → done: completed        │        └── a quantum is over and others wait ──┐
//                             → would block: a worker free? ──yes──→ io_wq → worker: a quantum ─────────┴→ complete
//
// A request that waited goes straight to the io_wq when its turn comes: whoever finishes a request must not be held up
// by the next one.
//
// Quanta: a worker moves at most `quantum` bytes of a read or write at a time. If no request waits then, and the
// elevator's limits let it, it goes on at once. Else the request goes back into the elevator, whatever elevator that
// is, and the slot to the next: a small request waits for a quantum of a large one, not for all of it. Under an
// elevator that keeps pairs a request longer than a quantum is not tried inside submit. Requests with a key keep
// their order per quantum only: between two quanta of one write another write of the same key may run.
//
// Whatever the elevator, a request without a key waits in the io_wq by its context's class of ioprio (work.h).
//
// Failure domain: at most max_workers requests that can have a worker at once are handed to the io_wq; those of one
// key, which run one at a time, count as one. Further ones wait in the elevator, while those that need no worker are
// still done inside submit. So a device that never answers holds its share of the workers and no more.
//
// | operation    | open                        | quiesced | frozen     | stopped   | removed | from complete()         |
// |--------------|-----------------------------|----------|------------|-----------|---------|-------------------------|
// | submit       | completed, queued, refused  | queued   | queued     | ESHUTDOWN | ENODEV  | allowed                 |
// | cancel_owner | answers what is not running | the same | the same   | the same  | finds 0 | allowed                 |
// | drain        | waits until it was empty    | waits on | waits on   | waits     | waits   | never: waits for itself |
// | quiesce      | waits for attempts          | nests    | the same   | the same  | the same | never                  |
// | freeze       | waits for all accepted      | waits on | nests, waits on for what is held | the same  | the same | never |
// | resize       | at once                     | at once  | at once    | at once   | at once | allowed                 |
// | set_elevator | freezes, swaps, unfreezes   | waits on | swaps      | ESHUTDOWN | ENODEV  | never                   |
// | remove       | → removed, waits            | the same | the same   | the same  | waits on | never                  |
// | stop         | → stopped, waits            | waits on | waits on   | waits     | waits   | never: waits for itself |
//
// "waits on": until somebody unquiesces or unfreezes, or the deadline.
//
// Ownership:      kref. The io_wq outlives the queue and is stopped after it; when_full::refuse: a
//                 completion must not wait for room. A queue whose elevator keeps io_cqs is
//                 stopped or removed before its last put (checked); one without requests or io_cqs may just go.
// Thread safety:  any thread that holds a count.
// Blocking:       submit and cancel_owner never wait for a request that runs; those that take a deadline wait for what
//                 they say, and undo themselves if it passes (but stop and remove).
// Ordering:       what was done before submit is visible to try_run, run and complete; one quantum to the next; run to
//                 complete; and every completion to whoever returns from the wait for it.
// Errors:         of submit: EAGAIN max_waiting reached; ESHUTDOWN stopped, or the context has exited; ENODEV removed;
//                 ENOMEM no io_cq; what io_wq::submit says. The request stays the caller's and complete() is not called.
//                 A request that waits is not answered with EAGAIN or ENOMEM of the io_wq: it is sent again.
// Limits:         depth requests at once, max_waiting behind them, and those that wait for their next quantum.
// Cost:           inline: two compare-exchanges, two counts and the attempt; no lock, no allocation. With an elevator
//                 that wants io_cqs: two holds of the lock instead, and a look at the clock. Punted: another exchange,
//                 four counts and the io_wq's hop; with a key two holds of the lock besides.
// Invariants:     O4 O5 W1 W2 W6
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "sluice/base/clock.h"
#include "sluice/base/error.h"
#include "sluice/base/mutex.h"
#include "sluice/ioc/elevator.h"
#include "sluice/ioc/io_context.h"
#include "sluice/ioc/io_cq_links.h"
#include "sluice/ioc/io_cq_stats.h"
#include "sluice/ioc/request.h"
#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"
#include "sluice/wq/io_wq.h"

namespace sluice {

struct request_queue_options {
  std::uint32_t depth = 256;          // requests under way at once
  std::uint32_t max_waiting = 65536;  // requests that wait
  // Bytes that one request moves on a worker before others have their turn. 0: all.
  std::uint64_t quantum = 128 << 10;
  // Requests that can have a worker of the io_wq at once. 0: three quarters of its bound workers as they are now, at
  // least 1. A device that blocks all its requests so leaves the others a quarter, and a device that is alone nearly
  // all. To survive n dead devices at once give each less than 1/n.
  std::uint32_t max_workers = 0;
  // Seam, for elevators that look at the time; the same as the io_wq's. Null: the machine's. It outlives the queue.
  clock_seam* clock = nullptr;
};

// Counted since the start. Figures of one queue are read one after the other, not at one instant.
struct request_queue_stats {
  std::uint64_t inline_done = 0;  // completed inside submit
  std::uint64_t punted = 0;       // tried inside submit, went to a worker
  std::uint64_t waited = 0;       // had to wait before they went anywhere
  std::uint64_t cancelled = 0;    // answered by cancel_owner without running
  std::uint64_t removed = 0;      // answered or interrupted by remove
  std::uint64_t cut = 0;          // quanta after which a request went back to wait
  std::uint64_t bytes = 0;        // moved
  std::uint32_t in_flight = 0;    // now: being tried, handed to the io_wq, or in complete()
  std::uint32_t on_workers = 0;   // now: of those, handed to the io_wq
  std::uint32_t waiting = 0;      // now
  std::uint32_t freezes = 0;      // now: calls of freeze() that hold the queue, or wait to
};

// What became of the requests that a queue held when it was removed.
struct removal_report {
  std::size_t answered = 0;     // ran to their end, well or not
  std::size_t cancelled = 0;    // answered with ENODEV without running (on): they waited, here or in the io_wq
  std::size_t interrupted = 0;  // ran, were told to stop, and came back: ENODEV
  std::size_t stuck = 0;        // still under way at the deadline; each completes once if it ever comes back
};

class request_queue;

namespace detail {
// The last put frees the whole queue.
struct request_queue_release {
  void operator()(request_queue* last) const noexcept;
};
}  // namespace detail

class request_queue : public kref<request_queue, detail::request_queue_release>,
                      public request_queue_links<io_cq, io_context, request_queue, os_sync> {
 public:
  // Errors: EINVAL a limit of 0 or above slot_counter::limit / 2, or an io_wq that waits when it is full; ENOMEM.
  [[nodiscard]] static result<ref<request_queue>> create(io_wq& workers, request_queue_options options = {},
                                                         std::unique_ptr<elevator> order = nullptr);

  request_queue(const request_queue&) = delete;
  request_queue& operator=(const request_queue&) = delete;

  // Issues a request on behalf of a context. Requires: the request is idle and complete; a count on the context.
  [[nodiscard]] result<issued> submit(request& issue, io_context& context) noexcept;

  // Answers with ECANCELED the requests of one owner that do not run, here (waiting, also between two quanta) and in
  // the io_wq (an owner is the same for all queues of one io_wq). Their complete() has returned when this does. Those
  // that run finish as usual, only one that begins during the call may be asked to stop. Returns how many were
  // answered. Requires: owner is not 0.
  std::size_t cancel_owner(std::uint64_t owner) noexcept;

  // Waits for a moment at which nothing is under way or waiting. Errors: ETIMEDOUT.
  [[nodiscard]] result<void> drain(steady_time deadline = no_deadline) noexcept;
  // Refuses from now on, waits for all that was accepted (and not for its limits), then ends the io_cqs. Errors:
  // ETIMEDOUT: still refuses; call it again.
  [[nodiscard]] result<void> stop(steady_time deadline = no_deadline) noexcept;

  // From its return on no request is tried, and no worker takes one up for a quantum; a request that a worker has
  // taken up goes on to the end of its quantum. What is submitted waits. Nests: as many unquiesce() let it go on.
  // Waits for attempts inside submits, which do not block. Errors: ETIMEDOUT: undone.
  [[nodiscard]] result<void> quiesce(steady_time deadline = no_deadline) noexcept;
  void unquiesce() noexcept;

  // At its return all that was accepted before it is over; what is submitted meanwhile is held aside, in order, within
  // max_waiting. Nests: what is held when it is called goes on once the earlier freezes are undone, and it waits for
  // that. Does not wait for limits, which hold again after unfreeze(). Errors: ETIMEDOUT: undone.
  [[nodiscard]] result<void> freeze(steady_time deadline = no_deadline) noexcept;
  void unfreeze() noexcept;

  // Another depth, at once: a greater one launches who waits, a smaller one lets nobody go until enough have ended. A
  // submit that runs at the same time may still see the old one. Errors: EINVAL as in create.
  [[nodiscard]] result<void> resize(std::uint32_t depth) noexcept;

  // Another elevator (null: none), put in place while nothing is under way or waits, but for what a freeze holds
  // aside; the io_cqs of the old one end. Errors: ETIMEDOUT, ENOMEM, ESHUTDOWN stopped, ENODEV removed: the queue
  // keeps the old one.
  [[nodiscard]] result<void> set_elevator(std::unique_ptr<elevator> order, steady_time deadline = no_deadline) noexcept;

  // The device is gone. Refuses from now on; answers what waits, here and in the io_wq, with ENODEV; tells what runs to
  // stop, and interrupts its system calls until it leaves them; waits until nothing is under way. The report accounts
  // for every request that was accepted. May be called again: it waits on and reports the removal as a whole.
  removal_report remove(steady_time deadline = no_deadline) noexcept;

  // The io_cq of a context on this queue; made if there is none. Valid until either side ends (see io_cq.h), or
  // set_elevator. Errors: ESHUTDOWN the queue is stopped or the context has exited; ENOMEM.
  [[nodiscard]] result<io_cq*> get_io_cq(io_context& context) noexcept;
  // lookup_io_cq(context): the same, or null if there is none (io_cq_links.h).
  // What a context has used since it has an io_cq here; zeros if it has none.
  [[nodiscard]] io_cq_stats stats_of(io_context& context) noexcept;

  [[nodiscard]] request_queue_stats stats() const noexcept;
  [[nodiscard]] std::uint32_t depth() const noexcept;
  [[nodiscard]] std::uint32_t max_workers() const noexcept;
  // Valid until set_elevator.
  [[nodiscard]] const elevator& order() const noexcept;
  // Never the same for two queues of a process, also not one after the other.
  [[nodiscard]] std::uint64_t id() const noexcept;

 protected:
  // The rest of it is made and freed by create() and by the last put: src/ioc/queue/.
  request_queue() = default;
  ~request_queue() = default;

 private:
  template <class, class, class, class, std::size_t>
  friend class request_queue_links;

  // An io_cq leaves: the elevator is told.
  void io_cq_exits_locked(io_cq& pair) noexcept SLUICE_REQUIRES(lock_);
};

}  // namespace sluice
