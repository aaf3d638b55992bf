#include "sluice/wq/blocking_region.h"

#include "core.h"

namespace sluice {

blocking_region::blocking_region() noexcept : worker_(detail::pool_traits<os_sync>::this_worker()) {
  if (auto* const self = static_cast<detail::basic_worker<os_sync>*>(worker_);
      self != nullptr && self->region_depth++ == 0) {
    self->pool.enter_region(*self);
  }
}

blocking_region::~blocking_region() {
  if (auto* const self = static_cast<detail::basic_worker<os_sync>*>(worker_);
      self != nullptr && --self->region_depth == 0) {
    self->pool.leave_region(*self);
  }
}

}  // namespace sluice
