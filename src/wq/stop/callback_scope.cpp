#include "wq/stop/callback_scope.h"

namespace sluice::detail {

// Not inlined: GCC 12 would warn that the address of a local variable is kept (-Wdangling-pointer), which the destructor
// undoes.
[[gnu::noinline]] callback_scope::callback_scope(const callback_scope*& innermost, const void* pool) noexcept
    : innermost_(innermost), outer_(innermost), pool_(pool) {
  innermost = this;
}

}  // namespace sluice::detail
