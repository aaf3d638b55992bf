// pool_worker: the worker's loop: take a batch, run it, go idle, leave; and what a blocking region does to it.
#pragma once

#include <algorithm>
#include <bit>

#include "pool.h"

namespace sluice::detail {

inline void count_latency(latency_histogram& histogram, std::int64_t ns, std::uint64_t times) noexcept {
  const auto bucket =
      static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(std::max<std::int64_t>(1, ns))) - 1);
  histogram.counts[std::min(bucket, latency_histogram::buckets - 1)] += times;
}

template <class Sync>
void basic_pool<Sync>::worker_loop(worker& self) noexcept {
  const callback_scope scope(traits::callbacks(), this);
  traits::this_worker() = &self;
  self.clothes.emplace(identities_);
  self.sent.store(false, std::memory_order_relaxed);  // relaxed: the thread that had the record before has ended
  signals_.admit(self.sent);
  nodes_.bind_here(self.home->node);
  keep_affinity();
  {
    const scoped_lock held(self.lock);
    self.self = ::pthread_self();
    self.started = true;
  }
  bool surplus = false;
  for (;;) {
    surplus = leave_surplus(self);
    if (surplus) {
      break;
    }
    if (fetch(self) || (linger(self) && fetch(self))) {
      run_batch(self);
    } else if (!idle(self)) {
      break;
    }
    if (self.broken()) {
      break;  // retire() has another one started
    }
  }
  self.clothes.reset();  // takes off what is worn
  retire(self, surplus);
  traits::this_worker() = nullptr;
}

template <class Sync>
bool basic_pool<Sync>::fetch(worker& self) noexcept {
  const steady_time now = clock_.now();
  adapt(self, now);
  if (fetch_from(self, *self.home, now, false)) {
    return true;
  }
  // Work of other nodes, if this one has none; one at a time, it is better off at home.
  for (auto& both : accounts_) {
    account& other = *both[std::to_underlying(self.home->cls)];
    if (&other != self.home && !other.nothing_to_do() && fetch_from(self, other, now, true)) {
      return true;
    }
  }
  return false;
}

// Before it sleeps, a worker that just had works looks out for more for a microsecond or two: a sleep and a wake cost the
// two threads more than that. Where works came faster since it was woken and now none come, whoever puts them may have
// been moved to this core, or this worker to his. Returns whether there are some for this worker.
template <class Sync>
bool basic_pool<Sync>::linger(worker& self) noexcept {
  if (!std::exchange(self.worked, false)) {
    return false;
  }
  if (self.woken_from != traits::core()) {
    for (unsigned turn = 0; turn < traits::linger_turns; ++turn) {
      if (!self.home->nothing_to_do()) {
        return true;
      }
      Sync::relax();
    }
    const std::uint64_t works = self.begun.load(std::memory_order_relaxed) - self.begun_when_woken;
    const steady_time woken_at{steady_time::duration(self.woken_at.load(std::memory_order_relaxed))};
    self.apart = (clock_.now() - woken_at) / static_cast<std::int64_t>(std::max<std::uint64_t>(works, 1));
  }
  return stand_aside(self);
}

// If the submitter runs on this very core, nobody puts any works while this worker looks out for them. If works came one soon
// after the other the submitter has the core, and needs no more wakes, until it waits, its time slice is over or another
// core takes one of the two. If a stream comes of that, a worker that slept on another core takes over: left alone, the
// system would have the two take turns here for milliseconds while that core idles.
template <class Sync>
bool basic_pool<Sync>::stand_aside(worker& self) noexcept {
  if (self.apart >= traits::dense) {
    return false;
  }
  const steady_time before = clock_.now();
  traits::yield();
  account& at = *self.home;
  std::size_t came = 0;
  worker* other = nullptr;
  {
    const scoped_lock held(at.lock);
    came = at.in_inboxes();
    other = came >= traits::stream ? free_elsewhere_locked(at) : nullptr;
    if (other != nullptr) {
      choose_free_locked(at, *other);
    }
  }
  self.apart = came != 0 ? (clock_.now() - before) / static_cast<std::int64_t>(came) : std::chrono::nanoseconds::max();
  if (other != nullptr) {
    other->word.wake();
    self.handed_over = true;
    return false;
  }
  return !at.nothing_to_do();
}

