// interrupt_seam: how a wq gets a worker out of a blocking system call; the seam where tests inject faults.
//
// The machine's way is a directed real-time signal (io_wq_options::interrupt_signal).
//
// Thread safety:  any thread.
// Blocking:       never.
#pragma once

#include <pthread.h>

namespace sluice {

class interrupt_seam {
 public:
  interrupt_seam() = default;
  interrupt_seam(const interrupt_seam&) = delete;
  interrupt_seam& operator=(const interrupt_seam&) = delete;
  virtual ~interrupt_seam() = default;

  // On a worker's thread, once: lets interrupts in.
  virtual void admit() noexcept = 0;
  // Interrupts the system call that the thread is in, if it is in one. It may fail: the wq repeats it until the work has
  // left. Requires: the thread has not been joined.
  virtual void send(pthread_t thread) noexcept = 0;
  // On a worker's thread, after a work that was interrupted, when nobody can send for it any more: takes what was sent,
  // so that the next work never sees it (C5).
  virtual void consume() noexcept = 0;
};

}  // namespace sluice
