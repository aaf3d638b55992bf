// linger: what a worker does between its last work and its sleep. A sleep and a wake cost the two threads some microseconds.
//
// 1. It looks out for works for a microsecond or two. Not if it was woken from the core that it is on: its submitter cannot put any
//    while it looks.
// 2. If works came one soon after the other, and now none come, the submitter may share this core. The worker yields, and the
//    submitter has the core, and needs no more wakes, until it waits, its time slice is over or another core takes one of the two.
// 3. If a stream came of that, a worker that slept on another core takes over. Left alone, the system would have the two take turns
//    here for milliseconds while that core idles.
//
// Thread safety:  that worker's thread.
// Invariants:     P5
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "wq/crew/growth.h"

namespace sluice::detail {

template <class Sync>
class basic_linger {
 public:
  using traits = pool_traits<Sync>;
  using account = basic_account<Sync>;
  using worker = basic_worker<Sync>;

  explicit basic_linger(basic_pool<Sync>& owner) noexcept : pool_(owner) {}

  // Whether there are works for this worker. False at once if it had none since it last lingered.
  [[nodiscard]] bool for_more(worker& self) noexcept {
    if (!std::exchange(self.pace.worked, false)) {
      return false;
    }
    if (self.woken_from != traits::core()) {
      for (unsigned turn = 0; turn < traits::linger_turns; ++turn) {
        if (!self.home->nothing_to_do()) {
          return true;
        }
        Sync::relax();
      }
      const std::uint64_t works = released_by(self) - self.stream.released_when_woken;
      self.stream.apart =
          (pool_.env.clock.now() - woken_at(self)) / static_cast<std::int64_t>(std::max<std::uint64_t>(works, 1));
    }
    return self.stream.apart < traits::dense && stand_aside(self);
  }

  // The worker went to sleep at `since` and was woken.
  void note_woken(worker& self, steady_time since) noexcept {
    self.stream.apart = woken_at(self) - since;
    self.stream.released_when_woken = released_by(self);
  }

  // Whether another worker runs what this one left to it: then this one sleeps although there is something to do. The other one
  // looks again before it stops running, after this. Requires: it does not count as running.
  [[nodiscard]] bool handed_over(worker& self) noexcept {
    return std::exchange(self.stream.handed_over, false) && self.home->running() > 0;
  }

 private:
  [[nodiscard]] bool stand_aside(worker& self) noexcept {
    const steady_time before = pool_.env.clock.now();
    traits::yield();
    account& at = *self.home;
    std::size_t came = 0;
    worker* heir = nullptr;
    {
      const scoped_lock held(at.lock);
      came = at.in_inboxes_locked();
      heir = came >= traits::stream ? at.free_on_another_core_locked(traits::core()) : nullptr;
      if (heir != nullptr) {
        pool_.growth.choose_locked(at, *heir);
      }
    }
    self.stream.apart = came != 0 ? (pool_.env.clock.now() - before) / static_cast<std::int64_t>(came)
                                  : std::chrono::nanoseconds::max();
    if (heir != nullptr) {
      heir->word.wake();
      self.stream.handed_over = true;
      return false;
    }
    return !at.nothing_to_do();
  }

  [[nodiscard]] static std::uint64_t released_by(const worker& self) noexcept {
    return self.all_released.load(std::memory_order_relaxed);  // relaxed: its own
  }
  [[nodiscard]] static steady_time woken_at(const worker& self) noexcept {
    return steady_time(
        steady_time::duration(self.woken_at.load(std::memory_order_relaxed)));  // relaxed: before the wake
  }

  basic_pool<Sync>& pool_;
};

}  // namespace sluice::detail
