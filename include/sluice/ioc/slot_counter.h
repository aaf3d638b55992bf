// slot_counter: how many requests are under way: lock-free while there is room, under the owner's lock when not.
//
// One word holds the count and a `frozen` bit. While the bit is clear, try_take and try_give move the count by
// themselves. Whoever must decide about more than the count (somebody waits, somebody drains, the owner stopped) sets
// the bit under the owner's lock: from then on both fail and every change happens under that lock, so the count and
// what the lock guards are seen together. A request that ends can therefore never slip past one that is about to wait.
//
// | word              | try_take | try_give | take_locked, give_locked |
// |-------------------|----------|----------|--------------------------|
// | open, below depth | +1       | -1       | not allowed (checked)    |
// | open, at depth    | false    | -1       | not allowed (checked)    |
// | frozen            | false    | false    | ±1                       |
//
// Ownership:      a member of the queue.
// Thread safety:  try_… and count by any thread; …_locked under the owner's lock, always the same one.
// Blocking:       never.
// Ordering:       what came before a give is visible after the freeze_locked or take that saw it.
// Limits:         2^31 - 1.
// Cost:           4 bytes; one compare-exchange each.
#pragma once

#include <cstdint>

#include "sluice/base/check.h"
#include "sluice/base/sync.h"

namespace sluice {

template <class Sync>
class basic_slot_counter {
 public:
  static constexpr std::uint32_t limit = (1U << 31) - 1;

  basic_slot_counter() = default;
  basic_slot_counter(const basic_slot_counter&) = delete;
  basic_slot_counter& operator=(const basic_slot_counter&) = delete;

  // Takes a slot if there are fewer than `depth` taken and the counter is open.
  [[nodiscard]] bool try_take(std::uint32_t depth) noexcept {
    std::uint32_t seen = word_.load(std::memory_order_relaxed);  // a guess: the exchange decides
    do {
      if (seen >= depth) {  // the frozen bit is above every depth
        return false;
      }
      // acquire pairs with the release of the give that made room.
    } while (!word_.compare_exchange_weak(seen, seen + 1, std::memory_order_acquire, std::memory_order_relaxed));
    return true;
  }

  // Gives one back unless frozen.
  [[nodiscard]] bool try_give() noexcept {
    std::uint32_t seen = word_.load(std::memory_order_relaxed);
    do {
      if ((seen & frozen_bit) != 0) {
        return false;
      }
      SLUICE_CHECK(seen != 0, "a slot was given back twice");
      // release: whoever freezes and finds no slot taken sees all that was done in this one.
    } while (!word_.compare_exchange_weak(seen, seen - 1, std::memory_order_release, std::memory_order_relaxed));
    return true;
  }

  // From here on the count changes under the lock only. Idempotent.
  void freeze_locked() noexcept { word_.fetch_or(frozen_bit, std::memory_order_acquire); }
  // Opens it again. Idempotent.
  void thaw_locked() noexcept { word_.fetch_and(limit, std::memory_order_release); }

  // Requires: frozen.
  void take_locked(std::uint32_t slots) noexcept {
    const std::uint32_t before = word_.fetch_add(slots, std::memory_order_acquire);
    SLUICE_CHECK((before & frozen_bit) != 0, "take_locked on an open counter");
    SLUICE_CHECK((before & limit) + slots <= limit, "too many slots");
  }
  void give_locked() noexcept {
    const std::uint32_t before = word_.fetch_sub(1, std::memory_order_release);
    SLUICE_CHECK((before & frozen_bit) != 0, "give_locked on an open counter");
    SLUICE_CHECK((before & limit) != 0, "a slot was given back twice");
  }

  // Taken slots. Exact under the lock while frozen; otherwise stale when it returns.
  [[nodiscard]] std::uint32_t count() const noexcept { return word_.load(std::memory_order_acquire) & limit; }

 private:
  static constexpr std::uint32_t frozen_bit = 1U << 31;

  typename Sync::template atomic<std::uint32_t> word_{0};
};

using slot_counter = basic_slot_counter<os_sync>;

}  // namespace sluice
