// deadlines: when which work is to be cancelled. The canceller's thread meets them (canceller.h).
//
// A submit reserves a timer for each deadline of its chain, so that add() needs no memory. A timer whose work has completed stays
// until its time, or until there are twice as many as at the last clearing.
//
// Thread safety:  any thread.
// Blocking:       a mutex, held for an allocation at most.
// Errors:         reserve(): false if there is no memory.
// Invariants:     C8
#pragma once

#include <algorithm>
#include <bit>
#include <functional>
#include <new>
#include <optional>
#include <vector>

#include "sluice/base/clock.h"
#include "sluice/base/mutex.h"
#include "sluice/wq/io_wq.h"

#include "wq/item/handle_table.h"
#include "wq/item/work_access.h"
#include "wq/pool_traits.h"

namespace sluice::detail {

struct timer {
  steady_time at = no_deadline;
  work_handle handle;            // of the chain
  const work* member = nullptr;  // whose deadline it is: for comparing only
};

template <class Sync>
class basic_deadlines {
 public:
  explicit basic_deadlines(basic_pool<Sync>& owner) noexcept : pool_(owner) {}

  [[nodiscard]] bool reserve(std::uint32_t count) noexcept SLUICE_EXCLUDES(lock_);
  // Reserved timers that are not needed after all.
  void take_back(std::uint32_t count) noexcept SLUICE_EXCLUDES(lock_) {
    if (count != 0) {
      const scoped_lock held(lock_);
      reserved_ -= count;
    }
  }
  // Uses a reserved one.
  void add(const timer& one) noexcept SLUICE_EXCLUDES(lock_);
  // The timer of a chain's member that has a deadline and whose turn comes. The caller clears the mark under the lock of the worker;
  // it then adds the timer, or takes it back.
  [[nodiscard]] timer timer_of(const work& member) noexcept {
    return {work_access::deadline(member), pool_.name_of(work_access::slot(const_cast<work&>(member))), &member};
  }

  [[nodiscard]] steady_time first() noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    return timers_.empty() ? no_deadline : timers_.front().at;
  }
  // Takes one whose time has come.
  [[nodiscard]] std::optional<timer> take_expired(steady_time now) noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    if (timers_.empty() || timers_.front().at > now) {
      return std::nullopt;
    }
    std::ranges::pop_heap(timers_, std::ranges::greater{}, &timer::at);
    const timer late = timers_.back();
    timers_.pop_back();
    return late;
  }

 private:
  basic_pool<Sync>& pool_;
  typename Sync::mutex lock_;
  std::vector<timer> timers_ SLUICE_GUARDED_BY(lock_);  // a heap, the earliest first
  std::size_t reserved_ SLUICE_GUARDED_BY(lock_) = 0;
  std::size_t after_clearing_ SLUICE_GUARDED_BY(lock_) = 0;
};

template <class Sync>
bool basic_deadlines<Sync>::reserve(std::uint32_t count) noexcept {
  constexpr std::size_t few = 64;
  if (count == 0) {
    return true;
  }
  const scoped_lock held(lock_);
  if (timers_.size() >= std::max(few, 2 * after_clearing_)) {
    std::erase_if(timers_, [this](const timer& one) {
      auto& named = pool_.handles.at(one.handle.slot());
      const scoped_lock slot_held(named.lock);
      return named.generation != one.handle.generation();
    });
    std::ranges::make_heap(timers_, std::ranges::greater{}, &timer::at);
    after_clearing_ = timers_.size();
  }
  try {
    timers_.reserve(std::max(few, std::bit_ceil(timers_.size() + reserved_ + count)));
  } catch (const std::bad_alloc&) {
    return false;
  }
  reserved_ += count;
  return true;
}

template <class Sync>
void basic_deadlines<Sync>::add(const timer& one) noexcept {
  bool first = false;
  {
    const scoped_lock held(lock_);
    --reserved_;
    timers_.push_back(one);
    std::ranges::push_heap(timers_, std::ranges::greater{}, &timer::at);
    first = timers_.front().handle == one.handle;
  }
  if (first) {
    pool_.canceller.wake();
  }
}

}  // namespace sluice::detail
