// request: one thing asked of a request queue: a work that can be tried without blocking before it goes to a worker.
//
// A kind of request is a static table of three functions; a request is an intrusive node that derives from this class.
// It is submitted with request_queue::submit and answered once:
//
//   try_run    inside submit, on the submitter's thread: complete without blocking, or say would_block
//   run        on a worker: may block; asks the probe between its chunks. It moves at most `budget` bytes of those that
//              are left (set_bytes_left) and says how many are left then: the request runs again for them, at once or
//              after others had their turn, on this or another worker
//   complete   after run (or instead of it, when cancelled): hands the request back
//
// | state       | what may happen next                                    | who owns the request |
// |-------------|---------------------------------------------------------|----------------------|
// | idle        | submit                                                  | the caller           |
// | being tried | done → submit returns completed; would_block → launched | the submitter        |
// | waiting     | a slot comes free → launched; cancelled → complete      | the queue            |
// | launched    | run → complete; run, bytes left → run again, or waiting | the wq               |
//             | cancelled before run → complete                         |                      |
//
// Ownership:      the caller, except between a successful submit and the answer.
// Thread safety:  one thread at a time; the queue's and the wq's locks order the hand-overs.
// Blocking:       try_run and complete must not; run may.
// Errors:         result() is a count ≥ 0 or a negative errno; ECANCELED if it was cancelled before it ran.
// Cost:           no allocation on any path. 136 bytes.
// Invariants:     W1 W3
#pragma once

#include <cstdint>

#include "sluice/base/error.h"
#include "sluice/base/ioprio.h"
#include "sluice/ioc/cancel_probe.h"
#include "sluice/ioc/request_node.h"
#include "sluice/wq/work.h"

namespace sluice {

class io_context;
class io_cq;
class request;
class request_queue;
struct request_ops;

namespace detail {
template <class Types>
class basic_request_queue;
}  // namespace detail

enum class issued : std::uint8_t {
  completed,  // done inside submit; no callback comes
  queued,     // exactly one callback comes
};

// The answer of try_run.
enum class attempt : std::uint8_t { done, would_block };

struct request_ops {
  // Tries without blocking. done: result() is set.
  attempt (*try_run)(request&) noexcept;
  // Does it, or at least one and at most `budget` (> 0) of the bytes that are left, and sets the result. May block. A
  // part of a block is not cut off: where the budget is smaller than a block of the device, a block is moved. A
  // negative result ends the request, whatever is left.
  void (*run)(request&, std::uint64_t budget, cancel_probe) noexcept;
  // Hands it back: after this call nothing of the request is touched.
  void (*complete)(request&) noexcept;
};

class request : private detail::request_node<request, request_ops, request_queue, io_context, io_cq> {
 public:
  request() noexcept;
  request(const request&) = delete;
  request& operator=(const request&) = delete;

  // Whose request it is: the tag that request_queue::cancel_owner matches. 0, the start value, is nobody.
  // Requires: idle.
  using work::set_owner;
  [[nodiscard]] std::uint64_t owner() const noexcept { return work::owner(); }

  // Bytes or another count ≥ 0, or a negative errno. Valid once answered.
  [[nodiscard]] std::int64_t result() const noexcept { return result_; }

  // Bytes still to be moved; 0 for an operation without data. While it waits or runs: for the elevator and the queue.
  [[nodiscard]] std::uint64_t bytes_left() const noexcept { return bytes_left_; }
  // The pair of its context and its queue, if the queue's elevator wants pairs. Valid inside the elevator's functions.
  // A request whose context has exited while a frozen queue held it aside has the queue's own pair.
  [[nodiscard]] io_cq* pair() const noexcept { return pair_; }
  // Of the context it is issued for. Valid where pair() is, and while accepted.
  [[nodiscard]] ioprio priority() const noexcept;

 protected:
  ~request();

  void set_result(std::int64_t value) noexcept { result_ = value; }
  // Before each submit: what it does, and how it goes to the pool if it must. Requires: idle.
  void set_request_ops(const request_ops& ops) noexcept { request_ops_ = &ops; }
  // Before each submit; by try_run and run as they move bytes.
  void set_bytes_left(std::uint64_t bytes) noexcept { bytes_left_ = bytes; }
  using work::clear_key;
  using work::set_class;
  using work::set_key;

 private:
  template <class>
  friend class detail::basic_request_queue;
  template <class>
  friend class basic_request_fifo;
  friend class elevator;
};

}  // namespace sluice
