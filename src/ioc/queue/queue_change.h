// queue_change: what changes a queue that is in use: its depth, its elevator, whose requests it has, its end; and its
// figures.
//
// What is taken out of the elevator to be answered counts as under way until its complete() has returned, so that
// threads that wait for idle wait for that.
#pragma once

#include "ioc/queue/queue_core.h"

namespace sluice::detail {

template <class Types>
std::size_t basic_request_queue<Types>::cancel_owner(std::uint64_t owner) noexcept {
  SLUICE_CHECK(owner != 0, "0 is nobody: requests without an owner are not found by owner");
  fifo taken;
  std::size_t answered = 0;
  {
    scoped_lock hold(lock_);
    const std::size_t queued = order_->extract_owner_locked(owner, taken);
    const std::size_t held = held_.extract_owner(owner, taken);
    answered = queued + held;
    if (answered != 0) {
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

template <class Types>
result<void> basic_request_queue<Types>::resize(std::uint32_t depth) noexcept {
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

template <class Types>
result<void> basic_request_queue<Types>::set_elevator(std::unique_ptr<elevator> order, steady_time deadline) noexcept {
  own_pair own;
  result<void> done = freeze_for(held_before::stays, deadline);
  pair* ended = nullptr;
  if (done) {
    scoped_lock hold(lock_);
    if (stopped_) {
      done = fail(removed_ ? ENODEV : ESHUTDOWN);
    } else {
      // Nothing is under way or waits in the elevator: a pair is known to its context alone, under the queue's lock.
      ended = this->end_io_cqs_locked();
      if (own_.kept != nullptr) {
        order_->exit_io_cq_locked(*own_.kept);
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
  queue::free_io_cqs(ended);
  free_own_pair(std::move(own));
  return done;
}

template <class Types>
removal_report basic_request_queue<Types>::remove(steady_time deadline) noexcept {
  fifo taken;
  {
    scoped_lock hold(lock_);
    stopped_ = true;
    this->refuse_io_cqs_locked();
    removed_ = true;
    const std::size_t waited = order_->extract_all_locked(taken) + held_.extract_all(taken);
    queued_ = 0;
    held_count_ = 0;
    slots_.freeze_locked();
    slots_.take_locked(static_cast<std::uint32_t>(waited));
    settle_locked();
  }
  answer_all(taken, ENODEV);
  // A request that is handed but not yet in the io_wq is missed here, and sees the mark before it runs: the io_wq's
  // locks, which this takes, order the two. ENOMEM for the snapshot: what has not begun sees the mark too; what runs
  // is not asked to stop.
  static_cast<void>(
      workers_.cancel_if([this](const work_view& view) noexcept { return view.ops == &work_operations_; }));
  removal_report report;
  pair* ended = nullptr;
  {
    scoped_lock hold(lock_);
    const bool idle = wait_idle_locked(deadline, nothing_held);
    report = removal_;
    report.stuck = slots_.count();
    ended = idle ? this->end_io_cqs_locked() : nullptr;
  }
  queue::free_io_cqs(ended);
  return report;
}

template <class Types>
auto basic_request_queue<Types>::order() const noexcept -> const elevator& {
  scoped_lock hold(lock_);
  return *order_;
}

template <class Types>
request_queue_stats basic_request_queue<Types>::stats() const noexcept {
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

template <class Types>
io_cq_stats basic_request_queue<Types>::stats_of(context& issuer) noexcept {
  scoped_lock hold(lock_);
  const pair* found = this->lookup_locked(issuer);
  return found != nullptr ? found->stats_ : io_cq_stats{};
}

}  // namespace sluice::detail
