// race_core: cores on the deterministic scheduler, with numbers added to by restartable sequences, for a basic_gate.
//
// It promises what restartable_core (sluice/ref/this_core.h) promises and nothing more:
//   - a sequence loads the flag, loads the number, and stores the sum; between these anybody may do anything;
//   - the store does not happen if, since the sequence began, another began on the same core, or somebody fenced: the
//     sequence starts again (the one instruction that commits is not divided: whoever would come into the middle of it
//     waits for its end);
//   - a fence is ordered after every store that it did not prevent, and every sequence that begins after it is ordered
//     after the fence. Sequences of one core are ordered, by the kernel's switch between their threads; others are not.
//
//   race::my_core() = 1;      the fiber moves to core 1
#pragma once

#include <array>
#include <cstdint>

#include "sluice/ref/this_core.h"

#include "race/harness/engine.h"
#include "race/harness/race.h"

namespace race {

namespace detail {

// The kernel's side. Changes only right after an operation of the fiber that changes it, since fibers change places only
// inside operations; a new one for each schedule.
struct sequences {
  enum class state : std::uint8_t { outside, under_way, restarted, committing };
  struct fiber_state {
    state now = state::outside;
    std::uint32_t core = 0;
  };

  // Sends back whoever is in a sequence on `core`, or on any.
  static constexpr std::uint32_t any_core = ~std::uint32_t{0};
  void restart(std::uint32_t core) noexcept {
    for (unsigned other = 0; other < fibers.size(); ++other) {
      fiber_state& of = fibers[other];
      if (other == engine::active()->self_index() || (core != any_core && of.core != core)) {
        continue;
      }
      while (of.now == state::committing) {
        sync::relax();
      }
      if (of.now == state::under_way) {
        of.now = state::restarted;
      }
    }
  }

  std::array<fiber_state, 8> fibers{};
  std::array<std::uint32_t, 8> core_of{};
  atomic<std::uint32_t> fenced{0};  // released by a fence, acquired by the sequences after it
  // Per core: released by a sequence, acquired by the fences and by the core's sequences after it.
  std::array<atomic<std::uint32_t>, 2> committed{};
};

inline sequences* active_sequences = nullptr;

}  // namespace detail

// Make one first thing in each schedule, and keep it as long as the fibers.
class cores {
 public:
  cores() noexcept { detail::active_sequences = &sequences_; }

 private:
  detail::sequences sequences_;
};

// Where the calling fiber runs.
[[nodiscard]] inline std::uint32_t& my_core() noexcept {
  return detail::active_sequences->core_of[detail::engine::active()->self_index()];
}

struct two_cores {
  static std::uint32_t index() noexcept { return my_core(); }
  static std::uint32_t stripes() noexcept { return 2; }
  static std::uint32_t numbers() noexcept { return 2; }

  static bool add(sluice::core_number<sync>* first, std::uint32_t count, const atomic<std::uint32_t>& stop,
                  std::int64_t change) noexcept {
    using state = detail::sequences::state;
    detail::sequences& all = *detail::active_sequences;
    const std::uint32_t core = my_core();
    if (core >= count) {
      return false;
    }
    detail::sequences::fiber_state& me = all.fibers[detail::engine::active()->self_index()];
    for (;;) {
      all.restart(core);  // we run here now, so whoever was in a sequence here does not
      me = {.now = state::under_way, .core = core};
      static_cast<void>(all.fenced.fetch_add(0, std::memory_order_acquire));
      static_cast<void>(all.committed[core].fetch_add(0, std::memory_order_acquire));
      if (stop.load(std::memory_order_relaxed) != 0) {
        me.now = state::outside;
        return false;
      }
      const std::int64_t old = first[core].value.load(std::memory_order_relaxed);
      detail::engine::active()->point(std::source_location::current());
      if (me.now == state::under_way) {
        me.now = state::committing;
        first[core].value.store(old + change, std::memory_order_relaxed);
        static_cast<void>(all.committed[core].fetch_add(1, std::memory_order_release));
        me.now = state::outside;
        return true;
      }
    }
  }

  static void fence() noexcept {
    detail::sequences& all = *detail::active_sequences;
    static_cast<void>(all.fenced.fetch_add(1, std::memory_order_release));
    all.restart(detail::sequences::any_core);
    for (atomic<std::uint32_t>& each : all.committed) {
      static_cast<void>(each.fetch_add(0, std::memory_order_acquire));
    }
  }
};

}  // namespace race
