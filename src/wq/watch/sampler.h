// sampler: finds workers that block without saying so, once a millisecond while works wait.
//
// A worker is a suspect if it was in the same callback at two ticks in a row while others wait. It blocks if its thread sleeps in the
// kernel. A thread that computes, or waits for a CPU, does not block: more threads would not help it. Works that wait for some ticks
// although a worker runs get one worker more, up to the CPUs that the node has.
//
// Thread safety:  ensure_ticking(): any thread. The rest: the manager's thread.
// Blocking:       reads /proc for a suspect (thread_seam::sleeps), without locks: at most most_probes at a tick, and a thread that
//                 computes again after 1, 2, 4 and then every 8 ms.
// Invariants:     P2 P5 P6
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <utility>

#include "wq/crew/growth.h"

namespace sluice::detail {

template <class Sync>
class basic_sampler {
 public:
  using account = basic_account<Sync>;
  using worker = basic_worker<Sync>;
  using plan = typename basic_growth<Sync>::plan;

  static constexpr std::chrono::milliseconds tick{1};

  explicit basic_sampler(basic_pool<Sync>& owner) noexcept : pool_(owner) {}

  // Works wait: the sampler runs from here on until it has found none for some ticks.
  [[gnu::always_inline]] inline void ensure_ticking() noexcept {
    // seq_cst: the work was published first; the manager clears the flag first and then looks for work.
    if (!ticking_.load(std::memory_order_seq_cst)) [[unlikely]] {
      start_ticking();
    }
  }

  // A turn of the manager. Returns when the next one is due.
  [[nodiscard]] steady_time step(steady_time now) noexcept;
  // Looks at all workers.
  void sample() noexcept;

 private:
  [[gnu::noinline]] void start_ticking() noexcept {
    if (!ticking_.exchange(true, std::memory_order_seq_cst)) {  // seq_cst: as above
      pool_.manager.wake();
    }
  }

  static constexpr std::size_t most_suspects = 64;
  static constexpr std::size_t most_probes = 16;

  struct suspect {
    worker* one;
    std::uint64_t begun;
  };

  void look_at(account& at) noexcept;
  [[nodiscard]] bool collect_suspects(account& at) noexcept;
  [[nodiscard]] bool sleeps(worker& one) noexcept;
  [[nodiscard]] bool mark_blocked(account& at, const suspect& it) noexcept;
  [[nodiscard]] bool anything_queued() noexcept;

