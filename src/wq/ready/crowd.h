// crowd: whether an account is so empty that a submitter need not add up what waits in all accounts of its class.
//
// Far from full, submitters read one word that hardly changes, instead of the counts that workers write all the time.
// `crowded` is false only while the listed works and the works that wait for keys are each at most half of the account's share.
// A thread that makes one of the two larger sets the flag after that; a thread that clears the flag looks at them after that.
// So one of the two sees the other.
//
// Thread safety:  any thread; note() under the account's lock.
// Invariants:     a class never holds more than its queue_limit by more than what is submitted at one moment.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace sluice::detail {

template <class Sync>
class basic_crowd {
 public:
  // share: while at most this many works wait here there is room for more, whatever the other accounts hold. 0: never.
  explicit basic_crowd(std::size_t share) noexcept : share_(share), crowded_(share == 0) {}

  // seq_cst, both: a submitter that waits for room counts itself first and then reads these (admission.h).
  [[nodiscard]] bool crowded() const noexcept { return crowded_.load(std::memory_order_seq_cst); }
  // Works that wait for their keys; a hint.
  [[nodiscard]] std::size_t keyed() const noexcept { return keyed_.load(std::memory_order_seq_cst); }

  void add_keyed(std::size_t n) noexcept {
    // seq_cst: partner of a submitter that waits for room, and of note().
    if (keyed_.fetch_add(n, std::memory_order_seq_cst) + n > share_ / 2) {
      set();
    }
  }
  void sub_keyed(std::size_t n) noexcept { keyed_.fetch_sub(n, std::memory_order_seq_cst); }  // seq_cst: as above

  // `listed` works are in the account's queue now.
  void note(std::size_t listed) noexcept {
    if (listed > share_ / 2) {
      set();
    } else if (share_ != 0 && crowded() && listed + keyed() < share_ / 4) {
      crowded_.store(false, std::memory_order_seq_cst);
      if (keyed_.load(std::memory_order_seq_cst) > share_ / 2) {
        set();
      }
    }
  }

 private:
  void set() noexcept {
    if (!crowded_.load(std::memory_order_seq_cst)) {
      crowded_.store(true, std::memory_order_seq_cst);
    }
  }

  const std::size_t share_;
  typename Sync::template atomic<bool> crowded_;
  alignas(64) typename Sync::template atomic<std::uint64_t> keyed_{0};
};

}  // namespace sluice::detail
