// work_loop: the loop of a worker's thread: take a batch, run it, look out for more, sleep, leave.
//
// Thread safety:  each function: the thread of the worker that it is given.
// Invariants:     H7 I2 P1 P3 P4 P5
#pragma once

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "wq/loop/execution.h"
#include "wq/loop/linger.h"

namespace sluice::detail {

inline void count_latency(latency_histogram& histogram, std::int64_t ns, std::uint64_t times) noexcept {
  const auto bucket =
      static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(std::max<std::int64_t>(1, ns))) - 1);
  histogram.counts[std::min(bucket, latency_histogram::buckets - 1)] += times;
}

template <class Sync>
class basic_work_loop {
 public:
  using traits = pool_traits<Sync>;
  using account = basic_account<Sync>;
  using worker = basic_worker<Sync>;
  using key_entry = basic_key_entry<Sync>;

  explicit basic_work_loop(basic_pool<Sync>& owner) noexcept : pool_(owner) {}

  // Until the worker leaves. Its record has been added to its account.
  void run(worker& self) noexcept;
  // The thread's own part of the record: names, signals. For the rescuer too.
  void begin(worker& self) noexcept;
  void end(worker& self) noexcept;
  // Takes a batch of at most `most` works, or a run of a key, from this account.
  [[nodiscard]] bool fetch_from(worker& self, account& from, steady_time now, std::size_t most) noexcept;

 private:
  enum class fetched : std::uint8_t { nothing, batch, key, tables_first };
  enum class tables_turn : std::uint8_t { may_be, over };

  [[nodiscard]] bool fetch(worker& self) noexcept;
  [[nodiscard]] bool fetch_for_others(worker& self, steady_time now) noexcept;
  [[nodiscard]] fetched choose_next(worker& self, account& from, steady_time now, std::size_t most, tables_turn tables,
                                    key_entry*& entry) noexcept;
  void take_batch_locked(worker& self, account& from, steady_time now, std::size_t most, unsigned here) noexcept
      SLUICE_REQUIRES(from.lock);
  static void record_locked(worker& self, account& at, steady_time now) noexcept SLUICE_REQUIRES(at.lock);
  static void adapt(worker& self, steady_time now) noexcept;
  [[nodiscard]] bool idle(worker& self) noexcept;
  [[nodiscard]] bool undress(worker& self) noexcept;
  void retire(worker& self, bool surplus) noexcept;

  basic_pool<Sync>& pool_;
};

template <class Sync>
void basic_work_loop<Sync>::begin(worker& self) noexcept {
  traits::this_worker() = &self;
  self.clothes.emplace(pool_.env.identities);
  self.sent.store(false, std::memory_order_relaxed);  // relaxed: the thread that had the record before has ended
  pool_.env.signals.admit(self.sent);
  const scoped_lock held(self.lock);
  self.names = {.valid = true, .handle = ::pthread_self(), .id = ::gettid()};
}

template <class Sync>
void basic_work_loop<Sync>::end(worker& self) noexcept {
  self.clothes.reset();  // takes off what is worn
  pool_.affinity.leave(self);
  traits::this_worker() = nullptr;
}

template <class Sync>
void basic_work_loop<Sync>::run(worker& self) noexcept {
  const callback_scope scope(traits::callbacks(), &pool_);
  begin(self);
  pool_.env.nodes.bind_here(self.home->node);
  pool_.affinity.keep();
  bool surplus = false;
  for (;;) {
    surplus = pool_.growth.claim_surplus(self.home->cls);
    if (surplus) {
      break;
    }
    if (fetch(self) || (pool_.linger.for_more(self) && fetch(self))) {
      pool_.execution.run_batch(self);
    } else if (!idle(self)) {
      break;
    }
    if (self.broken()) {
      break;  // retire() has another one started
    }
  }
  static_cast<void>(undress(self));
  retire(self, surplus);
}

// I2: takes off what is worn, while the worker still counts as running: this makes system calls, and the sampler sees it. Returns false
// if the thread is broken.
template <class Sync>
bool basic_work_loop<Sync>::undress(worker& self) noexcept {
  if (self.clothes->worn() == nullptr) {
    return !self.broken();
  }
  self.set_phase(worker_phase::undressing);
  const bool done = self.clothes->take_off().has_value();
  self.set_phase(worker_phase::none);
  {
    const scoped_lock held(self.lock);  // the sampler has marked it before this, or does not any more
  }
  if (self.how() == worker_mode::sampled) {
    pool_.blocking.come_back(self);
  }
  return done;
}

