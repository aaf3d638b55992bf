// inbox: where submitters leave works without a lock, and from where the holder of a lock takes them all.
//
// One word: the newest work, and how many there are. Works are linked newest first; the taker turns the list round. A
// submitter touches nothing of an earlier work (it may be gone), so there is no ABA: an address that comes back is as good as
// the first one.
//
// The taker may leave room for fewer than `capacity` works: the count then starts at what is not to be used, so that no put
// can see an old limit. A key table does so when it lacks memory for keys (key_table.h).
//
// Thread safety:  any thread puts; the takers' lock (the account's, or the key table's order) serialises takers.
// Blocking:       never.
// Ordering:       what came before put() is visible after the take that returns the work. put() and empty() are
//                 sequentially consistent: "put, then read the running count" against "stop running, then look for works" loses
//                 nothing (P5).
// Limits:         capacity works; that bounds how long a take holds the lock.
// Cost:           16 bytes; a put is one compare-exchange, a take one exchange.
// Invariants:     W3 (nothing of a work is read after its put)
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "sluice/base/check.h"

#include "wq/item/work_fifo.h"

namespace sluice::detail {

template <class Sync, std::size_t Capacity = 512>
class basic_inbox {
 public:
  static constexpr std::size_t capacity = Capacity;

  explicit basic_inbox(std::size_t room = capacity) noexcept
      : word_(unusable_word(capacity - room)), unusable_(capacity - room) {}

  // Adds works that are linked newest → … → oldest through next. Returns false if there is no room for all.
  [[nodiscard]] bool put(work& newest, work& oldest, std::size_t n) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(&newest);
    SLUICE_DCHECK(address >> address_bits == 0, "user space ends below 2^48");
    for (std::uint64_t seen = word_.load(std::memory_order_relaxed);; seen = look_later()) {  // relaxed: only a guess
      const std::size_t all = count_of(seen) + n;
      if (all > capacity) {
        return false;
      }
      work_access::next(oldest) = newest_of(seen);
      const std::uint64_t wanted = static_cast<std::uint64_t>(all) << address_bits | address;
      // seq_cst: partner of the running count, see the contract.
      if (word_.compare_exchange_weak(seen, wanted, std::memory_order_seq_cst, std::memory_order_relaxed)) {
        return true;
      }
    }
  }

  [[nodiscard]] bool empty() const noexcept { return newest_of(word_.load(std::memory_order_seq_cst)) == nullptr; }
  // How many are here; a hint. seq_cst: as account_works::works_waiting().
  [[nodiscard, gnu::always_inline]] inline std::size_t size() const noexcept {
    const std::uint64_t word = word_.load(std::memory_order_seq_cst);
    const std::size_t all = count_of(word);
    return newest_of(word) == nullptr ? 0 : all - std::min(all, unusable_.load(std::memory_order_relaxed));
  }

  // Takes all, linked newest → … → oldest (nothing else of them is written: keys stay where they are), and says how many.
  // From here on there is room for `room` works. Null if there are none. Requires: the takers' lock.
  [[nodiscard]] work* take_newest(std::size_t& count, std::size_t room = capacity) noexcept {
    // acquire pairs with put(); release: a put that finds it empty sees what the taker did before.
    const std::uint64_t all = word_.exchange(unusable_word(capacity - room), std::memory_order_acq_rel);
    count = count_of(all) - unusable_.load(std::memory_order_relaxed);  // relaxed: written under the takers' lock
    if (unusable_.load(std::memory_order_relaxed) != capacity - room) [[unlikely]] {
      unusable_.store(capacity - room, std::memory_order_relaxed);
    }
    return newest_of(all);
  }
  // The same, if a glance shows any.
  [[nodiscard]] work* take_newest_seen(std::size_t& count) noexcept {
    count = 0;
    return newest_of(word_.load(std::memory_order_relaxed)) != nullptr ? take_newest(count)
                                                                       : nullptr;  // relaxed: a glance
  }

 private:
  static constexpr unsigned address_bits = 48;
  static constexpr int turns = 8;

  // A submitter on another core was faster, and is about to put more. If the two took turns, each put would wait for the
  // word's cache line. So the other one keeps the line for a while, and then this one.
  [[gnu::noinline]] std::uint64_t look_later() const noexcept {
    for (int turn = 0; turn < turns; ++turn) {
      Sync::relax();
    }
    return word_.load(std::memory_order_relaxed);  // relaxed: only a guess for the exchange
  }

  [[nodiscard]] static std::size_t count_of(std::uint64_t word) noexcept { return word >> address_bits; }
  [[nodiscard]] static work* newest_of(std::uint64_t word) noexcept {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the count stands in the address's free bits
    return reinterpret_cast<work*>(word & ((std::uint64_t{1} << address_bits) - 1));
  }

  [[nodiscard]] static std::uint64_t unusable_word(std::size_t places) noexcept {
    return static_cast<std::uint64_t>(places) << address_bits;
  }

  typename Sync::template atomic<std::uint64_t> word_;
  typename Sync::template atomic<std::size_t> unusable_;  // where the count begins; the takers'
};

}  // namespace sluice::detail
