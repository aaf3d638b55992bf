#include "fair_device.h"

#include <sys/prctl.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "sluice/base/check.h"
#include "sluice/ioc/fair.h"
#include "sluice/wq/blocking_region.h"

#include "harness.h"

namespace bench {

void sleep_until(device_clock::time_point end) noexcept {
  static thread_local const int slack = ::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
  keep(slack);
  const std::chrono::nanoseconds since = end.time_since_epoch();
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(since);
  const timespec at{.tv_sec = whole.count(), .tv_nsec = (since - whole).count()};
  while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr) == EINTR) {
  }
}

void device_request::run(sluice::request& base, std::uint64_t budget, sluice::cancel_probe /*probe*/) noexcept {
  auto& mine = static_cast<device_request&>(base);
  const std::uint64_t piece = std::min(budget, mine.bytes_left());
  {
    const device_clock::time_point end = device_clock::now() + service_time(piece);
    const sluice::blocking_region region;
    sleep_until(end);
  }
  mine.moved.fetch_add(piece, std::memory_order_relaxed);  // a figure
  mine.set_bytes_left(mine.bytes_left() - piece);
  mine.set_result(static_cast<std::int64_t>(mine.bytes - mine.bytes_left()));
}

void device_request::submit(sluice::request_queue& queue, sluice::io_context& context) {
  set_request_ops(ops);
  set_bytes_left(bytes);
  SLUICE_CHECK(queue.submit(*this, context).has_value(), "the queue takes all that its clients have");
}

sluice::ref<sluice::io_wq> make_device_pool() {
  return sluice::io_wq::create({.max_bound = device_depth, .max_unbound = 1, .name = "fair"}).value();
}

sluice::ref<sluice::request_queue> make_device_queue(sluice::io_wq& pool, ordering order) {
  // The costs are the device's own.
  const sluice::fair_options costs{.op_cost_ns = 100'000, .mib_cost_ns = 1'000'000};
  return sluice::request_queue::create(
             pool,
             {.depth = device_depth,
              .quantum = order == ordering::none_uncut ? 0 : fair_quantum,
              .max_workers = device_depth},
             order == ordering::fair ? sluice::make_fair_elevator(costs) : sluice::make_none_elevator())
      .value();
}

void end_device(sluice::ref<sluice::request_queue>& queue, sluice::io_wq& pool, std::uint64_t owner) {
  // Who comes again at this moment is waiting at the next.
  while (!queue->drain(device_clock::now() + std::chrono::milliseconds(1))) {
    queue->cancel_owner(owner);
  }
  static_cast<void>(queue->stop());
  queue.reset();
  static_cast<void>(pool.stop(sluice::stop_policy::run_queued));
}

}  // namespace bench
