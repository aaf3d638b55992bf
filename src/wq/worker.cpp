#include <algorithm>
#include <bit>
#include <utility>

#include "core.h"
#include "work_access.h"

namespace sluice::detail {
namespace {

thread_local worker* this_worker = nullptr;

void count_latency(latency_histogram& histogram, std::chrono::nanoseconds took) noexcept {
  const auto ns = static_cast<std::uint64_t>(std::max<std::int64_t>(1, took.count()));
  const auto bucket = static_cast<std::size_t>(std::bit_width(ns) - 1);
  ++histogram.counts[std::min(bucket, latency_histogram::buckets - 1)];
}

}  // namespace

worker* wq_core::current_worker() noexcept {
  return this_worker;
}

void wq_core::set_current_worker(worker* self) noexcept {
  this_worker = self;
}

bool wq_core::on_worker() const noexcept {
  return this_worker != nullptr && &this_worker->core == this;
}

void wq_core::worker_main(worker& self) noexcept {
  set_current_worker(&self);
  signal_.admit();
  lock_.lock();
  self.self = ::pthread_self();
  self.started = true;
  for (;;) {
    const account& acct = of(self.cls);
    // A lowered limit is met by leaving, once nothing of its own is under way (P1).
    if (exiting_ || acct.workers > acct.max) {
      break;
    }
    if (work* const w = take_locked(self)) {
      lock_.unlock();
      run_chain(self, *w);
      lock_.lock();
      continue;
    }
    if (!idle_locked(self)) {
      break;
    }
  }
  retire_locked(self);
  lock_.unlock();
}

// Sleeps until chosen. Returns false if the worker is to leave; it looked at the queue after it timed out (P4).
bool wq_core::idle_locked(worker& self) noexcept {
  account& acct = of(self.cls);
  --acct.running;
  self.counted = false;
  self.on_free_list = true;
  acct.free.push_back(&self);
  const steady_time until = self.fixed ? no_deadline : clock_.now() + options_.idle_timeout;
  bool timed_out = false;
  while (self.on_free_list && !timed_out) {
    lock_.unlock();
    timed_out = !self.word.park_until(until);
    lock_.lock();
  }
  if (!self.on_free_list) {
    return true;  // chosen, and counted as running by whoever chose
  }
  std::erase(acct.free, &self);
  self.on_free_list = false;
  self.counted = true;
  ++acct.running;
  return acct.queue.head != nullptr;
}

void wq_core::retire_locked(worker& self) noexcept {
  account& acct = of(self.cls);
  SLUICE_CHECK(self.counted && !self.on_free_list, "a worker leaves as a running one");
  --acct.running;
  --acct.workers;
  ++acct.counts.workers_died;
  ensure_worker_locked(self.cls);
  const auto place = std::ranges::find(workers_, &self, &std::unique_ptr<worker>::get);
  dead_.splice(dead_.end(), workers_, place);
  for_manager_.notify_one();
  changed_.notify_all();
}

work* wq_core::take_locked(worker& self) noexcept {
  account& acct = of(self.cls);
  work* const w = acct.queue.pop_front();
  if (w == nullptr) {
    return nullptr;
  }
  ++acct.taken;
  begin_locked(self, *w);
  if (options_.full == when_full::wait) {
    changed_.notify_all();
  }
  return w;
}

// Under the same lock section as the dequeue: there is no moment at which a cancel finds the work in neither place.
void wq_core::begin_locked(worker& self, work& w) noexcept {
  if (w.keyed()) {
    w.domain()->table().set_busy(w.key());
  }
  self.current = &w;
  self.since = clock_.now();
  self.view = {&w, w.owner(), w.domain(), w.key(), w.cls(), true};
  if (const std::uint32_t index = work_access::slot(w); index != 0) {
    slots_[index].runs_on = &self;
  }
}

void wq_core::run_chain(worker& self, work& first) noexcept {
  work* w = &first;
  while (w != nullptr) {
    w = run_one(self, *w);
  }
}

// Runs and releases one. Returns the next of its chain if this worker goes on with it.
work* wq_core::run_one(worker& self, work& w) noexcept {
  work_context ctx = work_access::context(&self.running);
  work_access::run(w, ctx);

  const work_class cls = w.cls();
  hash_domain* const domain = w.domain();
  const std::uint64_t key = w.key();
  work* next = nullptr;
  std::uint32_t index = 0;
  bool interrupted = false;
  bool stopped = false;
  {
    const mutex_lock held(lock_);
    self.current = nullptr;  // from here nobody sends for this work
    interrupted = std::exchange(self.interrupting, false);
    if (std::exchange(self.sampled, false)) {
      ++of(self.cls).running;
      self.counted = true;
    }
    stopped = self.running.end();
    next = std::exchange(work_access::link(w), nullptr);
    index = std::exchange(work_access::slot(w), 0);
    if (index != 0 && next == nullptr) {
      free_slot_locked(index);
    } else if (index != 0) {
      slots_[index].item = nullptr;  // between two members: a cancel that comes now leaves its mark
    }
    count_latency(of(cls).counts.run_time, clock_.now() - self.since);
  }
  if (interrupted) {
    signal_.consume();
  }
  work_access::drop_identity(w);
  work_access::set_state(w, work_state::idle);
  work_access::release(w);
  end_turn(domain, key);
  if (next != nullptr) {
    next = promote(self, *next, index, stopped || ctx.failed());
  }
  const mutex_lock held(lock_);
  if (self.rescuer) {
    ++of(cls).counts.rescued;
  }
  account_released_locked(cls, false);
  return next;
}

// The turn of a chain's next member. Returns it if this worker goes on with it. The handle names the chain, so it moves
// on.
work* wq_core::promote(worker& self, work& next, std::uint32_t index, bool cut) noexcept {
  {
    const mutex_lock held(lock_);
    if (index != 0) {
      cut = slots_[index].cut || cut;
      slots_[index].runs_on = nullptr;
      slots_[index].item = &next;
      work_access::slot(next) = index;
    }
    try {
      const bool keyed = next.keyed() && !cut;
      const key_turn turn = keyed ? next.domain()->table().enter(next, *this) : key_turn::now;
      if (!cut && turn == key_turn::now && next.cls() == self.cls && !self.rescuer) {
        begin_locked(self, next);
        return &next;
      }
      if (!cut) {
        place_locked(next, turn);
        return nullptr;
      }
    } catch (const std::bad_alloc&) {
      cut = true;
    }
    free_slot_locked(std::exchange(work_access::slot(next), 0));
  }
  give_up(next);
  return nullptr;
}

// Runs as cancelled and releases a work that is linked nowhere any more, and the rest of its chain. Returns how many.
std::size_t wq_core::give_up(work& first) noexcept {
  std::size_t count = 0;
  for (work* w = &first; w != nullptr; ++count) {
    const work_class cls = w->cls();
    work* const next = std::exchange(work_access::link(*w), nullptr);
    work_context ctx = work_access::context(nullptr);
    work_access::run(*w, ctx);
    work_access::drop_identity(*w);
    work_access::set_state(*w, work_state::idle);
    work_access::release(*w);
    w = next;
    const mutex_lock held(lock_);
    account_released_locked(cls, true);
  }
  return count;
}

void wq_core::account_released_locked(work_class cls, bool cancelled) noexcept {
  class_stats& counts = of(cls).counts;
  ++counts.released;
  counts.cancelled += cancelled ? 1 : 0;
  SLUICE_CHECK_OP(outstanding_, >, 0U);
  if (--outstanding_ == 0) {
    changed_.notify_all();
  }
}

void wq_core::end_turn(hash_domain* domain, std::uint64_t key) noexcept {
  if (domain == nullptr) {
    return;
  }
  if (const auto waiter = domain->table().leave(key)) {
    // Its wq cannot end: this very work is outstanding there.
    waiter->home->receive(*waiter->item);
  }
}

void wq_core::enter_region(worker& self) noexcept {
  const mutex_lock held(lock_);
  if (self.rescuer || !self.counted) {
    return;
  }
  self.counted = false;
  --of(self.cls).running;
  ensure_worker_locked(self.cls);
}

void wq_core::leave_region(worker& self) noexcept {
  const mutex_lock held(lock_);
  if (self.rescuer || self.counted) {
    return;
  }
  self.sampled = false;
  self.counted = true;
  ++of(self.cls).running;
}

}  // namespace sluice::detail
