#include "sluice/ioc/io_context.h"

#include <new>

#include "sluice/identity/credentials.h"
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

ioprio_privilege ioprio_privilege_of(const credentials& caller) noexcept {
  const bool may = caller.effective.has(capability::sys_nice) || caller.effective.has(capability::sys_admin);
  return may ? ioprio_privilege::sys_nice : ioprio_privilege::none;
}

result<void> ioprio_may_set(const credentials& caller, uid_t owner_of_task) noexcept {
  if (caller.uid == owner_of_task || ioprio_privilege_of(caller) == ioprio_privilege::sys_nice) {
    return {};
  }
  return fail(EPERM);
}

result<io_context*> io_context::create() noexcept {
  auto* made = new (std::nothrow) io_context;
  if (made == nullptr) {
    return fail(ENOMEM);
  }
  return made;
}

// These two are here because the queue's class is complete here.
io_context::~io_context() = default;

void io_context::exit_io_cqs() noexcept {
  io_context_links::exit_io_cqs();
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

}  // namespace sluice
