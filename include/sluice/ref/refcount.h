// refcount: a 32-bit count of owners that cannot wrap into a use after free.
//
// A bare atomic counter that overflows or is put once too often frees an object that somebody still uses. This one
// checks after each operation and, when a check fails, reports and saturates: the count goes to INT_MIN/2, so far from
// both zero and the positive numbers that no realistic number of racing operations brings it back, and the object
// leaks. There is no compare-exchange loop on get or put, and on x86-64 no look at the old value either: the word holds
// the count less one, so that the flags of the one locked instruction tell every case apart (locked_step.h). So they
// cost what the bare pair costs (`sluice-bench ref`).
//
//   the count was   the word was   a step up leaves      a step down leaves
//   2 to 2^31 - 1   1 and more     a number above 0      a number, 0 or more
//   1               0              1                     -1, and borrows: the last
//   0               -1             0: from zero          less than -1: underflow
//   2^31            the largest    overflow: negative    a number above 0
//   saturated       far below 0    negative              negative
//
// Operation          what it does                                    returns                        order on success
// get / inc          +1; faults on 0                                                                relaxed
// add(n)             +n; faults on 0                                                                relaxed
// get_unless_zero    +1 unless 0                                     false if it was 0 (R3)         acquire
// add_not_zero(n)    +n unless 0                                     false if it was 0              acquire
// put / dec_and_test -1                                              true to the last putter        acq_rel
// sub_and_test(n)    -n                                              true if it reached 0           acq_rel
// dec                -1; reaching 0 is a fault                                                      release
// put_unless_one     -1 unless 1                                     false if it was 1              release
// put_if_one         1 → 0                                           true if it was 1               acq_rel
// put_and_lock(m)    put; the last one happens with m held           the owning lock to the last    acq_rel
//
// Memory ordering: for any threads X and Y, what X did before its put() is visible to Y once Y's put(), put_if_one(),
// sub_and_test() or put_and_lock() has said that it was the last (R4). get() orders nothing: whoever calls it already
// owns a count. get_unless_zero() is an acquire, so that what follows is not done before the count is owned.
//
// Ownership:      counts only; kref.h adds the object.
// Thread safety:  any thread, any operation. get() needs a count that the caller owns, or a lock that keeps one there.
// Blocking:       never, but put_and_lock takes the lock when it seems to be the last.
// Errors:         none. Faults go to the handler of fault.h and saturate (R2).
// Limits:         2^31 counts; n at most max_step.
// Cost:           4 bytes; get + put as a bare fetch_add + fetch_sub.
// Invariants:     R1 R2 R3 R4 R5
#pragma once

#include <cstdint>
#include <limits>
#include <mutex>
#include <type_traits>

#include "sluice/base/check.h"
#include "sluice/base/sync.h"
#include "sluice/ref/fault.h"
#include "sluice/ref/locked_step.h"

namespace sluice {

template <class Sync = os_sync>
class basic_refcount {
 public:
  // Where a faulty count rests: INT_MIN / 2.
  static constexpr std::uint32_t saturated = 0xC0000000;
  static constexpr std::uint32_t max_count = std::uint32_t{1} << 31;
  // The most that add and sub take in one step: many threads in the window between a faulty step and the saturation
  // cannot carry the count back.
  static constexpr std::int32_t max_step = 1 << 16;

  // Starts with `initial` owners. Requires: initial <= max_count, or saturated.
  explicit constexpr basic_refcount(std::uint32_t initial = 1) noexcept
      : word_(static_cast<std::int32_t>(initial - 1)) {}
  basic_refcount(const basic_refcount&) = delete;
  basic_refcount& operator=(const basic_refcount&) = delete;

  // The count now; a hint, unless the caller excludes all others.
  [[nodiscard]] std::uint32_t read() const noexcept {
    return static_cast<std::uint32_t>(word_.load(std::memory_order_relaxed)) + 1;  // relaxed: a hint orders nothing
  }

