// park: a place for one thread to sleep until another wakes it; a wake that comes first is kept.
//
// The word holds one permit. wake() leaves the permit; park() takes it, sleeping until there is one. Any number of
// wakes before a park count as one. This is the sleep of a pool's worker: publish work, then wake; park, then look for
// work.
//
// Ownership:      one thread parks on it (the owner); any thread wakes it.
// Thread safety:  park and park_until by the owner only; wake by any.
// Blocking:       park sleeps; wake never does (one system call only if the owner sleeps).
// Ordering:       what a thread did before wake() is visible after the park() that it let through.
// Cost:           4 bytes. A wake that finds nobody asleep is one exchange, no system call.
// Destroy:        when no wake() can still begin. One that is past its exchange touches only the word's address.
#pragma once

#include <cstdint>

#include "sluice/base/check.h"
#include "sluice/base/sync.h"

namespace sluice {

template <class Sync>
class basic_parker {
 public:
  basic_parker() = default;
  basic_parker(const basic_parker&) = delete;
  basic_parker& operator=(const basic_parker&) = delete;

  // Sleeps until there is a permit and takes it.
  void park() noexcept { static_cast<void>(park_until(no_deadline)); }

  // The same with a deadline. Returns true if it took a permit, false if the deadline passed without one.
  [[nodiscard]] bool park_until(steady_time deadline) noexcept {
    std::uint32_t seen = word_.load(std::memory_order_relaxed);
    SLUICE_CHECK(seen != parked, "only the owner may park: another thread sleeps here");
    if (seen == empty &&
        word_.compare_exchange_strong(seen, parked, std::memory_order_acquire, std::memory_order_acquire)) {
      // acquire on both ends pairs with wake()'s release: also a permit that is found must show what came before it.
      while (Sync::wait(word_, parked, deadline) && word_.load(std::memory_order_relaxed) == parked) {
      }
    }
    // The exchange decides between the permit and the deadline: a wake that came in between is taken, never lost.
    return word_.exchange(empty, std::memory_order_acquire) == permit;
  }

  // Leaves a permit; wakes the owner if it sleeps.
  void wake() noexcept {
    if (word_.exchange(permit, std::memory_order_release) == parked) {
      Sync::wake(word_, 1);
    }
  }

 private:
  static constexpr std::uint32_t empty = 0;
  static constexpr std::uint32_t permit = 1;
  static constexpr std::uint32_t parked = 2;

  typename Sync::template atomic<std::uint32_t> word_{empty};
};

using parker = basic_parker<os_sync>;

}  // namespace sluice
