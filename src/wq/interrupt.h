// interrupt: the real-time signal that makes a worker's system call return EINTR.
//
// Ownership:      each holder counts; the first of a signal installs an empty handler without SA_RESTART, the last puts
// the
//                 old disposition back.
// Thread safety:  any thread.
// Errors:         EINVAL not a real-time signal.
#pragma once

#include <pthread.h>

#include "sluice/base/error.h"

namespace sluice::detail {

class interrupt_signal {
 public:
  // 0 chooses the default.
  [[nodiscard]] static result<interrupt_signal> acquire(int number);
  interrupt_signal(interrupt_signal&& other) noexcept;
  interrupt_signal& operator=(interrupt_signal&&) = delete;
  ~interrupt_signal();

  [[nodiscard]] int number() const noexcept { return number_; }

  // On a worker's thread, once: lets the signal in. (named_thread starts with all signals blocked.)
  void admit() const noexcept;
  // On a worker's thread, after a work that was interrupted, when nobody can send for it any more: what was sent is
  // consumed, so that the next work never sees it (C5).
  void consume() const noexcept;
  // Requires: the thread has not been joined.
  void send(pthread_t thread) const noexcept;

 private:
  explicit interrupt_signal(int number) noexcept : number_(number) {}

  int number_;  // 0: moved from
};

}  // namespace sluice::detail
