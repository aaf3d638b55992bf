#include "core.h"

#include <algorithm>
#include <new>
#include <utility>

#include "work_access.h"

namespace sluice::detail {

void work_list::push_back(work& w) noexcept {
  work_access::next(w) = nullptr;
  (tail != nullptr ? work_access::next(*tail) : head) = &w;
  tail = &w;
  ++size;
}

void work_list::push_front(work& w) noexcept {
  work_access::next(w) = head;
  head = &w;
  if (tail == nullptr) {
    tail = &w;
  }
  ++size;
}

work* work_list::pop_front() noexcept {
  work* const first = head;
  if (first != nullptr) {
    head = work_access::next(*first);
    if (head == nullptr) {
      tail = nullptr;
    }
    --size;
  }
  return first;
}

bool work_list::remove(work& w) noexcept {
  work* before = nullptr;
  for (work* at = head; at != nullptr; before = at, at = work_access::next(*at)) {
    if (at != &w) {
      continue;
    }
    (before != nullptr ? work_access::next(*before) : head) = work_access::next(w);
    if (tail == &w) {
      tail = before;
    }
    --size;
    return true;
  }
  return false;
}

wq_core::wq_core(const io_wq_options& options, interrupt_signal signal)
    : options_(options),
      name_(options.name),
      threads_(options.threads != nullptr ? *options.threads : thread_seam::real()),
      clock_(options.clock != nullptr ? *options.clock : clock_seam::real()),
      signal_(std::move(signal)),
      rescuer_(*this, work_class::bound, true) {
  const mutex_lock held(lock_);
  of(work_class::bound).max = options.max_bound;
  of(work_class::unbound).max = options.max_unbound;
  slots_.emplace_back();  // 0 names nothing
}

result<void> wq_core::submit(work& head, work_handle* handle) noexcept {
  {
    const mutex_lock held(lock_);
    result<void> room = make_room(head);
    if (room) {
      try {
        result<void> admitted = admit_locked(head, handle);
        if (!admitted) {
          ++of(head.cls()).counts.refused;
        }
        return admitted;
      } catch (const std::bad_alloc&) {
        room = fail(ENOMEM);
      }
    }
    const bool runs_inline = room.error().value() == EAGAIN && options_.full == when_full::run_inline &&
                             !head.keyed() && head.link() == nullptr && handle == nullptr;
    if (!runs_inline) {
      ++of(head.cls()).counts.refused;
      return room;
    }
    ++of(head.cls()).counts.accepted;
    ++outstanding_;
  }
  return submit_inline(head);
}

result<void> wq_core::make_room(work& head) noexcept {
  const account& acct = of(head.cls());
  const auto full = [&]() SLUICE_REQUIRES(lock_) { return acct.queue.size + acct.waiting >= options_.queue_limit; };
  if (!closed_ && full() && options_.full == when_full::wait) {
    const worker* const self = current_worker();
    if (self != nullptr && &self->core == this) {
      return fail(EDEADLK);  // the room it would wait for is what it alone may be able to make
    }
    const steady_time until = clock_.now() + options_.full_wait;
    while (!closed_ && full()) {
      if (!changed_.wait_until(lock_, until) && full()) {
        return fail(ETIMEDOUT);
      }
    }
  }
  if (closed_) {
    return fail(ESHUTDOWN);
  }
  return full() ? result<void>(fail(EAGAIN)) : result<void>();
}

result<void> wq_core::submit_inline(work& head) noexcept {
  const work_class cls = head.cls();
  work_access::set_state(head, work_state::accepted);
  runner here;
  work_context ctx = work_access::context(&here);
  work_access::run(head, ctx);
  work_access::drop_identity(head);
  work_access::set_state(head, work_state::idle);
  work_access::release(head);
  const mutex_lock held(lock_);
  account_released_locked(cls, false);
  return {};
}

// Everything that can fail comes before anything that changes the work (W6).
result<void> wq_core::admit_locked(work& head, work_handle* handle) {
  for (const work* w = &head; w != nullptr; w = w->link()) {
    SLUICE_CHECK(work_access::state(*w) == work_state::idle, "submitted twice");
    SLUICE_CHECK(w->ops() != nullptr, "a work needs its functions");
    if (w->keyed() && !domains_.contains(w->domain())) {
      domains_.emplace(w->domain(), ref<hash_domain>::retain(w->domain()));
    }
  }
  const bool timed = work_access::timed(head);
  const steady_time deadline = timed ? work_access::deadline(head) : no_deadline;
  std::uint32_t taken = 0;
  if (handle != nullptr || timed) {
    taken = take_slot_locked(head, deadline);
  }
  key_turn turn = key_turn::now;
  if (head.keyed()) {
    try {
      turn = head.domain()->table().enter(head, *this);
    } catch (const std::bad_alloc&) {
      if (taken != 0) {
        free_slot_locked(std::exchange(work_access::slot(head), 0));
        if (timed) {
          work_access::put_deadline(head, deadline);
        }
      }
      throw;
    }
  }
  if (handle != nullptr) {
    *handle = work_handle(taken, slots_[taken].generation);
  }
  for (work* w = &head; w != nullptr; w = w->link()) {
    work_access::set_state(*w, work_state::accepted);
    ++of(w->cls()).counts.accepted;
    ++outstanding_;
  }
  place_locked(head, turn);
  return {};
}

void wq_core::place_locked(work& w, key_turn turn) noexcept {
  account& acct = of(w.cls());
  if (turn == key_turn::later) {
    ++acct.waiting;
    return;
  }
  const bool another = has(w.flags(), work_flags::concurrent);
  acct.queue.push_back(w);
  ensure_worker_locked(w.cls(), another);
  if (sampled_ticks_ == 0) {
    // The manager's sampler runs while work is queued; it may sleep without a time-out now.
    sampled_ticks_ = 1;
    for_manager_.notify_one();
  }
}

std::uint32_t wq_core::take_slot_locked(work& w, steady_time deadline) {
  if (free_slots_.empty()) {
    // Room to give it back is made now, so that giving back never allocates.
    if (free_slots_.capacity() <= slots_.size()) {
      free_slots_.reserve(2 * slots_.size() + 1);
      expired_.reserve(2 * slots_.size() + 1);
    }
    slots_.emplace_back();
    free_slots_.push_back(static_cast<std::uint32_t>(slots_.size() - 1));
  }
  const std::uint32_t index = free_slots_.back();
  slot& one = slots_[index];
  if (deadline != no_deadline) {
    one.timer = timers_.emplace(deadline, index);
    one.timed = true;
    for_manager_.notify_one();
  }
  free_slots_.pop_back();
  one.item = &w;
  work_access::slot(w) = index;
  return index;
}

void wq_core::untimer_locked(slot& one) noexcept {
  if (one.timed) {
    timers_.erase(one.timer);
    one.timed = false;
  }
}

void wq_core::free_slot_locked(std::uint32_t index) noexcept {
  if (index == 0) {
    return;
  }
  slot& one = slots_[index];
  untimer_locked(one);
  ++one.generation;
  one.item = nullptr;
  one.runs_on = nullptr;
  one.cut = false;
  free_slots_.push_back(index);
}

void wq_core::ensure_worker_locked(work_class cls, bool another) noexcept {
  account& acct = of(cls);
  if (acct.queue.head == nullptr || (acct.running != 0 && !another)) {
    return;
  }
  if (!acct.free.empty()) {
    worker* const chosen = acct.free.back();
    acct.free.pop_back();
    chosen->on_free_list = false;
    chosen->counted = true;
    ++acct.running;
    chosen->word.wake();
    return;
  }
  if (acct.workers >= acct.max || exiting_) {
    return;
  }
  if (acct.retry_at > clock_.now()) {
    for_rescuer_.notify_one();
    for_manager_.notify_one();
    return;
  }
  // Reserved here, created by the manager, given back there if that fails (P1).
  ++acct.workers;
  ++acct.running;
  ++acct.spawns;
  for_manager_.notify_one();
}

void wq_core::receive(work& w) noexcept {
  const mutex_lock held(lock_);
  --of(w.cls()).waiting;
  place_locked(w, key_turn::now);
  changed_.notify_all();
}

unsigned wq_core::set_max(work_class cls, unsigned max) noexcept {
  const mutex_lock held(lock_);
  account& acct = of(cls);
  const unsigned before = std::exchange(acct.max, std::max(1U, max));
  ensure_worker_locked(cls);
  // Surplus idle workers look at the limit when they wake.
  for (std::size_t surplus = acct.workers > acct.max ? acct.workers - acct.max : 0; surplus > 0 && !acct.free.empty();
       --surplus) {
    worker* const chosen = acct.free.back();
    acct.free.pop_back();
    chosen->on_free_list = false;
    chosen->counted = true;
    ++acct.running;
    chosen->word.wake();
  }
  return before;
}

unsigned wq_core::get_max(work_class cls) const noexcept {
  const mutex_lock held(lock_);
  return of(cls).max;
}

wq_stats wq_core::stats() const noexcept {
  const mutex_lock held(lock_);
  wq_stats all;
  for (const work_class cls : {work_class::bound, work_class::unbound}) {
    const account& acct = of(cls);
    class_stats& out = cls == work_class::bound ? all.bound : all.unbound;
    out = acct.counts;
    out.queued = acct.queue.size;
    out.waiting_on_key = acct.waiting;
    out.workers = acct.workers;
    out.running = acct.running;
    out.idle = acct.free.size();
    out.blocked = acct.workers - std::min<std::size_t>(acct.workers, acct.running + acct.free.size());
    out.max_workers = acct.max;
  }
  return all;
}

}  // namespace sluice::detail