  // Adds one owner. Requires: the caller owns a count, or a lock keeps one alive.
  void get(refcount_owner owner = {}) noexcept {
    if constexpr (by_flags) {
#if SLUICE_HAS_LOCKED_STEP
      if (const detail::step found = detail::locked_increment(word_); found != detail::step::fine) [[unlikely]] {
        get_fault(found == detail::step::zero ? none : stepped_back(-1), owner);
      }
#endif
    } else {
      // relaxed: the caller's own count keeps the object alive and already ordered its contents.
      const std::int32_t old = word_.fetch_add(1, std::memory_order_relaxed);
      if (old < 0 || old == most) [[unlikely]] {
        get_fault(old, owner);
      }
    }
  }
  void inc(refcount_owner owner = {}) noexcept { get(owner); }

  // Adds n owners. Requires: as get; 0 < n <= max_step.
  void add(std::int32_t n, refcount_owner owner = {}) noexcept {
    check_step(n);
    const std::int32_t old = word_.fetch_add(n, std::memory_order_relaxed);  // relaxed: as in get
    if (old < 0 || old > most - n) [[unlikely]] {
      get_fault(old, owner);
    }
  }

  // Adds one owner unless there is none left. Needs no count, but the memory must be kept by a lock or a read section.
  [[nodiscard]] bool get_unless_zero(refcount_owner owner = {}) noexcept { return add_not_zero(1, owner); }
  [[nodiscard]] bool inc_not_zero(refcount_owner owner = {}) noexcept { return add_not_zero(1, owner); }

  // Adds n owners unless there is none left. Requires: 0 < n <= max_step.
  [[nodiscard]] bool add_not_zero(std::int32_t n, refcount_owner owner = {}) noexcept {
    check_step(n);
    std::int32_t old = word_.load(std::memory_order_relaxed);  // relaxed: only a guess for the exchange
    do {
      if (old == none) {
        return false;
      }
      // acquire: what we read of the object comes after we own it; pairs with the release of every put.
    } while (
        !word_.compare_exchange_weak(old, wrapping_add(old, n), std::memory_order_acquire, std::memory_order_relaxed));
    if (old < 0 || old > most - n) [[unlikely]] {
      fault(refcount_fault::add_not_zero_overflow, owner, old);
    }
    return true;
  }

  // Gives up one count. Returns true to exactly one caller, the last (R1).
  [[nodiscard]] bool put(refcount_owner owner = {}) noexcept {
    if constexpr (by_flags) {
#if SLUICE_HAS_LOCKED_STEP
      const detail::step found = detail::locked_decrement(word_);
      if (found == detail::step::fine) [[likely]] {
        return false;
      }
      return found == detail::step::zero || put_fault(stepped_back(1), owner);
#endif
    } else {
      // acq_rel, no fence (ThreadSanitizer does not see fences): release for our writes, acquire for the last putter.
      const std::int32_t old = word_.fetch_sub(1, std::memory_order_acq_rel);
      if (old > one) [[likely]] {
        return false;
      }
      return old == one || put_fault(old, owner);
    }
  }
  [[nodiscard]] bool dec_and_test(refcount_owner owner = {}) noexcept { return put(owner); }

  // Gives up n counts. Returns true if none is left. Requires: 0 < n <= max_step.
  [[nodiscard]] bool sub_and_test(std::int32_t n, refcount_owner owner = {}) noexcept {
    check_step(n);
    const std::int32_t old = word_.fetch_sub(n, std::memory_order_acq_rel);  // as in put
    return old == n + none || (old < n + none && fault(refcount_fault::sub_underflow, owner, old));
  }

  // Gives up one count that is known not to be the last.
  void dec(refcount_owner owner = {}) noexcept {
    const std::int32_t old = word_.fetch_sub(1, std::memory_order_release);  // release: pairs with the last put
    if (old <= one) [[unlikely]] {
      fault(old == one ? refcount_fault::dec_to_zero : refcount_fault::sub_underflow, owner, old);
    }
  }

