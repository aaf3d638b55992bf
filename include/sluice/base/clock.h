// clock: the seam through which code under test reads the time.
//
// Thread safety:  any thread.
// Blocking:       never.
#pragma once

#include <chrono>
#include <cstdint>

namespace sluice {

using steady_time = std::chrono::steady_clock::time_point;

// A deadline that never comes.
inline constexpr steady_time no_deadline = steady_time::max();

// The time `wait` after `now`; no_deadline if that is later than a steady_time can say. Requires: now is not before the
// clock's epoch.
template <class Rep, class Period>
[[nodiscard]] constexpr steady_time deadline_after(steady_time now, std::chrono::duration<Rep, Period> wait) noexcept {
  // Compared in the unit of `wait`: converting the largest milliseconds to nanoseconds would overflow.
  const auto left = std::chrono::duration_cast<std::chrono::duration<Rep, Period>>(no_deadline - now);
  return wait < left ? now + wait : no_deadline;
}

class clock_seam {
 public:
  clock_seam() = default;
  clock_seam(const clock_seam&) = delete;
  clock_seam& operator=(const clock_seam&) = delete;
  virtual ~clock_seam() = default;

  // The monotonic time (CLOCK_MONOTONIC).
  [[nodiscard]] virtual steady_time now() noexcept = 0;
  // A number that has changed if the calling thread has slept since it last asked: a thread that was late without it
  // had no CPU. A system call (getrusage). A seam that does not know says the time: then every delay counts as sleep.
  [[nodiscard]] virtual std::uint64_t thread_sleeps() noexcept {
    return static_cast<std::uint64_t>(now().time_since_epoch().count());
  }

  // The machine's clock. Lives for the whole process.
  [[nodiscard]] static clock_seam& real() noexcept;
};

}  // namespace sluice
