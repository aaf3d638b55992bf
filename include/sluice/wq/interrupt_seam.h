// interrupt_seam: how a wq gets a worker out of a blocking system call; the seam where tests inject faults.
//
// The machine's way is a directed real-time signal (io_wq_options::interrupt_signal).
//
// Thread safety:  any thread.
// Blocking:       never.
#pragma once

#include <pthread.h>

#include <atomic>

namespace sluice {

// Set while an interrupt is on its way to a thread: by the wq before it sends one, cleared when it has arrived. The wq sends
// no other meanwhile: real-time signals queue, and the queue is one for all processes of a user (RLIMIT_SIGPENDING).
using interrupt_mark = std::atomic<bool>;

class interrupt_seam {
 public:
  interrupt_seam() = default;
  interrupt_seam(const interrupt_seam&) = delete;
  interrupt_seam& operator=(const interrupt_seam&) = delete;
  virtual ~interrupt_seam() = default;

  // On a worker's thread, once: lets interrupts in. An interrupt that arrives on this thread clears `mark`, which lives as
  // long as the thread runs works.
  virtual void admit(interrupt_mark& mark) noexcept = 0;
  // Interrupts the system call that the thread is in, if it is in one. Returns false if nothing was sent. The wq repeats it
  // until the work has left, at growing intervals (1 ms to 1 s), and not while one is on its way. Requires: the thread has
  // not been joined.
  [[nodiscard]] virtual bool send(pthread_t thread) noexcept = 0;
  // On a worker's thread, after a work that was interrupted, when no other thread can send for it any more: takes what was
  // sent, so that the next work never sees it (C5).
  virtual void consume() noexcept = 0;
};

}  // namespace sluice
