#include <utility>

#include "sluice/ioc/request_queue.h"

namespace sluice {

result<io_cq*> request_queue::get_io_cq(io_context& context) noexcept {
  if (io_cq* found = lookup_io_cq(context)) {
    return found;
  }
  std::unique_ptr<io_cq> made;  // before the lock: what is not needed is freed after it
  scoped_lock hold(lock_);
  // Under the lock: set_elevator would put another elevator in the place of this one between making and linking.
  made = order_->make_io_cq();
  if (made == nullptr) {
    return fail(ENOMEM);
  }
  return link_io_cq_locked(context, made);
}

}  // namespace sluice
