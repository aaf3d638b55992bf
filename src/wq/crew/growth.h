// growth: decides which worker runs what has come, and whether there is to be another one. All decisions are made here: for a
// submitter, a worker that goes idle or blocks, the sampler, a raised limit, and a worker that has left.
//
//   decide_locked(account, need)
//     nothing to run, or a worker runs and need is not `another`  → nothing
//     a free worker                                              → it is chosen, and counts as running
//     creation failed a moment ago                               → the rescuer looks
//     below the class's limit                                    → a worker is reserved, for the manager to create (P1)
//     at the limit                                               → a free worker of another node is woken
//
// A decision is carried out by perform() once the locks are released: it wakes threads.
//
// Thread safety:  any thread.
// Blocking:       never; perform() makes a system call to wake a thread.
// Invariants:     P1 P3 P5 P6 P7 P10
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "wq/crew/engines.h"
#include "wq/pool_traits.h"

namespace sluice::detail {

// Why a decision is asked for.
enum class need : std::uint8_t {
  any,      // a worker that runs, or one on its way, is enough
  another,  // one more, although one runs: `concurrent` work, or the sampler's judgement
};

template <class Sync>
class basic_growth {
 public:
  using traits = pool_traits<Sync>;
  using account = basic_account<Sync>;
  using worker = basic_worker<Sync>;

  // What to do once the locks are released.
  struct plan {
    account* at = nullptr;
    worker* chosen = nullptr;  // wake it
    bool spawn = false;        // the manager has one to create
    bool rescue = false;       // creation fails: the rescuer may have to run it
    bool elsewhere = false;    // at the limit: a worker of another node may be free
    bool tick = false;         // work waits: the sampler must run
    bool guest = false;        // `at` is another pool's, which is kept from its end by a pass of its gate
  };

  // An account in which something was listed and for which nothing has been decided. settle() does.
  struct decision_due {
    account* at = nullptr;
    bool guest = false;                        // as in plan
    basic_key_entry<Sync>* garbage = nullptr;  // an entry to give back
  };

  basic_growth(basic_pool<Sync>& owner, const io_wq_options& options) noexcept : pool_(owner) {
    limit(work_class::bound).max.store(options.max_bound, std::memory_order_relaxed);  // relaxed: before any thread
    limit(work_class::unbound).max.store(options.max_unbound, std::memory_order_relaxed);
  }

  // came: works that came at once.
  [[nodiscard]] plan decide_locked(account& at, need why, std::size_t came = 1) noexcept SLUICE_REQUIRES(at.lock);
  // While no worker is blocked no key of this account waits for one: what came can run, and the worker that is woken finds out
  // how. Otherwise the caller looks into the tables and asks decide_locked().
  [[nodiscard]] plan wake_for_tables(account& at, std::size_t came) noexcept;
  // Decides and performs, once the locks are released.
  void settle(const decision_due& due) noexcept {
    basic_key_table<Sync>::give_back(due.garbage);
    if (due.at != nullptr) {
      plan next;
      {
        const scoped_lock held(due.at->lock);
        next = due.at->pool.growth.decide_locked(*due.at, need::any);
      }
      next.guest = due.guest;
      perform(next);
    }
  }
  // Looks into the account's tables, decides and performs.
  void start_worker(account& at, need why = need::any, std::size_t came = 1) noexcept;
  void perform(const plan& what) noexcept;

  // Chooses this free worker: it counts as running from here, and the caller wakes it.
  void choose_locked(account& at, worker& one) noexcept SLUICE_REQUIRES(at.lock);
  // A free worker that is chosen, or null. When many works came at once, one that does not take the submitter's own core from
  // it is worth more than a warm one.
  [[nodiscard]] worker* choose_free_locked(account& at, std::size_t came = 1) noexcept SLUICE_REQUIRES(at.lock);

  // All workers that the class may have are there and none is free: they block, and one that comes back will look for work.
  // seq_cst throughout: a worker is on its free list before it stops running, and off the count before its last look, so a
  // thread that reads this after a put does not miss the one that missed the put.
  [[nodiscard]] bool saturated(work_class cls) noexcept {
    class_limit& of = limit(cls);
    if (there(of.workers.load(std::memory_order_seq_cst)) < of.max.load(std::memory_order_seq_cst)) {
      return false;
    }
    return pool_.engines.all_of(cls, [](account& at) { return at.free_workers() == 0; });
  }

