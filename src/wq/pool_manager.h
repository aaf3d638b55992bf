// pool_manager: the two threads that no work can hold up: the manager (creation, sampler, deadlines, repeated
// interrupts) and the rescuer (runs what no worker can be created for, and gives up what is late).
#pragma once

#include <algorithm>
#include <cstdio>
#include <new>

#include "pool.h"

namespace sluice::detail {

template <class Sync>
auto basic_pool<Sync>::take_record() noexcept -> worker* {
  try {
    const scoped_lock held(records_lock_);
    if (!spare_.empty()) {
      worker* const again = spare_.back();
      spare_.pop_back();
      return again;
    }
    // Room for each record in each list is made with it, so that a worker that ends needs no memory.
    spare_.reserve(records_.size() + 1);
    dead_.reserve(records_.size() + 1);
    return &records_.emplace_back(*this);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

template <class Sync>
void basic_pool<Sync>::recycle_record(worker& gone) noexcept {
  const scoped_lock held(records_lock_);
  spare_.push_back(&gone);
}

// A record for a reserved slot; it counts as running already. The caller starts a thread in worker_loop().
template <class Sync>
auto basic_pool<Sync>::add_worker(account& home, bool fixed) noexcept -> worker* {
  worker* const made = take_record();
  if (made == nullptr) {
    return nullptr;
  }
  made->home = &home;
  made->batch_limit = 1;
  made->last_batch = 0;
  made->was_woken = false;
  made->region_depth = 0;
  made->all_released.store(0, std::memory_order_relaxed);  // relaxed: its thread begins later
  made->set_mode(worker_mode::busy);
  alive_.fetch_add(1, std::memory_order_relaxed);
  const scoped_lock held(home.lock);
  made->fixed = fixed;
  home.workers.push_back(*made);
  --home.spawns;  // in the same hold: it is always one or the other
  return made;
}

// Returns null at the limit.
template <class Sync>
auto basic_pool<Sync>::adopt_worker(account& home, bool fixed) noexcept -> worker* {
  if (!reserve_worker(home.cls)) {
    return nullptr;
  }
  {
    const scoped_lock held(home.lock);
    home.running.fetch_add(1, std::memory_order_seq_cst);
    ++home.spawns;
  }
  return add_worker(home, fixed);
}

// Creates one worker for a reserved slot, or gives the slot back.
template <class Sync>
result<void> basic_pool<Sync>::spawn(account& home, bool fixed) noexcept {
  int err = ENOMEM;
  worker* const made = add_worker(home, fixed);
  if (made != nullptr) {
    try {
      char name[16];
      std::snprintf(name, sizeof name, "%s-%c", name_.c_str(), home.cls == work_class::bound ? 'b' : 'u');
      result<named_thread> thread = threads_.start(name, [this, made] { worker_loop(*made); });
      if (thread) {
        made->thread = std::move(*thread);
        const scoped_lock held(home.lock);
        ++home.counts.workers_created;
        home.back_off = std::chrono::milliseconds{0};
        return {};
      }
      err = thread.error().value();
    } catch (const std::bad_alloc&) {
      err = ENOMEM;
    }
  }
  constexpr std::chrono::milliseconds first_back_off{1};
  constexpr std::chrono::milliseconds last_back_off{500};
  {
    const scoped_lock held(home.lock);
    if (made != nullptr) {
      home.workers.remove(*made);
    } else {
      --home.spawns;
    }
    limits(home.cls).workers.fetch_sub(1, std::memory_order_seq_cst);  // as in saturated(); the rescuer looks after it
    home.running.fetch_sub(1, std::memory_order_seq_cst);
    ++home.counts.create_failures;
    home.back_off = std::clamp(home.back_off * 2, first_back_off, last_back_off);
    home.retry_at = clock_.now() + home.back_off;
  }
  if (made != nullptr) {
    alive_.fetch_sub(1, std::memory_order_relaxed);
    recycle_record(*made);
  }
  rescuer_.word.wake();
  ensure_ticking();  // the sampler tries again after the pause
  return fail(err);
}

template <class Sync>
void basic_pool<Sync>::create_wanted() noexcept {
  for_each_account([&](account& at) {
    for (bool more = true; more;) {
      bool give_back = false;
      {
        const scoped_lock held(at.lock);
        more = at.spawns != 0;
        give_back = more && exiting_.load(std::memory_order_relaxed);  // relaxed: a thread too many leaves at once
        if (give_back) {
          --at.spawns;
          at.running.fetch_sub(1, std::memory_order_seq_cst);
          limits(at.cls).workers.fetch_sub(1, std::memory_order_seq_cst);  // as in saturated()
        }
      }
      if (more && !give_back) {
        more = spawn(at, false).has_value();
      }
    }
  });
}

template <class Sync>
void basic_pool<Sync>::bury_dead() noexcept {
  for (;;) {
    worker* gone = nullptr;
    {
      const scoped_lock held(records_lock_);
      if (dead_.empty()) {
        return;
      }
      gone = dead_.back();
      dead_.pop_back();
    }
    gone->thread.join();
    alive_.fetch_sub(1, std::memory_order_relaxed);  // relaxed: only the manager waits for it
    recycle_record(*gone);
  }
}

template <class Sync>
bool basic_pool<Sync>::anything_queued() noexcept {
  bool found = false;
  for_each_account([&](account& at) {
    found |= !at.nothing_to_do();
    const scoped_lock held(at.lock);
    for (const worker* one = at.workers.front(); !found && one != nullptr; one = one->next_all) {
      found = one->in_batch.load(std::memory_order_seq_cst) != 0;  // seq_cst: partner of detach_locked()
    }
  });
  return found;
}

// Finds workers that block without saying so: the same work at two ticks in a row, while others wait.
template <class Sync>
void basic_pool<Sync>::sample_account(account& at, std::vector<worker*>& stuck) noexcept {
  plan next;
  const bool tables =
      at.tables_listed.load(std::memory_order_relaxed) != 0;  // relaxed: a look at the next tick will do
  bool blocked = false;
  {
    const scoped_lock held(at.lock);
    bool waits = !at.nothing_to_do();
    std::size_t found = 0;
    for (worker* one = at.workers.front(); one != nullptr; one = one->next_all) {
      const bool holds = one->in_batch.load(std::memory_order_relaxed) != 0;
      waits |= holds;
      const std::uint64_t begun = one->begun.load(std::memory_order_relaxed);  // relaxed: did it change?
      const bool moved = std::exchange(one->seen_begun, begun) != begun;
      if (moved || !(waits || holds)) {
        continue;
      }
      const scoped_lock one_held(one->lock);
      const bool recalls = holds && one->run_of == nullptr;
      if (recalls && stuck.size() == stuck.capacity()) {
        continue;  // found again at the next tick: once marked, nobody would take its batch away
      }
      if (one->current == nullptr || !one->change_mode(worker_mode::busy, worker_mode::sampled)) {
        continue;
      }
      at.set_quick(false);
      at.running.fetch_sub(1, std::memory_order_seq_cst);
      ++at.counts.found_blocked;
      ++found;
      if (recalls) {
        stuck.push_back(one);
      }
    }
    at.busy_ticks = waits ? at.busy_ticks + 1 : 0;
    // Work that waits although somebody runs, for some ticks: one more, up to the CPUs there are; they do not block.
    constexpr unsigned patience = 3;
    const auto cpus = static_cast<std::int32_t>(nodes_.cpus_of(at.node));
    const bool grow =
        found == 0 && at.busy_ticks > patience && at.running.load(std::memory_order_relaxed) < cpus && waits;
    next = choose_locked(at, grow);
    blocked = found != 0 || at.running.load(std::memory_order_relaxed) == 0;
  }
  perform(next);
  if (blocked && tables) {
    start_worker(at, false);  // whoever was to look into them has blocked
  }
}

template <class Sync>
void basic_pool<Sync>::sample() noexcept {
  stuck_.clear();
  for_each_account([&](account& at) { sample_account(at, stuck_); });
  for (worker* const one : stuck_) {
    recall(*one);
    start_worker(*one->home, false);
  }
}

// Interrupts the worker's work, and says when to do it again: after 1 ms, and then after twice as long each time, up to 1 s.
// While a signal is on its way none is sent: a thread that cannot take it (a dead disk) would fill the queue of real-time
// signals, which all processes of the user share. Requires: the work was asked to stop.
template <class Sync>
void basic_pool<Sync>::interrupt_locked(worker& one, steady_time now) noexcept {
  constexpr std::chrono::milliseconds longest{1000};
  one.send_at = now + one.send_pause;
  one.send_pause = std::min(2 * one.send_pause, longest);
  if (&one == traits::this_worker() || !one.started) {
    return;  // it is not in a system call
  }
  // relaxed, both: the arrival clears it, and only says that the next may be sent.
  if (!one.sent.exchange(true, std::memory_order_relaxed) && !signals_.send(one.self)) {
    one.sent.store(false, std::memory_order_relaxed);
  }
}

// Interrupts the works that were asked to stop, where it is time. Returns when to look again. The signals are sent under the
// worker's lock alone: it keeps the work running, and no submitter waits for it.
template <class Sync>
steady_time basic_pool<Sync>::repeat_interrupts(steady_time now) noexcept {
  if (interrupting_.load(std::memory_order_relaxed) == 0) {
    return no_deadline;
  }
  steady_time next = no_deadline;
  due_.clear();
  const auto look = [&](worker& one) {
    const scoped_lock held(one.lock);
    if (!one.interrupting || one.current == nullptr) {
      return;
    }
    if (one.send_at > now && !one.ask_due) {
      next = std::min(next, one.send_at);
    } else if (due_.size() < due_.capacity()) {
      due_.push_back(&one);
    } else {
      next = now;  // the rest at the next turn
    }
  };
  for_each_account([&](account& at) {
    const scoped_lock held(at.lock);
    for (worker* one = at.workers.front(); one != nullptr; one = one->next_all) {
      look(*one);
    }
  });
  look(rescuer_);
  for (worker* const one : due_) {
    std::optional<std::stop_source> source;
    {
      const scoped_lock held(one->lock);
      if (!one->interrupting || one->current == nullptr) {
        continue;  // the work has left meanwhile
      }
      if (one->send_at <= now) {
        interrupt_locked(*one, now);
      }
      next = std::min(next, one->send_at);
      if (std::exchange(one->ask_due, false)) {
        source = one->running.ask_stop();
      }
    }
    if (source) {
      source->request_stop();
    }
  }
  return next;
}

// Returns true when all is over: no worker is left, and none will come.
template <class Sync>
bool basic_pool<Sync>::manager_step() noexcept {
  const callback_scope scope(traits::callbacks(), this);  // of timer functions and stop callbacks
  create_wanted();
  bury_dead();
  if (exiting_.load(std::memory_order_acquire) && alive_.load(std::memory_order_relaxed) == 0) {
    create_wanted();  // gives back what the last worker to leave may have asked for
    return true;
  }
  const steady_time now = clock_.now();
  steady_time wake_at = first_timer();
  const steady_time alarm_at = fire_due(now);
  if (rescuer_gone_.load(std::memory_order_acquire)) {  // acquire: pairs with rescuer_loop()
    replace_rescuer();
    wake_at = now + tick;
  }
  if (wake_at <= now) {
    rescuer_.word.wake();
    wake_at = now + tick;
  }
  // seq_cst: whoever sets it has published work first.
  if (ticking_.load(std::memory_order_seq_cst)) {
    constexpr unsigned enough_quiet_ticks = 4;
    if (now >= last_sample_ + tick) {
      last_sample_ = now;
      sample();
      quiet_ticks_ = anything_queued() ? 0 : quiet_ticks_ + 1;
    }
    wake_at = std::min(wake_at, last_sample_ + tick);
    if (quiet_ticks_ >= enough_quiet_ticks) {
      quiet_ticks_ = 0;
      ticking_.store(false, std::memory_order_seq_cst);
      if (anything_queued()) {
        ticking_.store(true, std::memory_order_seq_cst);
      } else {
        wake_at = first_timer();
      }
    }
  }
  wake_at = std::min(wake_at, repeat_interrupts(now));
  if (alarm_at > now) {  // else some are due still
    static_cast<void>(manager_word_.park_until(std::min(wake_at, alarm_at)));
  }
  return false;
}

template <class Sync>
void basic_pool<Sync>::manager_loop() noexcept {
  while (!manager_step()) {
  }
  loop_ends();
}

template <class Sync>
void basic_pool<Sync>::loop_ends() noexcept {
  // release: what this loop did is visible to the stop that waits for it.
  loops_.fetch_sub(1, std::memory_order_release);
  Sync::wake(loops_, wake_all);
}

// Made before the work is published; add_timer() then needs no memory. A timer whose work has completed stays until its
// time, or until there are twice as many as at the last clearing.
template <class Sync>
bool basic_pool<Sync>::reserve_timers(std::uint32_t count) noexcept {
  constexpr std::size_t few = 64;
  const scoped_lock held(timer_lock_);
  if (timers_.size() >= std::max(few, 2 * timers_compacted_)) {
    std::erase_if(timers_, [this](const timer& one) {
      auto& named = slots_.at(one.handle.slot());
      const scoped_lock slot_held(named.lock);
      return named.generation != one.handle.generation();
    });
    std::ranges::make_heap(timers_, std::ranges::greater{}, &timer::at);
    timers_compacted_ = timers_.size();
  }
  try {
    timers_.reserve(std::max(few, std::bit_ceil(timers_.size() + timers_reserved_ + count)));
  } catch (const std::bad_alloc&) {
    return false;
  }
  timers_reserved_ += count;
  return true;
}

template <class Sync>
void basic_pool<Sync>::unreserve_timers(std::uint32_t count) noexcept {
  if (count != 0) {
    const scoped_lock held(timer_lock_);
    timers_reserved_ -= count;
  }
}

template <class Sync>
void basic_pool<Sync>::add_timer(const timer& one) noexcept {
  bool first = false;
  {
    const scoped_lock held(timer_lock_);
    --timers_reserved_;
    timers_.push_back(one);
    std::ranges::push_heap(timers_, std::ranges::greater{}, &timer::at);
    first = timers_.front().handle == one.handle;
  }
  if (first) {
    manager_word_.wake();
  }
}

template <class Sync>
steady_time basic_pool<Sync>::first_timer() noexcept {
  const scoped_lock held(timer_lock_);
  return timers_.empty() ? no_deadline : timers_.front().at;
}

// Fires the wq_timers that are due, some at a turn: one that arms itself for now must not hold up the manager. Returns
// when to look again.
template <class Sync>
steady_time basic_pool<Sync>::fire_due(steady_time now) noexcept {
  constexpr unsigned some = 64;
  for (unsigned i = 0; i < some && alarms_.fire_one(now); ++i) {
  }
  return alarms_.first();
}

// Deadlines are met on the rescuer's thread: a run, even a cancelled one, must not hold up the manager.
template <class Sync>
bool basic_pool<Sync>::cancel_one_expired() noexcept {
  timer late{no_deadline, {}, nullptr};
  {
    const scoped_lock held(timer_lock_);
    if (timers_.empty() || timers_.front().at > clock_.now()) {
      return false;
    }
    std::ranges::pop_heap(timers_, std::ranges::greater{}, &timer::at);
    late = timers_.back();
    timers_.pop_back();
  }
  std::size_t cancelled = 0;
  static_cast<void>(cancel_counted({late.handle.slot(), late.handle.generation(), late.member}, cancelled));
  return true;
}

// P10: nobody runs, nobody is free, and creation fails.
template <class Sync>
bool basic_pool<Sync>::rescue_one() noexcept {
  for (auto& both : accounts_) {
    for (auto& one : both) {
      account& at = *one;
      look_into_tables(at);
      bool needed = false;
      {
        const scoped_lock held(at.lock);
        needed = !at.nothing_to_run() && at.running.load(std::memory_order_seq_cst) == 0 && at.free_workers.empty() &&
                 at.back_off.count() != 0;
      }
      if (needed && fetch_from(rescuer_, at, clock_.now(), true)) {
        run_batch(rescuer_);
        const std::uint64_t n = rescuer_.all_rescued.exchange(0, std::memory_order_relaxed);
        at.released_aside.fetch_add(n, std::memory_order_relaxed);  // relaxed: statistics
        at.rescued.fetch_add(n, std::memory_order_relaxed);
        return true;
      }
    }
  }
  return false;
}

template <class Sync>
bool basic_pool<Sync>::give_up_orphan() noexcept {
  work* orphan = nullptr;
  {
    const scoped_lock held(orphans_lock_);
    orphan = orphans_.pop_front();
  }
  if (orphan != nullptr) {
    door_.leave(static_cast<std::int64_t>(give_up(*orphan)));
  }
  return orphan != nullptr;
}

template <class Sync>
void basic_pool<Sync>::rescuer_loop() noexcept {
  const callback_scope scope(traits::callbacks(), this);
  traits::this_worker() = &rescuer_;
  rescuer_.clothes.emplace(identities_);
  rescuer_.sent.store(false, std::memory_order_relaxed);  // relaxed: the rescuer before it has ended
  signals_.admit(rescuer_.sent);
  {
    const scoped_lock held(rescuer_.lock);
    rescuer_.self = ::pthread_self();
    rescuer_.started = true;
  }
  rescuer_turns();
  const bool broken = rescuer_.broken();
  rescuer_.clothes.reset();
  traits::this_worker() = nullptr;
  if (broken) {
    rescuer_gone_.store(true, std::memory_order_release);  // release: pairs with the manager, who joins this thread
    manager_word_.wake();
  }
  loop_ends();
}

template <class Sync>
void basic_pool<Sync>::rescuer_turns() noexcept {
  for (;;) {
    if (cancel_one_expired() || give_up_orphan() || rescue_one()) {
      if (rescuer_.broken()) {
        return;
      }
      continue;
    }
    if (!rescuer_.clothes->take_off() || exiting_.load(std::memory_order_acquire)) {
      return;
    }
    rescuer_.word.park();
  }
}

// I6: the rescuer's turn to die and be replaced. If there is no thread to be had the manager tries again at its next turn.
template <class Sync>
void basic_pool<Sync>::replace_rescuer() noexcept {
  rescuer_thread_.join();
  expect_rescuer();
  result<named_thread> next = start_thread("-rsc", &basic_pool::rescuer_loop);
  if (next) {
    rescuer_gone_.store(false, std::memory_order_relaxed);  // relaxed: the manager's own from here
    rescuer_thread_ = std::move(*next);
    return;
  }
  loops_.fetch_sub(1, std::memory_order_relaxed);  // relaxed: it never ran
}

}  // namespace sluice::detail
