#include "sluice/wq/blocking_region.h"

#include "core.h"

namespace sluice {

blocking_region::blocking_region() noexcept : worker_(detail::wq_core::current_worker()) {
  if (auto* const self = static_cast<detail::worker*>(worker_); self != nullptr && self->region_depth++ == 0) {
    self->core.enter_region(*self);
  }
}

blocking_region::~blocking_region() {
  if (auto* const self = static_cast<detail::worker*>(worker_); self != nullptr && --self->region_depth == 0) {
    self->core.leave_region(*self);
  }
}

}  // namespace sluice