  // A worker of the account that counts as running and is still to be created. Returns false at the limit.
  [[nodiscard]] bool reserve_locked(account& at) noexcept SLUICE_REQUIRES(at.lock) {
    if (!reserve(at.cls)) {
      return false;
    }
    at.add_spawn_locked();
    return true;
  }
  // A reserved place that is not used after all.
  void give_back(work_class cls) noexcept {
    limit(cls).workers.fetch_sub(1, std::memory_order_seq_cst);  // seq_cst: as in saturated()
  }
  // A place of a worker that has left, under the lock under which it left its account.
  void left_locked(account& at, bool surplus) noexcept SLUICE_REQUIRES(at.lock) {
    limit(at.cls).workers.fetch_sub(surplus ? 1 + one_leaving : 1, std::memory_order_seq_cst);
  }
  // A lowered limit is met by leaving, between two works (P1). Until it has left a worker takes up its place. Returns whether
  // the caller is to leave.
  [[nodiscard]] bool claim_surplus(work_class cls) noexcept;

  unsigned set_max(work_class cls, unsigned max) noexcept;
  [[nodiscard]] unsigned max(work_class cls) const noexcept {
    return limits_[std::to_underlying(cls)].max.load(std::memory_order_relaxed);  // relaxed: read by itself
  }
  // A worker that broke, or left, was the only one of an account whose fixed worker it was: another one is to come.
  void replace_fixed(account& at) noexcept;
  // Wakes every free worker of the pool, to see that it is to leave.
  void wake_all_free() noexcept;

 private:
  template <class Value>
  using atomic = typename Sync::template atomic<Value>;

  struct class_limit {
    // Low half: threads that are there or reserved. High half: those of them that are about to leave as surplus.
    atomic<std::uint64_t> workers{0};
    atomic<std::uint32_t> max{0};
  };
  static constexpr std::uint64_t one_leaving = std::uint64_t{1} << 32;
  [[nodiscard]] static std::uint32_t there(std::uint64_t workers) noexcept {
    return static_cast<std::uint32_t>(workers);
  }
  [[nodiscard]] static std::uint32_t staying(std::uint64_t workers) noexcept {
    return there(workers) - static_cast<std::uint32_t>(workers >> 32);
  }
  [[nodiscard]] class_limit& limit(work_class cls) noexcept { return limits_[std::to_underlying(cls)]; }
  [[nodiscard]] bool reserve(work_class cls) noexcept;
  void wake_elsewhere(account& at) noexcept;

