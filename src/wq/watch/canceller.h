// canceller: the thread of a pool that meets deadlines, and gives up works that no other thread may: those whose worker broke, the
// rest of a cancelled chain from a no_cancel member on, and those that are cancelled by a run that wears an identity.
//
// It wears no identity and runs no work for real, so it never breaks, and no work that blocks can hold it up. A cancelled run or a
// release that blocks does: it is to give up at once.
//
// Ownership:      what is handed over is released by this thread.
// Thread safety:  any thread.
// Blocking:       give_up_and_wait(): until the work has been released.
// Invariants:     C1 C8 W1
#pragma once

#include <cstdint>

#include "sluice/base/mutex.h"
#include "sluice/base/park.h"

#include "wq/loop/execution.h"
#include "wq/watch/deadlines.h"

namespace sluice::detail {

template <class Sync>
class basic_canceller {
 public:
  using given_up = typename basic_execution<Sync>::given_up;

  explicit basic_canceller(basic_pool<Sync>& owner) noexcept : pool_(owner) {}

  void wake() noexcept { word_.wake(); }
  // Chains that the thread is to give up, or is giving up; a hint.
  [[nodiscard]] std::size_t pending() const noexcept { return pending_.load(std::memory_order_relaxed); }
  // Gives up a work that is in no place any more (its slot says `ending`), and its chain, later.
  void hand_over(work& w) noexcept {
    pending_.fetch_add(1, std::memory_order_relaxed);  // relaxed, all: for reports
    {
      const scoped_lock held(lock_);
      works_.push_back(w);
    }
    word_.wake();
  }
  // The same, and waits for it. Requires: the caller is another thread.
  [[nodiscard]] given_up give_up_and_wait(work& w) noexcept;

  // The thread's loop, until the pool has drained and ends.
  void run() noexcept;
  // One thing that is due. Returns false if nothing is.
  [[nodiscard]] bool step() noexcept;

 private:
  struct request {
    work& item;
    request* next = nullptr;
    given_up answer{};
    typename Sync::template atomic<std::uint32_t> done{0};
  };

  [[nodiscard]] bool meet_deadline() noexcept;
  [[nodiscard]] bool serve_request() noexcept;
  [[nodiscard]] bool give_up_one() noexcept;

  basic_pool<Sync>& pool_;
  basic_parker<Sync> word_;
  basic_spin_lock<Sync> lock_;
  forward_fifo works_ SLUICE_GUARDED_BY(lock_);
  request* requests_ SLUICE_GUARDED_BY(lock_) = nullptr;
  typename Sync::template atomic<std::size_t> pending_{0};
};

template <class Sync>
auto basic_canceller<Sync>::give_up_and_wait(work& w) noexcept -> given_up {
  request mine{.item = w};
  pending_.fetch_add(1, std::memory_order_relaxed);
  {
    const scoped_lock held(lock_);
    mine.next = std::exchange(requests_, &mine);
  }
  word_.wake();
  while (mine.done.load(std::memory_order_acquire) == 0) {  // acquire: pairs with serve_request()
    Sync::wait(mine.done, 0);
  }
  return mine.answer;
}

template <class Sync>
bool basic_canceller<Sync>::serve_request() noexcept {
  request* one = nullptr;
  {
    const scoped_lock held(lock_);
    one = requests_;
    if (one == nullptr) {
      return false;
    }
    requests_ = one->next;
  }
  one->answer = pool_.execution.give_up(one->item, reach::chain);
  pending_.fetch_sub(1, std::memory_order_relaxed);
  auto& word = one->done;
  word.store(1, std::memory_order_release);
  Sync::wake(word, 1);  // by its address: the record may be gone
  return true;
}

template <class Sync>
bool basic_canceller<Sync>::give_up_one() noexcept {
  work* w = nullptr;
  {
    const scoped_lock held(lock_);
    w = works_.pop_front();
  }
  if (w != nullptr) {
    const std::size_t over = pool_.execution.give_up(*w, reach::chain).over;
    pending_.fetch_sub(1, std::memory_order_relaxed);
    pool_.life.count_given_up(over);
    pool_.life.gate.leave(static_cast<std::int64_t>(over));
  }
  return w != nullptr;
}

template <class Sync>
bool basic_canceller<Sync>::meet_deadline() noexcept {
  const auto late = pool_.deadlines.take_expired(pool_.env.clock.now());
  if (late) {
    pending_.fetch_add(1, std::memory_order_relaxed);
    pool_.cancels.cancel_late(*late);
    pending_.fetch_sub(1, std::memory_order_relaxed);
  }
  return late.has_value();
}

template <class Sync>
bool basic_canceller<Sync>::step() noexcept {
  return serve_request() || meet_deadline() || give_up_one();
}

template <class Sync>
void basic_canceller<Sync>::run() noexcept {
  const callback_scope scope(pool_traits<Sync>::callbacks(), &pool_);
  for (;;) {
    if (step()) {
      continue;
    }
    if (pool_.life.exiting()) {
      break;
    }
    static_cast<void>(word_.park_until(pool_.deadlines.first()));
  }
  pool_.life.loop_ends();
}

}  // namespace sluice::detail
