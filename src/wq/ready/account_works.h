// account_works: the works without a key that wait in one account: those that came (inboxes), those in order (ready_queue).
//
// Submitters leave works in the inbox of lane 0 (inboxes.h), and so in submit order; while works are quick, in the inbox of their
// core's lane. A worker takes what its own core's lane has, which is in that core's caches, while there is some; a lane that has
// waited for long goes first (ready_queue.h).
//
// Thread safety:  put() and what is not named _locked: any thread. The rest: under `lock`.
// Ordering:       nothing_came() is sequentially consistent with put() (P5).
// Invariants:     W1 W7 P5
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "sluice/base/clock.h"
#include "sluice/base/mutex.h"

#include "wq/crew/account_base.h"
#include "wq/ready/crowd.h"
#include "wq/ready/inboxes.h"
#include "wq/ready/ready_queue.h"

namespace sluice::detail {

template <class Sync>
class basic_account_works : public basic_account_base<Sync> {
 public:
  using basic_account_base<Sync>::lock;

  basic_account_works(basic_pool<Sync>& owner, work_class of, unsigned on_node, std::size_t share) noexcept
      : basic_account_base<Sync>(owner, of, on_node), crowd(share) {}

  // Self-synchronised. Submitters read its first line.
  alignas(64) basic_crowd<Sync> crowd;

  // Adds works of one lane that are linked newest → … → oldest. If the inbox is full, empties it into the queue.
  [[gnu::always_inline]] inline void put(unsigned lane, work& newest, work& oldest, std::size_t n) noexcept
      SLUICE_EXCLUDES(lock) {
    while (!inboxes_.put(lane, newest, oldest, n)) [[unlikely]] {
      make_room(lane);
    }
  }
  // Before the put of a work with a class of priority. Written once: submitters read this line.
  void expect_grades() noexcept {
    if (!grades_.load(std::memory_order_relaxed)) {  // relaxed, both: the put publishes it
      grades_.store(true, std::memory_order_relaxed);
    }
  }
  [[nodiscard]] bool expects_grades() const noexcept { return grades_.load(std::memory_order_relaxed); }
  // Whether works complete so quickly that it matters in whose caches they are, and little which of them is first. A hint.
  [[nodiscard]] bool quick() const noexcept { return quick_.load(std::memory_order_relaxed); }
  void set_quick(bool are) noexcept {
    if (quick() != are) {  // written when it changes
      quick_.store(are, std::memory_order_relaxed);
    }
  }

  // seq_cst: partner of the running count (account.h).
  [[nodiscard]] bool nothing_came() const noexcept {
    return inboxes_.empty() && listed_.load(std::memory_order_seq_cst) == 0;
  }
  // Works that wait; a hint. seq_cst: a submitter that waits for room counts itself first and then reads this.
  [[nodiscard]] std::size_t works_waiting() const noexcept {
    return inboxes_.size() + listed_.load(std::memory_order_seq_cst);
  }

  // Works that have not been taken out of the inboxes; a hint.
  [[nodiscard]] std::size_t in_works_inboxes() const noexcept { return inboxes_.size(); }

  void take_inbox_locked(unsigned lane) noexcept SLUICE_REQUIRES(lock) {
    const bool said = inboxes_.filled(lane);
    if (said) {
      // On their way from the inbox to the queue: a thread that looks for works without the lock, first there and then here,
      // must not miss them. seq_cst: as in publish_size_locked().
      listed_.store(std::max<std::size_t>(works_.size(), 1), std::memory_order_seq_cst);
    }
    std::size_t count = 0;
    work* const newest = inboxes_.take_newest(lane, count);
    if (newest == nullptr) {
      if (said) {
        publish_size_locked();
      }
      return;
    }
    taken_in_ += count;
    if (!grades_.load(std::memory_order_relaxed)) [[likely]] {  // relaxed: set before the put of the first graded work
      works_.append_reversed(newest, count, lane);
    } else {
      forward_fifo oldest_first;
      oldest_first.append_reversed(newest);
      while (work* const w = oldest_first.pop_front()) {
        works_.push_back(*w);
      }
    }
    publish_size_locked();
  }
  void take_inboxes_locked() noexcept SLUICE_REQUIRES(lock) {
    // The visitor runs here and now, under the lock.
    inboxes_.for_each_filled([this](unsigned lane) SLUICE_NO_THREAD_SAFETY_ANALYSIS { take_inbox_locked(lane); });
  }
  // Takes from the inboxes what a worker on lane `here` may take next: works with a class of priority may be in any.
  void take_due_locked(unsigned here, steady_time now) noexcept SLUICE_REQUIRES(lock) {
    if (grades_.load(std::memory_order_relaxed)) {  // relaxed: set before the put of the first graded work
      take_inboxes_locked();
      return;
    }
    inboxes_.for_each_filled([&](unsigned lane) SLUICE_NO_THREAD_SAFETY_ANALYSIS {  // here and now, under the lock
      if (works_.lane_empty(lane) && (lane == here || works_.passed_over(lane, now))) {
        take_inbox_locked(lane);
      }
    });
    if (works_.empty()) {
      take_inboxes_locked();
    }
  }

