// inbox: where submitters leave works without a lock, and from where whoever holds the account's lock takes them all.
//
// One word: the newest work and how many there are. Works hang below each other, newest first; the taker turns the
// chain round. A submitter touches nothing of an earlier work (it may be gone), so there is no ABA: an address that comes
// back is as good as the first one.
//
// Thread safety:  any thread puts; takers are serialised by the account's lock.
// Blocking:       never.
// Ordering:       what came before put() is visible after the take() that returns the work. put() and empty() are
//                 sequentially consistent: "put, then look who runs" against "stop running, then look for works" loses
//                 nothing (P5).
// Limits:         capacity works, then the submitter empties it into the account's queue itself. That bounds how long a
//                 take holds the lock.
// Cost:           8 bytes; a put is one compare-exchange, a take one exchange.
// Invariants:     W3 (nothing of a work is read after its put)
#pragma once

#include <cstddef>
#include <cstdint>

#include "sluice/base/check.h"

#include "work_list.h"

namespace sluice::detail {

template <class Sync, std::size_t Capacity = 512>
class basic_inbox {
 public:
  static constexpr std::size_t capacity = Capacity;

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

  [[nodiscard]] bool empty() const noexcept { return word_.load(std::memory_order_seq_cst) == 0; }
  // How many are here; a hint.
  [[nodiscard]] std::size_t size() const noexcept { return count_of(word_.load(std::memory_order_relaxed)); }

  // Takes all, linked newest → … → oldest (nothing else of them is written: keys stay where they are), and says how
  // many. Null if there are none. Requires: who takes is alone.
  [[nodiscard]] work* take_newest(std::size_t& count) noexcept {
    // acquire pairs with put(); release: a put that finds it empty sees what the taker did before.
    const std::uint64_t all = word_.exchange(0, std::memory_order_acq_rel);
    count = count_of(all);
    return newest_of(all);
  }
  // The same, if at a glance there are any.
  [[nodiscard]] work* take_newest_seen(std::size_t& count) noexcept {
    count = 0;
    return word_.load(std::memory_order_relaxed) != 0 ? take_newest(count) : nullptr;  // relaxed: a glance
  }

 private:
  static constexpr unsigned address_bits = 48;
  static constexpr int turns = 8;

  // Somebody on another core was faster, and is about to put more. Were the two to take turns, each put would wait for the
  // word to come over; so he has it for a while, and then this one.
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

  typename Sync::template atomic<std::uint64_t> word_{0};
};

}  // namespace sluice::detail
