// What happens to a request queue as a whole: waiting for it, holding it still, changing it, ending it.
#include <new>
#include <utility>

#include "sluice/base/check.h"
#include "sluice/ioc/request_queue.h"

namespace sluice {

std::size_t request_queue::cancel_owner(std::uint64_t owner) noexcept {
  SLUICE_CHECK(owner != 0, "0 is nobody: requests without an owner are not found by owner");
  request_fifo taken;
  std::size_t answered = 0;
  {
    scoped_lock hold(lock_);
    const std::size_t queued = order_->extract_owner_locked(owner, taken);
    const std::size_t held = held_.extract_owner(owner, taken);
    answered = queued + held;
    if (answered != 0) {
      // They count as under way until their complete() has returned, so that who waits for idle waits for that.
      slots_.freeze_locked();
      slots_.take_locked(static_cast<std::uint32_t>(answered));
      queued_ -= static_cast<std::uint32_t>(queued);
      held_count_ -= static_cast<std::uint32_t>(held);
      settle_locked();
    }
  }
  answer_all(taken, ECANCELED);
  const auto pending = [owner](const work_view& view) noexcept { return view.owner == owner && !view.running; };
  // ENOMEM for the snapshot: then they run, as if the cancel had come a moment later.
  if (result<cancel_counts> counts = workers_.cancel_if(pending)) {
    answered += counts->cancelled;
  }
  cancelled_.fetch_add(answered, std::memory_order_relaxed);  // a figure
  return answered;
}

bool request_queue::over_locked(std::uint64_t mark) const noexcept {
  return idle_locked() && (held_count_ == 0 || held_.front()->held_as_ >= mark);
}

bool request_queue::wait_idle_locked(steady_time deadline, std::uint64_t mark) noexcept {
  ++idle_waits_;
  settle_locked();
  bool in_time = true;
  while (!over_locked(mark) && in_time) {
    in_time = changed_.wait_until(lock_, deadline);
  }
  --idle_waits_;
  settle_locked();
  return over_locked(mark);
}

result<void> request_queue::drain(steady_time deadline) noexcept {
  scoped_lock hold(lock_);
  return wait_idle_locked(deadline, all_held) ? result<void>{} : fail(ETIMEDOUT);
}

result<void> request_queue::stop(steady_time deadline) noexcept {
  {
    scoped_lock hold(lock_);
    stopped_ = true;
    refuse_io_cqs_locked();
    lift_limits_locked();
  }
  look_again();
  {
    scoped_lock hold(lock_);
    if (!wait_idle_locked(deadline, all_held)) {
      return fail(ETIMEDOUT);
    }
  }
  clear_io_cqs();
  return {};
}

result<void> request_queue::quiesce(steady_time deadline) noexcept {
  {
    scoped_lock hold(lock_);
    ++quiescers_;
    ++quiesce_waits_;
    settle_locked();
    bool in_time = true;
    // Whoever holds a slot and is not handed is in an attempt, or in the completion of a cancelled request.
    while (slots_.count() != slots_.handed() && in_time) {
      in_time = changed_.wait_until(lock_, deadline);
    }
    --quiesce_waits_;
    if (slots_.count() == slots_.handed()) {
      return {};
    }
  }
  unquiesce();
  return fail(ETIMEDOUT);
}

void request_queue::unquiesce() noexcept {
  {
    scoped_lock hold(lock_);
    SLUICE_CHECK(quiescers_ != 0, "unquiesce() without a quiesce()");
    --quiescers_;
  }
  look_again();
}

result<void> request_queue::freeze(steady_time deadline) noexcept {
  return freeze_for(held_before::goes, deadline);
}

result<void> request_queue::freeze_for(held_before held, steady_time deadline) noexcept {
  freeze_wait mine;
  {
    scoped_lock hold(lock_);
    mine.mark = held == held_before::goes ? next_held_ : nothing_held;
    freeze_wait** end = &freeze_waits_;
    while (*end != nullptr) {
      end = &(*end)->next;
    }
    *end = &mine;
    ++freezers_;
    lift_limits_locked();
  }
  look_again();
  bool over = false;
  {
    scoped_lock hold(lock_);
    over = wait_idle_locked(deadline, mine.mark);
    freeze_wait** place = &freeze_waits_;
    while (*place != &mine) {
      place = &(*place)->next;
    }
    *place = mine.next;
    ++frozen_;  // from here on it can be undone by unfreeze()
  }
  if (!over) {
    unfreeze();
    return fail(ETIMEDOUT);
  }
  return {};
}

void request_queue::unfreeze() noexcept {
  {
    scoped_lock hold(lock_);
    SLUICE_CHECK(frozen_ != 0, "unfreeze() without a freeze()");
    --frozen_;
    --freezers_;
    lift_limits_locked();
    settle_locked();
  }
  let_held_go();
}

bool request_queue::may_let_go_locked() const noexcept {
  return held_count_ != 0 && frozen_ == 0 &&
         (freeze_waits_ == nullptr || held_.front()->held_as_ < freeze_waits_->mark);
}

// What was held aside enters the elevator in order; who is submitted meanwhile is held aside behind it.
void request_queue::let_held_go() noexcept {
  constexpr unsigned at_once = 64;  // of a hold of the lock
  bool lacks_pair = false;
  for (bool more = true; more;) {
    request_fifo go;
    request_fifo failed;
    ref<io_context> wants;  // its first request here, or its first since the elevator was changed
    {
      scoped_lock hold(lock_);
      slots_.freeze_locked();
      for (unsigned i = 0; i < at_once && may_let_go_locked() && !wants; ++i) {
        wants = insert_held_locked(lacks_pair, failed);
      }
      more = may_let_go_locked();
      static_cast<void>(collect_locked(go));
      settle_locked();
    }
    launch(go);
    answer_all(failed, ENOMEM);
    if (wants) {
      lacks_pair = !get_io_cq(*wants).has_value();
    }
  }
}

// Returns the context for which a pair must be made first, or nothing.
ref<io_context> request_queue::insert_held_locked(bool& lacks_pair, request_fifo& failed) noexcept {
  request& first = *held_.front();
  first.pair_ = paired_ ? lookup_locked(*first.context_) : nullptr;
  if (paired_ && first.pair_ == nullptr) {
    if (!lacks_pair) {
      return first.context_;
    }
    first.pair_ = own_pair_locked();  // its context has exited meanwhile, but accepted is accepted
  }
  lacks_pair = false;
  static_cast<void>(held_.pop());
  --held_count_;
  if (paired_ && first.pair_ == nullptr) {
    slots_.take_locked(1);  // until it has its answer
    failed.push(first);
  } else {
    insert_locked(first, now_locked());
  }
  return {};
}

io_cq* request_queue::own_pair_locked() noexcept {
  if (own_.pair == nullptr) {
    if (own_.context == nullptr) {
      own_.context = io_context::create().value_or(nullptr);
    }
    std::unique_ptr<io_cq> made = order_->make_io_cq();
    if (own_.context == nullptr || made == nullptr) {
      return nullptr;
    }
    name(*made, *own_.context);
    own_.pair = std::move(made);
  }
  return own_.pair.get();
}

result<void> request_queue::resize(std::uint32_t depth) noexcept {
  if (depth == 0 || depth > slot_counter::limit / 2) {
    return fail(EINVAL);
  }
  {
    scoped_lock hold(lock_);
    depth_.store(depth, std::memory_order_relaxed);  // relaxed: a limit, it orders nothing
  }
  look_again();
  return {};
}

void request_queue::look_again() noexcept {
  request_fifo go;
  {
    scoped_lock hold(lock_);
    slots_.freeze_locked();
    static_cast<void>(collect_locked(go));
    settle_locked();
  }
  launch(go);
}

void request_queue::cap_timer::fire(wq_timer& timer) noexcept {
  request_queue& mine = static_cast<cap_timer&>(timer).queue;
  // The destructor waits for this function, so the memory is there; the count may be gone.
  const ref<request_queue> self = ref<request_queue>::try_get(&mine);
  if (!self) {
    return;
  }
  {
    scoped_lock hold(mine.lock_);
    mine.asks_at_ = no_deadline;
    mine.put_off_ = false;
  }
  mine.look_again();
}

// Requires: no lock held, the elevator has been told.
void request_queue::free_own_pair(own_pair own) noexcept {
  own.pair.reset();
  if (own.context != nullptr) {
    own.context->exit_task();
  }
}

result<void> request_queue::set_elevator(std::unique_ptr<elevator> order, steady_time deadline) noexcept {
  try {
    if (order == nullptr) {
      order = make_none_elevator();
    }
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
  own_pair own;
  result<void> done = freeze_for(held_before::stays, deadline);
  io_cq* ended = nullptr;
  if (done) {
    scoped_lock hold(lock_);
    if (stopped_) {
      done = fail(removed_ ? ENODEV : ESHUTDOWN);
    } else {
      // Nothing is under way or waits in the elevator: nobody knows a pair but its context, and only by our leave.
      ended = end_io_cqs_locked();
      if (own_.pair != nullptr) {
        order_->exit_io_cq_locked(*own_.pair);
      }
      std::swap(own_, own);
      order_.swap(order);
      adopt_order_locked();
      lift_limits_locked();
    }
  }
  if (done || done.error() != error_of(ETIMEDOUT)) {
    unfreeze();
  }
  free_io_cqs(ended);
  free_own_pair(std::move(own));
  return done;
}

removal_report request_queue::remove(steady_time deadline) noexcept {
  request_fifo taken;
  {
    scoped_lock hold(lock_);
    stopped_ = true;
    refuse_io_cqs_locked();
    removed_ = true;
    const std::size_t waited = order_->extract_all_locked(taken) + held_.extract_all(taken);
    queued_ = 0;
    held_count_ = 0;
    slots_.freeze_locked();
    slots_.take_locked(static_cast<std::uint32_t>(waited));
    settle_locked();
  }
  answer_all(taken, ENODEV);
  // Who is handed but not yet in the io_wq is missed here, and sees the mark before it runs: the io_wq's locks, which
  // this takes, order the two. ENOMEM for the snapshot: what has not begun sees the mark too; what runs is not told.
  static_cast<void>(
      workers_.cancel_if([this](const work_view& view) noexcept { return view.ops == &work_operations_; }));
  removal_report report;
  io_cq* ended = nullptr;
  {
    scoped_lock hold(lock_);
    const bool idle = wait_idle_locked(deadline, nothing_held);
    report = removal_;
    report.stuck = slots_.count();
    ended = idle ? end_io_cqs_locked() : nullptr;
  }
  free_io_cqs(ended);
  return report;
}

const elevator& request_queue::order() const noexcept {
  scoped_lock hold(lock_);
  return *order_;
}

request_queue_stats request_queue::stats() const noexcept {
  scoped_lock hold(lock_);
  return {.inline_done = inline_done_.load(std::memory_order_relaxed),
          .punted = punted_.load(std::memory_order_relaxed),
          .waited = waited_.load(std::memory_order_relaxed),
          .cancelled = cancelled_.load(std::memory_order_relaxed),
          .removed = removal_.cancelled + removal_.interrupted,
          .cut = cut_,
          .bytes = bytes_.load(std::memory_order_relaxed),
          .in_flight = slots_.count(),
          .on_workers = slots_.handed(),
          .waiting = waiting_locked(),
          .freezes = freezers_};
}

io_cq_stats request_queue::stats_of(io_context& context) noexcept {
  scoped_lock hold(lock_);
  const io_cq* pair = lookup_locked(context);
  return pair != nullptr ? pair->stats_ : io_cq_stats{};
}

}  // namespace sluice