// How much a worker may take at once: as long as a batch is over in a moment, more; works behind a slow one could have
// been run by somebody else. And whether works of this account are quick.
template <class Sync>
void basic_pool<Sync>::adapt(worker& self, steady_time now) noexcept {
  constexpr std::chrono::microseconds short_batch{20};
  constexpr std::chrono::microseconds long_batch{100};
  const steady_time since{steady_time::duration(self.since.load(std::memory_order_relaxed))};
  if (self.last_batch == 0) {
    return;
  }
  if (now - since >= long_batch) {
    self.batch_limit = std::max(1U, self.batch_limit / 4);
    self.home->set_quick(false);
  } else if (now - since <= short_batch && self.last_batch >= self.batch_limit / 2) {
    if (self.batch_limit == worker::batch_most) {
      self.home->set_quick(true);
    }
    self.batch_limit = std::min(worker::batch_most, self.batch_limit * 2);
  }
}

template <class Sync>
void basic_pool<Sync>::record_locked(worker& self, account& at, steady_time now) noexcept {
  if (self.last_batch != 0) {
    const std::int64_t took = now.time_since_epoch().count() - self.since.load(std::memory_order_relaxed);
    count_latency(at.counts.run_time, took / self.last_batch, self.last_batch);
    self.last_batch = 0;
  }
  if (self.was_woken) {
    self.was_woken = false;
    const std::int64_t waited = now.time_since_epoch().count() - self.woken_at.load(std::memory_order_relaxed);
    count_latency(at.counts.queue_wait, waited, 1);
  }
}

template <class Sync>
bool basic_pool<Sync>::fetch_from(worker& self, account& from, steady_time now, bool stolen) noexcept {
  for (;;) {
    key_entry* entry = nullptr;
    fetched what = choose_next(self, from, now, stolen, table_turn::may_be, entry);
    if (what == fetched::tables_first) {
      look_into_tables(from);
      what = choose_next(self, from, now, stolen, table_turn::over, entry);
    }
    if (what == fetched::nothing) {
      return false;
    }
    if (what == fetched::batch || take_run(self, from, *entry, stolen)) {
      self.since.store(now.time_since_epoch().count(), std::memory_order_relaxed);  // relaxed: for reports
      made_room(from.cls);
      if (self.in_batch.load(std::memory_order_relaxed) > 1 || !from.nothing_to_do()) {
        ensure_ticking();  // if the first one blocks without a word, the rest must not wait for it
      }
      return true;
    }
  }
}

template <class Sync>
auto basic_pool<Sync>::choose_next(worker& self, account& from, steady_time now, bool stolen, table_turn tables,
                                   key_entry*& entry) noexcept -> fetched {
  const scoped_lock held(from.lock);
  record_locked(self, from, now);
  const unsigned here = traits::core() & lane_mask_;
  from.take_what_is_due(here, now);
  if (tables == table_turn::over) {
    from.runs_to_look = from.keys.size();
  } else if (from.tables_are_due()) {
    return fetched::tables_first;
  }
  if (!from.keys.empty() && (from.keys_next || from.singles.empty())) {
    entry = from.keys.front();
    from.unlist_key(*entry);
    from.runs_to_look -= from.runs_to_look != 0 ? 1 : 0;
    from.keys_next = false;
    return fetched::key;
  }
  if (from.singles.empty()) {
    return fetched::nothing;
  }
  detach_locked(self, from, from.singles.next_turn(here, now), now, stolen);
  from.keys_next = true;
  return fetched::batch;
}

