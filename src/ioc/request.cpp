#include "sluice/ioc/request.h"

#include "sluice/ioc/io_context.h"
#include "sluice/ioc/request_queue.h"

namespace sluice {

// Here, where the classes that the counts belong to are complete.
request::request() noexcept = default;
request::~request() = default;

ioprio request::priority() const noexcept {
  if (context_) {
    return context_->get_ioprio();
  }
  return pair_ != nullptr ? pair_->context().get_ioprio() : ioprio{};
}

}  // namespace sluice
