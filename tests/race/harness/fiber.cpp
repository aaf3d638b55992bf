#include "race/harness/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include "sluice/base/check.h"

#include "race/harness/sanitizers.h"

#if defined(RACE_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#endif
#if defined(RACE_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace race::detail {
namespace {

// Untouched pages cost nothing; instrumented frames and text formatting need room.
constexpr std::size_t stack_size = 256 * 1024;

// The fiber that is entered: a fresh stack has no frame in which to keep it.
thread_local constinit fiber* entering = nullptr;

}  // namespace

fiber::fiber() {
#if defined(RACE_TSAN)
  tsan_fiber_ = __tsan_get_current_fiber();
#endif
}

fiber::fiber(entry body, void* argument) : body_(body), argument_(argument) {
  const auto guard = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  mapping_ = ::mmap(nullptr, stack_size + guard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  SLUICE_CHECK(mapping_ != MAP_FAILED, "no memory for a fiber's stack");
  SLUICE_CHECK(::mprotect(mapping_, guard, PROT_NONE) == 0);
  stack_bottom_ = static_cast<char*>(mapping_) + guard;
  stack_bytes_ = stack_size;
  context_ = boost::context::detail::make_fcontext(static_cast<char*>(mapping_) + guard + stack_size, stack_size,
                                                   &fiber::trampoline);
#if defined(RACE_TSAN)
  tsan_fiber_ = __tsan_create_fiber(0);
#endif
}

fiber::~fiber() {
  if (mapping_ == nullptr) {
    return;
  }
#if defined(RACE_TSAN)
  __tsan_destroy_fiber(tsan_fiber_);
#endif
#if defined(RACE_ASAN)
  __asan_unpoison_memory_region(stack_bottom_, stack_bytes_);
#endif
  const std::size_t guard =
      static_cast<std::size_t>(static_cast<const char*>(stack_bottom_) - static_cast<char*>(mapping_));
  ::munmap(mapping_, stack_size + guard);
}

void fiber::pin() noexcept {
#if defined(RACE_ASAN)
  __lsan_register_root_region(stack_bottom_, stack_bytes_);
#endif
}

// Not instrumented: between the announcement and the switch no sanitizer may look at the stack.
#if defined(RACE_TSAN)
__attribute__((no_sanitize("thread")))
#endif
void fiber::switch_between(fiber& from, fiber& to) noexcept {
  entering = &to;
#if defined(RACE_ASAN)
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.stack_bottom_, to.stack_bytes_);
#endif
#if defined(RACE_TSAN)
  __tsan_switch_to_fiber(to.tsan_fiber_, 0);
#endif
  const boost::context::detail::transfer_t back = boost::context::detail::jump_fcontext(to.context_, &from);
#if defined(RACE_ASAN)
  // The bounds of the stack that was left: this is how those of the OS thread's own stack become known.
  auto& before = *static_cast<fiber*>(back.data);
  __sanitizer_finish_switch_fiber(from.fake_stack_, &before.stack_bottom_, &before.stack_bytes_);
#endif
  arrived(back);
}

void fiber::arrived(boost::context::detail::transfer_t from) noexcept {
  static_cast<fiber*>(from.data)->context_ = from.fctx;
}

void fiber::trampoline(boost::context::detail::transfer_t from) {
#if defined(RACE_ASAN)
  auto& before = *static_cast<fiber*>(from.data);
  __sanitizer_finish_switch_fiber(nullptr, &before.stack_bottom_, &before.stack_bytes_);
#endif
  arrived(from);
  fiber& self = *entering;
  self.body_(self.argument_);
  SLUICE_CHECK(false, "a fiber's body returned: it must switch to another fiber instead");
}

}  // namespace race::detail
