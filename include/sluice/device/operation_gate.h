// operation_gate: counts operations under way and closes in the same word, so that "is it still open" and "one more"
// are one step.
//
// try_enter either counts an operation in or finds the gate closed; there is no moment between the two. Exactly one
// call learns that the gate is closed and empty: the close() that found nobody inside, or else the leave() of the last.
//
// Ownership:      a member of what it protects.
// Thread safety:  any thread; leave() once per successful try_enter().
// Blocking:       never.
// Ordering:       what any operation did before leave() is visible to whoever learns `last`.
// Limits:         2^31 - 1 operations at once (checked).
// Cost:           4 bytes; enter one compare-exchange, leave one fetch-sub.
// Destroy:        by, or after, whoever learned `last`.
// Invariants:     D2 D3
#pragma once

#include <cstdint>

#include "sluice/base/check.h"
#include "sluice/base/sync.h"

namespace sluice {

enum class gate_exit : std::uint8_t {
  others_inside,  // somebody else will learn `last`
  last,           // closed and empty: the caller, and nobody else, ends what the gate protects
  not_closing,    // leave: still open; close: was closed before
};

template <class Sync>
class basic_operation_gate {
 public:
  basic_operation_gate() = default;
  basic_operation_gate(const basic_operation_gate&) = delete;
  basic_operation_gate& operator=(const basic_operation_gate&) = delete;

  // Counts an operation in. Returns false if the gate is closed.
  [[nodiscard]] bool try_enter() noexcept {
    std::uint32_t seen = word_.load(std::memory_order_relaxed);  // only a guess: the exchange below decides
    do {
      if ((seen & closed_bit) != 0) {
        return false;
      }
      SLUICE_CHECK(seen != limit, "too many operations at once");
      // acquire: an operation sees what was set up before the gate was handed to its thread and nothing of a later
      // close.
    } while (!word_.compare_exchange_weak(seen, seen + 1, std::memory_order_acquire, std::memory_order_relaxed));
    return true;
  }

  // Ends an operation that try_enter() let in.
  [[nodiscard]] gate_exit leave() noexcept {
    // acq_rel: releases this operation's work to the last one out, and acquires everybody else's if that is us.
    const std::uint32_t before = word_.fetch_sub(1, std::memory_order_acq_rel);
    SLUICE_CHECK((before & limit) != 0, "leave without a successful try_enter");
    if ((before & closed_bit) == 0) {
      return gate_exit::not_closing;
    }
    return before == (closed_bit | 1) ? gate_exit::last : gate_exit::others_inside;
  }

  // No try_enter() succeeds from here on.
  [[nodiscard]] gate_exit close() noexcept {
    // acq_rel: as in leave(), for the case that nobody is inside.
    const std::uint32_t before = word_.fetch_or(closed_bit, std::memory_order_acq_rel);
    if ((before & closed_bit) != 0) {
      return gate_exit::not_closing;
    }
    return before == 0 ? gate_exit::last : gate_exit::others_inside;
  }

  [[nodiscard]] bool closed() const noexcept { return (word_.load(std::memory_order_acquire) & closed_bit) != 0; }

 private:
  static constexpr std::uint32_t closed_bit = 1U << 31;
  static constexpr std::uint32_t limit = closed_bit - 1;

  typename Sync::template atomic<std::uint32_t> word_{0};
};

using operation_gate = basic_operation_gate<os_sync>;

}  // namespace sluice
