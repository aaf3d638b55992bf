// nap_lock: a 4-byte lock that one thread takes all the time and others hardly ever: its unlock is a plain store.
//
// A spin_lock knows whether a thread sleeps for it, and pays a locked instruction for that with each unlock. Here no thread is woken:
// one that finds the lock taken turns for a while, then naps and looks again. That suits a worker's own lock, which the worker takes
// twice for each work, and other threads only to cancel a work or to look at it.
//
// Ownership:      by thread; not recursive.
// Thread safety:  that is what it is for.
// Blocking:       lock() waits for the holder, and at most `nap` longer than it must. Never hold it across a callback or a system call
//                 that may wait. The manager sends signals under it: they keep the work from ending meanwhile.
// Ordering:       what a thread did before unlock() is visible after the next lock(). unlock() is no full barrier.
// Cost:           4 bytes; uncontended lock + unlock one atomic instruction and a store.
// Destroy:        when no thread holds or wants it.
#pragma once

#include <chrono>
#include <cstdint>

#include "sluice/base/annotations.h"
#include "sluice/base/clock.h"
#include "sluice/base/sync.h"

namespace sluice::detail {

// Turns: how often it looks before the first nap.
template <class Sync, int Turns = 64>
class SLUICE_CAPABILITY("nap lock") basic_nap_lock {
 public:
  basic_nap_lock() = default;
  basic_nap_lock(const basic_nap_lock&) = delete;
  basic_nap_lock& operator=(const basic_nap_lock&) = delete;

  void lock() noexcept SLUICE_ACQUIRE() {
    if (!take()) {
      lock_slow();
    }
  }
  void unlock() noexcept SLUICE_RELEASE() { word_.store(unlocked, std::memory_order_release); }  // pairs with take()

 private:
  static constexpr std::uint32_t unlocked = 0;
  static constexpr std::uint32_t locked = 1;
  static constexpr std::chrono::microseconds nap{50};

  bool take() noexcept {
    std::uint32_t seen = unlocked;
    // acquire: pairs with unlock(). A failure tells nothing, so relaxed.
    return word_.compare_exchange_strong(seen, locked, std::memory_order_acquire, std::memory_order_relaxed);
  }

  [[gnu::noinline]] void lock_slow() noexcept {
    for (int turn = 0;; ++turn) {
      // relaxed: look without taking the line away from the holder.
      if (word_.load(std::memory_order_relaxed) == unlocked && take()) {
        return;
      }
      if (turn < Turns) {
        Sync::relax();
      } else {
        static_cast<void>(Sync::wait(word_, locked, std::chrono::steady_clock::now() + nap));
      }
    }
  }

  typename Sync::template atomic<std::uint32_t> word_{unlocked};
};

}  // namespace sluice::detail
