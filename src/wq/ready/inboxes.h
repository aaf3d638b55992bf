// inboxes: the inboxes of one account, one for each lane of the cores, and in which of them there are works.
//
// Submitters on different cores write different words, and what a core submits stays together. Who looks for works reads
// one word, `filled`, with a bit for each inbox. None is missing of those whose put is over: each putter looks whether its
// bit is there, and puts it there if not, for whoever put the first work may be slow to do so.
//
//   a putter                              the taker
//   puts its works        (seq_cst)       takes the bit away    (seq_cst)
//   no bit?               (seq_cst)       takes the works
//     puts it there
//
// Either the taker has the works, or the putter finds the bit gone. A bit may stand for an inbox that is empty.
//
// Thread safety:  any thread puts; takers are serialised by the account's lock.
// Blocking:       never.
// Ordering:       as for an inbox: "put, then look who runs" against "stop running, then look for works" loses nothing (P5).
// Cost:           a line per lane and one for the bits; a put is one compare-exchange and a load, and one instruction more
//                 when the inbox had been taken.
// Invariants:     W3 P5
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "wq/ready/inbox.h"

namespace sluice::detail {

template <class Sync, unsigned Lanes>
class basic_inboxes {
 public:
  // Adds works of one lane that are linked newest → … → oldest. Returns false if there is no room for all.
  [[nodiscard]] bool put(unsigned lane, work& newest, work& oldest, std::size_t n) noexcept {
    if (!inboxes_[lane].works.put(newest, oldest, n)) {
      return false;
    }
    if (!filled(lane)) {  // seq_cst, both: see above
      filled_.fetch_or(bit_of(lane), std::memory_order_seq_cst);
    }
    return true;
  }

  [[nodiscard]] bool empty() const noexcept { return filled_.load(std::memory_order_seq_cst) == 0; }
  [[nodiscard]] bool filled(unsigned lane) const noexcept {
    return (filled_.load(std::memory_order_seq_cst) & bit_of(lane)) != 0;
  }
  // How many are here; a hint.
  [[nodiscard]] std::size_t size() const noexcept {
    std::size_t all = 0;
    for_each_filled([&](unsigned lane) { all += inboxes_[lane].works.size(); });
    return all;
  }

  // Takes all of one lane, linked newest → … → oldest, and says how many. Null if there are none. Requires: who takes is
  // alone.
  [[nodiscard]] work* take_newest(unsigned lane, std::size_t& count) noexcept {
    basic_inbox<Sync>& from = inboxes_[lane].works;
    if (!filled(lane)) {
      return from.take_newest_seen(count);  // it may be full all the same, its bit on the way
    }
    filled_.fetch_and(~bit_of(lane), std::memory_order_seq_cst);
    return from.take_newest(count);
  }

  // Calls visit(lane) for each that may hold works.
  template <class Visit>
  void for_each_filled(Visit visit) const noexcept {
    for (std::uint32_t left = filled_.load(std::memory_order_seq_cst); left != 0; left &= left - 1) {
      visit(static_cast<unsigned>(std::countr_zero(left)));
    }
  }

 private:
  static_assert(Lanes <= 32, "a bit for each");

  struct alignas(64) own_line {
    basic_inbox<Sync> works;
  };
  [[nodiscard]] static constexpr std::uint32_t bit_of(unsigned lane) noexcept { return std::uint32_t{1} << lane; }

  std::array<own_line, Lanes> inboxes_;
  // Written when an empty inbox gets works, and when they are taken.
  alignas(64) typename Sync::template atomic<std::uint32_t> filled_{0};
};

}  // namespace sluice::detail