  basic_pool<Sync>& pool_;
  typename Sync::template atomic<bool> ticking_{false};
  // The manager's own.
  steady_time last_sample_;
  unsigned quiet_ticks_ = 0;
  std::array<suspect, most_suspects> suspects_{};
  std::size_t suspected_ = 0;
  std::size_t probes_ = 0;
};

template <class Sync>
steady_time basic_sampler<Sync>::step(steady_time now) noexcept {
  constexpr unsigned enough_quiet_ticks = 4;
  // seq_cst: a thread that sets it has published work first.
  if (!ticking_.load(std::memory_order_seq_cst)) {
    return no_deadline;
  }
  if (now >= last_sample_ + tick) {
    last_sample_ = now;
    sample();
    quiet_ticks_ = anything_queued() ? 0 : quiet_ticks_ + 1;
  }
  if (quiet_ticks_ >= enough_quiet_ticks) {
    quiet_ticks_ = 0;
    ticking_.store(false, std::memory_order_seq_cst);
    if (!anything_queued()) {
      return no_deadline;
    }
    ticking_.store(true, std::memory_order_seq_cst);
  }
  return last_sample_ + tick;
}

// Also: whether a worker is still to be created after a failure.
template <class Sync>
bool basic_sampler<Sync>::anything_queued() noexcept {
  bool found = false;
  pool_.engines.for_each([&](account& at) {
    found |= !at.nothing_to_do();
    const scoped_lock held(at.lock);
    found |= at.fixed_missing_locked() && at.creation_fails_locked();
    at.for_each_worker_locked([&](const worker& one) {
      found |= one.in_batch.load(std::memory_order_seq_cst) != 0;  // seq_cst: partner of take_batch_locked()
    });
  });
  return found;
}

template <class Sync>
void basic_sampler<Sync>::sample() noexcept {
  probes_ = 0;
  pool_.engines.for_each([this](account& at) { look_at(at); });
}

// Returns whether works wait.
template <class Sync>
bool basic_sampler<Sync>::collect_suspects(account& at) noexcept {
  suspected_ = 0;
  const scoped_lock held(at.lock);
  bool waits = !at.nothing_to_do();
  at.for_each_worker_locked([&](worker& one) {
    const bool holds = one.in_batch.load(std::memory_order_relaxed) != 0;
    waits |= holds;
    const std::uint64_t begun = one.begun.load(std::memory_order_relaxed);  // relaxed: did it change?
    const bool moved = std::exchange(one.seen_begun, begun) != begun;
    // The rest at the next tick.
    const bool computes = one.computed_begun == begun && one.probe_at > last_sample_;
    if (!moved && !computes && waits && one.in_callback() && one.how() == worker_mode::busy &&
        suspected_ < suspects_.size()) {
      suspects_[suspected_++] = {&one, begun};
    }
  });
  return waits;
}

template <class Sync>
bool basic_sampler<Sync>::sleeps(worker& one) noexcept {
  constexpr std::chrono::milliseconds longest{8};
  if (one.computed_begun != one.seen_begun) {
    one.computed_begun = one.seen_begun;
    one.probe_pause = tick;
    one.probe_at = steady_time::min();
  }
  if (one.probe_at > last_sample_ || ++probes_ > most_probes) {
    return false;
  }
  pid_t id = 0;
  {
    const scoped_lock held(one.lock);
    id = one.names.id;
  }
  if (pool_.env.threads.sleeps(id)) {
    return true;
  }
  one.probe_at = last_sample_ + one.probe_pause;
  one.probe_pause = std::min(2 * one.probe_pause, longest);
  return false;
}

// The worker does not count as running any more. Returns whether its batch is to be recalled.
template <class Sync>
bool basic_sampler<Sync>::mark_blocked(account& at, const suspect& it) noexcept {
  const scoped_lock held(at.lock);
  const scoped_lock one_held(it.one->lock);
  // relaxed, both: the worker takes its lock after its last callback, and then looks at the mode.
  if (it.one->home != &at || it.one->begun.load(std::memory_order_relaxed) != it.begun || !it.one->in_callback() ||
      !it.one->change_mode(worker_mode::busy, worker_mode::sampled)) {
    return false;
  }
  at.set_quick(false);
  at.sub_running();
  ++at.counts.found_blocked;
  return it.one->run_of == nullptr && !it.one->batch.empty();
}

template <class Sync>
void basic_sampler<Sync>::look_at(account& at) noexcept {
  constexpr unsigned patience = 3;
  pool_.growth.replace_fixed(at);
  const bool waits = collect_suspects(at);
  bool blocked = false;
  for (std::size_t i = 0; i < suspected_; ++i) {
    const suspect& it = suspects_[i];
    if (sleeps(*it.one)) {
      blocked = true;
      account* const filled = mark_blocked(at, it) ? pool_.blocking.recall(*it.one) : nullptr;
      if (filled != nullptr && filled != &at) {
        pool_.growth.start_worker(*filled);  // works of another node
      }
    }
  }
  plan next;
  bool tables = false;
  {
    const scoped_lock held(at.lock);
    const unsigned busy = at.count_busy_tick_locked(waits);
    const auto cpus = static_cast<std::int32_t>(pool_.env.nodes.cpus_of(at.node));
    const bool grow = !blocked && waits && busy > patience && at.running() < cpus;
    next = pool_.growth.decide_locked(at, grow ? need::another : need::any);
    tables = (blocked || at.running() == 0) && at.tables_listed() != 0;
  }
  pool_.growth.perform(next);
  if (tables) {
    pool_.growth.start_worker(at);  // the worker that was to look into them has blocked
  }
}

}  // namespace sluice::detail
