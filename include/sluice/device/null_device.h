// null_device: a device of a given size that reads as zeros and forgets what is written; for benches and drills.
//
// Everything completes inside submit, whatever its length, so what is measured on it is the way and not the device.
// It says that all of it reads as zeros (extents).
//
// Ownership:      nothing but itself.
// Thread safety:  as device.
// Blocking:       never.
// Errors:         EINVAL for size 0.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sluice/device/device.h"
#include "sluice/ref/ref.h"

namespace sluice {

class null_device final : public device {
 public:
  [[nodiscard]] static result<ref<device>> create(std::uint64_t size, access_mode mode = access_mode::read_write);

  [[nodiscard]] std::string_view name() const noexcept override { return "null"; }
  [[nodiscard]] result<open_info*> open(access_mode mode) noexcept override;
  void release(open_info* info) noexcept override;

  [[nodiscard]] std::size_t try_read(open_info& info, std::uint64_t offset,
                                     std::span<std::byte> into) noexcept override;
  [[nodiscard]] std::size_t try_write(open_info& info, std::uint64_t offset, std::span<const std::byte> from,
                                      io_flags flags) noexcept override;
  [[nodiscard]] attempt try_range(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length,
                                  io_flags flags) noexcept override;
  [[nodiscard]] result<void> read(open_info& info, std::uint64_t offset, std::span<std::byte> into,
                                  cancel_probe probe) noexcept override;
  [[nodiscard]] result<void> write(open_info& info, std::uint64_t offset, std::span<const std::byte> from,
                                   io_flags flags, cancel_probe probe) noexcept override;
  [[nodiscard]] result<void> flush(open_info& info, cancel_probe probe) noexcept override;
  [[nodiscard]] result<void> trim(open_info& info, std::uint64_t offset, std::uint64_t length, io_flags flags,
                                  cancel_probe probe) noexcept override;
  [[nodiscard]] result<void> write_zeroes(open_info& info, std::uint64_t offset, std::uint64_t length, io_flags flags,
                                          cancel_probe probe) noexcept override;
  [[nodiscard]] result<std::size_t> extents(open_info& info, std::uint64_t offset, std::uint64_t length,
                                            std::span<extent> into, cancel_probe probe) noexcept override;

 private:
  explicit null_device(device_traits traits) noexcept : device(traits) {}
  ~null_device() override = default;
};

}  // namespace sluice
