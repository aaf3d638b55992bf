// clock: vector clocks: which operations of which fiber a fiber (or a published value) is ordered after.
//
// Limits:         8 fibers; fiber 0 is the context that sets a schedule up and checks it afterwards.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace race::detail {

inline constexpr unsigned max_fibers = 8;

struct vector_clock {
  std::array<std::uint32_t, max_fibers> at{};

  void join(const vector_clock& other) noexcept {
    for (unsigned i = 0; i < max_fibers; ++i) {
      at[i] = std::max(at[i], other.at[i]);
    }
  }

  // Is the event number `epoch` of that fiber ordered before whoever owns this clock?
  [[nodiscard]] bool covers(unsigned fiber, std::uint32_t epoch) const noexcept { return epoch <= at[fiber]; }

  // The first fiber whose event in `events` is not ordered before the owner of this clock; max_fibers if all are.
  [[nodiscard]] unsigned first_uncovered(const vector_clock& events) const noexcept {
    for (unsigned i = 0; i < max_fibers; ++i) {
      if (events.at[i] > at[i]) {
        return i;
      }
    }
    return max_fibers;
  }
};

}  // namespace race::detail
