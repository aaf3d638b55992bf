#include "sluice/device/memory_device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>

namespace sluice {
namespace {

struct memory_open_info final : open_info {};

}  // namespace

result<ref<device>> memory_device::create(std::uint64_t size, access_mode mode) {
  if (size == 0 || size > std::uint64_t{std::numeric_limits<std::ptrdiff_t>::max()}) {
    return fail(size == 0 ? EINVAL : ENOMEM);
  }
  void* memory = ::mmap(nullptr, static_cast<std::size_t>(size), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    return fail_errno();
  }
  const device_traits traits{.size = size,
                             .read_only = mode == access_mode::read_only,
                             .trim = mode == access_mode::read_write,
                             .write_zeroes = mode == access_mode::read_write,
                             .fast_zero = mode == access_mode::read_write,
                             .cache = true};
  auto* made = new (std::nothrow) memory_device(static_cast<std::byte*>(memory), traits);
  if (made == nullptr) {
    ::munmap(memory, static_cast<std::size_t>(size));
    return fail(ENOMEM);
  }
  return ref<device>::adopt(made);
}

memory_device::memory_device(std::byte* memory, device_traits traits) noexcept : device(traits), memory_(memory) {}

memory_device::~memory_device() {
  ::munmap(memory_, static_cast<std::size_t>(size()));
}

result<open_info*> memory_device::open(access_mode mode) noexcept {
  if (mode == access_mode::read_write && traits().read_only) {
    return fail(EROFS);
  }
  auto* info = new (std::nothrow) memory_open_info;
  if (info == nullptr) {
    return fail(ENOMEM);
  }
  return info;
}

void memory_device::release(open_info* info) noexcept {
  delete static_cast<memory_open_info*>(info);
}

std::size_t memory_device::try_read(open_info& /*info*/, std::uint64_t offset, std::span<std::byte> into) noexcept {
  std::memcpy(into.data(), memory_ + offset, into.size());
  return into.size();
}

std::size_t memory_device::try_write(open_info& /*info*/, std::uint64_t offset, std::span<const std::byte> from,
                                     io_flags /*flags*/) noexcept {
  std::memcpy(memory_ + offset, from.data(), from.size());
  return from.size();
}

attempt memory_device::try_range(open_info& /*info*/, io_op op, std::uint64_t offset, std::uint64_t length,
                                 io_flags /*flags*/) noexcept {
  if (op == io_op::trim || op == io_op::write_zeroes) {
    if (length > traits().inline_limit) {
      return attempt::would_block;
    }
    zero(offset, length);
  }
  return attempt::done;
}

result<void> memory_device::read(open_info& info, std::uint64_t offset, std::span<std::byte> into,
                                 cancel_probe /*probe*/) noexcept {
  static_cast<void>(try_read(info, offset, into));
  return {};
}

result<void> memory_device::write(open_info& info, std::uint64_t offset, std::span<const std::byte> from,
                                  io_flags flags, cancel_probe /*probe*/) noexcept {
  static_cast<void>(try_write(info, offset, from, flags));
  return {};
}

result<void> memory_device::flush(open_info& /*info*/, cancel_probe /*probe*/) noexcept {
  return {};
}

result<void> memory_device::trim(open_info& /*info*/, std::uint64_t offset, std::uint64_t length, io_flags /*flags*/,
                                 cancel_probe /*probe*/) noexcept {
  zero(offset, length);
  return {};
}

result<void> memory_device::write_zeroes(open_info& /*info*/, std::uint64_t offset, std::uint64_t length,
                                         io_flags /*flags*/, cancel_probe /*probe*/) noexcept {
  zero(offset, length);
  return {};
}

void memory_device::zero(std::uint64_t offset, std::uint64_t length) noexcept {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t end = offset + length;
  const std::uint64_t first = std::min((offset + page - 1) / page * page, end);
  const std::uint64_t last = std::max(end / page * page, first);
  std::memset(memory_ + offset, 0, static_cast<std::size_t>(first - offset));
  // Whole pages of a private anonymous mapping read as zeros afterwards and cost nothing until written again.
  if (last > first && ::madvise(memory_ + first, static_cast<std::size_t>(last - first), MADV_DONTNEED) != 0) {
    std::memset(memory_ + first, 0, static_cast<std::size_t>(last - first));
  }
  std::memset(memory_ + last, 0, static_cast<std::size_t>(end - last));
}

}  // namespace sluice
