#include "sluice/ref/gate.h"

#include <unistd.h>

#include <algorithm>
#include <bit>

namespace sluice {

std::uint32_t this_core::stripes() noexcept {
  constexpr std::uint32_t most = 64;
  static const auto cores = static_cast<std::uint32_t>(std::clamp(::sysconf(_SC_NPROCESSORS_CONF), 1L, 64L));
  return std::min(std::bit_ceil(cores), most);
}

}  // namespace sluice
