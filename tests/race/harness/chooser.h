// chooser: the source of every decision of a schedule: a seed, or a path through the tree of all schedules.
//
// An agent is what may make the next step. Agents are bits of one word: bit f runs fiber f; bit 8 + f lets the oldest
// store out of the buffer of fiber f; bit 16 + f lets the deadline pass on which f sleeps; bit 24 + f wakes it for no
// reason.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "race/harness/clock.h"
#include "race/harness/options.h"

namespace race::detail {

using agents = std::uint32_t;

inline constexpr unsigned buffer_bit = 8;
inline constexpr unsigned timer_bit = 16;
inline constexpr unsigned spurious_bit = 24;

class chooser {
 public:
  explicit chooser(const options& how) : options_(how) {}

  // Begins a schedule that is a function of this number alone.
  void begin_random(std::uint64_t seed);
  // Begins the next path of the tree. Returns false if the last one has been taken.
  [[nodiscard]] bool begin_path();
  // Begins the schedule that name() named.
  void begin_replay(std::string_view name);

  // The next step: a bit of `enabled`, which is not empty. `current` is the fiber that made the last step.
  [[nodiscard]] unsigned pick(agents enabled, unsigned current);
  // A number below `count`.
  [[nodiscard]] std::uint32_t decide(std::uint32_t count);
  // True once in `rarity` times at random; both ways in the tree.
  [[nodiscard]] bool rarely(std::uint32_t rarity);
  // The fiber spins: others first.
  void yielded(unsigned fiber);

  // What begin_random or begin_replay takes to come here again: the seed, or path: and a digit per decision. Writes at
  // most `bytes` characters, no terminator; returns how many. Does not allocate.
  std::size_t name(char* out, std::size_t bytes) const noexcept;
  // The scenario took another way on the same decisions: it depends on something that is not decided here.
  [[nodiscard]] bool diverged() const noexcept { return diverged_; }

 private:
  // Whether decisions come from the seed, or from the path.
  enum class source : std::uint8_t { seed, tree };
  enum class temper : std::uint8_t { uniform, sticky, priorities };

  struct branch {
    std::uint8_t taken;
    std::uint8_t count;
  };

  std::uint64_t next_random() noexcept;
  [[nodiscard]] std::uint32_t below(std::uint32_t count) noexcept;
  [[nodiscard]] unsigned nth_bit(agents set, std::uint32_t n) const noexcept;
  [[nodiscard]] unsigned pick_random(agents enabled, unsigned current);
  [[nodiscard]] unsigned pick_by_priority(agents enabled, unsigned current);
  [[nodiscard]] unsigned pick_in_tree(agents enabled, unsigned current);

  options options_;
  source source_ = source::seed;
  std::uint32_t preemptions_left_ = 0;

  std::uint64_t seed_ = 0;
  std::uint64_t random_ = 0;
  temper temper_ = temper::uniform;
  std::uint32_t stickiness_ = 1;
  std::array<std::int32_t, 2 * max_fibers> priority_{};
  std::int32_t lowest_ = 0;
  std::array<std::uint32_t, 3> change_points_{};
  std::uint32_t steps_ = 0;

  std::vector<branch> path_;
  std::size_t depth_ = 0;
  bool started_ = false;
  bool diverged_ = false;
};

}  // namespace race::detail
