// stripes: the places of a striped counter in race tests, for a basic_gate or what contains one.
#pragma once

#include <cstdint>

namespace race {

// One stripe, whichever core the fiber is on.
struct one_stripe {
  static std::uint32_t index() noexcept { return 0; }
  static std::uint32_t stripes() noexcept { return 1; }
};

}  // namespace race
