// delay_device: a filter that makes requests wait before they reach the target: a slow disk, or one that is dead. A
// request waits once, however many quanta it has.
//
//   auto slow = delay_device::create(target).value();                      // no delay yet
//   slow->set_delay(io_op::read, {.fixed = 5ms, .per_kib = 10us});
//   slow->set_delay(op_set::all(), delay_time::for_ever());                // does not come back…
//   slow->set_cancels(delay_cancels::ignored);                             // …not even when it is told to stop
//   slow->release_all();                                                   // all that wait now go on to the target
//
// | a waiting operation | its time passes | release_all()  | cancel, obeyed            | cancel, ignored |
// |---------------------|-----------------|----------------|---------------------------|-----------------|
// | timed               | goes on         | goes on        | ECANCELED, nothing done   | waits on        |
// | for ever            |                 | goes on        | ECANCELED, nothing done   | waits on        |
//
// What has a delay is never tried inside submit. A change of delay holds for requests that begin after it; a change
// of set_cancels for those that wait as well. To bring a dead device back: set_delay(…, {}), then release_all(): an
// operation that comes between the two goes through, none is left behind.
//
// A wait is a sleep in the kernel which the interrupt of a wq ends (io_wq::cancel, a deadline); the probe is asked
// then.
//
// Ownership:      one count on the target.
// Thread safety:  as device; the controls by any thread.
// Blocking:       operations, inside a blocking_region. await_waiting() waits; the other controls do not.
// Limits:         whoever waits for ever keeps a worker. Closing an open_file ends no wait.
// Cost:           without a delay one load per operation.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <utility>

#include "sluice/base/clock.h"
#include "sluice/base/mutex.h"
#include "sluice/device/filter_device.h"
#include "sluice/ref/ref.h"

namespace sluice {

// How long a request waits: fixed + per_kib for each started KiB of it + something below jitter.
struct delay_time {
  std::chrono::nanoseconds fixed{0};
  std::chrono::nanoseconds per_kib{0};
  std::chrono::nanoseconds jitter{0};

  // Until release_all() or a cancel.
  [[nodiscard]] static constexpr delay_time for_ever() noexcept { return {.fixed = std::chrono::nanoseconds::max()}; }
  [[nodiscard]] constexpr bool is_for_ever() const noexcept { return fixed == std::chrono::nanoseconds::max(); }
  [[nodiscard]] constexpr bool is_none() const noexcept {
    return fixed.count() == 0 && per_kib.count() == 0 && jitter.count() == 0;
  }
  // Of the nth delayed operation with a seed, `length` bytes long. The same four give the same answer.
  // Requires: not for ever.
  [[nodiscard]] std::chrono::nanoseconds of(std::uint64_t length, std::uint64_t seed, std::uint64_t nth) const noexcept;
};

enum class delay_cancels : std::uint8_t { obeyed, ignored };

// Since the start, but `waiting`. One instant.
struct delay_stats {
  std::uint64_t waiting = 0;    // now
  std::uint64_t delayed = 0;    // ever began to wait
  std::uint64_t cancelled = 0;  // of these: told to stop while they waited
};

class delay_device final : public filter_device {
 public:
  // Errors: ENOMEM. The seed is that of the jitter.
  [[nodiscard]] static result<ref<delay_device>> create(ref<device> target, std::uint64_t seed = 0);

  // From its return on every operation of these kinds that begins waits so long. Requires: no negative time.
  void set_delay(op_set ops, delay_time time) noexcept;
  void set_cancels(delay_cancels how) noexcept;
  // Lets all that wait now go on. Returns how many these are.
  std::uint64_t release_all() noexcept;

  [[nodiscard]] delay_stats stats() const noexcept;
  // Waits until at least so many operations wait at once. Returns false if the deadline passed first. Blocks.
  [[nodiscard]] bool await_waiting(std::uint64_t count, steady_time deadline = no_deadline) noexcept;

 private:
  // An operation's turn: what held when it came.
  struct turn {
    bool waits = false;
    std::uint32_t releases = 0;
    steady_time until = no_deadline;
  };

  delay_device(ref<device> target, std::uint64_t seed) : filter_device("delay", std::move(target)), seed_(seed) {}
  ~delay_device() override = default;

  [[nodiscard]] bool may_try(io_op op, std::uint64_t offset, std::uint64_t length) noexcept override;
  [[nodiscard]] result<void> before(io_op op, std::uint64_t offset, std::uint64_t length,
                                    cancel_probe probe) noexcept override;
  [[nodiscard]] bool delays(io_op op) const noexcept;
  [[nodiscard]] turn arrive(io_op op, std::uint64_t length) noexcept;
  [[nodiscard]] result<void> sleep(const turn& mine, cancel_probe probe) noexcept;
  void leave(const result<void>& how) noexcept;

  const std::uint64_t seed_;
  mutable mutex lock_;
  cond_var arrived_;  // waiting went up
  std::array<delay_time, io_op_count> times_ SLUICE_GUARDED_BY(lock_){};
  delay_stats figures_ SLUICE_GUARDED_BY(lock_);
  // Synchronise themselves; the first three are written under the lock.
  std::atomic<std::uint32_t> delayed_ops_{0};  // a bit for each kind that has a delay
  std::atomic<std::uint32_t> releases_{0};     // calls of release_all
  std::atomic<delay_cancels> cancels_{delay_cancels::obeyed};
  std::atomic<std::uint32_t> changes_{0};  // what sleepers sleep on: changes with the two above
};

}  // namespace sluice