  // Gives up one count unless it is the last. Returns false, and changes nothing, if it is (the kernel's dec_not_one).
  [[nodiscard]] bool put_unless_one(refcount_owner owner = {}) noexcept {
    std::int32_t old = word_.load(std::memory_order_relaxed);  // relaxed: only a guess for the exchange
    do {
      if (old == one) {
        return false;
      }
      if (old < one) [[unlikely]] {
        fault(refcount_fault::sub_underflow, owner, old);
        return true;  // leaked: there is no last putter any more
      }
      // release: our writes before the last put; not acquire, since nobody frees on this way.
    } while (!word_.compare_exchange_weak(old, old - 1, std::memory_order_release, std::memory_order_relaxed));
    return true;
  }
  [[nodiscard]] bool dec_not_one(refcount_owner owner = {}) noexcept { return put_unless_one(owner); }

  // Gives up the count if it is the last. Returns whether it was (the kernel's dec_if_one).
  [[nodiscard]] bool put_if_one() noexcept {
    std::int32_t old = one;
    return word_.compare_exchange_strong(old, none, std::memory_order_acq_rel, std::memory_order_relaxed);
  }
  [[nodiscard]] bool dec_if_one() noexcept { return put_if_one(); }

  // put() whose last drop happens with the lock held, and only that one takes the lock (R5). So a lookup that holds the
  // lock and calls get() can never meet a count of 0: unlinking and the last put are one step to it.
  // Returns the owning lock to the last putter, an empty one to all others.
  template <class Mutex>
  [[nodiscard]] std::unique_lock<Mutex> put_and_lock(Mutex& mutex, refcount_owner owner = {}) {
    if (put_unless_one(owner)) {
      return {};
    }
    std::unique_lock<Mutex> held(mutex);
    if (!put(owner)) {
      held.unlock();  // somebody looked it up between our guess and the lock
      return {};
    }
    return held;
  }

 private:
  // The race tests run on atomics of their own.
  static constexpr bool by_flags = SLUICE_HAS_LOCKED_STEP != 0 && std::is_same_v<Sync, os_sync>;
  // Words, not counts.
  static constexpr std::int32_t none = -1;
  static constexpr std::int32_t one = 0;
  static constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();

  static std::int32_t wrapping_add(std::int32_t a, std::int32_t b) noexcept {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
  }
  static void check_step(std::int32_t n) noexcept { SLUICE_CHECK(n > 0 && n <= max_step, "1 to max_step at a time"); }

  // What the word was before a step whose flags were all that was looked at; for the report only.
  [[nodiscard]] std::int32_t stepped_back(std::int32_t by) const noexcept {
    return wrapping_add(word_.load(std::memory_order_relaxed), by);  // relaxed: a hint
  }
  // Out of line, so that what a call costs where it is not taken is a jump that is not taken.
  [[gnu::cold, gnu::noinline]] void get_fault(std::int32_t old, refcount_owner owner) noexcept {
    fault(old == none ? refcount_fault::add_from_zero : refcount_fault::add_overflow, owner, old);
  }

  [[gnu::cold, gnu::noinline]] bool put_fault(std::int32_t old, refcount_owner owner) noexcept {
    return fault(refcount_fault::sub_underflow, owner, old);
  }

  // Pins the count where no operation frees, then reports. Returns false: a faulty put is never the last.
  bool fault(refcount_fault kind, refcount_owner owner, std::int32_t old) noexcept {
    // relaxed: from here on nobody frees, nothing to order
    word_.store(static_cast<std::int32_t>(saturated - 1), std::memory_order_relaxed);
    detail::refcount_faulted(kind, owner, std::int64_t{old} + 1);
    return false;
  }

  // The count less one.
  typename Sync::template atomic<std::int32_t> word_;
};

using refcount = basic_refcount<os_sync>;
static_assert(sizeof(refcount) == 4);

}  // namespace sluice
