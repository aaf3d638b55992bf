#include "sluice/device/device.h"

namespace sluice {

std::size_t device::try_read(open_info& /*info*/, std::uint64_t /*offset*/, std::span<std::byte> /*into*/) noexcept {
  return 0;
}

std::size_t device::try_write(open_info& /*info*/, std::uint64_t /*offset*/, std::span<const std::byte> /*from*/,
                              io_flags /*flags*/) noexcept {
  return 0;
}

attempt device::try_range(open_info& /*info*/, io_op /*op*/, std::uint64_t /*offset*/, std::uint64_t /*length*/,
                          io_flags /*flags*/) noexcept {
  return attempt::would_block;
}

result<void> device::cache(open_info& /*info*/, std::uint64_t /*offset*/, std::uint64_t /*length*/,
                           cancel_probe /*probe*/) noexcept {
  return {};
}

}  // namespace sluice
