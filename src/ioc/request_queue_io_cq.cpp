#include <new>
#include <utility>

#include "sluice/base/check.h"
#include "sluice/ioc/request_queue.h"

namespace sluice {

io_cq* request_queue::lookup_locked(io_context& context) noexcept {
  scoped_lock inner(context.lock_);
  return context.find_locked(*this);
}

io_cq* request_queue::lookup_io_cq(io_context& context) noexcept {
  scoped_lock hold(lock_);
  return lookup_locked(context);
}

result<io_cq*> request_queue::get_io_cq(io_context& context) noexcept {
  if (io_cq* found = lookup_io_cq(context)) {
    return found;
  }
  std::unique_ptr<io_cq> made = order_->make_io_cq();
  if (made == nullptr) {
    return fail(ENOMEM);
  }
  // Declared before the locks: the loser of a race is freed after they are let go.
  scoped_lock hold(lock_);
  scoped_lock inner(context.lock_);
  if (stopped_ || context.exited_) {
    return fail(ESHUTDOWN);
  }
  if (io_cq* found = context.find_locked(*this)) {
    return found;  // another creator was first: all get his (O4)
  }
  try {
    context.tree_.emplace(id_, made.get());
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
  made->context_ = &context;
  made->queue_ = this;
  context.hint_ = made.get();
  link_io_cq_locked(*made);
  return made.release();
}

void request_queue::link_io_cq_locked(io_cq& pair) noexcept {
  pair.queue_next_ = pairs_;
  if (pairs_ != nullptr) {
    pairs_->queue_prev_ = &pair;
  }
  pairs_ = &pair;
}

void request_queue::unlink_io_cq_locked(io_cq& pair) noexcept {
  if (pair.queue_prev_ != nullptr) {
    pair.queue_prev_->queue_next_ = pair.queue_next_;
  } else {
    SLUICE_CHECK(pairs_ == &pair, "an io_cq is not in its queue's list");
    pairs_ = pair.queue_next_;
  }
  if (pair.queue_next_ != nullptr) {
    pair.queue_next_->queue_prev_ = pair.queue_prev_;
  }
  pair.queue_next_ = nullptr;
  pair.queue_prev_ = nullptr;
}

void request_queue::exit_io_cq(io_context& context) noexcept {
  scoped_lock hold(lock_);
  scoped_lock inner(context.lock_);
  // Looked up anew: while no lock was held the queue's side may have ended it.
  io_cq* pair = context.find_locked(*this);
  if (pair == nullptr) {
    return;
  }
  context.tree_.erase(id_);
  context.hint_ = nullptr;
  unlink_io_cq_locked(*pair);
  order_->exit_io_cq_locked(*pair);
  // Requests of it may still wait here: they hold the context, so the memory stays until the last of them is over.
  pair->dead_next_ = context.dead_;
  context.dead_ = pair;
}

void request_queue::clear_io_cqs() noexcept {
  for (;;) {
    std::unique_ptr<io_cq> ended;
    scoped_lock hold(lock_);
    if (pairs_ == nullptr) {
      return;
    }
    io_cq& pair = *pairs_;
    // Linked here under our lock means that its context is not freed: the context unlinks it under this lock first.
    io_context& context = *pair.context_;
    scoped_lock inner(context.lock_);
    context.tree_.erase(id_);
    context.hint_ = nullptr;
    unlink_io_cq_locked(pair);
    order_->exit_io_cq_locked(pair);
    ended.reset(&pair);
  }
}

}  // namespace sluice
