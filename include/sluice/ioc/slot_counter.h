// slot_counter: how many requests are under way, and how many of them were handed to a worker: lock-free while there is
// room, under the owner's lock when not.
//
// One word holds both counts and a `frozen` bit. While the bit is clear the try_… functions move the counts by
// themselves. Whoever must decide about more than the counts (somebody waits, somebody drains, the owner stopped) sets
// the bit under the owner's lock: from then on they all fail and every change happens under that lock, so the counts and
// what the lock guards are seen together. A request that ends can therefore never slip past one that is about to wait.
//
// A request takes a slot first and is tried; one that must go to a worker is then handed as well.
//
// | word              | try_take | try_hand        | try_give, try_give_handed | …_locked              |
// |-------------------|----------|-----------------|---------------------------|-----------------------|
// | open, below depth | +1       | +1 if below max | -1                        | not allowed (checked) |
// | open, at depth    | false    | +1 if below max | -1                        | not allowed (checked) |
// | frozen            | false    | false           | false                     | as they say           |
//
// Ownership:      a member of the queue.
// Thread safety:  try_…, count and handed by any thread; …_locked under the owner's lock, always the same one.
// Blocking:       never.
// Ordering:       what came before a give is visible after the freeze_locked or take that saw it.
// Limits:         2^31 - 1 of each.
// Cost:           8 bytes; one compare-exchange each, none under the lock.
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
    std::uint64_t seen = word_.load(std::memory_order_relaxed);  // a guess: the exchange decides
    do {
      if ((seen & low_half) >= depth) {  // the frozen bit is above every depth
        return false;
      }
      // acquire pairs with the release of the give that made room.
    } while (!word_.compare_exchange_weak(seen, seen + 1, std::memory_order_acquire, std::memory_order_relaxed));
    return true;
  }

  // Hands a taken slot to a worker if fewer than `most` are handed and the counter is open.
  [[nodiscard]] bool try_hand(std::uint32_t most) noexcept {
    std::uint64_t seen = word_.load(std::memory_order_relaxed);
    do {
      if ((seen & frozen_bit) != 0 || (seen >> 32) >= most) {
        return false;
      }
      // acquire pairs with the release of the give that made room; release keeps the attempt before whoever freezes.
    } while (
        !word_.compare_exchange_weak(seen, seen + one_handed, std::memory_order_acq_rel, std::memory_order_relaxed));
    return true;
  }

  // Gives one back unless frozen.
  [[nodiscard]] bool try_give() noexcept { return try_sub(1); }
  // The same for one that is handed.
  [[nodiscard]] bool try_give_handed() noexcept { return try_sub(1 + one_handed); }

  // From here on the counts change under the lock only. Idempotent.
  void freeze_locked() noexcept {
    // relaxed: only holders of the lock change the bit. While it is clear the others' exchanges go on, so it is set by
    // a read-modify-write; acquire pairs with the release of the gives before it.
    if ((word_.load(std::memory_order_relaxed) & frozen_bit) == 0) {
      word_.fetch_or(frozen_bit, std::memory_order_acquire);
    }
  }
  // Opens it again. Idempotent.
  void thaw_locked() noexcept {
    const std::uint64_t seen = word_.load(std::memory_order_relaxed);
    if ((seen & frozen_bit) != 0) {
      word_.store(seen & ~frozen_bit, std::memory_order_release);  // pairs with the acquire of try_take
    }
  }

  // All of these require: frozen. Nobody else writes the word then, so they need no exchange.
  void take_locked(std::uint32_t slots) noexcept {
    const std::uint64_t seen = frozen_word();
    SLUICE_CHECK((seen & limit) + slots <= limit, "too many slots");
    word_.store(seen + slots, std::memory_order_release);
  }
  void hand_locked() noexcept {
    const std::uint64_t seen = frozen_word();
    SLUICE_CHECK((seen >> 32) < (seen & limit), "more handed than taken");
    word_.store(seen + one_handed, std::memory_order_release);
  }
  void give_locked() noexcept {
    const std::uint64_t seen = frozen_word();
    SLUICE_CHECK((seen & limit) != 0, "a slot was given back twice");
    word_.store(seen - 1, std::memory_order_release);
  }
  void give_handed_locked() noexcept {
    const std::uint64_t seen = frozen_word();
    SLUICE_CHECK((seen & limit) != 0 && (seen >> 32) != 0, "a slot was given back twice");
    word_.store(seen - 1 - one_handed, std::memory_order_release);
  }

  // Taken slots, and those of them that are handed. Exact under the lock while frozen; otherwise stale when it returns.
  [[nodiscard]] std::uint32_t count() const noexcept {
    return static_cast<std::uint32_t>(word_.load(std::memory_order_acquire) & limit);
  }
  [[nodiscard]] std::uint32_t handed() const noexcept {
    return static_cast<std::uint32_t>(word_.load(std::memory_order_acquire) >> 32);
  }

 private:
  static constexpr std::uint64_t frozen_bit = std::uint64_t{1} << 31;
  static constexpr std::uint64_t low_half = (std::uint64_t{1} << 32) - 1;
  static constexpr std::uint64_t one_handed = std::uint64_t{1} << 32;

  [[nodiscard]] bool try_sub(std::uint64_t amount) noexcept {
    std::uint64_t seen = word_.load(std::memory_order_relaxed);
    do {
      if ((seen & frozen_bit) != 0) {
        return false;
      }
      SLUICE_CHECK((seen & limit) != 0 && (seen >> 32) >= (amount >> 32), "a slot was given back twice");
      // release: whoever freezes and finds no slot taken sees all that was done in this one.
    } while (!word_.compare_exchange_weak(seen, seen - amount, std::memory_order_release, std::memory_order_relaxed));
    return true;
  }
  [[nodiscard]] std::uint64_t frozen_word() const noexcept {
    const std::uint64_t seen = word_.load(std::memory_order_relaxed);
    SLUICE_CHECK((seen & frozen_bit) != 0, "a change under the lock of an open counter");
    return seen;
  }

  typename Sync::template atomic<std::uint64_t> word_{0};
};

using slot_counter = basic_slot_counter<os_sync>;

}  // namespace sluice
