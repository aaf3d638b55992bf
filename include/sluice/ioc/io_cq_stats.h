// io_cq_stats: what one context has used of one queue; the queue counts it while its elevator wants io_cqs.
//
// Thread safety:  a value. The queue's lock guards the one that an io_cq holds: request_queue::stats_of copies it.
#pragma once

#include <chrono>
#include <cstdint>

namespace sluice {

struct io_cq_stats {
  std::uint64_t operations = 0;   // requests that ended, however; none that was cancelled before it ran
  std::uint64_t bytes = 0;        // moved by reads and writes, those that failed half way too
  std::uint64_t inline_done = 0;  // of the operations: done inside submit
  std::uint64_t waits = 0;        // how often a request waited: for a slot, a worker, a cap, or between two quanta
  std::chrono::nanoseconds waited{};
};

}  // namespace sluice