template <class Sync>
bool basic_work_loop<Sync>::fetch(worker& self) noexcept {
  const steady_time now = pool_.env.clock.now();
  adapt(self, now);
  if (pool_.engines.nodes() > 1 && fetch_for_others(self, now)) {
    return true;
  }
  if (fetch_from(self, *self.home, now, self.pace.batch_limit)) {
    return true;
  }
  // Work of other nodes, if this one has none; one at a time, it is better off at home.
  for (unsigned node = 0; node < pool_.engines.nodes(); ++node) {
    account& other = pool_.engines.at(node, self.home->cls);
    if (&other != self.home && !other.nothing_to_do() && fetch_from(self, other, now, 1)) {
      return true;
    }
  }
  return false;
}

// The limit of a class holds for the whole pool, so a loaded node may have all workers. Every other turn a worker serves a node
// that has work and no worker that runs.
template <class Sync>
bool basic_work_loop<Sync>::fetch_for_others(worker& self, steady_time now) noexcept {
  self.pace.home_is_next = !self.pace.home_is_next;
  if (self.pace.home_is_next) {
    return false;
  }
  const unsigned nodes = pool_.engines.nodes();
  for (unsigned step = 1; step < nodes; ++step) {
    account& other = pool_.engines.at((self.home->node + step) % nodes, self.home->cls);
    if (other.running() == 0 && !other.nothing_to_do() && fetch_from(self, other, now, self.pace.batch_limit)) {
      return true;
    }
  }
  return false;
}

// How much a worker may take at once: as long as a batch completes in a moment, more; works behind a slow one could have been run
// by another worker. And whether works of this account are quick.
template <class Sync>
void basic_work_loop<Sync>::adapt(worker& self, steady_time now) noexcept {
  constexpr std::chrono::microseconds short_batch{20};
  constexpr std::chrono::microseconds long_batch{100};
  const steady_time since{steady_time::duration(self.since.load(std::memory_order_relaxed))};
  unsigned& limit = self.pace.batch_limit;
  if (self.pace.last_batch == 0) {
    return;
  }
  if (now - since >= long_batch) {
    limit = std::max(1U, limit / 4);
    self.home->set_quick(false);
  } else if (now - since <= short_batch && self.pace.last_batch >= limit / 2) {
    if (limit == worker::batch_most) {
      self.home->set_quick(true);
    }
    limit = std::min(worker::batch_most, limit * 2);
  }
}

template <class Sync>
void basic_work_loop<Sync>::record_locked(worker& self, account& at, steady_time now) noexcept {
  if (self.pace.last_batch != 0) {
    const std::int64_t took = now.time_since_epoch().count() - self.since.load(std::memory_order_relaxed);
    count_latency(at.counts.run_time, took / self.pace.last_batch, self.pace.last_batch);
    self.pace.last_batch = 0;
  }
  if (self.pace.was_woken) {
    self.pace.was_woken = false;
    const std::int64_t waited = now.time_since_epoch().count() - self.woken_at.load(std::memory_order_relaxed);
    count_latency(at.counts.queue_wait, waited, 1);
  }
}

template <class Sync>
bool basic_work_loop<Sync>::fetch_from(worker& self, account& from, steady_time now, std::size_t most) noexcept {
  for (;;) {
    key_entry* entry = nullptr;
    fetched what = choose_next(self, from, now, most, tables_turn::may_be, entry);
    if (what == fetched::tables_first) {
      pool_.keys.look_into_tables(from);
      what = choose_next(self, from, now, most, tables_turn::over, entry);
    }
    if (what == fetched::nothing) {
      return false;
    }
    if (what == fetched::batch || pool_.keys.take_run(self, from, *entry, most)) {
      self.since.store(now.time_since_epoch().count(), std::memory_order_relaxed);  // relaxed: for reports
      pool_.admission.made_room(from.cls);
      if (self.in_batch.load(std::memory_order_relaxed) > 1 || !from.nothing_to_do()) {
        pool_.sampler.ensure_ticking();  // if the first one blocks silently, the rest must not wait for it
      }
      return true;
    }
  }
}

