#include "sluice/ioc/io_context.h"

#include <new>

#include "sluice/ioc/request_queue.h"

namespace sluice {

result<void> ioprio_check(ioprio wanted, ioprio_privilege privilege) noexcept {
  if (wanted.cls() == ioprio_class::none) {
    return wanted.level() == 0 ? result<void>{} : fail(EINVAL);
  }
  if (!wanted.valid()) {
    return fail(EINVAL);
  }
  if (wanted.cls() == ioprio_class::rt && privilege != ioprio_privilege::sys_nice) {
    return fail(EPERM);
  }
  return {};
}

result<io_context*> io_context::create() noexcept {
  auto* made = new (std::nothrow) io_context;
  if (made == nullptr) {
    return fail(ENOMEM);
  }
  return made;
}

// Takes no queue lock: every io_cq left its queue when active_ref became 0, and active > 0 implies a refcount.
io_context::~io_context() {
  scoped_lock hold(lock_);
  SLUICE_CHECK(tree_.empty(), "an io_context is freed while it may still issue");
  while (dead_ != nullptr) {
    io_cq* each = dead_;
    dead_ = each->dead_next_;
    delete each;
  }
}

result<void> io_context::set_weight(std::uint32_t value) noexcept {
  if (value < min_weight || value > max_weight) {
    return fail(EINVAL);
  }
  weight_.store(static_cast<std::uint16_t>(value), std::memory_order_relaxed);  // nothing else is read through it
  return {};
}

void io_context::set_limits(io_limits value) noexcept {
  scoped_lock hold(lock_);  // so that of two setters one wins with both figures
  iops_.store(value.iops, std::memory_order_relaxed);
  bytes_per_second_.store(value.bytes_per_second, std::memory_order_relaxed);
}

std::size_t io_context::nr_io_cqs() noexcept {
  scoped_lock hold(lock_);
  return tree_.size();
}

io_cq* io_context::find_locked(const request_queue& queue) noexcept {
  if (hint_ != nullptr && hint_->queue_ == &queue) {
    return hint_;
  }
  const auto found = tree_.find(queue.id());
  if (found == tree_.end()) {
    return nullptr;
  }
  SLUICE_CHECK(found->second->queue_ == &queue, "two queues have one id");
  hint_ = found->second;
  return hint_;
}

void io_context::exit_io_cqs() noexcept {
  for (;;) {
    ref<request_queue> queue;
    {
      scoped_lock hold(lock_);
      exited_ = true;
      if (tree_.empty()) {
        return;
      }
      // A linked io_cq means that its queue has not finished stop(), whose caller holds a count: get() is legal. The
      // count keeps the queue while this lock is let go, to take the queue's first.
      queue = ref<request_queue>::retain(tree_.begin()->second->queue_);
    }
    queue->exit_io_cq(*this);
  }
}

}  // namespace sluice
