// io_limits: how much of a device somebody may use, whatever else is free: requests and bytes per second.
//
// The cgroup's io.max in two figures. A limit is met over time, not in every instant: an elevator that keeps to it may
// let a short burst through, and says how long.
//
// Thread safety:  a value.
#pragma once

#include <cstdint>

namespace sluice {

struct io_limits {
  std::uint64_t iops = 0;              // requests (quanta, where a request is cut) per second; 0: none
  std::uint64_t bytes_per_second = 0;  // 0: none

  [[nodiscard]] constexpr bool any() const noexcept { return iops != 0 || bytes_per_second != 0; }
  friend constexpr bool operator==(const io_limits&, const io_limits&) = default;
};

}  // namespace sluice
