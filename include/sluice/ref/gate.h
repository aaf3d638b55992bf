// gate: who is inside, and a door that closes: after close() nobody enters, and wait() ends with the last one out.
//
//   class pool { gate door_; … };
//   if (gate_pass pass = gate_pass(door_)) { … use the pool … }     // submitters; false once it is closing
//   door_.close_and_wait();                                         // the owner: nobody is inside, nobody comes
//
// A shared counter would do, but every enter and leave would drag its cache line between cores. So while the gate is
// open each core counts on its own (the idea of the kernel's percpu_ref), and close() gathers.
//
// Naive: stripes plus a flag "closed". Enter adds to its stripe, then looks at the flag; close sets the flag, then adds
// up the stripes: both sides store, then load something else, which needs a full barrier on each enter. And the sum is
// not a count: one who enters on stripe A and leaves on stripe B while close is between them is missed on A and
// subtracted on B: zero, with somebody inside.
//
// Right, with stripes: there is no flag to race with. close() swaps each stripe for a mark, and the stripe's own
// modification order decides, one read-modify-write against another on one word:
//   - an enter whose add finds a number is in, and that number includes it when close() takes it;
//   - an enter whose add finds the mark is out (what it added to the mark means nothing);
//   - a leave whose subtraction finds a number is in what close() takes; one that finds the mark subtracts from the
//     common count instead.
// Numbers of single stripes may be negative; their sum, the common count, is exact once all are marked. Until then a
// bias keeps it far above zero. So exactly one step brings it to zero: the last leave, or close() if nobody is inside.
//
// Right, and without a locked instruction, where the kernel can restart a sequence (this_core.h): each core has a number
// besides, which is added to unless closing_ is set, and there is one stripe for all who cannot. close() sets closing_,
// fences, and only then looks:
//   - an enter or a leave that added before the fence is in the numbers, which nobody changes after it;
//   - an enter that did not has seen closing_, and is out;
//   - a leave that did not has seen closing_, and subtracts from the stripe: in what close() takes from it, or, at the
//     mark, from the common count.
//
//   state            try_enter    leave                   close               wait
//   open             true         -n on a stripe          gathers, marks      waits
//   closing          either       stripe or common -n     no effect           waits
//   closed           false        common -n; last: drained no effect          waits
//   drained          false        dies                    no effect           returns
//
// Memory ordering: what X did before leave() is visible to Y after wait() and in the drained callback. What X did
// before close() is visible to whoever fails to enter because of it, in X's own thread and after.
//
// Ownership:      a member of what it guards. A true try_enter(n) owes n passes to leave(), from any threads.
// Thread safety:  any thread. After one try_enter() has failed, all that happen after it fail.
// Blocking:       only wait(), wait_until(), close_and_wait(). Do not wait while inside.
// Limits:         2^31 inside at once; one close for ever (a gate does not open again).
// Cost:           open: enter or leave one plain add on the core's own line, one shared read and a call; without
//                 restartable sequences one read-modify-write there. close() of a wide gate interrupts the other cores
//                 once. Bytes: 128 and 64 per core and for the stripe; without the sequences, or with more than 64
//                 cores, 64 per stripe: the next power of two of the cores, at most 64. gate_width::narrow: one stripe.
// Destroy:        after wait() has returned to all waiters, or in the drained callback, when no try_enter() can begin.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "sluice/base/check.h"
#include "sluice/base/sync.h"
#include "sluice/ref/this_core.h"

namespace sluice {

enum class gate_width : std::uint8_t {
  wide,    // a stripe per core: for what many threads enter all the time
  narrow,  // one stripe: for what there are thousands of
};

// Core says where a thread counts: as this_core, or as restartable_core.
template <class Sync = os_sync, class Core = restartable_core>
class basic_gate {
 public:
  // The most that enter or leave in one step, and that may be inside at once.
  static constexpr std::int64_t max_passes = std::int64_t{1} << 31;

