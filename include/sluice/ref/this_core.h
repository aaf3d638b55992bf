// this_core: the core that a thread runs on, and a number per core that its threads add to without a locked instruction.
//
// A number that only one core writes needs no lock prefix: a plain `add` is one instruction, and nothing on that core
// comes in between. But between "which core is this" and the add the thread may be moved. A restartable sequence
// (rseq(2)) mends that: a few instructions that end in one store; if the thread is moved, preempted or interrupted
// before that store, the kernel sends it back to the start.
//
// And another core can stop it: fence() (membarrier(2), PRIVATE_EXPEDITED_RSEQ) restarts the sequences that are under
// way on all cores. So with "add unless the flag is up" as the sequence, and "raise the flag, then fence" on the other
// side, each add is either over and visible when fence() returns, or it has found the flag. After that no number
// changes, and whoever raised the flag reads what they add up to. Neither side can have it both ways, and the frequent
// side pays for no barrier.
//
// Memory ordering: what X did before an add() that returned true is visible to Y after a fence() that the add came
// before. What Y did before fence() is visible to X after an add() that returned false because of it.
//
// Thread safety:  any thread, in signal handlers too.
// Blocking:       never; fence() is a system call that interrupts the other cores (a microsecond or two).
// Errors:         none. Where the machine, the C library or the kernel has no such thing, numbers() is 0: use atomics.
//                 Under ThreadSanitizer, too: it does not look into assembler.
#pragma once

#include <sched.h>
#if __has_include(<sys/rseq.h>) && (defined(__x86_64__) || defined(__aarch64__))
#include <sys/rseq.h>
#if defined(RSEQ_SIG)
#define SLUICE_HAS_RSEQ 1  // glibc 2.35 and later
#endif
#endif

#include <atomic>
#include <cstdint>

#include "sluice/base/sync.h"

namespace sluice {

// Which stripe the calling thread uses: that of the core it runs on. A stale answer costs time, never correctness.
struct this_core {
  [[nodiscard]] static std::uint32_t index() noexcept {
#if defined(SLUICE_HAS_RSEQ)
    // The kernel keeps the number up to date in the thread's own memory (rseq(2)); a call would cost as much as the
    // rest of an enter. 0 if the kernel does not: then all share a stripe.
    auto* area = static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset;
    return std::atomic_ref<std::uint32_t>(reinterpret_cast<struct ::rseq*>(area)->cpu_id_start)
        .load(std::memory_order_relaxed);  // relaxed: a hint, written by the kernel
#else
    return static_cast<std::uint32_t>(::sched_getcpu());  // -1 (no such call) shares the last stripe
#endif
  }
  // The cores that there may be, as a power of two, at most 64.
  [[nodiscard]] static std::uint32_t stripes() noexcept;
};

// Alone on its line: the other cores have theirs.
template <class Sync = os_sync>
struct alignas(64) core_number {
  typename Sync::template atomic<std::int64_t> value{0};
};

// this_core, with the numbers.
struct restartable_core : this_core {
  // How many numbers to have, one per core; 0: none, add() would never succeed. The same answer all the time.
  [[nodiscard]] static std::uint32_t numbers() noexcept;

  // Adds to the number of the core that this runs on, unless `stop` is not 0. Returns false, and adds nothing, then;
  // and if this core or this thread has no number. Nothing but add() may write to a number until fence().
  [[nodiscard]] static bool add(core_number<>* first, std::uint32_t count, const std::atomic<std::uint32_t>& stop,
                                std::int64_t change) noexcept;

  // Every add() of this process is over and visible, or begins after this. Requires: numbers() != 0.
  static void fence() noexcept;
};

}  // namespace sluice
