// sync: the seam between a core primitive and the machine: atomics, a lock, a futex, a pause.
//
// Core primitives are templates over a Sync policy and use nothing else to talk to other threads. In programs Sync is
// os_sync and costs nothing. In tests/race it is race::sync, whose every operation is a point where a seeded scheduler
// may switch to another thread, so that one seed replays one interleaving.
//
// A Sync policy has
//   atomic<T>       the interface of std::atomic<T>; every call names its memory order
//   mutex           lock, unlock, try_lock, annotated as a capability
//   wait(word, expected, deadline)   sleeps while word == expected; may wake spuriously; false once the deadline passed
//   wake(word, count)                wakes up to count sleepers of that word
//   relax()         one turn of a spin loop
//
// Ordering: wait and wake give none by themselves; the atomics around them do. (A futex call re-reads the word under
// the kernel's bucket lock, which is what makes "store, then wake" against "check, then wait" lose nothing.)
#pragma once

#include <atomic>
#include <cstdint>

#include <climits>

#include "sluice/base/clock.h"
#include "sluice/base/mutex.h"

namespace sluice {

// How many sleepers wake() wakes for "all".
inline constexpr int wake_all = INT_MAX;

struct os_sync {
  template <class Value>
  using atomic = std::atomic<Value>;
  using mutex = sluice::mutex;

  // Requires: nothing destroys the word before every waiter has returned.
  static bool wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                   steady_time deadline = no_deadline) noexcept;
  // The word may be gone by the time the system call runs: only its address is used, as futex(2) allows for private
  // futexes; a stranger that re-used the address sees one spurious wake.
  static void wake(std::atomic<std::uint32_t>& word, int count) noexcept;
  static void relax() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }
};

}  // namespace sluice
