#include "sluice/device/delay_device.h"

#include <sys/prctl.h>

#include <new>
#include <utility>

#include "sluice/base/check.h"
#include "sluice/base/sync.h"
#include "sluice/wq/blocking_region.h"

#include "mix.h"

namespace sluice {
namespace {

using std::chrono::nanoseconds;

// The kernel wakes a thread up to 50 µs late unless told otherwise. Within this scope it is told: a delay that is asked
// for in microseconds should be one.
class exact_timers {
 public:
  exact_timers() noexcept : before_(::prctl(PR_GET_TIMERSLACK, 0UL, 0UL, 0UL, 0UL)) {
    ::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
  }
  ~exact_timers() {
    if (before_ > 0) {
      ::prctl(PR_SET_TIMERSLACK, static_cast<unsigned long>(before_), 0UL, 0UL, 0UL);
    }
  }
  exact_timers(const exact_timers&) = delete;
  exact_timers& operator=(const exact_timers&) = delete;

 private:
  const int before_;
};

}  // namespace

nanoseconds delay_time::of(std::uint64_t length, std::uint64_t seed, std::uint64_t nth) const noexcept {
  SLUICE_CHECK(!is_for_ever(), "for ever is no length of time");
  nanoseconds sum = fixed + per_kib * static_cast<std::int64_t>((length + 1023) / 1024);
  if (jitter.count() > 0) {
    sum += nanoseconds(static_cast<std::int64_t>(detail::mix(seed, nth) % static_cast<std::uint64_t>(jitter.count())));
  }
  return sum;
}

result<ref<delay_device>> delay_device::create(ref<device> target, std::uint64_t seed) {
  try {
    return ref<delay_device>::adopt(new delay_device(std::move(target), seed));
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
}

void delay_device::set_delay(op_set ops, delay_time time) noexcept {
  SLUICE_CHECK(time.fixed.count() >= 0 && time.per_kib.count() >= 0 && time.jitter.count() >= 0);
  const mutex_lock hold(lock_);
  std::uint32_t delayed = delayed_ops_.load(std::memory_order_relaxed);  // relaxed: written under the lock only
  for (std::size_t op = 0; op < io_op_count; ++op) {
    if (ops.has(static_cast<io_op>(op))) {
      times_[op] = time;
      const std::uint32_t bit = 1U << op;
      delayed = time.is_none() ? delayed & ~bit : delayed | bit;
    }
  }
  // release: pairs with delays(); who learns of the return of this call sees it.
  delayed_ops_.store(delayed, std::memory_order_release);
}

void delay_device::set_cancels(delay_cancels how) noexcept {
  cancels_.store(how, std::memory_order_relaxed);  // relaxed: published by the next line
  changes_.fetch_add(1, std::memory_order_release);
  os_sync::wake(changes_, wake_all);
}

std::uint64_t delay_device::release_all() noexcept {
  std::uint64_t waiting = 0;
  {
    const mutex_lock hold(lock_);
    waiting = figures_.waiting;
    releases_.fetch_add(1, std::memory_order_relaxed);  // relaxed: published by the next line
    // release: pairs with the acquire in sleep(): who sees the change sees the release, or the kernel sees the change.
    changes_.fetch_add(1, std::memory_order_release);
  }
  os_sync::wake(changes_, wake_all);
  return waiting;
}

delay_stats delay_device::stats() const noexcept {
  const mutex_lock hold(lock_);
  return figures_;
}

bool delay_device::await_waiting(std::uint64_t count, steady_time deadline) noexcept {
  const mutex_lock hold(lock_);
  while (figures_.waiting < count) {
    if (!arrived_.wait_until(lock_, deadline)) {
      return figures_.waiting >= count;
    }
  }
  return true;
}

bool delay_device::delays(io_op op) const noexcept {
  return (delayed_ops_.load(std::memory_order_acquire) >> static_cast<unsigned>(op) & 1U) != 0;
}

bool delay_device::may_try(io_op op, std::uint64_t /*offset*/, std::uint64_t /*length*/) noexcept {
  return !delays(op);
}

result<void> delay_device::before(io_op op, std::uint64_t /*offset*/, std::uint64_t length,
                                  cancel_probe probe) noexcept {
  if (!delays(op)) {
    return {};
  }
  const turn mine = arrive(op, length);
  if (!mine.waits) {
    return {};
  }
  const result<void> how = sleep(mine, probe);
  leave(how);
  return how;
}

delay_device::turn delay_device::arrive(io_op op, std::uint64_t length) noexcept {
  const mutex_lock hold(lock_);
  const delay_time time = times_[static_cast<std::size_t>(op)];
  if (time.is_none()) {
    return {};
  }
  // In one step with reading the delay: an operation that found the old one is in time for the release_all() that
  // follows the new one.
  turn mine{.waits = true, .releases = releases_.load(std::memory_order_relaxed)};
  ++figures_.waiting;
  ++figures_.delayed;
  if (!time.is_for_ever()) {
    mine.until = clock_seam::real().now() + time.of(length, seed_, figures_.delayed);
  }
  arrived_.notify_all();
  return mine;
}

result<void> delay_device::sleep(const turn& mine, cancel_probe probe) noexcept {
  const blocking_region region;
  const exact_timers slack;
  for (;;) {
    const std::uint32_t seen = changes_.load(std::memory_order_acquire);
    if (releases_.load(std::memory_order_relaxed) != mine.releases) {
      return {};
    }
    // Not a cond_var: its wait goes on after a signal, and a signal is how a canceller reaches us. One that comes
    // between this question and the sleep is repeated by the wq until we have left.
    if (cancels_.load(std::memory_order_relaxed) == delay_cancels::obeyed && probe.cancelled()) {
      return fail(ECANCELED);
    }
    if (!os_sync::wait(changes_, seen, mine.until)) {
      return {};
    }
  }
}

void delay_device::leave(const result<void>& how) noexcept {
  const mutex_lock hold(lock_);
  --figures_.waiting;
  figures_.cancelled += how ? 0U : 1U;
}

}  // namespace sluice