  basic_pool<Sync>& pool_;
  std::array<class_limit, work_classes> limits_;
};

template <class Sync>
auto basic_growth<Sync>::decide_locked(account& at, need why, std::size_t came) noexcept -> plan {
  plan out{.at = &at};
  if (at.nothing_to_run()) {
    return out;
  }
  if (why != need::another && at.running() != 0) {
    out.tick = true;
    return out;
  }
  out.chosen = choose_free_locked(at, came);
  if (out.chosen != nullptr) {
    return out;
  }
  if (pool_.life.exiting()) {
    return out;
  }
  out.tick = true;
  if (at.creation_fails_locked() && at.retry_at_locked() > pool_.env.clock.now()) {
    out.rescue = true;
  } else if (reserve_locked(at)) {
    out.spawn = true;
  } else {
    out.elsewhere = pool_.engines.nodes() > 1;
  }
  return out;
}

template <class Sync>
auto basic_growth<Sync>::wake_for_tables(account& at, std::size_t came) noexcept -> plan {
  const scoped_lock held(at.lock);
  plan out{.at = &at};
  if (at.running() == 0 && at.all_free_locked()) {
    out.chosen = choose_free_locked(at, came);
  }
  return out;
}

template <class Sync>
auto basic_growth<Sync>::choose_free_locked(account& at, std::size_t came) noexcept -> worker* {
  worker* free = came >= traits::stream ? at.free_on_another_core_locked(traits::core()) : nullptr;
  free = free != nullptr ? free : at.hottest_free_locked();
  if (free != nullptr) {
    choose_locked(at, *free);
  }
  return free;
}

template <class Sync>
void basic_growth<Sync>::choose_locked(account& at, worker& one) noexcept {
  at.unlist_free_locked(one);
  one.set_mode(worker_mode::busy);
  one.woken_from = traits::core();
  // relaxed: read after the wake
  one.woken_at.store(pool_.env.clock.now().time_since_epoch().count(), std::memory_order_relaxed);
  at.add_running();
}

template <class Sync>
bool basic_growth<Sync>::reserve(work_class cls) noexcept {
  class_limit& of = limit(cls);
  std::uint64_t seen = of.workers.load(std::memory_order_relaxed);  // relaxed: only a guess for the exchange
  do {
    if (there(seen) >= of.max.load(std::memory_order_relaxed)) {
      return false;
    }
    // seq_cst: as in saturated().
  } while (!of.workers.compare_exchange_weak(seen, seen + 1, std::memory_order_seq_cst, std::memory_order_relaxed));
  return true;
}

template <class Sync>
bool basic_growth<Sync>::claim_surplus(work_class cls) noexcept {
  class_limit& of = limit(cls);
  std::uint64_t seen = of.workers.load(std::memory_order_relaxed);  // relaxed: only a guess for the exchange
  do {
    if (staying(seen) <= of.max.load(std::memory_order_relaxed)) {
      return false;
    }
  } while (!of.workers.compare_exchange_weak(seen, seen + one_leaving, std::memory_order_relaxed,
                                             std::memory_order_relaxed));
  return true;
}

template <class Sync>
void basic_growth<Sync>::start_worker(account& at, need why, std::size_t came) noexcept {
  pool_.keys.look_into_tables(at);
  plan next;
  {
    const scoped_lock held(at.lock);
    next = decide_locked(at, why, came);
  }
  perform(next);
}

template <class Sync>
void basic_growth<Sync>::perform(const plan& what) noexcept {
  if (what.at == nullptr) {
    return;
  }
  basic_pool<Sync>& of = what.at->pool;
  if (what.chosen != nullptr) {
    what.chosen->word.wake();
  }
  if (what.spawn) {
    of.manager.wake();
  }
  if (what.rescue) {
    of.rescuer.wake();
  }
  if (what.elsewhere) {
    of.growth.wake_elsewhere(*what.at);
  }
  if (what.tick) {
    of.sampler.ensure_ticking();
  }
  if (what.guest) {
    of.life.gate.leave();
  }
}

// A free worker of another node takes the work rather than let it wait.
template <class Sync>
void basic_growth<Sync>::wake_elsewhere(account& at) noexcept {
  for (unsigned node = 0; node < pool_.engines.nodes(); ++node) {
    account& other = pool_.engines.at(node, at.cls);
    worker* chosen = nullptr;
    if (&other != &at) {
      const scoped_lock held(other.lock);
      chosen = choose_free_locked(other);
    }
    if (chosen != nullptr) {
      chosen->word.wake();
      return;
    }
  }
}

template <class Sync>
unsigned basic_growth<Sync>::set_max(work_class cls, unsigned max) noexcept {
  class_limit& of = limit(cls);
  // seq_cst: as in saturated(); start_worker() looks for work after it.
  const unsigned before = of.max.exchange(std::max(1U, max), std::memory_order_seq_cst);
  pool_.engines.for_each_of(cls, [&](account& at) {
    start_worker(at);
    replace_fixed(at);
    // Surplus workers that are idle look at the limit when they wake.
    for (;;) {
      worker* chosen = nullptr;
      {
        const scoped_lock held(at.lock);
        if (staying(of.workers.load(std::memory_order_relaxed)) > of.max.load(std::memory_order_relaxed)) {
          chosen = choose_free_locked(at);
        }
      }
      if (chosen == nullptr) {
        break;
      }
      chosen->word.wake();
    }
  });
  return before;
}

template <class Sync>
void basic_growth<Sync>::replace_fixed(account& at) noexcept {
  bool reserved = false;
  {
    const scoped_lock held(at.lock);
    const bool waits = at.creation_fails_locked() && at.retry_at_locked() > pool_.env.clock.now();
    reserved =
        !waits && at.fixed_missing_locked() && at.workers_locked() == 0 && !pool_.life.exiting() && reserve_locked(at);
  }
  if (reserved) {
    pool_.manager.wake();
  }
}

template <class Sync>
void basic_growth<Sync>::wake_all_free() noexcept {
  pool_.engines.for_each([&](account& at) {
    for (;;) {
      worker* chosen = nullptr;
      {
        const scoped_lock held(at.lock);
        chosen = choose_free_locked(at);
      }
      if (chosen == nullptr) {
        return;
      }
      chosen->word.wake();
    }
  });
}

}  // namespace sluice::detail
