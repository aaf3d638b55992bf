#include <utility>

#include "sluice/ioc/request_queue.h"

namespace sluice {

result<io_cq*> request_queue::get_io_cq(io_context& context) noexcept {
  if (io_cq* found = lookup_io_cq(context)) {
    return found;
  }
  // Made without the lock: it allocates. Whether it is still wanted is asked again when it is linked.
  std::unique_ptr<io_cq> made = order_->make_io_cq();
  if (made == nullptr) {
    return fail(ENOMEM);
  }
  return link_io_cq(context, std::move(made));
}

}  // namespace sluice
