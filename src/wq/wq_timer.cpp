#include "sluice/wq/wq_timer.h"

#include <utility>

#include "sluice/base/check.h"

#include "wq/os/os_pool.h"

namespace sluice {
namespace {

// The timer whose function runs on this thread: it must not wait for itself.
thread_local const detail::timer_node* fires_here = nullptr;

}  // namespace

wq_timer::~wq_timer() {
  SLUICE_CHECK(!armed, "disarm a timer before it goes");
}

void wq_timer::arm(steady_time when) noexcept {
  wq_.core_->pool.manager.arm(*this, when);
}

bool wq_timer::disarm() noexcept {
  return wq_.core_->pool.manager.alarms().disarm(*this);
}

void wq_timer::disarm_and_wait() noexcept {
  if (!disarm() && fires_here != this) {
    wq_.core_->pool.manager.alarms().wait_out(*this);
  }
}

void wq_timer::call(timer_node& node) noexcept {
  auto& mine = static_cast<wq_timer&>(node);
  const timer_node* const outer = std::exchange(fires_here, &node);
  mine.fire_(mine);
  fires_here = outer;
}

}  // namespace sluice
