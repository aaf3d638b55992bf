// roster: the records of a pool's workers. A record stays allocated until the pool is destroyed, and is used for one thread after
// the other, so a pointer to a record is always good.
//
// Thread safety:  any thread.
// Blocking:       a mutex, held for an allocation at most. for_each() holds no lock while it visits.
// Errors:         take(): null if there is no memory. A worker that ends needs none.
// Invariants:     P9
#pragma once

#include <cstddef>
#include <deque>
#include <new>
#include <vector>

#include "sluice/base/mutex.h"

#include "wq/crew/worker.h"

namespace sluice::detail {

template <class Sync>
class basic_roster {
 public:
  using worker = basic_worker<Sync>;

  // The first record is the rescuer's. Throws std::bad_alloc.
  explicit basic_roster(basic_pool<Sync>& owner) : pool_(owner), rescuer_(records_.emplace_back(owner)) {
    rescuer_.rescuer = true;
  }

  [[nodiscard]] worker& rescuer() noexcept { return rescuer_; }

  // A record for a thread that is to start; it counts as alive. Null if there is no memory.
  [[nodiscard]] worker* take() noexcept SLUICE_EXCLUDES(lock_) {
    try {
      const scoped_lock held(lock_);
      ++alive_;
      if (!spare_.empty()) {
        worker* const again = spare_.back();
        spare_.pop_back();
        return again;
      }
      // Room for each record in each list is made with it, so that a worker that ends needs no memory.
      spare_.reserve(records_.size() + 1);
      left_.reserve(records_.size() + 1);
      return &records_.emplace_back(pool_);
    } catch (const std::bad_alloc&) {
      const scoped_lock held(lock_);
      --alive_;
      return nullptr;
    }
  }
  // The thread has been joined, or was never started.
  void give_back(worker& gone) noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    --alive_;
    spare_.push_back(&gone);
  }
  // The calling worker is about to end: its thread is to be joined, and its record is not its own any more.
  void leave(worker& self) noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    left_.push_back(&self);
  }
  // One that has left, or null. The caller gives it back once it has joined the thread, or lets it leave() again.
  [[nodiscard]] worker* take_left() noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    if (left_.empty()) {
      return nullptr;
    }
    worker* const one = left_.front();
    left_.erase(left_.begin());
    return one;
  }
  [[nodiscard]] std::size_t left() noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    return left_.size();
  }
  // Records whose thread has not been joined; the rescuer's is not counted.
  [[nodiscard]] std::size_t alive() noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    return alive_;
  }

  // Visits each record that there was when it began, the rescuer's and spare ones too.
  template <class Visit>
  void for_each(Visit visit) noexcept SLUICE_EXCLUDES(lock_) {
    for (std::size_t i = 0;; ++i) {
      worker* one = nullptr;
      {
        const scoped_lock held(lock_);
        if (i == records_.size()) {
          return;
        }
        one = &records_[i];
      }
      visit(*one);
    }
  }

 private:
  basic_pool<Sync>& pool_;
  typename Sync::mutex lock_;
  std::deque<worker> records_ SLUICE_GUARDED_BY(lock_);
  std::vector<worker*> spare_ SLUICE_GUARDED_BY(lock_);
  std::vector<worker*> left_ SLUICE_GUARDED_BY(lock_);
  std::size_t alive_ SLUICE_GUARDED_BY(lock_) = 0;
  worker& rescuer_;
};

}  // namespace sluice::detail
