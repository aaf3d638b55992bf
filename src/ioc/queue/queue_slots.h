// queue_slots: which request goes next, and what other threads see of the queue. All that changes the state under the
// lock ends in settle_locked.
//
// | what has changed                      | what must look at it        | done by                                      |
// |---------------------------------------|-----------------------------|----------------------------------------------|
// | a slot was given back                 | those that wait for one     | gave_locked, then launch without the lock    |
// | depth, quiesce, freeze, stop          | the same                    | look_again                                   |
// | the elevator said: ask again then     | the same                    | the timer                                    |
// | the pool was full                     | the same                    | the timer, or the next slot given back       |
// | a request waits; a drain; held still  | submits: no slot without the lock | settle_locked keeps the counter frozen |
// | a request waits; quiesced; removed    | workers, after a quantum    | settle_locked writes urgent_                 |
// | nothing is under way; all are handed  | drain …; quiesce            | settle_locked wakes them                     |
//
// Everything with _locked that changes counts requires a frozen slot counter.
#pragma once

#include "ioc/queue/queue_core.h"

namespace sluice::detail {

template <class Types>
bool basic_request_queue<Types>::collect_locked(fifo& go, const request* mine) noexcept {
  bool found = false;
  if (queued_ == 0 || quiescers_ != 0 || put_off_) {
    return found;
  }
  const steady_time now = now_locked();
  const std::uint32_t depth = depth_.load(std::memory_order_relaxed);
  while (queued_ != 0 && slots_.count() < depth && has_worker_locked()) {
    const auto pick = order_->next_locked(now);
    if (pick.next == nullptr) {
      arm_locked(pick.ask_again);
      break;
    }
    request& next = *pick.next;
    --queued_;
    slots_.take_locked(1);
    if (&next == mine) {
      found = true;
      continue;
    }
    if (next.pair_ != nullptr) {
      ++next.pair_->stats_.waits;
      next.pair_->stats_.waited += now - steady_time(steady_time::duration(next.waits_since_));
    }
    next.left_at_start_ = next.bytes_left_;
    hand_locked(next);
    go.push(next);
  }
  return found;
}

// A worker of the queue's share is free. Requests of one key can have one worker at once.
template <class Types>
bool basic_request_queue<Types>::has_worker_locked() const noexcept {
  return slots_.handed() - keys_.sharers() < max_workers_;
}

template <class Types>
void basic_request_queue<Types>::hand_locked(request& next) noexcept {
  slots_.hand_locked();
  if (next.keyed()) {
    next.key_ticket_ = keys_.add(next.domain(), next.key());
  }
}

// It is handed no more, and gives its slot back.
template <class Types>
void basic_request_queue<Types>::give_handed_locked(handed_keys::ticket key_ticket) noexcept {
  slots_.give_handed_locked();
  if (key_ticket != 0) {
    keys_.remove(key_ticket);
  }
}

// Looks again then, at the latest.
template <class Types>
void basic_request_queue<Types>::arm_locked(steady_time at) noexcept {
  if (at < asks_at_) {
    asks_at_ = at;
    timed_ = true;
    timer_.arm(at);
  }
}

template <class Types>
auto basic_request_queue<Types>::gave_locked(fifo& go) noexcept -> pair* {
  put_off_ = false;  // a request has ended, so the io_wq may have room
  static_cast<void>(collect_locked(go));
  settle_locked();
  return removed_ && idle_locked() ? this->end_io_cqs_locked() : nullptr;
}

template <class Types>
void basic_request_queue<Types>::insert_locked(request& waiting, steady_time now) noexcept {
  waiting.waits_since_ = now.time_since_epoch().count();
  order_->insert_locked(waiting, waiting.pair_);
  ++queued_;
}

// What was let go is back, or over.
template <class Types>
void basic_request_queue<Types>::served_locked(request& over, steady_time now) noexcept {
  if (over.pair_ != nullptr) {
    const std::uint64_t moved = over.left_at_start_ - over.bytes_left_;
    over.pair_->stats_.bytes += moved;
    order_->served_locked(over, over.pair_, moved, now);
  }
}

// What was let go is back without having moved a byte.
template <class Types>
void basic_request_queue<Types>::untouched_locked(request& back, steady_time now) noexcept {
  if (back.pair_ != nullptr) {
    order_->take_back_locked(back, back.pair_, now);
  }
}

template <class Types>
void basic_request_queue<Types>::settle_locked() noexcept {
  if (stopped_ || paired_ || waiting_locked() != 0 || idle_waits_ != 0 || freezers_ != 0 || quiescers_ != 0) {
    slots_.freeze_locked();
  } else {
    slots_.thaw_locked();
  }
  const std::uint32_t urgent =
      (queued_ != 0 ? others_wait : 0) | (quiescers_ != 0 ? is_quiesced : 0) | (removed_ ? is_removed : 0);
  if (urgent != urgent_.load(std::memory_order_relaxed)) {  // relaxed: written under the lock only
    // seq_cst: a worker that takes a request up after quiesce or remove has said so must see it.
    urgent_.store(urgent, std::memory_order_seq_cst);
  }
  // Under the lock: a thread that wakes may free the queue once the lock is let go.
  if ((idle_waits_ != 0 && idle_locked()) || (quiesce_waits_ != 0 && slots_.count() == slots_.handed())) {
    changed_.notify_all();
  }
}

template <class Types>
bool basic_request_queue<Types>::idle_locked() const noexcept {
  return slots_.count() == 0 && queued_ == 0;
}

template <class Types>
void basic_request_queue<Types>::adopt_order_locked() noexcept {
  paired_ = order_->use() == io_cq_use::wanted;
  order_->set_quantum_locked(quantum_);
}

// A stop and a freeze wait for what was accepted, and not for its limits.
template <class Types>
void basic_request_queue<Types>::lift_limits_locked() noexcept {
  order_->lift_limits_locked(stopped_ || freezers_ != 0, now_locked());
}

template <class Types>
steady_time basic_request_queue<Types>::now_locked() const noexcept {
  return paired_ ? clock_.now() : steady_time{};
}

template <class Types>
void basic_request_queue<Types>::look_again() noexcept {
  fifo go;
  {
    scoped_lock hold(lock_);
    static_cast<void>(collect_locked(go));
    settle_locked();
  }
  launch(go);
}

template <class Types>
void basic_request_queue<Types>::cap_timer::fire(typename Types::timer& timer) noexcept {
  basic_request_queue& mine = static_cast<cap_timer&>(timer).owner;
  // The destructor waits for this function, so the memory is there; the count may be gone.
  const ref<queue> self = ref<queue>::try_get(&mine);
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

}  // namespace sluice::detail