template <class Sync>
auto basic_work_loop<Sync>::choose_next(worker& self, account& from, steady_time now, std::size_t most,
                                        tables_turn tables, key_entry*& entry) noexcept -> fetched {
  const scoped_lock held(from.lock);
  record_locked(self, from, now);
  const unsigned here = traits::core() & pool_.env.lane_mask;
  from.take_due_locked(here, now);
  if (tables == tables_turn::over) {
    from.tables_had_their_turn_locked();
  } else if (from.tables_are_due_locked()) {
    return fetched::tables_first;
  }
  if (from.keys_empty_locked() && from.works_empty_locked()) {
    return fetched::nothing;
  }
  if (from.key_is_next_locked()) {
    entry = &from.claim_key_locked();
    return fetched::key;
  }
  take_batch_locked(self, from, now, most, here);
  return fetched::batch;
}

// The oldest works of a list become this worker's batch.
template <class Sync>
void basic_work_loop<Sync>::take_batch_locked(worker& self, account& from, steady_time now, std::size_t most,
                                              unsigned here) noexcept {
  const auto sharers = static_cast<std::size_t>(std::max(1, from.running()));
  // Held from the first slot on: a thread that reads there that this worker has the work must find it here.
  const scoped_lock held(self.lock);
  const auto taken = from.take_batch_locked(here, now, most, sharers, self.batch, [&](work& w) {
    pool_.handles.move(work_access::slot(w), w, place::worker, &self);
  });
  if (taken.waited_ns >= 0) {
    count_latency(from.counts.queue_wait, taken.waited_ns, 1);
  }
  // seq_cst: partner of the sampler, which clears its flag and then looks into batches.
  self.in_batch.store(static_cast<std::uint32_t>(taken.count), std::memory_order_seq_cst);
  from.publish_size_locked();
}

// Sleeps until chosen. Returns false if the worker is to leave; it looked for work after it timed out (P4).
template <class Sync>
bool basic_work_loop<Sync>::idle(worker& self) noexcept {
  account& at = *self.home;
  const auto wake_up_locked = [&]() SLUICE_REQUIRES(at.lock) {
    if (self.on_free_list) {
      at.unlist_free_locked(self);
    }
    self.set_mode(worker_mode::busy);
    at.add_running();
  };
  if (!undress(self)) {
    return false;
  }
  const steady_time now = pool_.env.clock.now();
  steady_time until = no_deadline;
  {
    const scoped_lock held(at.lock);
    record_locked(self, at, now);
    if (pool_.life.exiting()) {
      return false;
    }
    self.set_mode(worker_mode::idle);
    self.slept_on = traits::core();
    at.list_free_locked(self);
    at.sub_running();
    if (!pool_.linger.handed_over(self) && !at.nothing_to_do()) {
      wake_up_locked();
      return true;
    }
    if (!self.fixed) {
      until = deadline_after(now, pool_.env.options.idle_timeout);
    }
  }
  self.pace.was_woken = true;
  bool found = false;
  pool_.engines.for_each_of(at.cls, [&](account& other) { found |= &other != &at && !other.nothing_to_do(); });
  if (!found && self.word.park_until(until)) {
    pool_.linger.note_woken(self, now);
    return true;  // chosen, and counted as running by the thread that chose it
  }
  self.pace.was_woken = false;
  {
    const scoped_lock held(at.lock);
    if (self.on_free_list) {
      wake_up_locked();
      return found || self.fixed || !at.nothing_to_do();
    }
  }
  self.word.park();  // chosen meanwhile: the wake is on its way, and must not hit the next user of the record
  return true;
}

template <class Sync>
void basic_work_loop<Sync>::retire(worker& self, bool surplus) noexcept {
  account& at = *self.home;
  {
    const scoped_lock held(at.lock);
    SLUICE_CHECK(self.how() == worker_mode::busy && !self.on_free_list, "a worker leaves as a running one");
    at.remove_worker_locked(self);
    at.sub_running();
    pool_.growth.left_locked(at, surplus);  // start_worker() below looks for work after it
    ++at.counts.workers_died;
    at.counts.released += self.all_released.load(std::memory_order_relaxed);
  }
  pool_.growth.replace_fixed(at);
  // Its place is free, on whichever node work waits for one.
  pool_.engines.for_each_of(at.cls, [this](account& other) { pool_.growth.start_worker(other); });
  end(self);
  pool_.roster.leave(self);
  pool_.manager.wake();
}

}  // namespace sluice::detail
