// memory_device: a device in memory, zeroed at the start; for tests, benches and scratch exports.
//
// Everything completes without blocking up to traits().inline_limit bytes; longer ranges go to a worker like any other.
// Trimmed ranges read as zeros. Nothing is ever stable beyond the process; flush and fua succeed, as for a disk without
// a power switch.
//
// Ownership:      owns its memory (mapped, so that untouched and trimmed pages cost nothing).
// Thread safety:  as device. Overlapping operations in flight at once mix bytes, as on a disk.
// Blocking:       never, but for page faults.
// Errors:         ENOMEM at create; EINVAL for size 0.
// Limits:         the address space.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sluice/device/device.h"
#include "sluice/ref/ref.h"

namespace sluice {

class memory_device final : public device {
 public:
  [[nodiscard]] static result<ref<device>> create(std::uint64_t size, access_mode mode = access_mode::read_write);

  [[nodiscard]] std::string_view name() const noexcept override { return "memory"; }
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

 private:
  memory_device(std::byte* memory, device_traits traits) noexcept;
  ~memory_device() override;

  void zero(std::uint64_t offset, std::uint64_t length) noexcept;

  std::byte* const memory_;
};

}  // namespace sluice
