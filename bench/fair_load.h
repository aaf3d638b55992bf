// fair_load: clients of a simulated device (fair_device.h): one light, any number of heavy ones, and what each of
// them got.
//
// Heavy clients have so many requests under way, each of which comes again from its own complete(): no thread drives
// them. The light one has one, of 4 KiB, and thinks a while before the next; it asks for about half of an equal share
// among 65. Or it comes back at once: then it asks for an eighth of the device, which beside 64 of its weight is more
// than its share, and that is what it gets: a turn per round.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "fair_device.h"

namespace bench {

inline constexpr std::uint64_t small_bytes = 4 << 10;
inline constexpr std::uint64_t large_bytes = 1 << 20;

struct heavy_client {
  std::uint32_t depth = 64;
  std::uint64_t bytes = small_bytes;
  std::uint32_t weight = 100;
};

struct load {
  ordering order = ordering::fair;
  bool light = true;
  std::chrono::microseconds light_pause{1500};
  std::uint32_t light_weight = 100;
  std::vector<heavy_client> heavy;
};

struct outcome {
  double light_p50_us = 0;
  double light_p99_us = 0;
  double mib_per_s = 0;                // of all clients together
  std::vector<double> bytes_of_heavy;  // in the order of the load's
  double cpu_ns = 0;                   // per request
};

// Runs a load for `span`, after a while in which it settles.
[[nodiscard]] outcome run_load(const load& what, std::chrono::milliseconds span);

// 1 if all are equal, 1/n if one has all (R. Jain).
[[nodiscard]] double jain_index(const std::vector<double>& shares);

}  // namespace bench