// The oldest works of a list become this worker's batch.
template <class Sync>
void basic_pool<Sync>::detach_locked(worker& self, account& from, batch_list& turn, steady_time now,
                                     bool stolen) noexcept {
  if (from.marked == nullptr) {
    from.marked = turn.back();
    from.marked_in = &turn;
    from.marked_taken = turn.taken() + static_cast<std::int64_t>(turn.size());
    from.marked_at = now;
  }
  const auto at_it = static_cast<std::size_t>(std::max(1, from.running.load(std::memory_order_relaxed)));
  const std::size_t share = (from.singles.beside(turn) + at_it - 1) / at_it;
  const std::size_t most = stolen ? 1 : std::min(share, std::size_t{self.batch_limit});
  // Held from the first slot on: who reads there that this worker has the work must find it here.
  const scoped_lock held(self.lock);
  const work* const marked = from.marked;
  bool met = false;
  const std::size_t n = from.singles.take(turn, most, self.batch, [&](work& w) {
    set_slot(work_access::slot(w), w, slot_place::worker, &self);
    met |= &w == marked;
  });
  if (met || (from.marked_in == &turn && turn.taken() >= from.marked_taken)) {
    from.marked = nullptr;
    count_latency(from.counts.queue_wait, (now - from.marked_at).count(), 1);
  }
  // seq_cst: partner of the manager, which clears its flag and then looks into batches.
  self.in_batch.store(static_cast<std::uint32_t>(n), std::memory_order_seq_cst);
  from.publish_size();
}

// A bounded run of one key (H7). Returns false if there is nothing to run after all: what waited was cancelled, or is
// another account's to run.
template <class Sync>
bool basic_pool<Sync>::take_run(worker& self, account& from, key_entry& entry, bool stolen) noexcept {
  plan next;
  key_table& table = *entry.shard->table;
  bool ended = false;
  {
    const scoped_lock held(entry.shard->lock);
    ended = entry.waiting.empty();
    if (ended) {
      key_table::erase(*entry.shard, entry);
    } else if (&numbers::account_of(*entry.waiting.front()) == &from) {
      entry.state = key_state::busy;  // H5: from here to end_run()
      entry.queued_on = nullptr;
      const std::size_t most = stolen ? 1 : self.batch_limit;
      const scoped_lock self_held(self.lock);  // from the first slot on, as in detach_locked()
      work* last = nullptr;
      std::size_t n = most == run_list::batch ? entry.waiting.take_batch(self.batch) : 0;
      for (work* w = n == 0 ? entry.waiting.front() : nullptr; w != nullptr && &numbers::account_of(*w) == &from;) {
        set_slot(work_access::slot(*w), *w, slot_place::worker, &self);
        last = w;
        w = work_list::after(*w);
        // What is linked runs right after its head, and the key is not to wait for it.
        if (++n == most || last->link() != nullptr) {
          break;
        }
      }
      if (last != nullptr) {
        entry.waiting.split(n, *last, self.batch);
      }
      self.run_of = &entry;
      self.in_batch.store(static_cast<std::uint32_t>(n), std::memory_order_seq_cst);
      from.sub_keyed(n);
      return true;
    } else {
      entry.state = key_state::busy;  // claimed, so it is ours to move
      next = queue_key_locked(*entry.shard, entry);
    }
  }
  if (ended) {
    key_ended(table);
  }
  perform(next);
  return false;
}

template <class Sync>
void basic_pool<Sync>::run_batch(worker& self) noexcept {
  self.released = 0;
  self.passes = 0;
  while (work* w = self.broken() ? nullptr : begin_next(self)) {
    while (w != nullptr) {
      w = run_one(self, *w);
    }
  }
  if (self.broken()) {
    put_back(self);
  }
  end_run(self);
  self.worked = true;
  self.last_batch = self.released;
  if (self.passes != 0) {
    door_.leave(self.passes);  // all of the batch at once: it is the last thing that stop waits for
  }
}

