// The public face of the queue's core over the operating system (src/ioc/queue/): a request_queue is always the base
// of one.
#include "sluice/ioc/request_queue.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <utility>

#include "sluice/wq/io_wq.h"
#include "sluice/wq/wq_timer.h"

#include "ioc/queue/queue.h"
#include "ioc/queue_ids.h"

namespace sluice {
namespace {

struct os_queue_types {
  using sync = os_sync;
  using cond = cond_var;
  using queue = request_queue;
  using request = sluice::request;
  using context = io_context;
  using pair = io_cq;
  using elevator = sluice::elevator;
  using pool = io_wq;
  using timer = wq_timer;
};

using os_queue = detail::basic_request_queue<os_queue_types>;

os_queue& core(request_queue& of) noexcept {
  return static_cast<os_queue&>(of);
}
const os_queue& core(const request_queue& of) noexcept {
  return static_cast<const os_queue&>(of);
}

std::uint32_t share_of(const io_wq& workers) noexcept {
  const unsigned all = workers.max_workers(work_class::bound);
  return std::max(1U, all - std::max(1U, all / 4));
}

}  // namespace

void detail::request_queue_release::operator()(request_queue* last) const noexcept {
  delete &core(*last);
}

result<ref<request_queue>> request_queue::create(io_wq& workers, request_queue_options options,
                                                 std::unique_ptr<elevator> order) {
  constexpr std::uint32_t most = slot_counter::limit / 2;
  if (options.depth == 0 || options.depth > most || options.max_waiting == 0 || options.max_waiting > most ||
      options.max_workers > most || workers.full() != when_full::refuse) {
    return fail(EINVAL);
  }
  if (options.max_workers == 0) {
    options.max_workers = share_of(workers);
  }
  try {
    if (order == nullptr) {
      order = make_none_elevator();
    }
    // relaxed: only the value must differ.
    const std::uint64_t id = detail::next_queue_id.fetch_add(1, std::memory_order_relaxed);
    return ref<request_queue>::adopt(new os_queue(workers, options, std::move(order), id));
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
}

result<issued> request_queue::submit(request& issue, io_context& context) noexcept {
  return core(*this).submit(issue, context);
}

std::size_t request_queue::cancel_owner(std::uint64_t owner) noexcept {
  return core(*this).cancel_owner(owner);
}

result<void> request_queue::drain(steady_time deadline) noexcept {
  return core(*this).drain(deadline);
}

result<void> request_queue::stop(steady_time deadline) noexcept {
  return core(*this).stop(deadline);
}

result<void> request_queue::quiesce(steady_time deadline) noexcept {
  return core(*this).quiesce(deadline);
}

void request_queue::unquiesce() noexcept {
  core(*this).unquiesce();
}

result<void> request_queue::freeze(steady_time deadline) noexcept {
  return core(*this).freeze(deadline);
}

void request_queue::unfreeze() noexcept {
  core(*this).unfreeze();
}

result<void> request_queue::resize(std::uint32_t depth) noexcept {
  return core(*this).resize(depth);
}

result<void> request_queue::set_elevator(std::unique_ptr<elevator> order, steady_time deadline) noexcept {
  try {
    if (order == nullptr) {
      order = make_none_elevator();
    }
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
  return core(*this).set_elevator(std::move(order), deadline);
}

removal_report request_queue::remove(steady_time deadline) noexcept {
  return core(*this).remove(deadline);
}

result<io_cq*> request_queue::get_io_cq(io_context& context) noexcept {
  return core(*this).get_io_cq(context);
}

io_cq_stats request_queue::stats_of(io_context& context) noexcept {
  return core(*this).stats_of(context);
}

request_queue_stats request_queue::stats() const noexcept {
  return core(*this).stats();
}

std::uint32_t request_queue::depth() const noexcept {
  return core(*this).depth();
}

std::uint32_t request_queue::max_workers() const noexcept {
  return core(*this).max_workers();
}

const elevator& request_queue::order() const noexcept {
  return core(*this).order();
}

std::uint64_t request_queue::id() const noexcept {
  return core(*this).id();
}

void request_queue::io_cq_exits_locked(io_cq& pair) noexcept {
  static_cast<os_queue&>(*this).io_cq_exits_locked(pair);
}

}  // namespace sluice
