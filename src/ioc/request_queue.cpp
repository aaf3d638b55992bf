#include "sluice/ioc/request_queue.h"

#include <algorithm>
#include <new>
#include <utility>

#include "sluice/base/check.h"

#include "ioc/queue_ids.h"

namespace sluice {
namespace {

void count(std::atomic<std::uint64_t>& figure, std::uint64_t by = 1) noexcept {
  figure.fetch_add(by, std::memory_order_relaxed);  // a figure: it orders nothing
}

std::uint32_t share_of(const io_wq& workers) noexcept {
  const unsigned all = workers.max_workers(work_class::bound);
  return std::max(1U, all - std::max(1U, all / 4));
}

}  // namespace

result<ref<request_queue>> request_queue::create(io_wq& workers, request_queue_options options,
                                                 std::unique_ptr<elevator> order) {
  constexpr std::uint32_t most = slot_counter::limit / 2;
  if (options.depth == 0 || options.depth > most || options.max_waiting == 0 || options.max_waiting > most ||
      options.max_workers > most || workers.full() != when_full::refuse) {
    return fail(EINVAL);
  }
  try {
    if (order == nullptr) {
      order = make_none_elevator();
    }
    return ref<request_queue>::adopt(new request_queue(workers, options, std::move(order)));
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
}

request_queue::request_queue(io_wq& workers, const request_queue_options& options,
                             std::unique_ptr<elevator> order) noexcept
    : workers_(workers),
      max_waiting_(options.max_waiting),
      max_workers_(options.max_workers != 0 ? options.max_workers : share_of(workers)),
      quantum_(options.quantum != 0 ? options.quantum : ~std::uint64_t{0}),
      clock_(options.clock != nullptr ? *options.clock : clock_seam::real()),
      // relaxed: only the value must differ.
      id_(detail::next_queue_id.fetch_add(1, std::memory_order_relaxed)),
      depth_(options.depth),
      order_(std::move(order)),
      timer_(*this) {
  scoped_lock hold(lock_);
  adopt_order_locked();
  settle_locked();
}

request_queue::~request_queue() {
  own_pair own;
  bool timed = false;
  {
    scoped_lock hold(lock_);
    timed = timed_;
    SLUICE_CHECK_OP(slots_.count(), ==, 0U);
    SLUICE_CHECK(order_->empty_locked() && held_.empty(), "a request queue is freed while requests wait in it");
    SLUICE_CHECK(!has_io_cqs_locked(), "stop() a queue whose elevator keeps io_cqs before its last put");
    own = std::exchange(own_, {});
    if (own.pair != nullptr) {
      order_->exit_io_cq_locked(*own.pair);
    }
  }
  if (timed) {
    timer_.disarm_and_wait();
  }
  free_own_pair(std::move(own));
}

result<issued> request_queue::submit(request& issue, io_context& context) noexcept {
  SLUICE_CHECK(issue.request_ops_ != nullptr && !issue.queue_,
               "submit a request that is idle and has its operations set");
  // relaxed: a submit beside a resize may see either depth.
  if (slots_.try_take(depth_.load(std::memory_order_relaxed))) [[likely]] {
    issue.pair_ = nullptr;
    return start(issue, context, {});
  }
  return submit_slow(issue, context);
}

result<issued> request_queue::submit_slow(request& issue, io_context& context) noexcept {
  for (;;) {
    request_fifo go;
    entered in;
    {
      scoped_lock hold(lock_);
      in = enter_locked(issue, context, go);
    }
    switch (in.what) {
      case entry::refused:
        return fail(in.error);
      case entry::lacks_pair:
        // Made with the lock taken anew, looked up again with the next: only there does it stay valid. It cannot be
        // missing for ever: whoever ended it meanwhile makes this fail.
        if (const result<io_cq*> made = get_io_cq(context); !made) {
          // relaxed: removed_ was set before what made this fail.
          const bool removed = (urgent_.load(std::memory_order_relaxed) & is_removed) != 0;
          return removed ? fail(ENODEV) : std::unexpected(made.error());
        }
        break;
      case entry::tried:
        launch(go);
        return start(issue, context, in.began);
      case entry::waits:
        // Ours is visible to others since the lock was let go: it may be over already.
        count(waited_);
        launch(go);
        return issued::queued;
    }
  }
}

request_queue::entered request_queue::enter_locked(request& issue, io_context& context, request_fifo& go) noexcept {
  if (stopped_) {
    return {.error = removed_ ? ENODEV : ESHUTDOWN};
  }
  issue.pair_ = paired_ ? lookup_locked(context) : nullptr;
  if (paired_ && issue.pair_ == nullptr) {
    return {.what = entry::lacks_pair};
  }
  const bool aside = freezers_ != 0 || held_count_ != 0;
  const steady_time now = now_locked();
  const bool nobody_waits_for_a_slot = queued_ == 0 || slots_.handed() >= max_workers_;
  if (!aside && quiescers_ == 0 && slots_.count() < depth_.load(std::memory_order_relaxed) && nobody_waits_for_a_slot &&
      (!paired_ || order_->may_go_locked(issue, issue.pair_, now))) {
    slots_.freeze_locked();
    slots_.take_locked(1);
    settle_locked();
    return {.what = entry::tried, .began = now};
  }
  if (waiting_locked() >= max_waiting_) {
    return {.error = EAGAIN};
  }
  // From here no slot comes free behind our back: who ends now must take the lock and will find us in the elevator.
  slots_.freeze_locked();
  accept(issue, context);
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

result<issued> request_queue::start(request& issue, io_context& context, steady_time began) noexcept {
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
  if (slots_.try_hand(max_workers_)) {
    accept(issue, context);
    return send(issue);
  }
  return hand_or_wait(issue, context);
}

void request_queue::end_attempt(request& over, steady_time began) noexcept {
  request_fifo go;
  io_cq* ended = nullptr;
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
  free_io_cqs(ended);
  launch(go);
}

result<issued> request_queue::hand_or_wait(request& issue, io_context& context) noexcept {
  request_fifo go;
  io_cq* ended = nullptr;
  int error = 0;
  bool handed = false;
  {
    scoped_lock hold(lock_);
    slots_.freeze_locked();
    if (removed_) {
      error = ENODEV;
    } else if (quiescers_ == 0 && slots_.handed() < max_workers_) {
      handed = true;
    } else if (waiting_locked() >= max_waiting_) {
      error = EAGAIN;
    }
    if (handed) {
      slots_.hand_locked();
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
        accept(issue, context);
        insert_locked(issue, now);
      }
      ended = gave_locked(go);
    }
  }
  if (handed) {
    accept(issue, context);
    return send(issue);
  }
  free_io_cqs(ended);
  launch(go);
  if (error != 0) {
    return fail(error);
  }
  count(waited_);
  return issued::queued;
}

result<issued> request_queue::send(request& issue) noexcept {
  // Once accepted by the wq it may be over and freed before submit returns: nothing of it is read after that (W3).
  if (const result<void> sent = workers_.submit(static_cast<work&>(issue)); !sent) {
    disown(issue);
    if (!slots_.try_give_handed()) {
      request_fifo go;
      io_cq* ended = nullptr;
      {
        scoped_lock hold(lock_);
        slots_.freeze_locked();
        served_locked(issue, now_locked());
        slots_.give_handed_locked();
        ended = gave_locked(go);
      }
      free_io_cqs(ended);
      launch(go);
    }
    return std::unexpected(sent.error());
  }
  count(punted_);
  return issued::queued;
}

void request_queue::accept(request& issue, io_context& context) noexcept {
  issue.set_ops(work_operations_);
  issue.set_ioprio_class(context.get_ioprio().cls());
  issue.fate_ = fate::ended;
  issue.context_ = ref<io_context>::retain(&context);
  issue.queue_ = ref<request_queue>::retain(this);
}

void request_queue::disown(request& issue) noexcept {
  issue.queue_.reset();  // not the last: the submitter has one
  issue.context_.reset();
}

bool request_queue::collect_locked(request_fifo& go, const request* mine) noexcept {
  bool found = false;
  if (queued_ == 0 || quiescers_ != 0 || put_off_) {
    return found;
  }
  const steady_time now = now_locked();
  const std::uint32_t depth = depth_.load(std::memory_order_relaxed);
  while (queued_ != 0 && slots_.count() < depth && slots_.handed() < max_workers_) {
    const elevator_pick pick = order_->next_locked(now);
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
    slots_.hand_locked();
    go.push(next);
  }
  return found;
}

// Looks again then, at the latest.
void request_queue::arm_locked(steady_time at) noexcept {
  if (at < asks_at_) {
    asks_at_ = at;
    timed_ = true;
    timer_.arm(at);
  }
}

io_cq* request_queue::gave_locked(request_fifo& go) noexcept {
  put_off_ = false;  // a request has ended, so the io_wq may have room
  static_cast<void>(collect_locked(go));
  settle_locked();
  return removed_ && idle_locked() ? end_io_cqs_locked() : nullptr;
}

void request_queue::insert_locked(request& waiting, steady_time now) noexcept {
  waiting.waits_since_ = now.time_since_epoch().count();
  order_->insert_locked(waiting, waiting.pair_);
  ++queued_;
}

// What was let go is back, or over.
void request_queue::served_locked(request& over, steady_time now) noexcept {
  if (over.pair_ != nullptr) {
    const std::uint64_t moved = over.left_at_start_ - over.bytes_left_;
    over.pair_->stats_.bytes += moved;
    order_->served_locked(over, over.pair_, moved, now);
  }
}

// What was let go is back without having moved a byte.
void request_queue::untouched_locked(request& back, steady_time now) noexcept {
  if (back.pair_ != nullptr) {
    order_->take_back_locked(back, back.pair_, now);
  }
}

void request_queue::settle_locked() noexcept {
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
  // Under the lock: who wakes may free the queue once the lock is let go.
  if ((idle_waits_ != 0 && idle_locked()) || (quiesce_waits_ != 0 && slots_.count() == slots_.handed())) {
    changed_.notify_all();
  }
}

void request_queue::adopt_order_locked() noexcept {
  paired_ = order_->use() == io_cq_use::wanted;
  order_->set_quantum_locked(quantum_);
}

// A stop and a freeze wait for what was accepted, and not for its limits.
void request_queue::lift_limits_locked() noexcept {
  order_->lift_limits_locked(stopped_ || freezers_ != 0, now_locked());
}

steady_time request_queue::now_locked() const noexcept {
  return paired_ ? clock_.now() : steady_time{};
}

bool request_queue::idle_locked() const noexcept {
  return slots_.count() == 0 && queued_ == 0;
}

void request_queue::launch(request_fifo& go) noexcept {
  while (request* next = go.pop()) {
    if (const result<void> sent = workers_.submit(static_cast<work&>(*next)); !sent) {
      const bool over = sent.error() == error_of(ESHUTDOWN);
      if (!over && put_off(*next)) {
        continue;
      }
      // Its submitter has gone: the refusal is its answer. The slot goes to the one behind it.
      next->set_result(over ? -ESHUTDOWN : -ENODEV);
      next->fate_ = fate::never_ran;
      const ref<request_queue> self = std::move(next->queue_);  // not the last: our caller has one
      answer(*next, slot::handed, go);
    }
  }
}

// The io_wq is full, or has no memory for the request's key. It waits again, and is as if it had never been let go. Returns false if
// the queue was removed.
bool request_queue::put_off(request& refused) noexcept {
  constexpr std::chrono::milliseconds pause{1};
  scoped_lock hold(lock_);
  slots_.freeze_locked();
  if (removed_) {
    settle_locked();
    return false;
  }
  const steady_time now = now_locked();
  untouched_locked(refused, now);
  slots_.give_handed_locked();
  refused.waits_since_ = now.time_since_epoch().count();
  order_->insert_again_locked(refused, refused.pair_);
  ++queued_;
  put_off_ = true;
  arm_locked(clock_.now() + pause);
  settle_locked();
  return true;
}

void request_queue::work_run(work& node, work_context& scope) noexcept {
  auto& mine = static_cast<request&>(node);
  request_queue& queue = *mine.queue_;
  // In this order: a cancel that comes from remove comes after the mark.
  const bool told = scope.cancelled();
  const std::uint32_t urgent = queue.urgent_.load(std::memory_order_seq_cst);  // pairs with settle_locked
  if (told || (urgent & is_removed) != 0) {
    mine.set_result((urgent & is_removed) != 0 ? -ENODEV : -ECANCELED);
    mine.fate_ = fate::never_ran;
  } else if ((urgent & is_quiesced) != 0) {
    mine.fate_ = fate::again;
  } else {
    mine.fate_ = queue.run_quanta(mine, scope);
  }
}

request_queue::fate request_queue::run_quanta(request& mine, const work_context& scope) noexcept {
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
bool request_queue::next_quantum(request& mine) noexcept {
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

void request_queue::work_release(work& node) noexcept {
  auto& over = static_cast<request&>(node);
  if (over.fate_ == fate::again) {
    over.queue_->put_back(over);
  } else {
    over.queue_->finish(over);
  }
}

void request_queue::put_back(request& cut) noexcept {
  const ref<request_queue> self = ref<request_queue>::retain(this);  // whoever runs it next may end the queue
  request_fifo go;
  io_cq* ended = nullptr;
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
      slots_.give_handed_locked();
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
  free_io_cqs(ended);
  launch(go);
}

void request_queue::finish(request& answered) noexcept {
  // Moved out: complete() may free or resubmit the request, and with it may go whoever else kept this queue.
  const ref<request_queue> self = std::move(answered.queue_);
  request_fifo go;
  answer(answered, slot::handed, go);
  launch(go);
}

void request_queue::answer_all(request_fifo& taken, int error) noexcept {
  while (request* each = taken.pop()) {
    each->set_result(-error);
    each->fate_ = fate::never_ran;
    const ref<request_queue> self = std::move(each->queue_);
    request_fifo go;
    answer(*each, slot::taken, go);
    launch(go);
  }
}

void request_queue::answer(request& over, slot held, request_fifo& go) noexcept {
  const fate how = over.fate_;
  ref<io_context> context = std::move(over.context_);
  if (held == slot::handed) {
    count(bytes_, over.left_at_start_ - over.bytes_left_);
    if (over.pair_ != nullptr) {
      scoped_lock hold(lock_);
      over.pair_->stats_.operations += how == fate::never_ran ? 0 : 1;
      served_locked(over, now_locked());
    }
  }
  over.request_ops_->complete(over);
  context.reset();  // before the slot: after a drain no request holds its context
  if (held == slot::handed && slots_.try_give_handed()) {
    return;
  }
  io_cq* ended = nullptr;
  {
    scoped_lock hold(lock_);
    slots_.freeze_locked();
    if (held == slot::handed) {
      slots_.give_handed_locked();
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
  free_io_cqs(ended);
}

}  // namespace sluice
