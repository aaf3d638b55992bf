// nowait: what is known about non-blocking transfers (RWF_NOWAIT) on a file system: do they work, pay, keep their word?
//
// A file system may not know them, may answer EAGAIN nearly always (a cold cache), or may say that it will not block and
// block all the same: then a reactor hangs in a disk. One lane per file system and direction learns it from what happens.
//
// | state        | attempts         | becomes                                                                        |
// |--------------|------------------|--------------------------------------------------------------------------------|
// | unknown      | made             | works, when the kernel takes one; refused, when it does not know the flag      |
// | works        | made             | does_not_pay, when more than 90 % of `window` fell short; lies, see below      |
// | refused      | none             |                                                                                |
// | does_not_pay | none             | unknown, after `rest` that were not made                                       |
// | lies         | none             | unknown, after `lie_rest` that were not made; twice as many each time, 256 at  |
// |              |                  | most                                                                           |
//
// A lie is an attempt that took longer than `late_after`. The first `watched` attempts of a lane are timed, then one in
// `sampled`; after a late one the next `watched` again. `late_limit` late ones in one such watch are a lie (a busy machine
// makes one late now and then); in the first watch after a lie one is enough.
//
//   nowait_lane::trial now = lane.begin(clock);
//   if (now.go) { n = preadv2(… RWF_NOWAIT); lane.end(now, n == all ? nowait_outcome::all : nowait_outcome::part, clock); }
//
// Ownership:      a record (two lanes) is counted by its file_devices and by the table. The table forgets one that nobody
//                 uses when it needs the place.
// Thread safety:  any thread.
// Blocking:       never; nowait_table takes a lock, when a device is made and when it is listed.
// Limits:         `max_records` in the table; with more in use at once the rest learn each for themselves.
// Cost:           an attempt: one read-modify-write, two if it fell short; timed: two clock readings.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include "sluice/base/clock.h"
#include "sluice/base/mutex.h"
#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"

namespace sluice {

enum class nowait_state : std::uint8_t { unknown, works, refused, does_not_pay, lies };

// For people.
[[nodiscard]] const char* to_string(nowait_state state) noexcept;

enum class nowait_outcome : std::uint8_t {
  all,      // moved everything
  part,     // moved less, or failed in a way that says nothing about the flag
  refused,  // the kernel or the file system does not know the flag
};

// Counted since the start. One figure after the other, not one instant.
struct nowait_figures {
  nowait_state state = nowait_state::unknown;
  std::uint64_t hits = 0;     // attempts that moved all
  std::uint64_t punts = 0;    // that did not
  std::uint64_t late = 0;     // of those that were timed: took longer than late_after
  std::uint64_t skipped = 0;  // not made
};

class nowait_lane {
 public:
  static constexpr std::uint64_t window = 256;   // attempts
  static constexpr std::uint64_t few_hits = 25;  // of a window: fewer do not pay
  static constexpr std::uint64_t rest = 4096;    // attempts not made
  static constexpr std::uint64_t lie_rest = 65536;
  static constexpr std::uint64_t sampled = 64;
  static constexpr std::int32_t watched = 64;
  static constexpr std::uint32_t late_limit = 4;
  static constexpr std::chrono::nanoseconds late_after = std::chrono::milliseconds(1);

  struct trial {
    bool go = false;
    bool timed = false;
    steady_time began;
  };

  nowait_lane() = default;
  nowait_lane(const nowait_lane&) = delete;
  nowait_lane& operator=(const nowait_lane&) = delete;

  // Whether to try. Requires: end() follows if it says so.
  [[nodiscard]] trial begin(clock_seam& clock) noexcept;
  void end(const trial& now, nowait_outcome outcome, clock_seam& clock) noexcept;

  [[nodiscard]] nowait_state state() const noexcept { return state_.load(std::memory_order_relaxed); }
  [[nodiscard]] nowait_figures figures() const noexcept;

 private:
  void judge_time(std::chrono::nanoseconds took) noexcept;
  void judge_window(std::uint64_t punts) noexcept;
  void shut(nowait_state why, std::uint64_t for_attempts) noexcept;
  void reopen(nowait_state from) noexcept;

  // All synchronise themselves: hints and figures. Relaxed but where it says otherwise: a thread that sees an older value
  // makes one attempt too many or too few.
  std::atomic<nowait_state> state_{nowait_state::unknown};
  std::atomic<std::int32_t> watch_{watched};   // attempts still to be timed
  std::atomic<std::uint32_t> recent_late_{0};  // in this watch
  std::atomic<std::uint32_t> late_limit_{late_limit};
  std::atomic<std::uint32_t> times_lied_{0};
  std::atomic<std::uint64_t> resume_at_{0};  // of skipped_, while shut; published with state_
  std::atomic<std::uint64_t> skipped_{0};
  std::atomic<std::uint64_t> late_{0};
  std::atomic<std::uint64_t> punts_{0};
  std::atomic<std::uint64_t> window_punts_{0};  // punts_ when the window began
  std::atomic<std::uint64_t> calls_{0};
};

// What is known about one file system, or one block device.
class nowait_record : public kref<nowait_record> {
 public:
  explicit nowait_record(std::uint64_t id) noexcept : device_(id) {}

  [[nodiscard]] std::uint64_t device() const noexcept { return device_; }

  alignas(64) nowait_lane read;
  alignas(64) nowait_lane write;

 private:
  friend struct delete_release;
  ~nowait_record() = default;

  const std::uint64_t device_;
};

struct nowait_report {
  std::uint64_t device = 0;  // st_dev of the file system; of a block device its st_rdev with bit 63 set
  nowait_figures read;
  nowait_figures write;
};

class nowait_table {
 public:
  static constexpr std::size_t max_records = 64;

  nowait_table() = default;
  nowait_table(const nowait_table&) = delete;
  nowait_table& operator=(const nowait_table&) = delete;

  // That of the process.
  [[nodiscard]] static nowait_table& process() noexcept;

  // The record of a device, made if there is none. Null if there is no memory.
  [[nodiscard]] ref<nowait_record> of(std::uint64_t device) noexcept;
  // Returns how many there are; fills what fits.
  std::size_t list(std::span<nowait_report> into) const noexcept;

 private:
  mutable mutex lock_;
  std::array<ref<nowait_record>, max_records> records_ SLUICE_GUARDED_BY(lock_);
};

}  // namespace sluice
