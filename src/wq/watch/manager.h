// manager: the thread of a pool that creates workers and joins those that have left, samples, repeats interrupts and fires timers.
//
// It runs no code of the program except timer functions. A worker that has left is joined once its thread has ended, so that a
// thread_local destructor of the program does not hold the manager up.
//
// Thread safety:  wake(), arm(): any thread. The rest: the manager's thread.
// Blocking:       it sleeps until it is woken, or the next thing is due.
// Invariants:     P1 P9 P10
#pragma once

#include <algorithm>
#include <cstdio>
#include <new>

#include "sluice/base/park.h"

#include "wq/watch/interrupts.h"
#include "wq/watch/rescuer.h"
#include "wq/watch/sampler.h"
#include "wq/watch/timer_heap.h"

namespace sluice::detail {

template <class Sync>
class basic_manager {
 public:
  using account = basic_account<Sync>;
  using worker = basic_worker<Sync>;
  using timer_heap = basic_timer_heap<Sync>;

  explicit basic_manager(basic_pool<Sync>& owner) noexcept : pool_(owner) {}

  void wake() noexcept { word_.wake(); }

  // For wq_timer.
  void arm(timer_node& one, steady_time at) noexcept {
    if (alarms_.arm(one, at)) {
      word_.wake();
    }
  }
  [[nodiscard]] timer_heap& alarms() noexcept { return alarms_; }

  // Until the pool has drained and every worker has been joined.
  void run() noexcept {
    while (!step()) {
    }
    pool_.life.loop_ends();
  }
  // One turn. Returns true when no worker is left, and none will come.
  [[nodiscard]] bool step() noexcept;

  // A record for a reserved worker; it counts as running already. The caller starts a thread in work_loop.run(). Null if there is no
  // memory.
  [[nodiscard]] worker* add_worker(account& home) noexcept;
  // Creates one worker for a reserved place, or gives the place back.
  [[nodiscard]] result<void> spawn(account& home) noexcept;

 private:
  void create_reserved() noexcept;
  void give_back_reserved() noexcept;
  [[nodiscard]] steady_time join_left(steady_time now) noexcept;
  [[nodiscard]] steady_time fire_timers(steady_time now) noexcept;

