// stress: how long a stress test runs, and when it is over.
//
// SLUICE_STRESS_SECONDS sets the seconds of each stress test (2 if unset; fractions allowed).
#pragma once

#include <chrono>
#include <cstdlib>

namespace test {

// The same as a factor for tests that count instead: 1 if unset.
inline double stress_factor() {
  const char* text = std::getenv("SLUICE_STRESS_SECONDS");
  return text != nullptr ? std::strtod(text, nullptr) / 2.0 : 1.0;
}

class stress_time {
 public:
  stress_time() : end_(std::chrono::steady_clock::now() + length()) {}
  [[nodiscard]] bool over() const noexcept { return std::chrono::steady_clock::now() >= end_; }

 private:
  static std::chrono::steady_clock::duration length() {
    return std::chrono::duration_cast<std::chrono::steady_clock::duration>(
        std::chrono::duration<double>(2.0 * stress_factor()));
  }

  std::chrono::steady_clock::time_point end_;
};

}  // namespace test