  // Open, nobody inside. Throws bad_alloc.
  explicit basic_gate(gate_width width = gate_width::wide)
      : count_(width == gate_width::wide ? numbers() : 0),
        mask_((width == gate_width::wide && count_ == 0 ? Core::stripes() : 1) - 1),
        numbers_(count_ == 0 ? nullptr : new core_number<Sync>[count_]),
        stripes_(new core_number<Sync>[mask_ + 1]) {}
  basic_gate(const basic_gate&) = delete;
  basic_gate& operator=(const basic_gate&) = delete;
  ~basic_gate() = default;

  // Comes in, `passes` times at the price of one: all or none of them. Returns false once the gate is closing.
  // Requires: 0 < passes <= max_passes.
  [[nodiscard, gnu::always_inline]] inline bool try_enter(std::int64_t passes = 1) noexcept {
    check_passes(passes);
    if (add_unlocked(passes)) [[likely]] {
      return true;
    }
    // relaxed: a shortcut that keeps late comers off the stripes; the stripe decides.
    if (closing_.load(std::memory_order_relaxed) != 0) [[unlikely]] {
      return false;
    }
    // acquire: pairs with close()'s exchange, so that after a failure here the shortcut shows closing_ too.
    return mine().fetch_add(passes, std::memory_order_acquire) < mark_floor;
  }

  // Comes in beside a pass that another thread holds, also while the gate is closing. Requires: that pass is not given back
  // before this call returns.
  void enter_beside(std::int64_t passes = 1) noexcept {
    if (!try_enter(passes)) {
      // The common count has not reached zero: the other pass is in it, or in a stripe that close() has not taken yet.
      add_common(passes);
    }
  }

  // Goes out, `passes` times. Passes are alike: who took many may give them back one by one, or the other way round.
  // Requires: as many of a try_enter() that returned true, not yet left; 0 < passes <= max_passes.
  void leave(std::int64_t passes = 1) noexcept {
    check_passes(passes);
    if (add_unlocked(-passes)) [[likely]] {
      return;
    }
    // release: our work before the end; close() takes it over with the stripe, the common count with its own RMW.
    if (mine().fetch_sub(passes, std::memory_order_release) >= mark_floor) [[unlikely]] {
      leave_common(passes);
    }
  }

  // Closes; does not wait. When it returns, no try_enter() that begins will succeed, for anybody (the kernel's
  // percpu_ref_kill_and_confirm, confirmed). Returns true to the one call that closed it.
  bool close() noexcept { return kill(nullptr, nullptr); }

  // Closes, and has on_drained(context) called once when nobody is inside: by the last leave(), or by this call. It may
  // destroy the gate. Returns false, and never calls it, if the gate was closed before. `on_drained` must not throw.
  bool kill(void (*on_drained)(void* context) noexcept, void* context) noexcept {
    // relaxed suffices for the winner; acquire for the loser, who promises what the winner's caller knows.
    if (closing_.exchange(1, std::memory_order_acq_rel) != 0) {
      return false;
    }
    drained_callback_ = on_drained;
    drained_context_ = context;
    std::int64_t inside = take_numbers();
    for (std::uint32_t i = 0; i <= mask_; ++i) {
      // acquire: takes over what came before each leave. release: closing_ and the callback, to whoever finds the mark.
      inside += stripes_[i].value.exchange(mark, std::memory_order_acq_rel);
    }
    add_common(inside - bias);
    return true;
  }

  // Waits for the last leave(). Blocks. Requires: somebody closes it; the caller is not inside.
  void wait() noexcept { static_cast<void>(wait_until(no_deadline)); }

  // The same with a deadline. Returns false if the deadline passed with somebody inside.
  [[nodiscard]] bool wait_until(steady_time deadline) noexcept {
    // acquire: pairs with the store in drained(): all that any visitor did is visible.
    while (drained_.load(std::memory_order_acquire) == 0) {
      if (!Sync::wait(drained_, 0, deadline) && drained_.load(std::memory_order_acquire) == 0) {
        return false;
      }
    }
    return true;
  }

  void close_and_wait() noexcept {
    close();
    wait();
  }

  [[nodiscard]] bool closing() const noexcept { return closing_.load(std::memory_order_acquire) != 0; }
  [[nodiscard]] bool drained() const noexcept { return drained_.load(std::memory_order_acquire) != 0; }

