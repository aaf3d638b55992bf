// stats: what a wq counts, as one value that is read without stopping anything.
//
// Thread safety:  a plain value. Each figure is exact for some moment of the call that made it. Figures of one value may be of
//                 different moments, except workers, running, blocked and idle (P2). All agree once the wq is quiescent (W7).
// Invariants:     P2 W7
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "sluice/wq/work.h"

namespace sluice {

// Counts durations in powers of two: bucket i holds [2^i, 2^(i+1)) ns; the last one everything longer.
struct latency_histogram {
  static constexpr std::size_t buckets = 40;

  std::array<std::uint64_t, buckets> counts{};

  [[nodiscard]] std::uint64_t total() const noexcept;
  // An upper bound, in ns, of what `share` (0…1) of the samples did not exceed. 0 without samples.
  [[nodiscard]] std::uint64_t percentile_ns(double share) const noexcept;
};

struct class_stats {
  // Works. accepted - released have not completed: queued, waiting_on_key, one for each worker that runs or releases one, members of
  // chains whose turn has not come, and works that are being given up. Equal once the wq is quiescent (W7).
  std::uint64_t accepted = 0;
  std::uint64_t released = 0;
  std::uint64_t cancelled = 0;  // of the released: gave up before they ran
  std::uint64_t refused = 0;
  std::uint64_t rescued = 0;  // of the released: run by the rescuer
  std::size_t queued = 0;     // a worker could run them now, or has them in its batch
  std::size_t waiting_on_key = 0;

  // Workers. 0 ≤ running ≤ workers ≤ max_workers (the last: by attrition after the limit was lowered).
  std::size_t workers = 0;
  std::size_t running = 0;  // at work and not known to be blocked
  std::size_t blocked = 0;  // in a blocking_region, or found blocked
  std::size_t idle = 0;
  std::size_t max_workers = 0;
  std::uint64_t workers_created = 0;
  std::uint64_t workers_died = 0;
  std::uint64_t create_failures = 0;
  std::uint64_t found_blocked = 0;  // by the sampler: blocked without saying so

  // Sampled under load, exact when idle: the oldest work of each batch, and each batch's mean run time.
  latency_histogram queue_wait;
  latency_histogram run_time;

  // H6: work waits, and all of it waits for busy keys.
  [[nodiscard]] bool stalled() const noexcept { return queued == 0 && waiting_on_key != 0; }
};

struct wq_stats {
  class_stats bound;
  class_stats unbound;

  [[nodiscard]] const class_stats& of(work_class cls) const noexcept {
    return cls == work_class::bound ? bound : unbound;
  }
};

}  // namespace sluice
