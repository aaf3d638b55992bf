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
// with a count, lets go, and takes both in order; then it looks again.
//
// Ownership:      none of its own: no counts. Valid for a holder of the queue's lock, and for a request in flight: that
//                 holds the context's memory and keeps the queue from ending.
// Thread safety:  what an elevator adds to it is guarded by the queue's lock.
// Blocking:       never.
// Invariants:     O1 O4 O5 O6
#pragma once

namespace sluice {

class io_context;
class request_queue;

class io_cq {
 public:
  io_cq() = default;
  io_cq(const io_cq&) = delete;
  io_cq& operator=(const io_cq&) = delete;
  virtual ~io_cq() = default;

  [[nodiscard]] io_context& context() const noexcept { return *context_; }
  [[nodiscard]] request_queue& queue() const noexcept { return *queue_; }

 private:
  friend class io_context;
  friend class request_queue;

  // Constant once linked.
  io_context* context_ = nullptr;
  request_queue* queue_ = nullptr;
  // Guarded by the queue's lock.
  io_cq* queue_next_ = nullptr;
  io_cq* queue_prev_ = nullptr;
  // Guarded by the context's lock.
  io_cq* dead_next_ = nullptr;
};

}  // namespace sluice
