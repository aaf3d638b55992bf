// queue_submit: a request's way into the queue: tried on the spot, handed to the pool, or left to wait.
//
// | step          | lock                      | the request holds          | and then                                       |
// |---------------|---------------------------|----------------------------|------------------------------------------------|
// | submit        | none, if the slot counter is open | a slot             | start                                          |
// | enter_locked  | yes                       | a slot, or waits accepted  | start, or issued::queued                       |
// | start         | none; the attempt is made | a slot, handed as well     | completed, or send, or hand_or_wait            |
// | hand_or_wait  | yes                       | handed, or waits accepted  | send, or issued::queued, or refused            |
// | send          | none                      | what the pool was given    | issued::queued, or the pool's refusal          |
//
// A request that is only tried is not accepted: it has no counts, and only its submitter knows it.
//
// Invariants:     W3 W6
#pragma once

#include "ioc/queue/queue_core.h"

namespace sluice::detail {

template <class Types>
result<issued> basic_request_queue<Types>::submit(request& issue, context& issuer) noexcept {
  SLUICE_CHECK(issue.request_ops_ != nullptr && !issue.queue_,
               "submit a request that is idle and has its operations set");
  // relaxed: a submit beside a resize may see either depth.
  if (slots_.try_take(depth_.load(std::memory_order_relaxed))) [[likely]] {
    issue.pair_ = nullptr;
    return start(issue, issuer, {});
  }
  return submit_slow(issue, issuer);
}

template <class Types>
result<issued> basic_request_queue<Types>::submit_slow(request& issue, context& issuer) noexcept {
  for (;;) {
    fifo go;
    entered in;
    {
      scoped_lock hold(lock_);
      in = enter_locked(issue, issuer, go);
    }
    switch (in.what) {
      case entry::refused:
        return fail(in.error);
      case entry::lacks_pair:
        // Made with the lock taken anew, looked up again with the next: only there does it stay valid. It cannot be
        // missing forever: a thread that ended it meanwhile makes this fail.
        if (const result<pair*> made = get_io_cq(issuer); !made) {
          // relaxed: removed_ was set before what made this fail.
          const bool removed = (urgent_.load(std::memory_order_relaxed) & is_removed) != 0;
          return removed ? fail(ENODEV) : std::unexpected(made.error());
        }
        break;
      case entry::tried:
        launch(go);
        return start(issue, issuer, in.began);
      case entry::waits:
        // Ours is visible to others since the lock was let go: it may be over already.
        count(waited_);
        launch(go);
        return issued::queued;
    }
  }
}

template <class Types>
auto basic_request_queue<Types>::enter_locked(request& issue, context& issuer, fifo& go) noexcept -> entered {
  if (stopped_) {
    return {.error = removed_ ? ENODEV : ESHUTDOWN};
  }
  issue.pair_ = paired_ ? this->lookup_locked(issuer) : nullptr;
  if (paired_ && issue.pair_ == nullptr) {
    return {.what = entry::lacks_pair};
  }
  // Before it is decided: with the counter open another could take the last slot meanwhile, or give one back and not
  // find us.
  slots_.freeze_locked();
  const bool aside = freezers_ != 0 || held_count_ != 0;
  const steady_time now = now_locked();
  const bool none_waits_for_a_slot = queued_ == 0 || !has_worker_locked();
  if (!aside && quiescers_ == 0 && slots_.count() < depth_.load(std::memory_order_relaxed) && none_waits_for_a_slot &&
      (!paired_ || order_->may_go_locked(issue, issue.pair_, now))) {
    slots_.take_locked(1);
    settle_locked();
    return {.what = entry::tried, .began = now};
  }
  if (waiting_locked() >= max_waiting_) {
    return {.error = EAGAIN};  // others wait, so the counter stays frozen
  }
  accept(issue, issuer);
  bool mine = false;
  if (aside) {
    issue.held_as_ = next_held_++;
    held_.push(issue);
    ++held_count_;
  } else {
    insert_locked(issue, now);
    mine = collect_locked(go, &issue);
  }
  if (mine) {
    disown(issue);  // ours again, alone: it is tried, as on the short way
  }
  settle_locked();
  return {.what = mine ? entry::tried : entry::waits, .began = now};
}

template <class Types>
result<issued> basic_request_queue<Types>::start(request& issue, context& issuer, steady_time began) noexcept {
  issue.left_at_start_ = issue.bytes_left_;
  // An elevator that counts decides again after each quantum: a longer request needs a worker.
  const bool fits = issue.pair_ == nullptr || issue.bytes_left_ <= quantum_;
  if (fits && issue.request_ops_->try_run(issue) == attempt::done) {
    count(inline_done_);
    count(bytes_, issue.left_at_start_ - issue.bytes_left_);
    if (!slots_.try_give()) {
      end_attempt(issue, began);
    }
    return issued::completed;
  }
  // With the lock if it has a key: others of that key may share a worker with it.
  if (!issue.keyed() && slots_.try_hand(max_workers_)) {
    accept(issue, issuer);
    return send(issue);
  }
  return hand_or_wait(issue, issuer);
}

template <class Types>
void basic_request_queue<Types>::end_attempt(request& over, steady_time began) noexcept {
  fifo go;
  pair* ended = nullptr;
  {
    scoped_lock hold(lock_);
    slots_.freeze_locked();  // it may have been thawed since try_give failed
    if (over.pair_ != nullptr) {
      ++over.pair_->stats_.operations;
      ++over.pair_->stats_.inline_done;
      served_locked(over, began);
    }
    slots_.give_locked();
    ended = gave_locked(go);
  }
  queue::free_io_cqs(ended);
  launch(go);
}

template <class Types>
result<issued> basic_request_queue<Types>::hand_or_wait(request& issue, context& issuer) noexcept {
  fifo go;
  pair* ended = nullptr;
  int error = 0;
  bool handed = false;
  {
    scoped_lock hold(lock_);
    slots_.freeze_locked();
    if (removed_) {
      error = ENODEV;
    } else if (quiescers_ == 0 && has_worker_locked()) {
      handed = true;
    } else if (waiting_locked() >= max_waiting_) {
      error = EAGAIN;
    }
    if (handed) {
      hand_locked(issue);
      settle_locked();
    } else {
      const steady_time now = now_locked();
      if (issue.bytes_left_ == issue.left_at_start_) {
        untouched_locked(issue, now);
      } else {
        served_locked(issue, now);
      }
      slots_.give_locked();
      if (error == 0) {
        accept(issue, issuer);
        insert_locked(issue, now);
      }
      ended = gave_locked(go);
    }
  }
  if (handed) {
    accept(issue, issuer);
    return send(issue);
  }
  queue::free_io_cqs(ended);
  launch(go);
  if (error != 0) {
    return fail(error);
  }
  count(waited_);
  return issued::queued;
}

template <class Types>
result<issued> basic_request_queue<Types>::send(request& issue) noexcept {
  // Once accepted by the wq it may be over and freed before submit returns: nothing of it is read after that (W3).
  if (const result<void> sent = workers_.submit(static_cast<work&>(issue)); !sent) {
    disown(issue);
    if (issue.keyed() || !slots_.try_give_handed()) {
      fifo go;
      pair* ended = nullptr;
      {
        scoped_lock hold(lock_);
        slots_.freeze_locked();
        served_locked(issue, now_locked());
        give_handed_locked(std::exchange(issue.key_ticket_, handed_keys::ticket{0}));
        ended = gave_locked(go);
      }
      queue::free_io_cqs(ended);
      launch(go);
    }
    return std::unexpected(sent.error());
  }
  count(punted_);
  return issued::queued;
}

template <class Types>
void basic_request_queue<Types>::accept(request& issue, context& issuer) noexcept {
  issue.set_ops(work_operations_);
  issue.set_ioprio_class(issuer.get_ioprio().cls());
  issue.fate_ = fate::ended;
  issue.context_ = ref<context>::retain(&issuer);
  issue.queue_ = ref<queue>::retain(this);
}

template <class Types>
void basic_request_queue<Types>::disown(request& issue) noexcept {
  issue.queue_.reset();  // not the last: the submitter has one
  issue.context_.reset();
}

template <class Types>
auto basic_request_queue<Types>::get_io_cq(context& issuer) noexcept -> result<pair*> {
  if (pair* found = this->lookup_io_cq(issuer)) {
    return found;
  }
  std::unique_ptr<pair> made;  // before the lock: what is not needed is freed after it
  scoped_lock hold(lock_);
  // Under the lock: set_elevator would put another elevator in the place of this one between making and linking.
  made = order_->make_io_cq();
  if (made == nullptr) {
    return fail(ENOMEM);
  }
  return this->link_io_cq_locked(issuer, made);
}

}  // namespace sluice::detail
