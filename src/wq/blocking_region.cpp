#include "sluice/wq/blocking_region.h"

#include "wq/os/os_pool.h"

namespace sluice {
namespace {

using worker = detail::basic_worker<os_sync>;

worker*& this_worker() noexcept {
  return detail::pool_traits<os_sync>::this_worker();
}

}  // namespace

blocking_region::blocking_region() noexcept : worker_(this_worker()) {
  if (auto* const self = static_cast<worker*>(worker_)) {
    run_ = self->begun.load(std::memory_order_relaxed);  // relaxed: the thread's own
    if (self->region_depth++ == 0) {
      self->pool.blocking.enter_region(*self);
    }
  }
}

blocking_region::~blocking_region() {
  auto* const self = static_cast<worker*>(worker_);
  // The pool has ended a region that outlives its run; this may be another run, or another thread.
  if (self == nullptr || this_worker() != self || self->begun.load(std::memory_order_relaxed) != run_ ||
      self->region_depth == 0) {
    return;
  }
  if (--self->region_depth == 0) {
    self->pool.blocking.leave_region(*self);
  }
}

}  // namespace sluice
