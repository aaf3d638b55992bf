#include "sluice/wq/work.h"

#include "runner.h"

namespace sluice {

bool work_context::cancelled() const noexcept {
  return runner_ == nullptr || static_cast<const detail::runner*>(runner_)->stop_asked();
}

std::stop_token work_context::stop_token() noexcept {
  if (runner_ == nullptr) {
    try {
      std::stop_source stopped;
      stopped.request_stop();
      return stopped.get_token();
    } catch (const std::bad_alloc&) {
      return {};
    }
  }
  return static_cast<detail::runner*>(runner_)->token();
}

}  // namespace sluice
