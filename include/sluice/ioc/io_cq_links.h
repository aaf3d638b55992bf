// io_cq_links: how an io_context and a request_queue link the io_cqs between them, and who ends which.
//
// The two halves are bases of the context and of the queue, and the only code that touches a link. They are templates
// over Sync, so that tests/race runs every order of them:
//
//   create             queue lock, context lock: neither has ended, nobody was first → link
//   lookup             queue lock: a hint → done; else context lock inside: the tree
//   exit (context)     context lock: no more from now on; while one is linked: count its queue, let go,
//                      queue lock, context lock, LOOK AGAIN: still linked → unlink, tell the elevator, keep the memory
//   clear (queue)      queue lock: while one is linked: context lock → unlink, tell the elevator; free it without locks
//   free (context)     takes no queue lock: what exited is linked nowhere else
//
// Every link changes with both locks held, so each side may trust its own list under its own lock: what the queue finds
// there has a context that is not freed (the context would have to unlink it first, under this very lock), and what the
// context finds in its tree has a queue that somebody holds (a queue that ends is held by whoever clears it).
//
// Why the hints are the queue's, not the context's as in the kernel: they are read under the queue's lock, and what
// they name is linked on that queue, so no grace period and no second lock is needed to look at it.
//
// Sync is the seam of base/sync.h. Queue is a kref with `std::uint64_t id() const`, constant, and
// `void io_cq_exits_locked(Pair&) noexcept`, called once per linked pair with both locks held.
//
// Ownership:      the sides own the pairs: the context those that exited with it, the queue the others.
// Thread safety:  any thread. Lock order: the queue's, then the context's.
// Blocking:       takes the locks that it says, for steps that are bounded by the tree's 64.
// Ordering:       what was done to a pair under the queue's lock is visible to its exit and to its destructor.
// Errors:         ESHUTDOWN one side has ended.
// Limits:         Hints contexts per queue are found without the context's lock; which, their addresses decide.
// Cost:           a hint that hits: a multiplication and two loads. No allocation anywhere.
// Invariants:     O1 O4 O5 O6 O8
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "sluice/base/check.h"
#include "sluice/base/error.h"
#include "sluice/base/mutex.h"
#include "sluice/ioc/io_cq_tree.h"
#include "sluice/ref/ref.h"

namespace sluice {

// The context's half.
template <class Pair, class Context, class Queue, class Sync>
class io_context_links {
 public:
  io_context_links(const io_context_links&) = delete;
  io_context_links& operator=(const io_context_links&) = delete;

  // How many queues it has a live io_cq on. Walks them: for tests and reports.
  [[nodiscard]] std::size_t nr_io_cqs() noexcept {
    scoped_lock hold(lock_);
    return tree_.size();
  }

 protected:
  io_context_links() = default;
  // Takes no queue lock, so the last put of a context is legal under one (O8): every pair left its queue before.
  ~io_context_links() {
    scoped_lock hold(lock_);
    SLUICE_CHECK(tree_.empty(), "an io_context is freed while it may still issue");
    while (exited_pairs_ != nullptr) {
      Pair* each = exited_pairs_;
      exited_pairs_ = each->below_[0];
      delete each;
    }
  }

  // Ends all pairs; from now on there are no new ones. Requires: no queue lock is held; a count on the context.
  void exit_io_cqs() noexcept {
    for (;;) {
      ref<Queue> queue;
      {
        scoped_lock hold(lock_);
        exited_ = true;
        if (tree_.empty()) {
          return;
        }
        // A linked pair means that its queue has not been cleared, and whoever clears it holds a count: get() is legal.
        // The count keeps the queue while this lock is let go, to take the queue's first.
        queue = ref<Queue>::retain(tree_.any()->queue_);
      }
      queue->exit_io_cq(static_cast<Context&>(*this));
    }
  }

  // Taken inside a queue's lock, never around one.
  typename Sync::mutex lock_;

 private:
  template <class, class, class, class, std::size_t>
  friend class request_queue_links;

  io_cq_tree<Pair> tree_ SLUICE_GUARDED_BY(lock_);
  Pair* exited_pairs_ SLUICE_GUARDED_BY(lock_) = nullptr;  // linked nowhere else; freed with the context
  bool exited_ SLUICE_GUARDED_BY(lock_) = false;           // active_ref reached 0
};

// The queue's half.
template <class Pair, class Context, class Queue, class Sync, std::size_t Hints = 16>
class request_queue_links {
  using context_links = io_context_links<Pair, Context, Queue, Sync>;

 public:
  request_queue_links(const request_queue_links&) = delete;
  request_queue_links& operator=(const request_queue_links&) = delete;

  // The pair of a context on this queue, or null.
  [[nodiscard]] Pair* lookup_io_cq(Context& context) noexcept {
    scoped_lock hold(lock_);
    return lookup_locked(context);
  }

 protected:
  request_queue_links() = default;
  ~request_queue_links() = default;

  [[nodiscard]] Pair* lookup_locked(Context& context) noexcept SLUICE_REQUIRES(lock_) {
    Pair*& hint = hint_for(context);
    if (hint != nullptr && hint->context_ == &context) [[likely]] {
      return hint;
    }
    context_links& side = context;
    scoped_lock inner(side.lock_);
    Pair* found = side.tree_.find(own_id(), self());
    if (found != nullptr) {
      hint = found;
    }
    return found;
  }

