// stress: how long a stress test runs, and when it is over.
//
// SLUICE_STRESS_SECONDS sets the seconds of each stress test (2 if unset; fractions allowed).
#pragma once

#include <chrono>
#include <cstdlib>

namespace test {

class stress_time {
 public:
  stress_time() : end_(std::chrono::steady_clock::now() + length()) {}
  [[nodiscard]] bool over() const noexcept { return std::chrono::steady_clock::now() >= end_; }

 private:
  static std::chrono::steady_clock::duration length() {
    const char* text = std::getenv("SLUICE_STRESS_SECONDS");
    const double seconds = text != nullptr ? std::strtod(text, nullptr) : 2.0;
    return std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(seconds));
  }

  std::chrono::steady_clock::time_point end_;
};

}  // namespace test
