// run_token: how a running work learns that it is to stop: a flag that it polls, and a std::stop_source that exists only if
// the run asked for a token.
//
// Ownership:      one per worker; used for one run after the other.
// Thread safety:  token() and end(): the worker. ask_stop(): any thread that holds the lock of the worker and has seen
//                 under it that the work it means is the one that runs.
// Blocking:       a mutex, held for some instructions.
#pragma once

#include <atomic>
#include <new>
#include <optional>
#include <stop_token>
#include <utility>

#include "sluice/base/mutex.h"

namespace sluice::detail {

class run_token {
 public:
  [[nodiscard]] bool stop_asked() const noexcept {
    // acquire: what the canceller did before it asked is visible to the run that obeys.
    return stop_.load(std::memory_order_acquire);
  }

  [[nodiscard]] std::stop_token token() noexcept {
    if (!used_) {
      std::optional<std::stop_source> fresh;
      try {
        fresh.emplace();
      } catch (const std::bad_alloc&) {
        return {};
      }
      used_ = true;
      const mutex_lock held(lock_);
      source_ = std::move(fresh);
      if (stop_asked()) {
        source_->request_stop();  // no callback can be registered yet
      }
    }
    const mutex_lock held(lock_);
    return source_->get_token();
  }

  // The first half of asking: sets the flag. Returns the source, if there is one: the caller requests its stop after it has
  // released its locks, because stop callbacks are code of the program (W2).
  [[nodiscard]] std::optional<std::stop_source> ask_stop() noexcept {
    const mutex_lock held(lock_);
    stop_.store(true, std::memory_order_release);  // pairs with stop_asked()
    return source_;
  }

  // After a run. Returns whether it was asked to stop. `gone` gets what the caller frees once it has released its locks.
  bool end(std::optional<std::stop_source>& gone) noexcept {
    if (!used_ && !stop_.load(std::memory_order_relaxed)) {
      return false;
    }
    const mutex_lock held(lock_);
    // The next run gets a source of its own: a token that outlives its run must not hear of another run's cancel.
    gone = std::exchange(source_, std::nullopt);
    used_ = false;
    return stop_.exchange(false, std::memory_order_relaxed);  // relaxed: the worker's lock orders it against ask_stop
  }

 private:
  mutex lock_;
  std::optional<std::stop_source> source_ SLUICE_GUARDED_BY(lock_);
  bool used_ = false;  // the worker's own
  std::atomic<bool> stop_{false};
};

}  // namespace sluice::detail
