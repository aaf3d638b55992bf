// clock: the seam through which code under test reads the time.
//
// Thread safety:  any thread.
// Blocking:       never (a vDSO call).
#pragma once

#include <chrono>

namespace sluice {

using steady_time = std::chrono::steady_clock::time_point;

// A deadline that never comes.
inline constexpr steady_time no_deadline = steady_time::max();

class clock_seam {
 public:
  clock_seam() = default;
  clock_seam(const clock_seam&) = delete;
  clock_seam& operator=(const clock_seam&) = delete;
  virtual ~clock_seam() = default;

  // The monotonic time (CLOCK_MONOTONIC).
  [[nodiscard]] virtual steady_time now() noexcept = 0;

  // The machine's clock. Lives for the whole process.
  [[nodiscard]] static clock_seam& real() noexcept;
};

}  // namespace sluice
