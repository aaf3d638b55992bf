// capability: the kernel's capabilities as a set, and the names of those that an identity may need.
//
// Source of the rules: capabilities(7). Numbers and names are the kernel's (include/uapi/linux/capability.h).
//
// Thread safety:  values.
// Blocking:       never.
#pragma once

#include <bit>
#include <cstdint>
#include <utility>

namespace sluice {

// Those that this floor asks for by name; a set may hold any other.
enum class capability : std::uint8_t {
  chown = 0,
  dac_override = 1,
  dac_read_search = 2,
  fowner = 3,
  fsetid = 4,
  setgid = 6,
  setuid = 7,
  setpcap = 8,
  sys_admin = 21,
  sys_nice = 23,
  sys_resource = 24,
};

// "CAP_SETUID" and so on; "CAP_?" for a number that has no name here.
[[nodiscard]] const char* to_string(capability one) noexcept;

class capability_set {
 public:
  // Empty: what a work done for an ordinary user has.
  constexpr capability_set() = default;
  // The bits as /proc/PID/status shows them.
  [[nodiscard]] static constexpr capability_set from_bits(std::uint64_t bits) noexcept {
    capability_set set;
    set.bits_ = bits;
    return set;
  }

  [[nodiscard]] constexpr capability_set with(capability one) const noexcept { return from_bits(bits_ | bit(one)); }
  [[nodiscard]] constexpr capability_set without(capability_set other) const noexcept {
    return from_bits(bits_ & ~other.bits_);
  }
  [[nodiscard]] constexpr bool has(capability one) const noexcept { return (bits_ & bit(one)) != 0; }
  [[nodiscard]] constexpr bool empty() const noexcept { return bits_ == 0; }
  // The member with the smallest number. Requires: not empty.
  [[nodiscard]] constexpr capability first() const noexcept { return static_cast<capability>(std::countr_zero(bits_)); }
  [[nodiscard]] constexpr std::uint64_t bits() const noexcept { return bits_; }

  friend constexpr bool operator==(const capability_set&, const capability_set&) = default;

 private:
  [[nodiscard]] static constexpr std::uint64_t bit(capability one) noexcept {
    return std::uint64_t{1} << std::to_underlying(one);
  }

  std::uint64_t bits_ = 0;
};

// The three sets of a thread that capget(2) knows.
struct capability_sets {
  capability_set effective = {};
  capability_set permitted = {};
  capability_set inheritable = {};

  friend constexpr bool operator==(const capability_sets&, const capability_sets&) = default;
};

}  // namespace sluice
