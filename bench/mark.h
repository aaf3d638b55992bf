// mark: how a work says that it is done, the same for every pool that does it on a worker's thread.
//
// The submitter sleeps at the last place of each quarter (drive.h) and only there, so that place's mark is a parker. At the
// others it comes by when they are done, or about to be: a plain store is enough. An exchange per work would be a
// tenth of what is measured.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstddef>

#include "sluice/base/park.h"

namespace bench {

class mark {
 public:
  // Of place `place` among `count`.
  void stand_at(std::size_t place, std::size_t count) noexcept {
    const std::size_t quarter = count / 4;
    sleeps_ = quarter == 0 || place % quarter == quarter - 1;
  }

  // The worker's last act.
  void set() noexcept {
    if (sleeps_) {
      place_.wake();
    } else {
      done_.store(true, std::memory_order_release);  // pairs with wait()
    }
  }
  // Once for each set().
  void wait() noexcept {
    if (sleeps_) {
      place_.park();
      return;
    }
    while (!done_.load(std::memory_order_acquire)) {
      ::sched_yield();
    }
    done_.store(false, std::memory_order_relaxed);  // relaxed: the next submit publishes it
  }

 private:
  bool sleeps_ = false;
  std::atomic<bool> done_{false};
  sluice::parker place_;
};

}  // namespace bench
