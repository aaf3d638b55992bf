#include "sluice/ioc/request_queue.h"

#include <new>
#include <utility>

#include "sluice/base/check.h"

namespace sluice {
namespace {

// The source of ids: 2^64 queues are never made.
constinit std::atomic<std::uint64_t> next_queue_id{1};

void count(std::atomic<std::uint64_t>& figure, std::uint64_t by = 1) noexcept {
  figure.fetch_add(by, std::memory_order_relaxed);  // a figure: it orders nothing
}

}  // namespace

const work_ops request_queue::work_operations{.run = work_run, .release = work_release};

result<ref<request_queue>> request_queue::create(io_wq& workers, request_queue_options options,
                                                 std::unique_ptr<elevator> order) {
  if (options.depth == 0 || options.depth > slot_counter::limit / 2 || options.max_waiting == 0 ||
      options.max_waiting > slot_counter::limit / 2) {
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

request_queue::request_queue(io_wq& workers, request_queue_options options, std::unique_ptr<elevator> order) noexcept
    : workers_(workers),
      options_(options),
      // relaxed: only the value must differ.
      id_(next_queue_id.fetch_add(1, std::memory_order_relaxed)),
      order_(std::move(order)) {
  scoped_lock hold(lock_);
  settle_locked();
}

request_queue::~request_queue() {
  scoped_lock hold(lock_);
  SLUICE_CHECK_OP(slots_.count(), ==, 0U);
  SLUICE_CHECK(order_->empty_locked(), "a request queue is freed while requests wait in it");
  SLUICE_CHECK(!has_io_cqs_locked(), "stop() a queue whose elevator keeps io_cqs before its last put");
}

result<issued> request_queue::submit(request& issue, io_context& context) noexcept {
  SLUICE_CHECK(issue.request_ops_ != nullptr && !issue.queue_,
               "submit a request that is idle and has its operations set");
  if (slots_.try_take(options_.depth)) [[likely]] {
    return start(issue, context);
  }
  return submit_slow(issue, context);
}

result<issued> request_queue::start(request& issue, io_context& context) noexcept {
  if (issue.request_ops_->try_run(issue) == attempt::done) {
    count(inline_done_);
    finish_slot();
    return issued::completed;
  }
  accept(issue, context);
  // Once accepted by the wq it may be over and freed before submit returns: nothing of it is read after that (W3).
  if (result<void> sent = workers_.submit(static_cast<work&>(issue)); !sent) {
    issue.queue_.reset();
    issue.context_.reset();
    finish_slot();
    return std::unexpected(sent.error());
  }
  count(punted_);
  return issued::queued;
}

void request_queue::accept(request& issue, io_context& context) noexcept {
  issue.set_ops(work_operations);
  issue.context_ = ref<io_context>::retain(&context);
  issue.queue_ = ref<request_queue>::retain(this);
}

result<issued> request_queue::submit_slow(request& issue, io_context& context) noexcept {
  const bool paired = order_->use() == io_cq_use::wanted;
  if (paired) {
    // Made outside the lock, looked up again inside: only there does it stay valid.
    if (result<io_cq*> made = get_io_cq(context); !made) {
      return std::unexpected(made.error());
    }
  }
  request* next = nullptr;
  {
    scoped_lock hold(lock_);
    io_cq* pair = paired ? lookup_locked(context) : nullptr;
    if (stopped_ || (paired && pair == nullptr)) {
      return fail(ESHUTDOWN);
    }
    if (waiting_ >= options_.max_waiting) {
      return fail(EAGAIN);
    }
    // From here no slot comes free behind our back: who ends now must take the lock and will find us in the elevator.
    slots_.freeze_locked();
    accept(issue, context);
    issue.pair_ = pair;
    order_->insert_locked(issue, pair);
    ++waiting_;
    next = next_locked();
    settle_locked();
  }
  if (next == &issue) {
    // Ours again, alone: it may be tried here, as on the short way.
    issue.queue_.reset();
    issue.context_.reset();
    return start(issue, context);
  }
  // Ours is visible to others since the lock was let go: it may be over already.
  count(waited_);
  if (next != nullptr) {
    launch(next);
  }
  return issued::queued;
}

request* request_queue::next_locked() noexcept {
  if (slots_.count() >= options_.depth) {
    return nullptr;
  }
  request* next =
      order_->next_locked(order_->use() == io_cq_use::wanted ? clock_seam::real().now() : steady_time{}).next;
  if (next != nullptr) {
    SLUICE_CHECK(waiting_ != 0, "the elevator gave more requests than it took");
    --waiting_;
    slots_.take_locked(1);
  }
  return next;
}

void request_queue::settle_locked() noexcept {
  if (stopped_ || drainers_ != 0 || waiting_ != 0 || order_->use() == io_cq_use::wanted) {
    slots_.freeze_locked();
  } else {
    slots_.thaw_locked();
  }
}

request* request_queue::give_slot() noexcept {
  if (slots_.try_give()) [[likely]] {
    return nullptr;
  }
  scoped_lock hold(lock_);
  slots_.freeze_locked();  // it may have been thawed since try_give failed
  slots_.give_locked();
  request* next = next_locked();
  settle_locked();
  if (drainers_ != 0 && slots_.count() == 0) {
    idle_.notify_all();  // under the lock: a drainer that wakes may free the queue once the lock is let go
  }
  return next;
}

void request_queue::finish_slot() noexcept {
  launch(give_slot());
}

void request_queue::launch(request* next) noexcept {
  while (next != nullptr) {
    result<void> sent = workers_.submit(static_cast<work&>(*next));
    if (sent) {
      return;
    }
    // Its submitter has gone: the refusal is its answer. The slot goes to the one behind it.
    next->set_result(-sent.error().value());
    const ref<request_queue> self = std::move(next->queue_);
    ref<io_context> context = std::move(next->context_);
    next->request_ops_->complete(*next);
    context.reset();
    next = give_slot();
  }
}

void request_queue::work_run(work& node, work_context& scope) noexcept {
  auto& each = static_cast<request&>(node);
  if (scope.cancelled()) {
    each.set_result(-ECANCELED);
  } else {
    each.request_ops_->run(each, ~std::uint64_t{0}, cancel_probe(scope));
  }
}

void request_queue::work_release(work& node) noexcept {
  auto& each = static_cast<request&>(node);
  each.queue_->finish(each);
}

void request_queue::finish(request& answered) noexcept {
  // Moved out: complete() may free or resubmit the request, and with it may go whoever else kept this queue.
  const ref<request_queue> self = std::move(answered.queue_);
  ref<io_context> context = std::move(answered.context_);
  answered.request_ops_->complete(answered);
  context.reset();  // before the slot: after a drain no request holds its context
  finish_slot();
}

std::size_t request_queue::cancel_owner(std::uint64_t owner) noexcept {
  SLUICE_CHECK(owner != 0, "0 is nobody: requests without an owner are not found by owner");
  request_fifo taken;
  std::size_t answered = 0;
  {
    scoped_lock hold(lock_);
    answered = order_->extract_owner_locked(owner, taken);
    if (answered != 0) {
      // They count as under way until their complete() has returned, so that drain and stop wait for that.
      slots_.freeze_locked();
      slots_.take_locked(static_cast<std::uint32_t>(answered));
      waiting_ -= static_cast<std::uint32_t>(answered);
      settle_locked();
    }
  }
  while (request* each = taken.pop()) {
    each->set_result(-ECANCELED);
    finish(*each);
  }
  const auto pending = [owner](const work_view& view) noexcept { return view.owner == owner && !view.running; };
  // ENOMEM for the snapshot: then they run, as if the cancel had come a moment later.
  if (result<cancel_counts> counts = workers_.cancel_if(pending)) {
    answered += counts->cancelled;
  }
  count(cancelled_, answered);
  return answered;
}

bool request_queue::wait_idle_locked(steady_time deadline) noexcept {
  ++drainers_;
  settle_locked();
  bool in_time = true;
  while (slots_.count() != 0 && in_time) {
    in_time = idle_.wait_until(lock_, deadline);
  }
  const bool idle = slots_.count() == 0;
  --drainers_;
  settle_locked();
  return idle;
}

result<void> request_queue::drain(steady_time deadline) noexcept {
  scoped_lock hold(lock_);
  return wait_idle_locked(deadline) ? result<void>{} : fail(ETIMEDOUT);
}

result<void> request_queue::stop(steady_time deadline) noexcept {
  {
    scoped_lock hold(lock_);
    stopped_ = true;
    refuse_io_cqs_locked();
    if (!wait_idle_locked(deadline)) {
      return fail(ETIMEDOUT);
    }
  }
  clear_io_cqs();
  return {};
}

request_queue_stats request_queue::stats() const noexcept {
  return {.inline_done = inline_done_.load(std::memory_order_relaxed),
          .punted = punted_.load(std::memory_order_relaxed),
          .waited = waited_.load(std::memory_order_relaxed),
          .cancelled = cancelled_.load(std::memory_order_relaxed),
          .in_flight = slots_.count()};
}

}  // namespace sluice