 private:
  // A marked stripe stays above the floor whatever late comers add to it (each thread once, as the shortcut keeps it
  // off after that: 2^22 threads times max_passes) or subtract from it (max_passes in all, what was inside).
  static constexpr std::int64_t mark = std::int64_t{1} << 62;
  static constexpr std::int64_t mark_floor = mark / 2;
  // More than can be inside.
  static constexpr std::int64_t bias = std::int64_t{1} << 40;

  static constexpr bool restarts = requires { Core::numbers(); };

  static std::uint32_t numbers() noexcept {
    if constexpr (restarts) {
      return Core::numbers();
    } else {
      return 0;
    }
  }
  // Counts on this core's number. Returns false if it has none, or the gate is closing.
  [[nodiscard, gnu::always_inline]] inline bool add_unlocked(std::int64_t change) noexcept {
    if constexpr (restarts) {
      return count_ != 0 && Core::add(numbers_.get(), count_, closing_, change);
    } else {
      return false;
    }
  }
  // What the cores have counted. Requires: closing_ is set.
  [[nodiscard]] std::int64_t take_numbers() noexcept {
    std::int64_t sum = 0;
    if constexpr (restarts) {
      if (count_ != 0) {
        Core::fence();
      }
      for (std::uint32_t i = 0; i < count_; ++i) {
        sum += numbers_[i].value.load(std::memory_order_relaxed);  // relaxed: the fence orders them
      }
    }
    return sum;
  }

  [[nodiscard]] auto& mine() noexcept { return stripes_[Core::index() & mask_].value; }

  [[gnu::cold, gnu::noinline]] void leave_common(std::int64_t passes) noexcept { add_common(-passes); }
  static void check_passes(std::int64_t passes) noexcept {
    SLUICE_CHECK(passes > 0 && passes <= max_passes, "1 to max_passes at a time");
  }

  void add_common(std::int64_t change) noexcept {
    // acq_rel: a chain through all leaves, so that the last one has seen them all.
    const std::int64_t left = common_.fetch_add(change, std::memory_order_acq_rel) + change;
    SLUICE_CHECK(left >= 0, "leave() without try_enter()");
    if (left == 0) {
      // Copied first: a waiter that sees drained_ may destroy the gate; wake uses the word's address only.
      void (*const callback)(void*) noexcept = drained_callback_;
      void* const context = drained_context_;
      drained_.store(1, std::memory_order_release);
      Sync::wake(drained_, wake_all);
      if (callback != nullptr) {
        callback(context);
      }
    }
  }

  // Constant, or written once.
  const std::uint32_t count_;  // of the numbers; 0: none
  const std::uint32_t mask_;   // of the stripes
  const std::unique_ptr<core_number<Sync>[]> numbers_;
  const std::unique_ptr<core_number<Sync>[]> stripes_;
  typename Sync::template atomic<std::uint32_t> closing_{0};
  void (*drained_callback_)(void*) noexcept = nullptr;  // written by the closer before it marks a stripe
  void* drained_context_ = nullptr;

  // Written once it closes.
  alignas(64) typename Sync::template atomic<std::int64_t> common_{bias};
  typename Sync::template atomic<std::uint32_t> drained_{0};
};

using gate = basic_gate<os_sync>;

// A scope inside a gate.
template <class Gate = gate>
class gate_pass {
 public:
  // Tries to enter; look at the answer.
  explicit gate_pass(Gate& door) noexcept : door_(door.try_enter() ? &door : nullptr) {}
  gate_pass(gate_pass&& other) noexcept : door_(std::exchange(other.door_, nullptr)) {}
  gate_pass& operator=(gate_pass&& other) noexcept {
    if (this != &other) {
      leave();
      door_ = std::exchange(other.door_, nullptr);
    }
    return *this;
  }
  ~gate_pass() { leave(); }

  [[nodiscard]] explicit operator bool() const noexcept { return door_ != nullptr; }
  // Goes out before the scope ends.
  void leave() noexcept {
    if (Gate* door = std::exchange(door_, nullptr)) {
      door->leave();
    }
  }

 private:
  Gate* door_;
};

}  // namespace sluice