// From batch to current in one hold: there is no moment at which a cancel finds the work in neither.
template <class Sync>
work* basic_pool<Sync>::begin_next(worker& self) noexcept {
  work* w = nullptr;
  if (self.in_batch.load(std::memory_order_relaxed) == 0) {  // relaxed: others only take out of a batch
    return nullptr;
  }
  {
    const scoped_lock held(self.lock);
    w = self.batch.pop_front();
    self.current = w;
    self.in_batch.store(static_cast<std::uint32_t>(self.batch.size()), std::memory_order_relaxed);
    if (work* const behind = self.batch.front()) {
      __builtin_prefetch(work_list::after(*behind));  // nobody has looked at it yet
    }
    if (w != nullptr && self.run_of != nullptr) {
      work_access::set_key(*w, self.run_of->shard->domain, self.run_of->key);
    }
    self.gives_up = w != nullptr && must_give_up(*w);
  }
  // relaxed: only this thread writes it, and the sampler asks no more than whether it changed.
  self.begun.store(self.begun.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  return w;
}

// A thread that broke before it could run the work runs nothing more: back to the head of the batch, for another worker.
// One that was asked to stop meanwhile is the rescuer's to give up (I6).
template <class Sync>
void basic_pool<Sync>::take_back(worker& self, work& w) noexcept {
  bool asked = false;
  {
    const scoped_lock held(self.lock);
    self.current = nullptr;
    asked = std::exchange(self.interrupting, false);
    if (!asked) {
      if (self.run_of != nullptr) {
        work_access::set_entry(w, self.run_of);
      }
      work_list first;
      first.push_back(w);
      self.batch.prepend(first);
      self.in_batch.store(static_cast<std::uint32_t>(self.batch.size()), std::memory_order_relaxed);
    } else {
      self.ask_due = false;
      static_cast<void>(self.running.end());
      mark_ending(w);  // in this hold: no cancel finds it with this worker, neither in the batch nor running
    }
  }
  if (self.how() == worker_mode::sampled) {
    come_back(self);  // putting on the identity took long
  }
  if (!asked) {
    return;
  }
  interrupting_.fetch_sub(1, std::memory_order_relaxed);  // relaxed: the manager looks again each tick
  {
    const scoped_lock held(orphans_lock_);
    orphans_.push_back(w);
  }
  rescuer_.word.wake();
}

// Runs and releases one. Returns the next of its chain if this worker goes on with it.
template <class Sync>
work* basic_pool<Sync>::run_one(worker& self, work& w) noexcept {
  // I3: what cannot be done as who it is for is given up, on this thread, which then acts as itself.
  const ref<const identity>& who = w.who();
  const bool gives_up = std::exchange(self.gives_up, false);
  const bool dressed = self.clothes->put_on(who && !gives_up ? &*who : nullptr).has_value();
  if (!dressed && self.broken()) {
    take_back(self, w);
    return nullptr;
  }
  const bool cancelled = gives_up || !dressed;
  work_context ctx = work_access::context(cancelled ? nullptr : &self.running);
  work_access::run(w, ctx);
  work* next = nullptr;
  std::uint32_t index = 0;
  bool interrupted = false;
  bool stopped = false;
  {
    const scoped_lock held(self.lock);
    self.current = nullptr;  // from here no cancel means this work
    interrupted = std::exchange(self.interrupting, false);
    self.ask_due = false;
    stopped = self.running.end();
    next = std::exchange(work_access::link(w), nullptr);
    index = std::exchange(work_access::slot(w), 0);
    self.between = next;
    if (next != nullptr) {
      work_access::slot(*next) = index;  // the handle names the chain, so it moves on
      set_slot(index, *next, slot_place::between, &self);
    } else if (index != 0) {
      auto& named = slots_.at(index);
      const scoped_lock slot_held(named.lock);
      slot_table::clear_locked(named);
    }
  }
  if (index != 0 && next == nullptr) {
    slots_.recycle(index);
  }
  if (interrupted) {
    signals_.consume();
    self.sent.store(false, std::memory_order_relaxed);      // relaxed: no other thread sends until the next cancel
    interrupting_.fetch_sub(1, std::memory_order_relaxed);  // relaxed: the manager looks again each tick
  }
  if (self.how() == worker_mode::sampled) {
    come_back(self);
  }
  work_access::drop_identity(w);
  work_access::set_state(w, work_state::idle);
  work_access::release(w);
  ++self.released;
  ++self.passes;
  auto& counter = self.rescuer ? self.all_rescued : self.all_released;
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // relaxed: only we write it
  if (cancelled) {
    local(self.home->cls).cancelled.fetch_add(1, std::memory_order_relaxed);  // relaxed, both: statistics
    given_up_at_stop_.fetch_add(gives_up ? 1 : 0, std::memory_order_relaxed);
  }
  const bool ends = cancelled || stopped || ctx.failed();
  return next != nullptr ? promote(self, *next, ends ? chain_turn::ends : chain_turn::goes_on) : nullptr;
}

// The turn of a chain's next member (W4). Returns it if this worker goes on with it.
template <class Sync>
work* basic_pool<Sync>::promote(worker& self, work& next, chain_turn turn) noexcept {
  if (self.in_batch.load(std::memory_order_relaxed) == 0) {
    end_run(self);  // the head's key does not wait for the rest of its chain
  }
  account& to = *accounts_[self.home->node][std::to_underlying(next.cls())];
  const bool same_class = &to == self.home && !self.rescuer && !self.broken();
  work_access::home(next) = to.home;
  timer due{no_deadline, {}, nullptr};
  if (work_access::timed(next)) {
    const std::uint32_t index = work_access::slot(next);
    due = {work_access::deadline(next), work_handle(index, slots_.at(index).generation), &next};
    if (due.at <= clock_.now()) {
      turn = chain_turn::ends;
    }
    if (turn == chain_turn::goes_on) {
      work_access::set_timed(next, false);  // its place is needed for links; the timer was reserved by the submit
    }
  }
  plan then;
  bool here = false;
  bool goes_on = false;
  if (turn == chain_turn::ends) {
    goes_on = leave_between(self, next, turn, [] {});
  } else if (same_class && !next.keyed()) {
    here = goes_on = promote_here(self, next);
  } else {
    const scoped_lock held(moves_);
    goes_on = next.keyed() ? promote_keyed(self, to, next, here, then) : promote_single(self, to, next, then);
  }
  if (due.member != nullptr && turn == chain_turn::goes_on) {
    if (goes_on) {
      add_timer(due);
    } else {
      unreserve_timers(1);
    }
  }
  if (!goes_on) {
    give_up_rest(self, next);
    return nullptr;
  }
  perform(then);
  return here ? &next : nullptr;
}

// What is left of a chain that was cut, as nobody but the thread itself.
template <class Sync>
void basic_pool<Sync>::give_up_rest(worker& self, work& next) noexcept {
  static_cast<void>(
      self.clothes->take_off());  // if that fails the thread is broken, and runs no identity of a user either
  const std::size_t count = give_up(next);
  if (cancelling_.load(std::memory_order_relaxed)) {  // relaxed: a statistic
    given_up_at_stop_.fetch_add(count, std::memory_order_relaxed);
  }
  self.passes += static_cast<std::uint32_t>(count);
}

// In one hold of the worker's lock the member is no longer between two and publish() puts it where it goes, so a cancel
// finds it in one of the places. Returns false if the chain ends here: then the slot says that the member is being given up.
template <class Sync>
template <class Publish>
bool basic_pool<Sync>::leave_between(worker& self, work& next, chain_turn turn, Publish publish) noexcept {
  const scoped_lock held(self.lock);
  self.between = nullptr;
  if (std::exchange(self.cut, false) || turn == chain_turn::ends || must_give_up(next)) {
    mark_ending(next);
    return false;
  }
  publish();
  return true;
}

template <class Sync>
bool basic_pool<Sync>::promote_here(worker& self, work& next) noexcept {
  return leave_between(self, next, chain_turn::goes_on, [&]() SLUICE_NO_THREAD_SAFETY_ANALYSIS {  // holds self.lock
    self.current = &next;
    set_slot(work_access::slot(next), next, slot_place::worker, &self);
  });
}

template <class Sync>
bool basic_pool<Sync>::promote_single(worker& self, account& to, work& next, plan& then) noexcept {
  const bool another = has(next.flags(), work_flags::concurrent);
  const scoped_lock held(to.lock);
  if (graded_list::graded(next)) {
    to.expect_grades();
  }
  const bool goes_on =
      leave_between(self, next, chain_turn::goes_on, [&]() SLUICE_NO_THREAD_SAFETY_ANALYSIS {  // holds to.lock
        work_access::accept(next, lane_here(to));
        set_slot(work_access::slot(next), next, slot_place::account, &to);
        to.singles.push_back(next);
      });
  if (goes_on) {
    to.publish_size();
    then = choose_locked(to, another);
  }
  return goes_on;
}

// Returns false if there is no memory for the key, or the chain was cut. `here`: the key was free, and is now this worker's.
template <class Sync>
bool basic_pool<Sync>::promote_keyed(worker& self, account& to, work& next, bool& here, plan& then) noexcept {
  key_table& table = traits::table(*next.domain());
  const scoped_lock order_held(table.order);
  move_to_keys(table);
  const bool may_stay =
      &to == self.home && !self.rescuer && !self.broken() && self.in_batch.load(std::memory_order_relaxed) == 0;
  key_shard& shard = table.shard_of(next.key());
  const scoped_lock held(shard.lock);
  key_entry* entry = key_table::find(shard, next.key());
  if (entry == nullptr && !key_table::provide(shard)) {
    return leave_between(self, next, chain_turn::ends, [] {});
  }
  key_list<Sync> fresh;
  const bool goes_on =
      leave_between(self, next, chain_turn::goes_on, [&]() SLUICE_NO_THREAD_SAFETY_ANALYSIS {  // holds both locks
        here = may_stay && entry == nullptr;
        if (here) {
          self.run_of = &key_table::add(shard, next.key());
          self.current = &next;
          set_slot(work_access::slot(next), next, slot_place::worker, &self);
          return;
        }
        if (entry == nullptr) {
          entry =
              &key_table::add(shard, next.key());  // no other thread adds one meanwhile: that needs the table's order
          fresh.push_back(*entry);
        }
        wait_for_key_locked(shard, *entry, to, next);
      });
  if (!fresh.empty()) {
    then = queue_keys_locked(shard, fresh);
  }
  return goes_on;
}

// What a broken worker had taken is for others.
template <class Sync>
void basic_pool<Sync>::put_back(worker& self) noexcept {
  recall(self);
  key_entry* entry = nullptr;
  {
    const scoped_lock held(self.lock);
    entry = self.run_of;
  }
  if (entry == nullptr) {
    return;
  }
  const scoped_lock moves_held(moves_);
  const scoped_lock held(entry->shard->lock);
  const scoped_lock self_held(self.lock);
  for (work* w = self.batch.front(); w != nullptr; w = work_list::after(*w)) {
    set_slot(work_access::slot(*w), *w, slot_place::key, entry, entry->shard->domain, entry->key);
    numbers::account_of(*w).add_keyed(1);
  }
  entry->waiting.prepend(self.batch);
  self.in_batch.store(0, std::memory_order_relaxed);  // relaxed: end_run() publishes them
}

// The worker's run of a key is over: whoever waits for the key has its turn.
template <class Sync>
void basic_pool<Sync>::end_run(worker& self) noexcept {
  key_entry* entry = nullptr;
  {
    const scoped_lock held(self.lock);
    entry = std::exchange(self.run_of, nullptr);
  }
  if (entry == nullptr) {
    return;
  }
  plan next;
  key_table& table = *entry->shard->table;
  bool ended = false;
  {
    const scoped_lock held(entry->shard->lock);
    ended = entry->waiting.empty();
    if (ended) {
      key_table::erase(*entry->shard, *entry);
    } else {
      next = queue_key_locked(*entry->shard, *entry);
    }
  }
  if (ended) {
    key_ended(table);
  }
  perform(next);
}

// Runs as cancelled and releases a work that is linked nowhere any more, and the rest of its chain. The handle says that
// they are being given up until the last of them has run. Returns how many.
template <class Sync>
std::size_t basic_pool<Sync>::give_up(work& first) noexcept {
  const callback_scope scope(traits::callbacks(), this);
  const std::uint32_t index = std::exchange(work_access::slot(first), 0);
  std::size_t count = 0;
  for (work* w = &first; w != nullptr; ++count) {
    account& of = local(w->cls());
    work* const next = std::exchange(work_access::link(*w), nullptr);
    work_context ctx = work_access::context(nullptr);
    work_access::run(*w, ctx);
    work_access::drop_identity(*w);
    if (work_access::timed(*w)) {  // a member whose turn did not come
      work_access::set_timed(*w, false);
      unreserve_timers(1);
    }
    if (next == nullptr && index != 0) {
      slots_.give_back(index);
    }
    work_access::set_state(*w, work_state::idle);
    work_access::release(*w);
    of.cancelled.fetch_add(1, std::memory_order_relaxed);  // relaxed: statistics
    of.released_aside.fetch_add(1, std::memory_order_relaxed);
    w = next;
  }
  return count;
}

// Sleeps until chosen. Returns false if the worker is to leave; it looked for work after it timed out (P4).
template <class Sync>
bool basic_pool<Sync>::idle(worker& self) noexcept {
  account& at = *self.home;
  const auto wake_up_locked = [&]() SLUICE_REQUIRES(at.lock) {
    if (self.on_free_list) {
      at.unlist_free(self);
    }
    self.set_mode(worker_mode::busy);
    at.running.fetch_add(1, std::memory_order_seq_cst);
  };
  // I2: while it still counts as running, for this may take system calls.
  if (!self.clothes->take_off()) {
    return false;
  }
  const steady_time now = clock_.now();
  steady_time until = no_deadline;
  {
    const scoped_lock held(at.lock);
    record_locked(self, at, now);
    if (exiting_.load(std::memory_order_seq_cst)) {
      return false;
    }
    self.set_mode(worker_mode::idle);
    self.slept_on = traits::core();
    at.list_free(self);
    at.running.fetch_sub(1, std::memory_order_seq_cst);  // seq_cst: see account.h
    // Whoever took over looks again before it stops running, after this. seq_cst: as above.
    const bool others = std::exchange(self.handed_over, false) && at.running.load(std::memory_order_seq_cst) > 0;
    if (!others && !at.nothing_to_do()) {
      wake_up_locked();
      return true;
    }
    if (!self.fixed) {
      until = deadline_after(now, options_.idle_timeout);
    }
  }
  self.was_woken = true;
  bool found = false;
  for (auto& both : accounts_) {
    account& other = *both[std::to_underlying(at.cls)];
    found |= &other != &at && !other.nothing_to_do();
  }
  if (!found && self.word.park_until(until)) {
    // Chosen, and counted as running by whoever chose. relaxed: written before the wake
    self.apart = steady_time(steady_time::duration(self.woken_at.load(std::memory_order_relaxed))) - now;
    self.begun_when_woken = self.begun.load(std::memory_order_relaxed);
    return true;
  }
  self.was_woken = false;
  {
    const scoped_lock held(at.lock);
    if (self.on_free_list) {
      wake_up_locked();
      return found || self.fixed || !at.nothing_to_do();
    }
  }
  self.word.park();  // chosen meanwhile: the wake is on its way, and must not hit whoever uses the record next
  return true;
}

// A lowered limit is met by leaving, between two works (P1). Until it has left it takes up its place.
template <class Sync>
bool basic_pool<Sync>::leave_surplus(worker& self) noexcept {
  class_limits& of = limits(self.home->cls);
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
void basic_pool<Sync>::retire(worker& self, bool surplus) noexcept {
  account& at = *self.home;
  {
    const scoped_lock held(at.lock);
    SLUICE_CHECK(self.how() == worker_mode::busy && !self.on_free_list, "a worker leaves as a running one");
    at.workers.remove(self);
    at.running.fetch_sub(1, std::memory_order_seq_cst);
    // seq_cst: as in saturated(); start_worker() below looks for work after it.
    limits(at.cls).workers.fetch_sub(surplus ? 1 + one_leaving : 1, std::memory_order_seq_cst);
    ++at.counts.workers_died;
    at.counts.released += self.all_released.load(std::memory_order_relaxed);
    if (worker* const heir = self.fixed ? at.workers.front() : nullptr) {
      heir->fixed = true;  // whoever sleeps with a time-out sees it then
    }
  }
  for (auto& both : accounts_) {
    start_worker(*both[std::to_underlying(at.cls)], false);  // its place is free, on whichever node work waits for one
  }
  {
    const scoped_lock held(self.lock);
    self.started = false;
  }
  {
    const scoped_lock held(records_lock_);
    dead_.push_back(&self);  // has room: reserved with the record
  }
  manager_word_.wake();
}

template <class Sync>
void basic_pool<Sync>::enter_region(worker& self) noexcept {
  if (self.rescuer || !self.change_mode(worker_mode::busy, worker_mode::region)) {
    return;  // the sampler was faster: it does not count already
  }
  account& at = *self.home;
  at.set_quick(false);
  at.running.fetch_sub(1, std::memory_order_seq_cst);  // seq_cst: see account.h
  if (self.in_batch.load(std::memory_order_relaxed) != 0) {
    recall(self);
  }
  if (!at.nothing_to_do()) {
    start_worker(at, false);
  }
}

template <class Sync>
void basic_pool<Sync>::leave_region(worker& self) noexcept {
  if (self.rescuer) {
    return;
  }
  if (self.how() == worker_mode::region) {
    self.home->running.fetch_add(1, std::memory_order_seq_cst);
    self.set_mode(worker_mode::busy);
  } else {
    come_back(self);
  }
}

// Counts again as running after the sampler took it for blocked.
template <class Sync>
void basic_pool<Sync>::come_back(worker& self) noexcept {
  const scoped_lock held(self.home->lock);
  if (self.change_mode(worker_mode::sampled, worker_mode::busy)) {
    self.home->running.fetch_add(1, std::memory_order_seq_cst);
  }
}

// The batch of a worker that blocks goes back to the head of the queue it came from. A key's run stays: nobody else may
// run it.
template <class Sync>
void basic_pool<Sync>::recall(worker& from) noexcept {
  const scoped_lock moves_held(moves_);
  account* to = nullptr;
  {
    const scoped_lock held(from.lock);
    if (from.run_of == nullptr && !from.batch.empty()) {
      to = &numbers::account_of(*from.batch.front());
    }
  }
  if (to == nullptr) {
    return;
  }
  const scoped_lock held(to->lock);
  const scoped_lock from_held(from.lock);
  if (from.run_of != nullptr || from.batch.empty() || &numbers::account_of(*from.batch.front()) != to) {
    return;  // it went on meanwhile
  }
  for (work* w = from.batch.front(); w != nullptr; w = work_list::after(*w)) {
    set_slot(work_access::slot(*w), *w, slot_place::account, to);
  }
  to->singles.prepend(from.batch);
  from.in_batch.store(0, std::memory_order_relaxed);  // relaxed: listed, which is published next, takes its place
  to->publish_size();
}

template <class Sync>
void basic_pool<Sync>::set_slot(std::uint32_t index, work& item, slot_place place, void* holder, hash_domain* domain,
                                std::uint64_t key) noexcept {
  if (index == 0) {
    return;
  }
  auto& named = slots_.at(index);
  const scoped_lock held(named.lock);
  named.item = &item;
  named.place = place;
  named.holder = holder;
  named.domain = domain;
  named.key = key;
}

}  // namespace sluice::detail
