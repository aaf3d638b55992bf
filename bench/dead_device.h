// dead_device: a thousand works that each wait 10 ms for a device that does not answer, again and again, beside reads
// that find their data in memory. How much of their rate alone do the reads keep?
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "sluice/base/park.h"

#include "descriptors.h"
#include "harness.h"

namespace bench {

// What a pool may have of each class; one that knows no classes has both together.
inline constexpr unsigned bound_workers = 2;
inline constexpr unsigned unbound_workers = 64;
inline constexpr unsigned pool_threads = bound_workers + unbound_workers;

inline constexpr std::size_t sleepers = 1000;
inline constexpr std::chrono::milliseconds nap{10};
inline constexpr std::size_t depth = 32;  // reads under way
inline constexpr std::size_t block_bytes = 4096;
inline constexpr std::size_t file_blocks = 16384;

// One of the `depth` reads under way: never twice at once, so that its count has one writer.
struct alignas(64) reader {
  off_t next_offset() noexcept {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return static_cast<off_t>((state >> 33) % file_blocks * block_bytes);
  }
  void read(int file) noexcept {
    const iovec one{.iov_base = buffer.data(), .iov_len = buffer.size()};
    if (::preadv(file, &one, 1, next_offset()) == static_cast<ssize_t>(block_bytes)) {
      counted();
    }
  }
  // relaxed: one writer, and whoever reads wants a snapshot.
  void counted() noexcept { done.store(done.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); }

  std::uint64_t state = 0;
  std::atomic<std::uint64_t> done{0};
  std::array<char, block_bytes> buffer{};
};

class readers {
 public:
  readers() {
    for (std::size_t i = 0; i < depth; ++i) {
      each[i].state = i;
    }
  }

  [[nodiscard]] std::uint64_t done() const noexcept {
    std::uint64_t sum = 0;
    for (const reader& one : each) {
      sum += one.done.load(std::memory_order_relaxed);
    }
    return sum;
  }
  // relaxed, both: one block more does no harm.
  void stop() noexcept { stopping_.store(true, std::memory_order_relaxed); }
  [[nodiscard]] bool stopping() const noexcept { return stopping_.load(std::memory_order_relaxed); }

  descriptor file = cached_file(file_blocks * block_bytes);
  std::array<reader, depth> each;

 private:
  std::atomic<bool> stopping_{false};
};

// Who sleeps on it comes back until it is told to stop, and then leaves.
class dead_device {
 public:
  void stop() noexcept { stopping_.store(true, std::memory_order_relaxed); }
  [[nodiscard]] bool stopping() const noexcept { return stopping_.load(std::memory_order_relaxed); }
  // acq_rel: the last to leave has seen the others leave before it lets the waiter take their memory.
  void leave() noexcept {
    if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      over_.wake();
    }
  }
  [[nodiscard]] bool empty() const noexcept { return left_.load(std::memory_order_acquire) == 0; }
  void wait() noexcept { over_.park(); }

 private:
  std::atomic<bool> stopping_{false};
  std::atomic<std::size_t> left_{sleepers};
  sluice::parker over_;
};

// The reads' rate beside all sleepers, in % of their rate alone just before. `pass` lets a span go by; it keeps the reads
// going where they need this thread. `begin_sleeping` submits the sleepers, who go on until they are told to stop.
template <class Pass, class BeginSleeping>
sample share_kept(const readers& reading, Pass pass, BeginSleeping begin_sleeping) {
  using clock = std::chrono::steady_clock;
  constexpr std::chrono::milliseconds warm_span{30};
  constexpr std::chrono::milliseconds span{160};  // all sleepers slept once, in the pools of others too
  struct figures {
    double rate;
    double cpu_ns;
  };
  const auto measure = [&] {
    const std::chrono::nanoseconds cpu_before = cpu_time();
    const std::uint64_t before = reading.done();
    const clock::time_point begin = clock::now();
    pass(span);
    const auto count = static_cast<double>(reading.done() - before);
    const std::chrono::duration<double> wall = clock::now() - begin;
    const auto cpu = static_cast<double>((cpu_time() - cpu_before).count());
    return figures{.rate = count / wall.count(), .cpu_ns = cpu / std::max(1.0, count)};
  };
  pass(warm_span);
  const figures alone = measure();
  begin_sleeping();
  pass(warm_span);
  const figures beside = measure();
  return {.value = 100 * beside.rate / alone.rate, .cpu_ns = beside.cpu_ns};
}

}  // namespace bench
