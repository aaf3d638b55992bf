#include "sluice/device/filter_device.h"

#include <utility>

#include "sluice/base/check.h"

namespace sluice {
namespace {

device_traits traits_of(const ref<device>& target) noexcept {
  SLUICE_CHECK(target, "a filter needs a device to stand on");
  return target->traits();
}

}  // namespace

filter_device::filter_device(std::string_view filter, ref<device> target)
    : device(traits_of(target), requests::seen),
      target_(std::move(target)),
      name_(std::string(filter).append(":").append(target_->name())) {}

result<open_info*> filter_device::begin(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length,
                                        cancel_probe probe) noexcept {
  if (result<void> go_on = before(op, offset, length, probe); !go_on) {
    return std::unexpected(go_on.error());
  }
  return target_->begin(info, op, offset, length, probe);
}

open_info* filter_device::try_begin(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length) noexcept {
  return may_try(op, offset, length) ? target_->try_begin(info, op, offset, length) : nullptr;
}

std::size_t filter_device::try_read(open_info& info, std::uint64_t offset, std::span<std::byte> into) noexcept {
  return target_->try_read(info, offset, into);
}

std::size_t filter_device::try_write(open_info& info, std::uint64_t offset, std::span<const std::byte> from,
                                     io_flags flags) noexcept {
  return target_->try_write(info, offset, from, flags);
}

attempt filter_device::try_range(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length,
                                 io_flags flags) noexcept {
  return target_->try_range(info, op, offset, length, flags);
}

result<void> filter_device::read(open_info& info, std::uint64_t offset, std::span<std::byte> into,
                                 cancel_probe probe) noexcept {
  return target_->read(info, offset, into, probe);
}

result<void> filter_device::write(open_info& info, std::uint64_t offset, std::span<const std::byte> from,
                                  io_flags flags, cancel_probe probe) noexcept {
  return target_->write(info, offset, from, flags, probe);
}

result<void> filter_device::flush(open_info& info, cancel_probe probe) noexcept {
  return target_->flush(info, probe);
}

result<void> filter_device::trim(open_info& info, std::uint64_t offset, std::uint64_t length, io_flags flags,
                                 cancel_probe probe) noexcept {
  return target_->trim(info, offset, length, flags, probe);
}

result<void> filter_device::write_zeroes(open_info& info, std::uint64_t offset, std::uint64_t length, io_flags flags,
                                         cancel_probe probe) noexcept {
  return target_->write_zeroes(info, offset, length, flags, probe);
}

result<void> filter_device::cache(open_info& info, std::uint64_t offset, std::uint64_t length,
                                  cancel_probe probe) noexcept {
  return target_->cache(info, offset, length, probe);
}

result<std::size_t> filter_device::extents(open_info& info, std::uint64_t offset, std::uint64_t length,
                                           std::span<extent> into, cancel_probe probe) noexcept {
  return target_->extents(info, offset, length, into, probe);
}

}  // namespace sluice