  basic_pool<Sync>& pool_;
  basic_parker<Sync> word_;
  timer_heap alarms_;
  // When to look again for threads that have left, and for the rescuer's, at growing intervals.
  std::chrono::milliseconds join_pause_{1};
  std::chrono::milliseconds rescuer_pause_{1};
  steady_time rescuer_at_ = steady_time::min();
};

template <class Sync>
auto basic_manager<Sync>::add_worker(account& home) noexcept -> worker* {
  worker* const made = pool_.roster.take();
  if (made == nullptr) {
    return nullptr;
  }
  made->home = &home;
  made->pace = {};
  made->region_depth = 0;
  made->all_released.store(0, std::memory_order_relaxed);  // relaxed: its thread begins later
  made->set_mode(worker_mode::busy);
  const scoped_lock held(home.lock);
  home.add_worker_locked(*made);
  return made;
}

template <class Sync>
result<void> basic_manager<Sync>::spawn(account& home) noexcept {
  int err = ENOMEM;
  worker* const made = add_worker(home);
  if (made != nullptr) {
    try {
      char name[16];
      std::snprintf(name, sizeof name, "%s-%c", pool_.env.name.c_str(), home.cls == work_class::bound ? 'b' : 'u');
      result<named_thread> thread = pool_.env.threads.start(name, [this, made] { pool_.work_loop.run(*made); }, 0);
      if (thread) {
        made->thread = std::move(*thread);
        const scoped_lock held(home.lock);
        ++home.counts.workers_created;
        home.created_locked();
        return {};
      }
      err = thread.error().value();
    } catch (const std::bad_alloc&) {
      err = ENOMEM;
    }
  }
  {
    const scoped_lock held(home.lock);
    if (made != nullptr) {
      home.remove_worker_locked(*made);
      home.sub_running();
    } else {
      home.drop_spawn_locked();
    }
    pool_.growth.give_back(home.cls);
    ++home.counts.create_failures;
    home.back_off_locked(pool_.env.clock.now());
  }
  if (made != nullptr) {
    pool_.roster.give_back(*made);
  }
  pool_.rescuer.wake();
  pool_.sampler.ensure_ticking();  // the sampler tries again after the pause
  return fail(err);
}

template <class Sync>
void basic_manager<Sync>::create_reserved() noexcept {
  pool_.engines.for_each([this](account& at) {
    for (bool more = true; more;) {
      {
        const scoped_lock held(at.lock);
        more = at.spawns_locked() != 0;
      }
      more = more && spawn(at).has_value();
    }
  });
}

// The pool ends: no worker is created any more.
template <class Sync>
void basic_manager<Sync>::give_back_reserved() noexcept {
  pool_.engines.for_each([this](account& at) {
    const scoped_lock held(at.lock);
    while (at.spawns_locked() != 0) {
      at.drop_spawn_locked();
      pool_.growth.give_back(at.cls);
    }
  });
}

// Joins the threads that have ended. Returns when to look for the rest; while the pool ends, it waits for each.
template <class Sync>
steady_time basic_manager<Sync>::join_left(steady_time now) noexcept {
  constexpr std::chrono::milliseconds longest{100};
  bool all = true;
  for (std::size_t left = pool_.roster.left(); left != 0; --left) {
    worker* const gone = pool_.roster.take_left();
    if (gone == nullptr) {
      break;
    }
    if (pool_.life.exiting()) {
      gone->thread.join();
    } else if (!gone->thread.try_join()) {
      pool_.roster.leave(*gone);
      all = false;
      continue;
    }
    pool_.roster.give_back(*gone);
  }
  join_pause_ = all ? std::chrono::milliseconds{1} : std::min(2 * join_pause_, longest);
  return all ? no_deadline : now + join_pause_;
}

// Fires the timers that are due, some at a turn: one that arms itself for now must not hold up the manager. Returns when to look
// again.
template <class Sync>
steady_time basic_manager<Sync>::fire_timers(steady_time now) noexcept {
  constexpr unsigned some = 64;
  for (unsigned i = 0; i < some && alarms_.fire_one(now); ++i) {
  }
  return alarms_.first();
}

template <class Sync>
bool basic_manager<Sync>::step() noexcept {
  const callback_scope scope(pool_traits<Sync>::callbacks(), &pool_);  // of timer functions
  if (pool_.life.exiting()) {
    give_back_reserved();
  } else {
    create_reserved();
  }
  const steady_time now = pool_.env.clock.now();
  steady_time wake_at = join_left(now);
  if (pool_.life.exiting() && pool_.roster.alive() == 0) {
    give_back_reserved();  // what the last worker to leave may have asked for
    return true;
  }
  if (pool_.rescuer.gone() && now >= rescuer_at_) {
    constexpr std::chrono::milliseconds longest{500};
    const bool replaced = pool_.life.replace_rescuer();
    rescuer_pause_ = replaced ? std::chrono::milliseconds{1} : std::min(2 * rescuer_pause_, longest);
    rescuer_at_ = replaced ? steady_time::min() : now + rescuer_pause_;
  }
  wake_at = pool_.rescuer.gone() ? std::min(wake_at, rescuer_at_) : wake_at;
  wake_at = std::min(wake_at, pool_.sampler.step(now));
  wake_at = std::min(wake_at, pool_.interrupts.repeat(now));
  const steady_time fires_at = fire_timers(now);
  if (fires_at > now) {  // else some are due still
    static_cast<void>(word_.park_until(std::min(wake_at, fires_at)));
  }
  return false;
}

}  // namespace sluice::detail
