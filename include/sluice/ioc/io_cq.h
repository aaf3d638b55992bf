// io_cq: the pair (io_context, request_queue): where an elevator keeps what it knows of one context on one queue.
//
// It is made at the context's first request on a queue whose elevator wants one, and ends with whichever side is first:
//
// | what ends                     | exit (elevator is told) | destroyed             |
// |-------------------------------|-------------------------|-----------------------|
// | the context's last active_ref | once, then              | with the context      |
// | the queue (stop)              | once, then              | then, by the queue    |
// | both at once                  | once, by one of them    | once, by the same one |
//
// Both sides link it; both links change only with both locks held, so "still linked" decides who ends it. Lock order:
// the queue's lock outside, the context's inside. The context's side, which starts from the inner lock, pins the queue
// with a count, lets go, and takes both in order; then it looks again (io_cq_links.h).
//
// Ownership:      none of its own: no counts. Valid for a holder of the queue's lock, and for a request in flight: that
//                 holds the context's memory and keeps the queue from ending.
// Thread safety:  what an elevator adds to it is guarded by the queue's lock.
// Blocking:       never.
// Cost:           104 bytes and what the elevator adds; no other memory, on either side.
// Invariants:     O1 O4 O5 O6
#pragma once

#include "sluice/ioc/io_cq_stats.h"
#include "sluice/ioc/io_cq_tree.h"

namespace sluice {

class io_context;
class request_queue;

namespace detail {
template <class Types>
class basic_request_queue;
}  // namespace detail

// context() and queue() say whose it is. What an elevator keeps, it adds in a class of its own (elevator.h).
class io_cq : public io_cq_node<io_cq, io_context, request_queue> {
 public:
  io_cq() = default;
  virtual ~io_cq() = default;

 private:
  template <class>
  friend class detail::basic_request_queue;

  io_cq_stats stats_;  // guarded by the queue's lock
};

static_assert(sizeof(io_cq) <= 104, "docs/ioc.md states it");

}  // namespace sluice
