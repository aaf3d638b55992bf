// runner: how a running work is told to stop: a flag that it polls, and a stop_source that exists only if it asked for
// one.
//
// Thread safety:  begin, end, token by the worker; ask_stop by any, whoever made sure (under the wq's lock) that the
// work
//                 it means is the one that runs.
#pragma once

#include <atomic>
#include <new>
#include <optional>
#include <stop_token>

#include "sluice/base/mutex.h"

namespace sluice::detail {

class runner {
 public:
  [[nodiscard]] bool stop_asked() const noexcept {
    // acquire: what the canceller did before it asked is visible to the run that obeys.
    return stop_.load(std::memory_order_acquire);
  }

  [[nodiscard]] std::stop_token token() noexcept {
    const mutex_lock held(lock_);
    if (!source_) {
      try {
        source_.emplace();
      } catch (const std::bad_alloc&) {
        return {};
      }
      used_ = true;
      if (stop_asked()) {
        source_->request_stop();  // nobody can have registered a callback yet
      }
    }
    return source_->get_token();
  }

  // First half of asking: the flag. Requires: the caller holds the lock that keeps the work running.
  [[nodiscard]] std::optional<std::stop_source> ask_stop() noexcept {
    const mutex_lock held(lock_);
    stop_.store(true, std::memory_order_release);  // pairs with stop_asked
    // The copy is asked by the caller after its locks are gone: a stop callback is a stranger's code.
    return source_;
  }

  // After a run. Returns whether it had been asked to stop.
  bool end() noexcept {
    if (!used_ && !stop_.load(std::memory_order_relaxed)) {
      return false;
    }
    const mutex_lock held(lock_);
    // The next work gets a source of its own: a token that outlives its run must not hear of a stranger's cancel.
    source_.reset();
    used_ = false;
    return stop_.exchange(false, std::memory_order_relaxed);  // relaxed: the wq's lock orders it against ask_stop
  }

 private:
  mutex lock_;
  std::optional<std::stop_source> source_ SLUICE_GUARDED_BY(lock_);
  bool used_ = false;  // the worker's own
  std::atomic<bool> stop_{false};
};

}  // namespace sluice::detail
