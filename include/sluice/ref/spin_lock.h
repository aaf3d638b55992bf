// spin_lock: a 4-byte lock for a few instructions: it turns briefly, then sleeps.
//
// For an object that cannot afford the 40 bytes of a mutex, and for put_and_lock on a bucket. A lock that only turned
// would burn the holder's own time slice where threads outnumber cores, so after `turns` it waits on the word.
//
// Ownership:      by thread; not recursive.
// Thread safety:  that is what it is for.
// Blocking:       lock() waits for the holder. Never hold it across a callback or a system call.
// Ordering:       what a thread did before unlock() is visible after the next lock().
// Cost:           4 bytes; uncontended lock + unlock two atomic instructions.
// Destroy:        when nobody holds or wants it. An unlock() past its exchange touches only the word's address.
#pragma once

#include <cstdint>

#include "sluice/base/annotations.h"
#include "sluice/base/sync.h"

namespace sluice {

template <class Sync = os_sync>
class SLUICE_CAPABILITY("spin lock") basic_spin_lock {
 public:
  basic_spin_lock() = default;
  basic_spin_lock(const basic_spin_lock&) = delete;
  basic_spin_lock& operator=(const basic_spin_lock&) = delete;

  void lock() noexcept SLUICE_ACQUIRE() {
    if (!take()) {
      lock_slow();
    }
  }

  [[nodiscard]] bool try_lock() noexcept SLUICE_TRY_ACQUIRE(true) { return take(); }

  void unlock() noexcept SLUICE_RELEASE() {
    // release: pairs with the acquire of take() and of lock_slow().
    if (word_.exchange(unlocked, std::memory_order_release) == contended) {
      Sync::wake(word_, 1);
    }
  }

 private:
  static constexpr std::uint32_t unlocked = 0;
  static constexpr std::uint32_t locked = 1;
  static constexpr std::uint32_t contended = 2;  // locked, and somebody may sleep
  static constexpr int turns = 64;

  bool take() noexcept {
    std::uint32_t seen = unlocked;
    // acquire: pairs with unlock(). A failure tells nothing, so relaxed.
    return word_.compare_exchange_strong(seen, locked, std::memory_order_acquire, std::memory_order_relaxed);
  }

  [[gnu::noinline]] void lock_slow() noexcept {
    for (int turn = 0; turn < turns; ++turn) {
      // relaxed: look without taking the line away from the holder.
      if (word_.load(std::memory_order_relaxed) == unlocked && take()) {
        return;
      }
      Sync::relax();
    }
    // From here we cannot know whether others sleep as well, so we hold it as contended: one wake too many at most.
    while (word_.exchange(contended, std::memory_order_acquire) != unlocked) {
      Sync::wait(word_, contended);
    }
  }

  typename Sync::template atomic<std::uint32_t> word_{unlocked};
};

using spin_lock = basic_spin_lock<os_sync>;
static_assert(sizeof(spin_lock) == 4);

}  // namespace sluice
