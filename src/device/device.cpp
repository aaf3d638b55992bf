#include "sluice/device/device.h"

#include "sluice/base/check.h"

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

result<std::size_t> device::extents(open_info& /*info*/, std::uint64_t offset, std::uint64_t length,
                                    std::span<extent> into, cancel_probe /*probe*/) noexcept {
  SLUICE_CHECK(length != 0 && !into.empty(), "a range, and a place for the answer");
  into.front() = {.offset = offset, .length = length, .kind = extent_kind::data};
  return 1;
}

}  // namespace sluice
