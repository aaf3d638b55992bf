// race: a deterministic scheduler for tests of lock-free code: one seed, one interleaving, one report.
//
// race::sync is a Sync policy (sluice/base/sync.h). A test builds the code under test on it, gives explore() two or
// three short threads and says what must hold afterwards; explore() runs them as fibers on this one OS thread,
// thousands of times, and decides at every operation who goes next, what a load may still see, which wait ends for no
// reason.
//
//   const race::report found = race::explore({.schedules = 100'000}, [](race::run& run) {
//     auto state = std::make_shared<my_state>();
//     run.thread([=] { state->put(); });
//     run.thread([=] { state->won = state->get_unless_zero(); });
//     run.after([=] { race::check(state->releases == 1, "released exactly once"); });
//   });
//   EXPECT_TRUE(found.ok()) << found;
//
// Found without an assertion of the test: a deadlock or lost wake-up (nobody can run), a livelock (max_steps),
// unordered accesses to a plain<T>, an operation on a destroyed atomic or lock, construction or destruction of one
// unordered with a use, memory freed twice.
//
// The scenario must be a function of the schedule alone: no time, no randomness, no state kept between schedules. State
// that fibers share lives on the heap and is held by their closures: a fiber that is stuck for ever keeps it.
//
// SLUICE_RACE_SEED=…       replays the one schedule that a report named (in every explore() of the process: filter)
// SLUICE_RACE_SCHEDULES=…  per cent of the schedules of random mode; 1000 for a long night
//
// Thread safety:  one OS thread at a time; explore() does not nest.
// Limits:         7 threads; 8 bytes per atomic.
#pragma once

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <source_location>
#include <string>

#include "sluice/base/sync.h"

#include "race/harness/atomic.h"
#include "race/harness/options.h"

namespace race {

struct sync {
  template <class Value>
  using atomic = race::atomic<Value>;
  using mutex = race::mutex;

  // The value of the deadline does not matter: any that is not no_deadline passes when the scheduler says so.
  static bool wait(const atomic<std::uint32_t>& word, std::uint32_t expected,
                   sluice::steady_time deadline = sluice::no_deadline,
                   std::source_location at = std::source_location::current()) noexcept {
    return word.cell_.wait(expected, deadline != sluice::no_deadline, at);
  }
  static void wake(atomic<std::uint32_t>& word, int count,
                   std::source_location at = std::source_location::current()) noexcept {
    detail::wake_here(word.cell_, count, at);
  }
  // The spinning fiber goes on once every fiber that can run has made a step.
  static void relax(std::source_location at = std::source_location::current()) noexcept { detail::relax_here(at); }
};

// What one schedule consists of; the scenario fills it in.
class run {
 public:
  explicit run(detail::engine& engine) : engine_(engine) {}
  run(const run&) = delete;
  run& operator=(const run&) = delete;

  // Adds a thread. It starts after the scenario has returned.
  void thread(std::function<void()> body);
  // Called once all threads have ended, ordered after them.
  void after(std::function<void()> check);

 private:
  detail::engine& engine_;
};

// An assertion of the schedule that runs. A failure is recorded and the schedule goes on.
void check(bool condition, const char* message, std::source_location at = std::source_location::current());

struct report {
  std::uint64_t schedules = 0;
  // Exhaustive mode: every schedule was run (and none failed).
  bool complete = false;
  bool failed = false;
  // What SLUICE_RACE_SEED takes to replay the failure.
  std::string seed;
  std::string message;
  std::string trace;

  [[nodiscard]] bool ok() const noexcept { return !failed; }
};
std::ostream& operator<<(std::ostream& out, const report& what);

// Runs schedules of the scenario until one fails or all have been run.
[[nodiscard]] report explore(const options& how, const std::function<void(run&)>& scenario);

}  // namespace race