  // Links a new pair, or finds the one of whoever was first: all get that (O4). One that is not needed stays with the
  // caller, who frees it without the lock. Errors: ESHUTDOWN.
  [[nodiscard]] result<Pair*> link_io_cq_locked(Context& context, std::unique_ptr<Pair>& made) noexcept
      SLUICE_REQUIRES(lock_) {
    context_links& side = context;
    scoped_lock inner(side.lock_);
    // Asked with both locks held: an end that comes later finds the pair, one that came before is seen here.
    if (refuses_ || side.exited_) {
      return fail(ESHUTDOWN);
    }
    if (Pair* found = side.tree_.find(own_id(), self())) {
      return found;
    }
    Pair* fresh = made.release();
    name(*fresh, context);
    side.tree_.insert(*fresh);
    link_locked(*fresh);
    hint_for(context) = fresh;
    return fresh;
  }
  // Says whose a pair is that is linked nowhere and that the queue keeps for itself.
  void name(Pair& own, Context& context) noexcept {
    own.context_ = &context;
    own.queue_ = &self();
    own.id_ = own_id();
  }

  // No new pairs from now on.
  void refuse_io_cqs_locked() noexcept SLUICE_REQUIRES(lock_) { refuses_ = true; }

  // Ends all pairs. Requires: they are refused; nothing uses one any more; the caller holds a count on the queue.
  void clear_io_cqs() noexcept {
    for (;;) {
      std::unique_ptr<Pair> ended;  // declared before the locks: freed after they are let go
      scoped_lock hold(lock_);
      SLUICE_CHECK(refuses_, "a queue is cleared while new io_cqs may come");
      if (pairs_ == nullptr) {
        return;
      }
      Pair& pair = *pairs_;
      context_links& side = *pair.context_;
      scoped_lock inner(side.lock_);
      end_locked(pair, side);
      ended.reset(&pair);
    }
  }

  // Ends all pairs in one hold; new ones may come after it. Returns them, to be freed without the lock by free_io_cqs.
  // Requires: nothing uses one any more; the caller holds a count on the queue.
  [[nodiscard]] Pair* end_io_cqs_locked() noexcept SLUICE_REQUIRES(lock_) {
    Pair* ended = nullptr;
    while (pairs_ != nullptr) {
      Pair& pair = *pairs_;
      context_links& side = *pair.context_;
      scoped_lock inner(side.lock_);
      end_locked(pair, side);
      pair.queue_next_ = ended;
      ended = &pair;
    }
    return ended;
  }
  static void free_io_cqs(Pair* ended) noexcept {
    while (ended != nullptr) {
      Pair* const each = ended;
      ended = each->queue_next_;
      delete each;
    }
  }

  [[nodiscard]] bool has_io_cqs_locked() const noexcept SLUICE_REQUIRES(lock_) { return pairs_ != nullptr; }

  // Taken outside a context's lock. A line of its own: who waits for it does not slow down who needs no lock.
  alignas(64) mutable typename Sync::mutex lock_;

 private:
  template <class, class, class, class>
  friend class io_context_links;

  [[nodiscard]] Queue& self() noexcept { return static_cast<Queue&>(*this); }
  [[nodiscard]] std::uint64_t own_id() noexcept { return self().id(); }

  // The context's side of the end, with its locks in order.
  void exit_io_cq(Context& context) noexcept {
    context_links& side = context;
    scoped_lock hold(lock_);
    scoped_lock inner(side.lock_);
    // Looked up anew: while no lock was held the queue's side may have ended it, and freed it.
    Pair* pair = side.tree_.find(own_id(), self());
    if (pair == nullptr) {
      return;
    }
    end_locked(*pair, side);
    // Requests of it may still wait here: they hold the context, so the memory stays until the last of them is over.
    pair->below_[0] = side.exited_pairs_;
    side.exited_pairs_ = pair;
  }

  void end_locked(Pair& pair, context_links& side) noexcept SLUICE_REQUIRES(lock_, side.lock_) {
    side.tree_.erase(pair);
    unlink_locked(pair);
    if (Pair*& hint = hint_for(*pair.context_); hint == &pair) {
      hint = nullptr;
    }
    static_cast<Queue*>(this)->io_cq_exits_locked(pair);
  }

  // By the address: a context that comes to lie where another was finds no hint of it, since that left with its pair.
  [[nodiscard]] Pair*& hint_for(const Context& context) noexcept SLUICE_REQUIRES(lock_) {
    constexpr std::uint64_t golden = 0x9E3779B97F4A7C15;  // spreads what differs over the upper bits
    return hints_[((reinterpret_cast<std::uintptr_t>(&context) * golden) >> 32) % Hints];
  }

  void link_locked(Pair& pair) noexcept SLUICE_REQUIRES(lock_) {
    pair.queue_next_ = pairs_;
    if (pairs_ != nullptr) {
      pairs_->queue_prev_ = &pair;
    }
    pairs_ = &pair;
  }

  void unlink_locked(Pair& pair) noexcept SLUICE_REQUIRES(lock_) {
    if (pair.queue_prev_ != nullptr) {
      pair.queue_prev_->queue_next_ = pair.queue_next_;
    } else {
      SLUICE_CHECK(pairs_ == &pair, "an io_cq is not in its queue's list");
      pairs_ = pair.queue_next_;
    }
    if (pair.queue_next_ != nullptr) {
      pair.queue_next_->queue_prev_ = pair.queue_prev_;
    }
    pair.queue_next_ = nullptr;
    pair.queue_prev_ = nullptr;
  }

  Pair* pairs_ SLUICE_GUARDED_BY(lock_) = nullptr;
  std::array<Pair*, Hints> hints_ SLUICE_GUARDED_BY(lock_){};  // each linked here
  bool refuses_ SLUICE_GUARDED_BY(lock_) = false;
};

}  // namespace sluice
