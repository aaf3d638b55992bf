// fair_device: the simulated device of the experiment `fair`, a queue before it, and requests to it.
//
// The device takes 100 µs and 1 ms per MiB for a piece of a request, and does eight at a time: each is a worker that
// sleeps for as long, with the timer's slack turned down to a nanosecond. A request that is cut into quanta so costs
// this device 100 µs per quantum: that is why whoever is compared is cut alike, and a row shows what it would be
// uncut.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "sluice/ioc/request_queue.h"
#include "sluice/wq/io_wq.h"

namespace bench {

using device_clock = std::chrono::steady_clock;

inline constexpr unsigned device_depth = 8;
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

// To the microsecond, as far as the machine has a core to spare then.
void sleep_until(device_clock::time_point end) noexcept;

// A request to the device. Derived classes give their operations, of which try_run and run are these, and complete.
struct device_request : sluice::request {
  device_request(const sluice::request_ops& how, std::uint64_t size, std::atomic<std::uint64_t>& sum)
      : ops(how), bytes(size), moved(sum) {}

  static sluice::attempt try_run(sluice::request& /*base*/) noexcept { return sluice::attempt::would_block; }
  static void run(sluice::request& base, std::uint64_t budget, sluice::cancel_probe probe) noexcept;
  void submit(sluice::request_queue& queue, sluice::io_context& context);

  const sluice::request_ops& ops;
  const std::uint64_t bytes;
  // Counted by pieces: large requests of one client end together, half a second after the last ones did.
  std::atomic<std::uint64_t>& moved;
};

[[nodiscard]] sluice::ref<sluice::io_wq> make_device_pool();
[[nodiscard]] sluice::ref<sluice::request_queue> make_device_queue(sluice::io_wq& pool, ordering order);
// Ends both, and the requests of `owner` that come again until they are told to stop: they have been.
void end_device(sluice::ref<sluice::request_queue>& queue, sluice::io_wq& pool, std::uint64_t owner);

}  // namespace bench