  [[nodiscard]] bool works_empty_locked() const noexcept SLUICE_REQUIRES(lock) { return works_.empty(); }
  [[nodiscard]] std::size_t works_listed_locked() const noexcept SLUICE_REQUIRES(lock) { return works_.size(); }
  // Works that came through the inboxes so far.
  [[nodiscard]] std::uint64_t taken_in_locked() const noexcept SLUICE_REQUIRES(lock) { return taken_in_; }

  // Takes the first works of the turn into `batch`: at most `most`, and at most a fair part for each of `sharers` workers. Calls
  // looked(w) for each work that is looked at. Requires: not empty.
  struct taken {
    std::size_t count;
    std::int64_t waited_ns;  // of one measured work; negative: none was measured
  };
  template <class Looked>
  [[nodiscard]] taken take_batch_locked(unsigned here, steady_time now, std::size_t most, std::size_t sharers,
                                        work_fifo& batch, Looked looked) noexcept SLUICE_REQUIRES(lock) {
    batch_fifo& turn = works_.next_turn(here, now);
    if (marked_ == nullptr) {
      marked_ = turn.back();
      marked_in_ = &turn;
      marked_taken_ = turn.taken() + static_cast<std::int64_t>(turn.size());
      marked_at_ = now;
    }
    const std::size_t share = (works_.beside(turn) + sharers - 1) / sharers;
    const work* const marked = marked_;
    bool met = false;
    const std::size_t n = works_.take(turn, std::min(share, most), batch, [&](work& w) {
      looked(w);
      met |= &w == marked;
    });
    std::int64_t waited = -1;
    if (met || (marked_in_ == &turn && turn.taken() >= marked_taken_)) {
      marked_ = nullptr;
      waited = (now - marked_at_).count();
    }
    return {n, waited};
  }
  // After take_batch_locked(), once the works count as the worker's.
  void publish_size_locked() noexcept SLUICE_REQUIRES(lock) {
    // seq_cst: partner of the running count (works that came back), and of a submitter that waits for room.
    listed_.store(works_.size(), std::memory_order_seq_cst);
    crowd.note(works_.size());
  }

  void push_back_locked(work& w) noexcept SLUICE_REQUIRES(lock) {
    works_.push_back(w);
    publish_size_locked();
  }
  // Works that a worker had: to the heads of their own lists.
  void prepend_locked(work_fifo& some) noexcept SLUICE_REQUIRES(lock) {
    works_.prepend(some);
    publish_size_locked();
  }
  void remove_locked(work& w) noexcept SLUICE_REQUIRES(lock) {
    works_.remove(w);
    if (marked_ == &w) {
      marked_ = nullptr;
    }
    publish_size_locked();
  }
  // Visits each work in the queue; the visitor may remove it.
  template <class Visit>
  void for_each_work_locked(Visit visit) noexcept SLUICE_REQUIRES(lock) {
    works_.for_each(visit);
  }
  // Works were given handles: each is looked at when it is taken.
  void look_at_each_locked() noexcept SLUICE_REQUIRES(lock) { works_.look_at_each(); }

 protected:
  ~basic_account_works() = default;

 private:
  [[gnu::noinline]] void make_room(unsigned lane) noexcept SLUICE_EXCLUDES(lock) {
    const scoped_lock held(lock);
    take_inbox_locked(lane);
  }

  // Submitters write these lines, each that of its lane.
  basic_inboxes<Sync, ready_queue::most_lanes> inboxes_;
  // Read by submitters.
  alignas(64) typename Sync::template atomic<bool> grades_{false};  // a work with a class of priority was submitted
  typename Sync::template atomic<bool> quick_{false};               // works have lanes
  // Sizes of what the lock guards, for threads that do not hold it.
  alignas(64) typename Sync::template atomic<std::uint64_t> listed_{0};

  alignas(64) ready_queue works_ SLUICE_GUARDED_BY(lock);
  std::uint64_t taken_in_ SLUICE_GUARDED_BY(lock) = 0;
  // A work in the queue whose wait is measured, its list, how many will have been taken from there with it, and since when.
  const work* marked_ SLUICE_GUARDED_BY(lock) = nullptr;
  const batch_fifo* marked_in_ SLUICE_GUARDED_BY(lock) = nullptr;
  std::int64_t marked_taken_ SLUICE_GUARDED_BY(lock) = 0;
  steady_time marked_at_ SLUICE_GUARDED_BY(lock);
};

}  // namespace sluice::detail
