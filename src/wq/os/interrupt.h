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
#include "sluice/wq/interrupt_seam.h"

namespace sluice::detail {

class interrupt_signal final : public interrupt_seam {
 public:
  // 0 chooses the default.
  [[nodiscard]] static result<interrupt_signal> acquire(int number);
  interrupt_signal(interrupt_signal&& other) noexcept;
  interrupt_signal& operator=(interrupt_signal&&) = delete;
  ~interrupt_signal() override;

  [[nodiscard]] int number() const noexcept { return number_; }

  void admit(interrupt_mark& mark) noexcept override;
  [[nodiscard]] bool send(pthread_t thread) noexcept override;
  void consume() noexcept override;

 private:
  explicit interrupt_signal(int number) noexcept : number_(number) {}

  int number_;  // 0: moved from
};

}  // namespace sluice::detail
