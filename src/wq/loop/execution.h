// execution: what a worker does with the works of its batch (run, release, the next member of a chain), and how works are given up.
//
// A work leaves a worker in one of three ways, and leave_current() is the one function for all of them: its run is over, the
// thread broke before the run, or (leave_between) it is the turn of the chain's next member. In the hold of the worker's lock in
// which a work leaves one place it enters the next (C3).
//
// Thread safety:  a worker's functions: that worker's thread. give_up(): any thread.
// Invariants:     W1 W2 W4 W5 C3 C5 I1 I3 I6
#pragma once

#include <cstddef>
#include <optional>
#include <stop_token>
#include <utility>

#include "wq/item/handle_table.h"
#include "wq/keyed/keys.h"
#include "wq/stop/callback_scope.h"
#include "wq/watch/deadlines.h"

namespace sluice::detail {

// How much of a chain a thread gives up.
enum class reach : std::uint8_t {
  chain,        // all of it: the thread is one of the pool's
  cancellable,  // up to the first no_cancel member: from there on the pool's canceller does it
};

template <class Sync>
class basic_execution {
 public:
  using account = basic_account<Sync>;
  using worker = basic_worker<Sync>;
  using key_entry = basic_key_entry<Sync>;
  using key_shard = basic_key_shard<Sync>;
  using key_table = basic_key_table<Sync>;
  using traits = pool_traits<Sync>;
  using plan = typename basic_growth<Sync>::plan;

  explicit basic_execution(basic_pool<Sync>& owner) noexcept : pool_(owner) {}

  // Runs and releases the worker's batch. A thread that breaks puts the rest back.
  void run_batch(worker& self) noexcept;

  // Runs as cancelled, and releases, a work that is in no place any more, and the rest of its chain. The handle says `ending`
  // until the last of them has been released. The caller gives back `over` passes of the gate.
  struct given_up {
    std::size_t over = 0;
    std::size_t later = 0;  // that a cancel matches, and that the canceller gives up
  };
  given_up give_up(work& first, reach how) noexcept;

  // A pending work was taken out of its place, by a thread that still holds that place's lock: from here on no cancel takes it.
  void mark_ending(work& w) noexcept { pool_.handles.move(work_access::slot(w), w, place::ending, nullptr); }

 private:
  enum class turn : std::uint8_t { goes_on, ends };  // whether a chain's next member is run, or given up with the rest

  [[nodiscard]] work* begin_next(worker& self) noexcept;
  [[nodiscard]] work* run_one(worker& self, work& w) noexcept;
  // On the way of every work: inlined, and so its lambdas' captures stay in registers.
  [[nodiscard, gnu::always_inline]] inline work* complete(worker& self, work& w, bool& stopped) noexcept;
  void take_back(worker& self, work& w) noexcept;
  template <class PutInPlace>
  [[gnu::always_inline]] inline void leave_current(worker& self, PutInPlace put_in_place) noexcept;
  [[nodiscard]] work* next_turn(worker& self, work& next, turn how) noexcept;
  [[nodiscard]] bool stays_here(worker& self, work& next) noexcept;
  [[nodiscard]] bool goes_to_account(worker& self, account& to, work& next, plan& then) noexcept;
  [[nodiscard]] bool goes_to_key(worker& self, account& to, work& next, bool& here) noexcept;
  template <class Prepare, class PutInPlace>
  [[nodiscard]] bool leave_between(worker& self, work& next, turn how, Prepare prepare,
                                   PutInPlace put_in_place) noexcept;
  void give_up_rest(worker& self, work& next) noexcept;
  void end_batch(worker& self) noexcept;

