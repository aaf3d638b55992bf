// queue_hold: waiting for the queue, and holding it still: drain, stop, quiesce, freeze; and what a freeze held aside.
//
// | wait    | over when                                                            | woken by settle_locked when       |
// |---------|----------------------------------------------------------------------|-----------------------------------|
// | drain, stop | nothing under way, in the elevator, or held aside                | nothing under way or in the elevator |
// | freeze  | the same, but held aside only what came after it (its mark)          | the same                          |
// | quiesce | all that is under way is handed                                      | the same                          |
//
// Held aside are requests that came while a freeze waited or had returned, or behind one that is held; they are
// numbered. Those before the mark of the oldest freeze that still waits go on as soon as no freeze has returned
// (let_held_go).
#pragma once

#include "ioc/queue/queue_core.h"

namespace sluice::detail {

template <class Types>
bool basic_request_queue<Types>::over_locked(std::uint64_t mark) const noexcept {
  return idle_locked() && (held_count_ == 0 || held_.front()->held_as_ >= mark);
}

template <class Types>
bool basic_request_queue<Types>::wait_idle_locked(steady_time deadline, std::uint64_t mark) noexcept {
  ++idle_waits_;
  settle_locked();
  bool in_time = true;
  while (!over_locked(mark) && in_time) {
    in_time = changed_.wait_until(lock_, deadline);
  }
  const bool over = over_locked(mark);  // before the counter may open: from then on others come without the lock
  --idle_waits_;
  settle_locked();
  return over;
}

template <class Types>
result<void> basic_request_queue<Types>::drain(steady_time deadline) noexcept {
  scoped_lock hold(lock_);
  return wait_idle_locked(deadline, all_held) ? result<void>{} : fail(ETIMEDOUT);
}

template <class Types>
result<void> basic_request_queue<Types>::stop(steady_time deadline) noexcept {
  {
    scoped_lock hold(lock_);
    stopped_ = true;
    this->refuse_io_cqs_locked();
    lift_limits_locked();
  }
  look_again();
  {
    scoped_lock hold(lock_);
    if (!wait_idle_locked(deadline, all_held)) {
      return fail(ETIMEDOUT);
    }
  }
  this->clear_io_cqs();
  return {};
}

template <class Types>
result<void> basic_request_queue<Types>::quiesce(steady_time deadline) noexcept {
  {
    scoped_lock hold(lock_);
    ++quiescers_;
    ++quiesce_waits_;
    settle_locked();
    bool in_time = true;
    // A request that has a slot and is not handed is in an attempt, or in the completion of a cancelled request.
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

template <class Types>
void basic_request_queue<Types>::unquiesce() noexcept {
  {
    scoped_lock hold(lock_);
    SLUICE_CHECK(quiescers_ != 0, "unquiesce() without a quiesce()");
    --quiescers_;
  }
  look_again();
}

template <class Types>
result<void> basic_request_queue<Types>::freeze(steady_time deadline) noexcept {
  return freeze_for(held_before::goes, deadline);
}

template <class Types>
result<void> basic_request_queue<Types>::freeze_for(held_before held, steady_time deadline) noexcept {
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

template <class Types>
void basic_request_queue<Types>::unfreeze() noexcept {
  {
    scoped_lock hold(lock_);
    SLUICE_CHECK(frozen_ != 0, "unfreeze() without a freeze()");
    --frozen_;
    --freezers_;
    lift_limits_locked();
  }
  let_held_go();
}

template <class Types>
bool basic_request_queue<Types>::may_let_go_locked() const noexcept {
  return held_count_ != 0 && frozen_ == 0 &&
         (freeze_waits_ == nullptr || held_.front()->held_as_ < freeze_waits_->mark);
}

// What was held aside enters the elevator in order; a request that is submitted meanwhile is held aside behind it.
template <class Types>
void basic_request_queue<Types>::let_held_go() noexcept {
  constexpr unsigned at_once = 64;          // of a hold of the lock
  std::uint64_t lacks_pair = nothing_held;  // the number of a request whose context has exited
  for (bool more = true; more;) {
    fifo go;
    fifo failed;
    ref<context> wants;  // its first request here, or its first since the elevator was changed
    std::uint64_t wanted_by = nothing_held;
    {
      scoped_lock hold(lock_);
      for (unsigned i = 0; i < at_once && may_let_go_locked() && !wants; ++i) {
        wanted_by = held_.front()->held_as_;
        wants = insert_held_locked(lacks_pair, failed);
      }
      more = may_let_go_locked();
      static_cast<void>(collect_locked(go));
      settle_locked();
    }
    launch(go);
    answer_all(failed, ENOMEM);
    if (wants && !get_io_cq(*wants).has_value()) {
      lacks_pair = wanted_by;
    }
  }
}

// Returns the context for which a pair must be made first, or nothing.
template <class Types>
auto basic_request_queue<Types>::insert_held_locked(std::uint64_t lacks_pair, fifo& failed) noexcept -> ref<context> {
  request& first = *held_.front();
  first.pair_ = paired_ ? this->lookup_locked(*first.context_) : nullptr;
  if (paired_ && first.pair_ == nullptr) {
    if (lacks_pair != first.held_as_) {
      return first.context_;
    }
    first.pair_ = own_pair_locked();  // its context has exited meanwhile, but accepted is accepted
  }
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

template <class Types>
auto basic_request_queue<Types>::own_pair_locked() noexcept -> pair* {
  if (own_.kept == nullptr) {
    if (own_.holder == nullptr) {
      own_.holder = context::create().value_or(nullptr);
    }
    std::unique_ptr<pair> made = order_->make_io_cq();
    if (own_.holder == nullptr || made == nullptr) {
      return nullptr;
    }
    this->name(*made, *own_.holder);
    own_.kept = std::move(made);
  }
  return own_.kept.get();
}

// Requires: no lock held; exit_io_cq_locked was called.
template <class Types>
void basic_request_queue<Types>::free_own_pair(own_pair own) noexcept {
  own.kept.reset();
  if (own.holder != nullptr) {
    own.holder->exit_task();
  }
}

}  // namespace sluice::detail
