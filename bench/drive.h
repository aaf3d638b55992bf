// drive: one way to drive every pool with no-op works, so that none is measured differently.
//
// A pool has numbered places for works in flight:
//   post(place)   hands over a no-op work that makes the place done
//   flush()       what post() only noted down is under way after it (for pools that take many works at once)
//   wait(place)   sleeps until the place is done; once for each post
// drive() flushes before it waits; round_trips() does not, its pools need none: their post, or their wait, hands over.
// A place is done when the pool's own completion says so: the end of the function for those that run a function, the
// release for Sluice, the completion that the submitter reads for libuv, io_uring and aio.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "harness.h"

namespace bench {

// How many works may be outstanding: the same for all. Some ten thousand hide every hand-over between threads, and their
// nodes still fit in a level-2 cache, where those of a program that keeps up are found.
inline constexpr std::size_t in_flight = 8192;
// What is handed over between two flushes by those who can take many at once.
inline constexpr std::size_t batch = 64;

// Submits `works` no-op works and waits for all of them; at most `places` are outstanding. When all places are taken,
// the submitter sleeps for a quarter of them at once: the pool never runs dry and is not asked for a wake each time.
// Requires: works is a multiple of places, and places one of 4 * batch.
template <class Pool>
void drive(Pool& pool, std::size_t places, std::uint64_t works) {
  const std::size_t quarter = places / 4;
  for (std::uint64_t turn = 0; turn < works; turn += places) {
    for (std::size_t first = 0; first < places; first += quarter) {
      const std::size_t last = first + quarter - 1;
      if (turn != 0) {
        pool.wait(last);
      }
      for (std::size_t place = first; place <= last; ++place) {
        if (turn != 0 && place != last) {
          pool.wait(place);
        }
        pool.post(place);
        if (place % batch == batch - 1) {
          pool.flush();
        }
      }
    }
  }
  for (std::size_t place = 0; place < places; ++place) {
    pool.wait(place);
  }
}

// Hands over one work at a time and sleeps until it is done: p50 and p99 in µs.
template <class Pool>
sample round_trips(Pool& pool, unsigned trips) {
  using clock = std::chrono::steady_clock;
  std::vector<double> took;
  took.reserve(trips);
  const std::chrono::nanoseconds cpu_before = cpu_time();
  for (unsigned i = 0; i < trips; ++i) {
    const clock::time_point begin = clock::now();
    pool.post(0);
    pool.wait(0);
    took.push_back(std::chrono::duration<double, std::micro>(clock::now() - begin).count());
  }
  const std::chrono::nanoseconds cpu = cpu_time() - cpu_before;
  return {.value = percentile_of(took, 0.5),
          .cpu_ns = static_cast<double>(cpu.count()) / trips,
          .p99 = percentile_of(took, 0.99)};
}

}  // namespace bench