  basic_pool<Sync>& pool_;
};

template <class Sync>
void basic_execution<Sync>::run_batch(worker& self) noexcept {
  self.pace.released = 0;
  self.pace.passes = 0;
  while (work* w = self.broken() ? nullptr : begin_next(self)) {
    while (w != nullptr) {
      w = run_one(self, *w);
    }
  }
  end_batch(self);
  self.pace.worked = true;
  self.pace.last_batch = self.pace.released;
  if (self.pace.passes != 0) {
    pool_.life.gate.leave(self.pace.passes);  // all of the batch at once: it is the last thing that stop waits for
  }
}

template <class Sync>
void basic_execution<Sync>::end_batch(worker& self) noexcept {
  if (self.broken()) {
    pool_.blocking.recall(self);
    const scoped_lock held(pool_.scan.moves);
    pool_.keys.put_back_run(self);
  }
  self.set_phase(worker_phase::none);
  pool_.keys.end_run(self);  // takes the worker's lock: the sampler has marked it before that, or does not any more
  if (self.how() == worker_mode::sampled) {
    pool_.blocking.come_back(self);
  }
}

// From batch to current in one hold: there is no moment at which a cancel finds the work in neither.
template <class Sync>
work* basic_execution<Sync>::begin_next(worker& self) noexcept {
  work* w = nullptr;
  if (self.in_batch.load(std::memory_order_relaxed) == 0) {  // relaxed: other threads only take out of a batch
    return nullptr;
  }
  const scoped_lock held(self.lock);
  w = self.batch.pop_front();
  self.current = w;
  self.publish_batch_size();
  if (work* const behind = self.batch.front()) {
    __builtin_prefetch(work_fifo::after(*behind));  // it has waited, and is in no near cache
  }
  if (w != nullptr) {
    if (self.run_of != nullptr) {
      work_access::restore_key(*w, self.run_of->shard->domain, self.run_of->key);
    }
    self.gives_up = pool_.life.must_give_up(*w);
  }
  return w;
}

// Runs and releases one. Returns the next of its chain if this worker goes on with it.
template <class Sync>
work* basic_execution<Sync>::run_one(worker& self, work& w) noexcept {
  self.count_begun();
  self.set_phase(worker_phase::running);
  // I3: a work whose identity cannot be put on is given up, and the thread then acts as itself.
  const ref<const identity>& who = w.who();
  const bool gives_up = std::exchange(self.gives_up, false);
  const bool dressed = self.clothes->put_on(who && !gives_up ? &*who : nullptr).has_value();
  if (!dressed && self.broken()) {
    take_back(self, w);
    return nullptr;
  }
  const bool cancelled = gives_up || !dressed;
  work_context ctx = work_access::context(cancelled ? nullptr : &self.token);
  work_access::run(w, ctx);
  if (self.region_depth != 0) [[unlikely]] {
    pool_.blocking.end_region(self);
  }
  // The release begins: a region of the run is none of it, and a worker that waits for its lock is not in the run any more.
  self.set_phase(worker_phase::releasing);
  self.count_begun();
  bool stopped = false;
  const work_class cls = w.cls();
  work* const next = complete(self, w, stopped);
  work_access::drop_identity(w);
  work_access::set_state(w, work_state::idle);
  work_access::release(w);
  if (self.region_depth != 0) [[unlikely]] {
    pool_.blocking.end_region(self);
  }
  if (self.how() == worker_mode::sampled) {
    pool_.blocking.come_back(self);
  }
  ++self.pace.released;
  ++self.pace.passes;
  // relaxed: only this thread writes it
  self.all_released.store(self.all_released.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (cancelled) {
    pool_.engines.local(cls).cancelled.fetch_add(1, std::memory_order_relaxed);  // relaxed: a statistic
    pool_.life.count_given_up(gives_up ? 1 : 0);
  }
  const bool ends = cancelled || stopped || ctx.failed();
  return next != nullptr ? next_turn(self, *next, ends ? turn::ends : turn::goes_on) : nullptr;
}

// The work is no longer the worker's current one, so no cancel asks it to stop. put_in_place(asked, stopped) puts it where it is now,
// under the worker's lock. asked: a cancel had asked it to stop. stopped: the same, and its run could see it.
template <class Sync>
template <class PutInPlace>
void basic_execution<Sync>::leave_current(worker& self, PutInPlace put_in_place) noexcept {
  bool asked = false;
  std::optional<std::stop_source> gone;  // freed without the lock
  {
    const scoped_lock held(self.lock);
    self.current = nullptr;
    asked = std::exchange(self.interrupt.wanted, false);
    self.interrupt.ask_due = false;
    put_in_place(asked, self.token.end(gone));
  }
  if (asked) {
    pool_.interrupts.work_left(self);
  }
  if (self.how() == worker_mode::sampled) {
    pool_.blocking.come_back(self);
  }
}

// The run is over. Returns the next member of its chain, which the handle names from here on.
template <class Sync>
work* basic_execution<Sync>::complete(worker& self, work& w, bool& stopped) noexcept {
  work* next = nullptr;
  std::uint32_t ended = 0;
  leave_current(self, [&](bool /*asked*/, bool could_see) SLUICE_NO_THREAD_SAFETY_ANALYSIS {  // holds self.lock
    stopped = could_see;
    next = std::exchange(work_access::link(w), nullptr);
    const std::uint32_t index = std::exchange(work_access::slot(w), 0);
    self.between = next;
    if (next != nullptr) {
      work_access::slot(*next) = index;
      pool_.handles.move(index, *next, place::between, &self);
    } else if (index != 0) {
      pool_.handles.clear(index);
      ended = index;
    }
  });
  if (ended != 0) {
    pool_.handles.recycle(ended);
  }
  return next;
}

// A thread that broke before it could run the work runs nothing more: the work goes back to the head of the batch, for another
// worker. One that was asked to stop meanwhile is the canceller's to give up (I6).
template <class Sync>
void basic_execution<Sync>::take_back(worker& self, work& w) noexcept {
  bool orphan = false;
  leave_current(self, [&](bool asked, bool /*stopped*/) SLUICE_NO_THREAD_SAFETY_ANALYSIS {  // holds self.lock
    orphan = asked;
    if (asked) {
      mark_ending(w);
      return;
    }
    if (self.run_of != nullptr) {
      work_access::set_entry(w, self.run_of);
    }
    self.batch.push_front(w);
    self.publish_batch_size();
  });
  if (orphan) {
    pool_.canceller.hand_over(w);
  }
}

// The turn of a chain's next member (W4). Returns it if this worker goes on with it.
template <class Sync>
work* basic_execution<Sync>::next_turn(worker& self, work& next, turn how) noexcept {
  if (self.in_batch.load(std::memory_order_relaxed) == 0) {
    pool_.keys.end_run(self);  // the head's key does not wait for the rest of its chain
  }
  account& to = pool_.engines.at(self.home->node, next.cls());
  const bool same_class = &to == self.home && !self.rescuer && !self.broken();
  work_access::home(next) = to.home;
  timer due{};
  if (how == turn::goes_on && work_access::timed(next)) {
    due = pool_.deadlines.timer_of(next);
    const bool late = due.at <= pool_.env.clock.now() && !has(next.flags(), work_flags::no_cancel);
    how = late ? turn::ends : how;
  }
  const bool no_timer = has(next.flags(), work_flags::no_cancel);
  plan then;
  bool here = false;
  bool goes_on = false;
  if (how == turn::ends) {
    goes_on = leave_between(self, next, how, [] {}, [] {});
  } else if (same_class && !next.keyed()) {
    here = goes_on = stays_here(self, next);
  } else if (next.keyed()) {
    goes_on = goes_to_key(self, to, next, here);
  } else {
    goes_on = goes_to_account(self, to, next, then);
  }
  if (due.member != nullptr && goes_on && no_timer) {
    pool_.deadlines.take_back(1);  // no deadline matches it
  } else if (due.member != nullptr && goes_on) {
    pool_.deadlines.add(due);
  }
  if (!goes_on) {
    give_up_rest(self, next);
    return nullptr;
  }
  pool_.growth.perform(then);
  return here ? &next : nullptr;
}

// In one hold of the worker's lock the member is no longer between two, and put_in_place() puts it where it goes, so a cancel finds
// it in one of the places. prepare() is called first, in any case. Returns false if the chain ends here: then the slot says that the
// member is given up. A deadline that was not used is given back with it.
template <class Sync>
template <class Prepare, class PutInPlace>
bool basic_execution<Sync>::leave_between(worker& self, work& next, turn how, Prepare prepare,
                                          PutInPlace put_in_place) noexcept {
  const scoped_lock held(self.lock);
  self.between = nullptr;
  prepare();
  if (how == turn::ends || work_access::cut(next) != 0 || pool_.life.must_give_up(next)) {
    mark_ending(next);
    return false;
  }
  work_access::set_timed(next, false);  // its place in the work is needed for links
  put_in_place();
  return true;
}

template <class Sync>
bool basic_execution<Sync>::stays_here(worker& self, work& next) noexcept {
  return leave_between(
      self, next, turn::goes_on, [] {}, [&]() SLUICE_NO_THREAD_SAFETY_ANALYSIS {  // holds self.lock
        self.current = &next;
        pool_.handles.move(work_access::slot(next), next, place::worker, &self);
      });
}

template <class Sync>
bool basic_execution<Sync>::goes_to_account(worker& self, account& to, work& next, plan& then) noexcept {
  const scoped_lock moves_held(pool_.scan.moves);
  const need why = has(next.flags(), work_flags::concurrent) ? need::another : need::any;
  const scoped_lock held(to.lock);
  if (ready_queue::graded(next)) {
    to.expect_grades();
  }
  const bool goes_on = leave_between(
      self, next, turn::goes_on, [] {}, [&]() SLUICE_NO_THREAD_SAFETY_ANALYSIS {  // holds to.lock
        work_access::accept(next, pool_.admission.lane_here(to));
        pool_.handles.move(work_access::slot(next), next, place::account, &to);
        to.push_back_locked(next);
      });
  if (goes_on) {
    then = pool_.growth.decide_locked(to, why);
  }
  return goes_on;
}

// `here`: the key was free, and is now this worker's. The submit has set an entry aside for the key.
template <class Sync>
bool basic_execution<Sync>::goes_to_key(worker& self, account& to, work& next, bool& here) noexcept {
  key_table& table = traits::table(*next.domain());
  plan then;
  typename basic_growth<Sync>::decision_due due;
  bool goes_on = false;
  {
    const scoped_lock moves_held(pool_.scan.moves);
    const scoped_lock order_held(table.order);
    due = pool_.keys.move_to_keys(table);
    const bool may_stay =
        &to == self.home && !self.rescuer && !self.broken() && self.in_batch.load(std::memory_order_relaxed) == 0;
    key_shard& shard = table.shard_of(next.key());
    const scoped_lock held(shard.lock);
    key_list<Sync> fresh;
    const auto redeem = [&]() SLUICE_NO_THREAD_SAFETY_ANALYSIS {  // holds order
      work_access::set_entry_promised(next, false);
      table.redeem();
    };
    goes_on =
        leave_between(self, next, turn::goes_on, redeem, [&]() SLUICE_NO_THREAD_SAFETY_ANALYSIS {  // holds both locks
          key_entry* entry = table.find(shard, next.key());
          here = may_stay && entry == nullptr;
          if (here) {
            self.run_of = &table.add(shard, next.key());
            self.current = &next;
            pool_.handles.move(work_access::slot(next), next, place::worker, &self);
            return;
          }
          if (entry == nullptr) {
            entry = &table.add(shard, next.key());
            fresh.push_back(*entry);
          }
          pool_.keys.wait_locked(shard, *entry, to, next);
        });
    if (!fresh.empty()) {
      then = pool_.keys.queue_locked(shard, fresh);
    }
  }
  pool_.growth.settle(due);
  pool_.growth.perform(then);
  return goes_on;
}

// What is left of a chain that was cut, as the thread itself: the identity of the member before it is taken off.
template <class Sync>
void basic_execution<Sync>::give_up_rest(worker& self, work& next) noexcept {
  self.set_phase(worker_phase::giving_up);
  if (!self.clothes->take_off()) {
    pool_.canceller.hand_over(next);  // the thread is broken: it is not known as whom it acts
    return;
  }
  const given_up all = give_up(next, reach::chain);
  pool_.life.count_given_up(all.over);
  self.pace.passes += static_cast<unsigned>(all.over);
  if (self.how() == worker_mode::sampled) {
    pool_.blocking.come_back(self);
  }
}

template <class Sync>
auto basic_execution<Sync>::give_up(work& first, reach how) noexcept -> given_up {
  const callback_scope scope(traits::callbacks(), &pool_);
  worker* const self = traits::this_worker();
  const unsigned depth = self != nullptr ? self->region_depth : 0;
  // A region that a callback leaves open ends with it.
  const auto end_regions = [self, depth] {
    if (self != nullptr && self->region_depth != depth) [[unlikely]] {
      self->region_depth = depth;
      if (depth == 0) {
        self->pool.blocking.leave_region(*self);
      }
    }
  };
  const std::uint32_t index = std::exchange(work_access::slot(first), 0);
  given_up out;
  for (work* w = &first; w != nullptr;) {
    if (self != nullptr && self->phase.load(std::memory_order_relaxed) == std::to_underlying(worker_phase::giving_up)) {
      self->count_begun();  // the sampler sees that the worker goes on
    }
    account& of = pool_.engines.local(w->cls());
    work* const next = std::exchange(work_access::link(*w), nullptr);
    work_context ctx = work_access::context(nullptr);
    work_access::run(*w, ctx);
    end_regions();
    work_access::drop_identity(*w);
    if (work_access::timed(*w)) {  // its turn has not come
      work_access::set_timed(*w, false);
      pool_.deadlines.take_back(1);
    }
    pool_.keys.take_back_promise(*w);
    const bool handed = next != nullptr && how == reach::cancellable && has(next->flags(), work_flags::no_cancel);
    if (handed) {
      work_access::slot(*next) = index;
      pool_.handles.move(index, *next, place::ending, nullptr);
      for (const work* later = next; later != nullptr; later = later->link()) {
        out.later += has(later->flags(), work_flags::no_cancel) ? 0U : 1U;
      }
    } else if (next == nullptr && index != 0) {
      pool_.handles.give_back(index);
    }
    work_access::set_state(*w, work_state::idle);
    work_access::release(*w);
    end_regions();
    ++out.over;
    of.cancelled.fetch_add(1, std::memory_order_relaxed);  // relaxed: statistics
    of.released_aside.fetch_add(1, std::memory_order_relaxed);
    if (handed) {
      pool_.canceller.hand_over(*next);
      break;
    }
    w = next;
  }
  return out;
}

}  // namespace sluice::detail
