// rescuer: the thread that runs works while no worker can be created for them (P10). It is created with the pool, so that works always
// move.
//
// It takes one work at a time, from the accounts in turn. An unbound work may block it forever: until a worker can be created again,
// the manager tries at growing intervals.
//
// Thread safety:  wake(): any thread. run(): the rescuer's. The rest: the manager's.
// Invariants:     P10 I6
#pragma once

#include "wq/loop/work_loop.h"

namespace sluice::detail {

template <class Sync>
class basic_rescuer {
 public:
  using account = basic_account<Sync>;
  using worker = basic_worker<Sync>;

  explicit basic_rescuer(basic_pool<Sync>& owner) noexcept : pool_(owner) {}

  void wake() noexcept { self().word.wake(); }

  // The thread's loop, until the pool has drained and ends, or the thread breaks.
  void run() noexcept;
  // The thread broke: the manager is to start another one. acquire: pairs with run().
  [[nodiscard]] bool gone() const noexcept { return gone_.load(std::memory_order_acquire); }
  void set_gone(bool gone) noexcept { gone_.store(gone, std::memory_order_relaxed); }  // relaxed: the manager's own

 private:
  [[nodiscard]] worker& self() noexcept { return pool_.roster.rescuer(); }
  [[nodiscard]] bool rescue_one() noexcept;
  [[nodiscard]] bool rescue_from(account& at) noexcept;

  basic_pool<Sync>& pool_;
  typename Sync::template atomic<bool> gone_{false};
  unsigned turn_ = 0;  // the rescuer's own: which account is looked at first
};

// Returns false if no account needs it.
template <class Sync>
bool basic_rescuer<Sync>::rescue_one() noexcept {
  const unsigned accounts = pool_.engines.nodes() * static_cast<unsigned>(work_classes);
  for (unsigned step = 0; step < accounts; ++step) {
    const unsigned which = turn_++ % accounts;
    if (rescue_from(pool_.engines.at(which / work_classes, static_cast<work_class>(which % work_classes)))) {
      return true;
    }
  }
  return false;
}

template <class Sync>
bool basic_rescuer<Sync>::rescue_from(account& at) noexcept {
  pool_.keys.look_into_tables(at);
  bool needed = false;
  {
    const scoped_lock held(at.lock);
    needed = !at.nothing_to_run() && at.running() == 0 && at.free_workers() == 0 && at.creation_fails_locked();
  }
  if (!needed || !pool_.work_loop.fetch_from(self(), at, pool_.env.clock.now(), 1)) {
    return false;
  }
  pool_.execution.run_batch(self());
  const std::uint64_t n = self().all_released.exchange(0, std::memory_order_relaxed);  // relaxed: statistics
  at.released_aside.fetch_add(n, std::memory_order_relaxed);
  at.rescued.fetch_add(n, std::memory_order_relaxed);
  return true;
}

template <class Sync>
void basic_rescuer<Sync>::run() noexcept {
  const callback_scope scope(pool_traits<Sync>::callbacks(), &pool_);
  pool_.work_loop.begin(self());
  bool broken = false;
  while (!broken) {
    if (rescue_one()) {
      broken = self().broken();
      continue;
    }
    broken = !self().clothes->take_off();
    if (broken || pool_.life.exiting()) {
      break;
    }
    self().word.park();
  }
  pool_.work_loop.end(self());
  if (broken) {
    gone_.store(true, std::memory_order_release);  // release: pairs with the manager, which joins this thread
    pool_.manager.wake();
  }
  pool_.life.loop_ends();
}

}  // namespace sluice::detail
