// A disk that is replaced while it is read: later reads see the new one, none fails.
#include <array>
#include <cstdio>

#include "sluice/device/memory_device.h"
#include "sluice/device/null_device.h"
#include "sluice/device/switchable_device.h"

int main() {
  const auto old_disk = sluice::memory_device::create(1 << 20);
  const auto new_disk = sluice::null_device::create(1 << 20);
  const auto disk = sluice::switchable_device::create(*old_disk);
  if (!disk) {
    return 1;
  }
  const auto info = (*disk)->open(sluice::access_mode::read_write);
  std::array<std::byte, 4> bytes{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
  const bool written = (*disk)->write(**info, 0, bytes, sluice::io_flags::none, {}).has_value();

  const auto how = (*disk)->replace(*new_disk);
  const bool released = how && how->old == sluice::old_target::released && !how->flush;

  const bool read = (*disk)->read(**info, 0, bytes, {}).has_value() && bytes[0] == std::byte{0};
  (*disk)->release(*info);
  std::printf("replaced: %s\n", written && released && read ? "yes" : "no");
  return written && released && read ? 0 : 1;
}
