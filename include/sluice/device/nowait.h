// nowait: whether non-blocking transfers (RWF_NOWAIT) are worth an attempt: does the file take them, do they pay, does
// its file system keep its word?
//
// A file may not know the flag, may answer EAGAIN nearly always (a cold cache), or its file system may say that it will
// not block and block all the same: then a reactor hangs in a disk. Each is learned where it is true, and for a time:
//
// | what              | learned by, for          | learned from                                     | holds for                     |
// |-------------------|--------------------------|--------------------------------------------------|-------------------------------|
// | refused           | nowait_file: one file    | `refusal_limit` refusals in a row                | `refused_rest`                |
// | does not pay      | nowait_file: one file    | more than 90 % of `window` attempts fell short   | `unpaid_rest`                 |
// | lies              | nowait_lane: all files   | late attempts, see below                         | `lie_rest`, doubled by each   |
// |                   | of one file system       |                                                  | further lie, `most_rest` at most |
//
// While it holds no attempt is made. After it attempts are made again, and judged again.
//
// An attempt is late if it took longer than `late_after` and its thread slept in it. A thread that was only kept from
// its CPU by others did not sleep: a busy machine is no lie. The first `watched` attempts of a lane are timed, then
// one in `sampled` of each file; after a late one the next `watched` again. `late_limit` late ones in one such watch
// are a lie; in the first watch after a lie one is enough. A watch without a late one ends the doubling.
//
//   nowait_trial now = file.begin(lane, clock);
//   if (now.go) { n = preadv2(… RWF_NOWAIT); file.end(lane, now, n == all ? nowait_outcome::all : nowait_outcome::part, clock); }
//
// Ownership:      a nowait_file is a member of its device, one for each direction. A record (two lanes) is counted by its
//                 file_devices and by the table. The table forgets one that no device uses when it needs the place.
// Thread safety:  any thread.
// Blocking:       never; nowait_table takes a lock, when a device is made and when it is listed.
// Limits:         `max_records` in the table; with more in use at once the rest learn each for themselves.
// Cost:           an attempt: two read-modify-writes on words of the file; a timed one: two readings of the clock and two
//                 calls of getrusage(2). One that is not made: a reading of the clock.
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
  refused,  // the kernel or the file system does not know the flag, or the request
};

// Counted since the start. One figure after the other, not one instant.
struct nowait_figures {
  nowait_state state = nowait_state::unknown;
  std::uint64_t hits = 0;     // attempts that moved all
  std::uint64_t punts = 0;    // that did not
  std::uint64_t skipped = 0;  // not made
};

// What one attempt was let go with.
struct nowait_trial {
  bool go = false;
  bool timed = false;
  steady_time began;
  std::uint64_t sleeps = 0;  // of the thread, so far
};

// Until when attempts rest.
class nowait_rest {
 public:
  // Whether the rest is over, or there was none. The one call that finds it over gets `resumed`.
  enum class answer : std::uint8_t { none, goes_on, resumed };
  [[nodiscard]] answer ask(clock_seam& clock) noexcept;
  void begin(steady_time until) noexcept;
  // A rest has begun, and no attempt has found it over.
  [[nodiscard]] bool begun() const noexcept { return until_.load(std::memory_order_relaxed) != none; }

 private:
  static constexpr std::int64_t none = 0;

  // A time in ns. Relaxed everywhere: a thread that sees an older value makes one attempt too many or too few.
  std::atomic<std::int64_t> until_{none};
};

// Of one file system or block device, in one direction: does it keep its word?
class nowait_lane {
 public:
  static constexpr std::int32_t watched = 64;     // attempts
  static constexpr std::uint32_t late_limit = 4;  // attempts
  static constexpr std::chrono::nanoseconds late_after = std::chrono::milliseconds(1);
  static constexpr std::chrono::nanoseconds lie_rest = std::chrono::seconds(1);
  static constexpr std::chrono::nanoseconds most_rest = std::chrono::seconds(64);

  nowait_lane() = default;
  nowait_lane(const nowait_lane&) = delete;
  nowait_lane& operator=(const nowait_lane&) = delete;

  // Whether to try. `sample`: it is to be timed, also outside a watch. Requires: end() follows if it says so.
  [[nodiscard]] nowait_trial begin(clock_seam& clock, bool sample) noexcept;
  void end(const nowait_trial& now, clock_seam& clock) noexcept;

  [[nodiscard]] bool lies() const noexcept { return rest_.begun(); }
  // Attempts that were timed and late, since the start.
  [[nodiscard]] std::uint64_t late() const noexcept { return late_.load(std::memory_order_relaxed); }

 private:
  void note_late(clock_seam& clock) noexcept;

  // All synchronise themselves: hints and figures. Relaxed: a thread that sees an older value makes one attempt too
  // many or too few.
  nowait_rest rest_;
  std::atomic<std::int32_t> watch_{watched};   // attempts still to be timed
  std::atomic<std::uint32_t> recent_late_{0};  // in this watch
  std::atomic<std::uint32_t> late_limit_{late_limit};
  std::atomic<std::uint32_t> lies_in_a_row_{0};  // without a watch in between that had no late one
  std::atomic<std::uint64_t> late_{0};
};

// Of one file, in one direction: does it take the flag, does an attempt pay?
class nowait_file {
 public:
  static constexpr std::uint32_t window = 256;       // attempts
  static constexpr std::uint32_t few_hits = 25;      // of a window: fewer do not pay
  static constexpr std::uint32_t refusal_limit = 4;  // in a row. One may be about the request, not about the flag
  static constexpr std::uint64_t sampled = 64;       // attempts: one of them is timed
  static constexpr std::chrono::nanoseconds unpaid_rest = std::chrono::milliseconds(100);
  static constexpr std::chrono::nanoseconds refused_rest = std::chrono::seconds(10);

  nowait_file() = default;
  nowait_file(const nowait_file&) = delete;
  nowait_file& operator=(const nowait_file&) = delete;

  // Whether to try. Requires: end() follows if it says so, with the same lane.
  [[nodiscard]] nowait_trial begin(nowait_lane& lane, clock_seam& clock) noexcept;
  void end(nowait_lane& lane, const nowait_trial& now, nowait_outcome outcome, clock_seam& clock) noexcept;
  // Counts an attempt that was made plainly, since the file has no flag to learn about.
  void count_plain(nowait_outcome outcome) noexcept { count(outcome); }

  [[nodiscard]] nowait_figures figures(const nowait_lane& lane) const noexcept;

 private:
  void count(nowait_outcome outcome) noexcept;
  void judge_refusal(nowait_outcome outcome, clock_seam& clock) noexcept;
  void judge_window(nowait_outcome outcome, clock_seam& clock) noexcept;
  void rest(nowait_state why, steady_time until) noexcept;

  // As in nowait_lane.
  nowait_rest rest_;
  std::atomic<nowait_state> state_{nowait_state::unknown};
  std::atomic<std::uint32_t> refusals_{0};  // in a row
  // The window: attempts in the lower half, those that fell short in the upper one. One word: a window is judged by
  // what was counted in it, whichever thread ends it.
  std::atomic<std::uint64_t> window_{0};
  std::atomic<std::uint64_t> hits_{0};
  std::atomic<std::uint64_t> punts_{0};
  std::atomic<std::uint64_t> skipped_{0};
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
  bool reads_lie = false;
  bool writes_lie = false;
  std::uint64_t late_reads = 0;
  std::uint64_t late_writes = 0;
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
