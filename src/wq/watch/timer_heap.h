// timer_heap: the armed timers of a pool, in an intrusive pairing heap, and the one that is firing.
//
// Thread safety:  any thread. fire_one by one thread at a time (the manager).
// Blocking:       wait_out waits until a firing one is over.
// Ordering:       as wq_timer says; the lock orders all of it.
#pragma once

#include <cstdint>
#include <utility>

#include "sluice/base/check.h"
#include "sluice/base/mutex.h"
#include "sluice/base/sync.h"
#include "sluice/wq/wq_timer.h"

namespace sluice::detail {

template <class Sync>
class basic_timer_heap {
 public:
  using node = timer_node;

  basic_timer_heap() = default;
  basic_timer_heap(const basic_timer_heap&) = delete;
  basic_timer_heap& operator=(const basic_timer_heap&) = delete;

  // Returns true if it is the first to fire now: the manager must look again.
  [[nodiscard]] bool arm(node& one, steady_time at) noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    if (one.armed) {
      remove(one);
    }
    one.at = at;
    one.armed = at != no_deadline;
    if (!one.armed) {
      return false;
    }
    root_ = merge(root_, &one);
    return root_ == &one;
  }

  // Returns true if it neither fires any more nor is firing.
  [[nodiscard]] bool disarm(node& one) noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    if (one.armed) {
      remove(one);
      one.armed = false;
    }
    return firing_ != &one;
  }

  // Returns once it is not firing. Requires: not inside its function.
  void wait_out(const node& one) noexcept SLUICE_EXCLUDES(lock_) {
    for (;;) {
      std::uint32_t seen = 0;
      {
        const scoped_lock held(lock_);
        if (firing_ != &one) {
          return;
        }
        waited_for_ = true;
        seen = ended_.load(std::memory_order_relaxed);  // relaxed: the lock orders it against fire_one
      }
      Sync::wait(ended_, seen);
    }
  }

  // When the first fires.
  [[nodiscard]] steady_time first() noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    return root_ != nullptr ? root_->at : no_deadline;
  }

  // Fires the first if its time has come. Returns false if not.
  bool fire_one(steady_time now) noexcept SLUICE_EXCLUDES(lock_) {
    node* due = nullptr;
    {
      const scoped_lock held(lock_);
      if (root_ == nullptr || root_->at > now) {
        return false;
      }
      due = root_;
      remove(*due);
      due->armed = false;
      firing_ = due;
    }
    due->act(*due);
    // Its function may have destroyed it: from here only its address counts.
    bool waited_for = false;
    {
      const scoped_lock held(lock_);
      firing_ = nullptr;
      waited_for = std::exchange(waited_for_, false);
      ended_.fetch_add(1, std::memory_order_release);
    }
    if (waited_for) {
      Sync::wake(ended_, wake_all);
    }
    return true;
  }

 private:
  // The later of two roots becomes the first child of the earlier.
  [[nodiscard]] static node* merge(node* a, node* b) noexcept {
    if (a == nullptr || b == nullptr) {
      return a != nullptr ? a : b;
    }
    if (b->at < a->at) {
      std::swap(a, b);
    }
    b->next = a->child;
    if (b->next != nullptr) {
      b->next->previous = b;
    }
    b->previous = a;
    a->child = b;
    return a;
  }

  // Two passes, as pairing heaps do: pairs from the front, then all of those from the back.
  [[nodiscard]] static node* merge_children(node* first) noexcept {
    node* pairs = nullptr;  // linked by next, the last pair first
    while (first != nullptr) {
      node* const a = first;
      node* const b = a->next;
      first = b != nullptr ? b->next : nullptr;
      cut(*a);
      if (b != nullptr) {
        cut(*b);
      }
      node* const both = merge(a, b);
      both->next = pairs;
      pairs = both;
    }
    node* all = nullptr;
    while (pairs != nullptr) {
      node* const one = std::exchange(pairs, pairs->next);
      cut(*one);
      all = merge(all, one);
    }
    return all;
  }

  static void cut(node& one) noexcept {
    one.next = nullptr;
    one.previous = nullptr;
  }

  void remove(node& one) noexcept SLUICE_REQUIRES(lock_) {
    node* const orphans = merge_children(std::exchange(one.child, nullptr));
    if (root_ == &one) {
      root_ = orphans;
      return;
    }
    SLUICE_CHECK(one.previous != nullptr, "an armed timer is in the heap");
    if (one.previous->child == &one) {
      one.previous->child = one.next;
    } else {
      one.previous->next = one.next;
    }
    if (one.next != nullptr) {
      one.next->previous = one.previous;
    }
    cut(one);
    root_ = merge(root_, orphans);
  }

  typename Sync::mutex lock_;
  node* root_ SLUICE_GUARDED_BY(lock_) = nullptr;
  const node* firing_ SLUICE_GUARDED_BY(lock_) = nullptr;
  bool waited_for_ SLUICE_GUARDED_BY(lock_) = false;
  typename Sync::template atomic<std::uint32_t> ended_{0};  // firings that are over
};

}  // namespace sluice::detail
