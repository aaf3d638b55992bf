// fair_load: clients of a simulated device: one light, any number of heavy ones, and what each of them got.
//
// The device takes 100 µs and 1 ms per MiB for a piece of a request, and does eight at a time: each is a worker that sleeps
// for as long, with the timer's slack turned down to a nanosecond. A request that is cut into quanta so costs this device
// 100 µs per quantum: that is why whoever is compared is cut alike, and a row shows what it would be uncut.
//
// Heavy clients have so many requests under way, each of which comes again from its own complete(): no thread drives them.
// The light one has one, of 4 KiB, and thinks a while before the next; it asks for about half of an equal share among 65.
// Or it comes back at once: then it asks for an eighth of the device, which beside 64 of its weight is more than its share,
// and that is what it gets: a turn per round.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace bench {

inline constexpr unsigned device_depth = 8;
inline constexpr std::uint64_t small_bytes = 4 << 10;
inline constexpr std::uint64_t large_bytes = 1 << 20;
inline constexpr std::uint64_t fair_quantum = 128 << 10;

// How long the device takes for a piece.
[[nodiscard]] constexpr std::chrono::nanoseconds service_time(std::uint64_t bytes) noexcept {
  constexpr std::uint64_t op_ns = 100'000;
  constexpr std::uint64_t mib_ns = 1'000'000;
  return std::chrono::nanoseconds(op_ns + ((bytes * mib_ns) >> 20U));
}

enum class ordering : std::uint8_t {
  fair,
  none,  // cut into quanta as well
  none_uncut,
};

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
