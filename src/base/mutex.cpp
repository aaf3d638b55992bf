#include "sluice/base/mutex.h"

namespace sluice {

void cond_var::wait(mutex& lock) {
  // The caller holds the lock and keeps it: adopt it for the wait, then let go of the wrapper without unlocking.
  std::unique_lock held(lock.inner_, std::adopt_lock);
  inner_.wait(held);
  static_cast<void>(held.release());
}

bool cond_var::wait_until(mutex& lock, steady_time deadline) {
  if (deadline == no_deadline) {
    // libstdc++ converts the time point to a timespec; its maximum would overflow.
    wait(lock);
    return true;
  }
  std::unique_lock held(lock.inner_, std::adopt_lock);
  const std::cv_status status = inner_.wait_until(held, deadline);
  static_cast<void>(held.release());
  return status == std::cv_status::no_timeout;
}

}  // namespace sluice
