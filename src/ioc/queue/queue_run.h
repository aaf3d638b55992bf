// queue_run: a request's way out of the queue: launched into the pool, run by quanta, put back between them, answered.
//
//   launch ─→ the pool ─→ work_run ─→ run_quanta ─→ work_release ─→ finish → answer: complete(), the slot back, the next
//     │ refuses                         ↑ └ next_quantum ┘     └──→ put_back: the elevator, the slot back, the next
//     └─→ put_off: the elevator; the timer, or the next end, sends it again
//
// A thread that answers or puts back a request holds a count of the queue: the request may have the last other one.
//
// Ordering:       complete() and the end of the context's count come before the slot is given back: a thread that sees the queue
//                 idle sees both.
// Invariants:     W1 W3
#pragma once

#include "ioc/queue/queue_core.h"

namespace sluice::detail {

template <class Types>
void basic_request_queue<Types>::launch(fifo& go) noexcept {
  while (request* next = go.pop()) {
    if (const result<void> sent = workers_.submit(static_cast<work&>(*next)); !sent) {
      const bool over = sent.error() == error_of(ESHUTDOWN);
      if (!over && put_off(*next)) {
        continue;
      }
      // Its submitter has gone: the refusal is its answer. The slot goes to the one behind it.
      next->set_result(over ? -ESHUTDOWN : -ENODEV);
      next->fate_ = fate::never_ran;
      const ref<queue> self = std::move(next->queue_);  // not the last: our caller has one
      answer(*next, slot::handed, go);
    }
  }
}

// The io_wq is full, or has no memory for the request's key. It waits again, and is as if it had never been let go.
// Returns false if the queue was removed.
template <class Types>
bool basic_request_queue<Types>::put_off(request& refused) noexcept {
  constexpr std::chrono::milliseconds pause{1};
  scoped_lock hold(lock_);
  slots_.freeze_locked();
  if (removed_) {
    return false;
  }
  const steady_time now = now_locked();
  untouched_locked(refused, now);
  give_handed_locked(std::exchange(refused.key_ticket_, handed_keys::ticket{0}));
  refused.waits_since_ = now.time_since_epoch().count();
  order_->insert_again_locked(refused, refused.pair_);
  ++queued_;
  put_off_ = true;
  arm_locked(clock_.now() + pause);
  settle_locked();
  return true;
}

template <class Types>
void basic_request_queue<Types>::work_run(work& node, work_context& scope) noexcept {
  auto& mine = static_cast<request&>(node);
  auto& self = static_cast<basic_request_queue&>(*mine.queue_);
  // In this order: a cancel that comes from remove comes after the mark.
  const bool told = scope.cancelled();
  const std::uint32_t urgent = self.urgent_.load(std::memory_order_seq_cst);  // pairs with settle_locked
  if (told || (urgent & is_removed) != 0) {
    mine.set_result((urgent & is_removed) != 0 ? -ENODEV : -ECANCELED);
    mine.fate_ = fate::never_ran;
  } else if ((urgent & is_quiesced) != 0) {
    mine.fate_ = fate::again;
  } else {
    mine.fate_ = self.run_quanta(mine, scope);
  }
}

template <class Types>
auto basic_request_queue<Types>::run_quanta(request& mine, const work_context& scope) noexcept -> fate {
  for (;;) {
    const std::uint64_t left = mine.bytes_left_;
    mine.request_ops_->run(mine, quantum_, cancel_probe(scope));
    const bool told = scope.cancelled();
    // seq_cst: as in work_run, since this worker takes the request up for its next quantum.
    const std::uint32_t urgent = urgent_.load(std::memory_order_seq_cst);
    const bool removed = told && (urgent & is_removed) != 0;
    if (mine.result_ >= 0 && mine.bytes_left_ == 0) {
      return fate::ended;
    }
    if (mine.result_ < 0 && !removed) {
      return fate::ended;
    }
    if (told) {
      mine.set_result(removed ? -ENODEV : -ECANCELED);
      return fate::interrupted;
    }
    SLUICE_CHECK(mine.bytes_left_ < left, "a run moves at least one byte of those that are left");
    if (urgent != 0 || !next_quantum(mine)) {
      return fate::again;
    }
  }
}

// A quantum is over and no request waits. Returns whether the request goes on; else it is put back.
template <class Types>
bool basic_request_queue<Types>::next_quantum(request& mine) noexcept {
  if (mine.pair_ == nullptr) {
    return true;
  }
  scoped_lock hold(lock_);
  const std::uint64_t moved = mine.left_at_start_ - mine.bytes_left_;
  if (queued_ != 0 || quiescers_ != 0 || removed_ || !order_->goes_on_locked(mine, mine.pair_, moved, now_locked())) {
    return false;
  }
  count(bytes_, moved);
  mine.pair_->stats_.bytes += moved;
  mine.left_at_start_ = mine.bytes_left_;
  return true;
}

template <class Types>
void basic_request_queue<Types>::work_release(work& node) noexcept {
  auto& over = static_cast<request&>(node);
  auto& self = static_cast<basic_request_queue&>(*over.queue_);
  if (over.fate_ == fate::again) {
    self.put_back(over);
  } else {
    self.finish(over);
  }
}

template <class Types>
void basic_request_queue<Types>::put_back(request& cut) noexcept {
  const ref<queue> self = ref<queue>::retain(this);  // the thread that runs it next may end the queue
  fifo go;
  pair* ended = nullptr;
  bool removed = false;
  {
    scoped_lock hold(lock_);
    slots_.freeze_locked();
    removed = removed_;
    if (!removed) {
      const steady_time now = now_locked();
      if (cut.left_at_start_ == cut.bytes_left_) {
        untouched_locked(cut, now);  // the queue was quiesced before it ran
      } else {
        count(bytes_, cut.left_at_start_ - cut.bytes_left_);
        ++cut_;
        served_locked(cut, now);
      }
      give_handed_locked(std::exchange(cut.key_ticket_, handed_keys::ticket{0}));
      cut.waits_since_ = now.time_since_epoch().count();
      order_->insert_again_locked(cut, cut.pair_);
      ++queued_;
      ended = gave_locked(go);
    }
  }
  if (removed) {
    cut.set_result(-ENODEV);
    cut.fate_ = fate::never_ran;
    finish(cut);
    return;
  }
  queue::free_io_cqs(ended);
  launch(go);
}

template <class Types>
void basic_request_queue<Types>::finish(request& answered) noexcept {
  // Moved out: complete() may free or resubmit the request, and with it may go the last other count of this queue.
  const ref<queue> self = std::move(answered.queue_);
  fifo go;
  answer(answered, slot::handed, go);
  launch(go);
}

template <class Types>
void basic_request_queue<Types>::answer_all(fifo& taken, int error) noexcept {
  while (request* each = taken.pop()) {
    each->set_result(-error);
    each->fate_ = fate::never_ran;
    const ref<queue> self = std::move(each->queue_);
    fifo go;
    answer(*each, slot::taken, go);
    launch(go);
  }
}

template <class Types>
void basic_request_queue<Types>::answer(request& over, slot held, fifo& go) noexcept {
  const fate how = over.fate_;
  const handed_keys::ticket key_ticket = std::exchange(over.key_ticket_, handed_keys::ticket{0});
  ref<context> issuer = std::move(over.context_);
  if (held == slot::handed) {
    count(bytes_, over.left_at_start_ - over.bytes_left_);
    if (over.pair_ != nullptr) {
      scoped_lock hold(lock_);
      over.pair_->stats_.operations += how == fate::never_ran ? 0 : 1;
      served_locked(over, now_locked());
    }
  }
  over.request_ops_->complete(over);
  issuer.reset();  // before the slot: after a drain no request holds its context
  if (held == slot::handed && key_ticket == 0 && slots_.try_give_handed()) {
    return;
  }
  pair* ended = nullptr;
  {
    scoped_lock hold(lock_);
    slots_.freeze_locked();
    if (held == slot::handed) {
      give_handed_locked(key_ticket);
    } else {
      slots_.give_locked();
    }
    if (removed_) {
      ++(how == fate::never_ran     ? removal_.cancelled
         : how == fate::interrupted ? removal_.interrupted
                                    : removal_.answered);
    }
    ended = gave_locked(go);
  }
  queue::free_io_cqs(ended);
}

}  // namespace sluice::detail
