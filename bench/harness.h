// harness: runs Sluice and its peers side by side, prints one table, and says whether each target is held.
//
// A figure on its own proves nothing: machines differ, and one machine differs from minute to minute. So the contenders
// of a comparison take turns, round by round, and what counts is the median over the rounds of the ratio within a
// round.
//
//   bench::report found("gate");
//   const bench::comparison& enter = found.compare({.name = "enter + leave, 2 threads", .unit = "ns"}, {
//       {"sluice gate", bench::side::ours, [&] { return …one round…; }},
//       {"shared atomic", bench::side::peer, [&] { return …; }}});
//   found.target("gate against a shared atomic", enter.ratio("shared atomic", "sluice gate"), bench::at_least(3.0));
//
// A peer that cannot be run here (a program that is not installed) is given `missing` instead of a round: it is listed
// as not run, with the reason, and the whole experiment fails. It is never left out.
//
// A floor is what the machine allows (a bare system call, a raw queue): it is shown, and targets may name it, but it is
// no peer, so it is never the best of them.
//
// Thread safety:  one thread; rounds may use as many as they like.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

enum class side : std::uint8_t { ours, peer, floor };
enum class better : std::uint8_t { less, more };

// What one round of one contender found.
struct sample {
  double value = 0;   // in the comparison's unit
  double cpu_ns = 0;  // CPU time of the whole process per operation
  double busy = 1;    // CPU time of the round by the cores it asked for; below 1 they slept, or others had them
  double p99 = 0;     // beside a value that is a p50; 0: not measured
};

// What a round's threads do with their cores. Those that never sleep show when somebody else took a core away; such a
// round says nothing of contention and is run again, a few times.
enum class nature : std::uint8_t { may_sleep, never_sleeps };

struct contender {
  std::string name;
  side whose = side::peer;
  std::function<sample()> round;
  std::string missing;  // why it cannot be run; empty if it can
};

struct setup {
  std::string name;
  std::string unit;
  better direction = better::less;
  unsigned rounds = 15;
  nature kind = nature::may_sleep;
};

struct row {
  std::string name;
  side whose = side::peer;
  std::string missing;
  double median = 0;
  double cpu_ns = 0;  // median
  double p99 = 0;     // median of the rounds' own; 0: not measured
  double ratio = 0;   // to the best peer of the comparison; 0 if there is none
  std::vector<double> values;
};

class comparison {
 public:
  comparison(setup how, std::vector<contender> contenders);

  // The median over the rounds of a/b. 0 if one of them was not run. Requires: both names are contenders.
  [[nodiscard]] double ratio(std::string_view a, std::string_view b) const;
  // The same against the best peer of the comparison. 0 if there is none.
  [[nodiscard]] double ratio_to_best(std::string_view name) const { return find(name).ratio; }
  // The median of one contender, of its values or of its p99; 0 if it was not run.
  [[nodiscard]] double median(std::string_view name) const { return find(name).median; }
  [[nodiscard]] double p99(std::string_view name) const { return find(name).p99; }

  [[nodiscard]] const setup& how() const noexcept { return setup_; }
  [[nodiscard]] const std::vector<row>& rows() const noexcept { return rows_; }

 private:
  [[nodiscard]] const row& find(std::string_view name) const;
  void rank();

  setup setup_;
  std::vector<row> rows_;
};

enum class bound_kind : std::uint8_t { at_most, at_least, within };
struct bound {
  bound_kind kind;
  double value;
};
[[nodiscard]] constexpr bound at_most(double value) {
  return {bound_kind::at_most, value};
}
[[nodiscard]] constexpr bound at_least(double value) {
  return {bound_kind::at_least, value};
}
// At most this far from 1, up or down.
[[nodiscard]] constexpr bound within(double value) {
  return {bound_kind::within, value};
}

struct target {
  std::string name;
  double ratio;  // or a figure, where the target is one
  bound limit;
  [[nodiscard]] bool held() const noexcept {
    // A ratio of 0 stands for a contender that was not run: never held.
    if (ratio <= 0) {
      return false;
    }
    switch (limit.kind) {
      case bound_kind::at_most:
        return ratio <= limit.value;
      case bound_kind::at_least:
        return ratio >= limit.value;
      case bound_kind::within:
        return ratio >= 1 - limit.value && ratio <= 1 + limit.value;
    }
    return false;
  }
};

class report {
 public:
  explicit report(std::string experiment) : experiment_(std::move(experiment)) {}

  // Runs the rounds. The result lives as long as the report.
  const comparison& compare(setup how, std::vector<contender> contenders);
  void target(std::string name, double ratio, bound limit) { targets_.push_back({std::move(name), ratio, limit}); }

  // All targets are held and every peer was run.
  [[nodiscard]] bool held() const noexcept;
  [[nodiscard]] std::string table() const;
  // {experiment, rows: [{comparison, contender, ours, floor, unit, median, ratio_to_best_peer, cpu_ns_per_op, p99?,
  //  missing?}], targets: [{name, ratio, target, bound, held}]}
  [[nodiscard]] std::string json() const;

 private:
  std::string experiment_;
  std::vector<std::unique_ptr<comparison>> comparisons_;
  std::vector<bench::target> targets_;
};

// Runs body(thread) in `threads` threads at once, each of which does `operations`, and measures from the first start to
// the last end. value = nanoseconds of wall time per operation of one thread. Threads are pinned one to a core, round
// robin, so that "2 threads" means two cores.
[[nodiscard]] sample timed(unsigned threads, std::uint64_t operations, const std::function<void(unsigned)>& body);

// Runs body once on the calling thread, as free to move between cores as what it drives. value = nanoseconds of wall
// time per operation; cpu_ns counts all threads of the process.
[[nodiscard]] sample timed_once(std::uint64_t operations, const std::function<void()>& body);

// A time per operation in ns as a rate, in millions per second.
[[nodiscard]] sample as_rate(sample found);

// What was found out before the comparison: a figure that one run gives, or, if it says why there is none, a contender
// that could not be run.
[[nodiscard]] contender found_once(std::string name, side whose, sample found, std::string missing = {});

// CPU time of this process so far. One system call, but the kernel adds what another running thread spends only when it
// ticks: up to 4 ms late for each.
[[nodiscard]] std::chrono::nanoseconds cpu_time() noexcept;
// CPU time of all threads that live now, to the moment: each is asked by itself. For spans in which no thread ends, and
// in which next to nothing happens. Throws std::filesystem::filesystem_error where /proc cannot be read.
[[nodiscard]] std::chrono::nanoseconds cpu_time_of_threads();
// The same of the calling thread. What one thread does alone is measured with it: nobody else's work on the machine is in
// it, nor the thread's own sleep.
[[nodiscard]] std::chrono::nanoseconds thread_cpu_time() noexcept;

// Makes the compiler believe that the value is used.
template <class Value>
void keep(const Value& value) {
  asm volatile("" : : "r,m"(value) : "memory");
}

[[nodiscard]] double median_of(std::vector<double> values);
// The smallest value that `share` (0…1) of them do not exceed; 0 if there are none.
[[nodiscard]] double percentile_of(std::vector<double> values, double share);

}  // namespace bench
