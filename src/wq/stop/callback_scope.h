// callback_scope: says, for its lifetime, that the calling thread belongs to a pool or runs a callback of it (a cancelled run,
// a release, a timer function, a stop callback). Such a thread must not wait for room in that pool, nor for its end.
//
// Thread safety:  each thread has its own scopes, which nest; `innermost` is that thread's.
// Blocking:       never.
// Invariants:     X5
#pragma once

namespace sluice::detail {

class callback_scope {
 public:
  callback_scope(const callback_scope*& innermost, const void* pool) noexcept;
  ~callback_scope() { innermost_ = outer_; }
  callback_scope(const callback_scope&) = delete;
  callback_scope& operator=(const callback_scope&) = delete;

  // Whether one of the scopes from `innermost` outwards is of this pool.
  [[nodiscard]] static bool within(const callback_scope* innermost, const void* pool) noexcept {
    while (innermost != nullptr && innermost->pool_ != pool) {
      innermost = innermost->outer_;
    }
    return innermost != nullptr;
  }

 private:
  const callback_scope*& innermost_;
  const callback_scope* const outer_;
  const void* const pool_;
};

}  // namespace sluice::detail
