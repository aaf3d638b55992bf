#include <algorithm>
#include <cstdio>
#include <utility>

#include "core.h"
#include "work_access.h"

namespace sluice::detail {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds tick{1};
constexpr milliseconds first_back_off{1};
constexpr milliseconds last_back_off{500};

}  // namespace

// Creation that fails half way leaves through the destructor of the core, whose stop joins what there is.
result<void> wq_core::start() {
  result<named_thread> rescue = threads_.start(name_ + "-rsc", [this] { rescuer_main(); });
  if (!rescue) {
    return std::unexpected(rescue.error());
  }
  rescuer_.thread = std::move(*rescue);
  {
    const mutex_lock held(lock_);
    ++of(work_class::bound).workers;
    ++of(work_class::bound).running;
  }
  if (result<void> first = spawn(work_class::bound, true); !first) {
    return first;
  }
  result<named_thread> manager = threads_.start(name_ + "-mgr", [this] { manager_main(); });
  if (!manager) {
    return std::unexpected(manager.error());
  }
  manager_ = std::move(*manager);
  return {};
}

// Creates one worker for a reserved slot, or gives the slot back.
result<void> wq_core::spawn(work_class cls, bool fixed) noexcept {
  worker* self = nullptr;
  int err = ENOMEM;
  try {
    auto fresh = std::make_unique<worker>(*this, cls, fixed);
    self = fresh.get();
    {
      const mutex_lock held(lock_);
      of(cls).free.reserve(workers_.size() + 1);  // so that going idle never allocates
      workers_.push_back(std::move(fresh));
    }
    char name[16];
    std::snprintf(name, sizeof name, "%s-%c", name_.c_str(), cls == work_class::bound ? 'b' : 'u');
    result<named_thread> thread = threads_.start(name, [this, self] { worker_main(*self); });
    if (thread) {
      const mutex_lock held(lock_);
      self->thread = std::move(*thread);
      account& acct = of(cls);
      ++acct.counts.workers_created;
      acct.back_off = milliseconds{0};
      return {};
    }
    err = thread.error().value();
  } catch (const std::bad_alloc&) {
    err = ENOMEM;
  }
  const mutex_lock held(lock_);
  std::erase_if(workers_, [self](const std::unique_ptr<worker>& one) { return one.get() == self; });
  account& acct = of(cls);
  --acct.workers;
  --acct.running;
  ++acct.counts.create_failures;
  acct.back_off = std::clamp(acct.back_off * 2, first_back_off, last_back_off);
  acct.retry_at = clock_.now() + acct.back_off;
  for_rescuer_.notify_one();
  return fail(err);
}

void wq_core::create_wanted() noexcept {
  for (const work_class cls : {work_class::bound, work_class::unbound}) {
    for (;;) {
      {
        const mutex_lock held(lock_);
        account& acct = of(cls);
        if (acct.spawns == 0) {
          break;
        }
        --acct.spawns;
      }
      if (!spawn(cls, false)) {
        break;
      }
    }
  }
}

void wq_core::bury_dead() noexcept {
  std::list<std::unique_ptr<worker>> dead;
  {
    const mutex_lock held(lock_);
    dead.swap(dead_);
  }
  dead.clear();  // joins
}

void wq_core::manager_main() noexcept {
  for (;;) {
    create_wanted();
    bury_dead();
    const mutex_lock held(lock_);
    if (exiting_ && workers_.empty() && dead_.empty()) {
      return;
    }
    const steady_time now = clock_.now();
    expire_locked(now);
    sample_locked(now);
    interrupt_all_locked();
    const bool idle = of(work_class::bound).spawns == 0 && of(work_class::unbound).spawns == 0 && dead_.empty();
    if (idle) {
      static_cast<void>(for_manager_.wait_until(lock_, next_event_locked(now)));
    }
  }
}

steady_time wq_core::next_event_locked(steady_time now) const noexcept {
  const bool interrupting =
      std::ranges::any_of(workers_, [](const std::unique_ptr<worker>& one) { return one->interrupting; }) ||
      rescuer_.interrupting;
  if (interrupting || sampled_ticks_ != 0) {
    return now + tick;
  }
  return timers_.empty() ? no_deadline : timers_.begin()->first;
}

// Queued work that nobody took for a whole tick while somebody was said to be running: that somebody blocks without
// saying so, or is slow. One more worker per tick and class, so a pool never storms.
void wq_core::sample_locked(steady_time now) noexcept {
  bool queued = false;
  for (const work_class cls : {work_class::bound, work_class::unbound}) {
    account& acct = of(cls);
    if (acct.queue.head == nullptr) {
      continue;
    }
    queued = true;
    if (std::exchange(acct.taken_at_tick, acct.taken) == acct.taken && acct.spawns == 0 && sampled_ticks_ > 1) {
      for (const std::unique_ptr<worker>& one : workers_) {
        if (one->cls == cls && one->counted && one->current != nullptr && now - one->since >= tick) {
          one->counted = false;
          one->sampled = true;
          --acct.running;
          ++acct.counts.found_blocked;
          break;
        }
      }
    }
    ensure_worker_locked(cls);
  }
  sampled_ticks_ = queued ? sampled_ticks_ + 1 : 0;
}

// Deadlines of pending works are met on the rescuer's thread: a run, even a cancelled one, must not hold up the
// manager.
void wq_core::expire_locked(steady_time now) noexcept {
  while (!timers_.empty() && timers_.begin()->first <= now) {
    slot& one = slots_[timers_.begin()->second];
    expired_.emplace_back(timers_.begin()->second, one.generation);  // never allocates: one per slot is reserved
    untimer_locked(one);
    for_rescuer_.notify_one();
  }
}

void wq_core::interrupt_all_locked() noexcept {
  const auto again = [&](worker& one) SLUICE_REQUIRES(lock_) {
    if (one.interrupting && one.current != nullptr) {
      signal_.send(one.self);
    }
  };
  for (const std::unique_ptr<worker>& one : workers_) {
    again(*one);
  }
  again(rescuer_);
}

work* wq_core::rescuable_locked() noexcept {
  for (const work_class cls : {work_class::bound, work_class::unbound}) {
    account& acct = of(cls);
    if (acct.queue.head != nullptr && acct.running == 0 && acct.free.empty() && acct.back_off.count() != 0) {
      return acct.queue.pop_front();
    }
  }
  return nullptr;
}

void wq_core::rescuer_main() noexcept {
  set_current_worker(&rescuer_);
  signal_.admit();
  lock_.lock();
  rescuer_.rescuer = true;
  rescuer_.self = ::pthread_self();
  for (;;) {
    if (!expired_.empty()) {
      const work_handle handle = expired_.back();
      expired_.pop_back();
      lock_.unlock();
      static_cast<void>(cancel(handle));
      lock_.lock();
      continue;
    }
    if (work* const w = rescuable_locked()) {
      begin_locked(rescuer_, *w);
      lock_.unlock();
      run_chain(rescuer_, *w);
      lock_.lock();
      continue;
    }
    if (exiting_) {
      break;
    }
    for_rescuer_.wait(lock_);
  }
  lock_.unlock();
}

}  // namespace sluice::detail
