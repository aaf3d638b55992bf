#include "sluice/wq/work.h"

#include "wq/item/run_token.h"

namespace sluice {

bool work_context::cancelled() const noexcept {
  return token_ == nullptr || static_cast<const detail::run_token*>(token_)->stop_asked();
}

std::stop_token work_context::stop_token() noexcept {
  if (token_ == nullptr) {
    try {
      std::stop_source stopped;
      stopped.request_stop();
      return stopped.get_token();
    } catch (const std::bad_alloc&) {
      return {};
    }
  }
  return static_cast<detail::run_token*>(token_)->token();
}

}  // namespace sluice
