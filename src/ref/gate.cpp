#include "sluice/ref/gate.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <bit>

namespace sluice {

std::uint32_t this_core::index() noexcept {
  // glibc answers from the thread's rseq area, without a system call. -1 (no such call) shares the last stripe.
  return static_cast<std::uint32_t>(::sched_getcpu());
}

std::uint32_t this_core::stripes() noexcept {
  constexpr std::uint32_t most = 64;
  static const auto cores = static_cast<std::uint32_t>(std::clamp(::sysconf(_SC_NPROCESSORS_CONF), 1L, 64L));
  return std::min(std::bit_ceil(cores), most);
}

}  // namespace sluice
