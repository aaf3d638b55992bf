// wq_timer: a function that an io_wq's manager calls at a time: a clock for those who must not hold a worker to wait.
//
//   struct retry : wq_timer { retry(io_wq& wq, thing& what) : wq_timer(wq, fire), … }
//   timer.arm(now + 5ms);                  // fires once
//   timer.disarm_and_wait();               // from here on it neither fires nor is firing
//
// | timer  | arm(at)                 | disarm         | its time comes            | destroy |
// |--------|-------------------------|----------------|---------------------------|---------|
// | idle   | → armed                 | true           |                           | yes     |
// | armed  | armed for `at` instead  | → idle, true   | → firing                  | no      |
// | firing | fires once more, at `at` | → idle, false | → idle, or armed, at its end | no   |
//
// The function runs on the manager's thread, which creates the workers and watches over all of them: it must be short
// and must not block. It may arm and disarm timers, submit works (a full queue refuses with EDEADLK where it would wait),
// cancel works (their cancelled runs and releases then run here, and must be as short), drop references, and, as its last act,
// destroy its own timer. stop() is refused there (EDEADLK).
//
// Ownership:      the user's; the io_wq outlives it.
// Thread safety:  any thread; the destruction happens after all other calls.
// Blocking:       disarm_and_wait waits for a firing one, but not inside the function itself; the others never.
// Ordering:       what was done before arm is visible to the firing; what the firing did, to whoever saw it end
//                 (disarm that returns true, disarm_and_wait).
// Errors:         none. Destroying an armed one is a failed check.
// Limits:         nothing fires before its time by the wq's clock (io_wq_options::clock), nor after the wq's stop.
// Cost:           64 bytes, no allocation. arm and disarm: a lock, O(log n) amortised; a wake of the manager if it is the
//                 first to fire.
#pragma once

#include "sluice/base/clock.h"
#include "sluice/wq/io_wq.h"

namespace sluice {

namespace detail {

// A place in the heap of those that are armed. Guarded by its lock.
struct timer_node {
  using function = void (*)(timer_node&) noexcept;

  explicit timer_node(function what) noexcept : act(what) {}

  const function act;
  steady_time at = no_deadline;
  timer_node* child = nullptr;
  timer_node* next = nullptr;      // among the children of one parent
  timer_node* previous = nullptr;  // the same; of the first child: the parent
  bool armed = false;
};

}  // namespace detail

class wq_timer : private detail::timer_node {
 public:
  using function = void (*)(wq_timer&) noexcept;

  wq_timer(io_wq& on, function act_on) noexcept : timer_node(call), wq_(on), fire_(act_on) {}
  wq_timer(const wq_timer&) = delete;
  wq_timer& operator=(const wq_timer&) = delete;
  ~wq_timer();

  // Fires once at `when` or soon after, also if that is past; never for no_deadline. An earlier arming is void.
  void arm(steady_time when) noexcept;
  // Returns true if it does not fire any more: nor is it firing.
  bool disarm() noexcept;
  // The same; waits for a firing one, unless called by its function.
  void disarm_and_wait() noexcept;

 private:
  static void call(timer_node& node) noexcept;

  io_wq& wq_;
  const function fire_;
};

}  // namespace sluice
