// mix: a number that looks random, from a seed and a counter: the same two always give the same one.
//
// The finisher is that of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
#pragma once

#include <cstdint>

namespace sluice::detail {

[[nodiscard]] constexpr std::uint64_t mix(std::uint64_t seed, std::uint64_t nth) noexcept {
  std::uint64_t z = seed + nth * 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

}  // namespace sluice::detail
