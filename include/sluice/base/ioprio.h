// ioprio: the kernel's I/O priority as a value: a class and, for RT and BE, a level from 0 (first) to 7 (last).
//
// Source of the rules: ioprio_set(2) and the kernel's include/uapi/linux/ioprio.h (class in bits 13–15, level below).
// NONE means "not said" and counts as BE/4 wherever two are compared.
#pragma once

#include <compare>
#include <cstdint>

namespace sluice {

enum class ioprio_class : std::uint8_t { none = 0, rt = 1, be = 2, idle = 3 };

class ioprio {
 public:
  static constexpr unsigned levels = 8;
  static constexpr unsigned default_level = 4;

  // NONE.
  constexpr ioprio() = default;
  // Requires: level < levels (checked by valid()).
  constexpr ioprio(ioprio_class cls, unsigned level) noexcept : class_(cls), level_(static_cast<std::uint8_t>(level)) {}

  // From the 16-bit value that ioprio_get(2) returns.
  [[nodiscard]] static constexpr ioprio from_raw(std::uint16_t raw) noexcept {
    return {static_cast<ioprio_class>(raw >> class_shift), raw & ((1U << class_shift) - 1)};
  }
  // The value that ioprio_set(2) takes.
  [[nodiscard]] constexpr std::uint16_t raw() const noexcept {
    return static_cast<std::uint16_t>((static_cast<unsigned>(class_) << class_shift) | level_);
  }

  [[nodiscard]] constexpr ioprio_class cls() const noexcept { return class_; }
  [[nodiscard]] constexpr unsigned level() const noexcept { return level_; }

  // Says somebody chose it: any class but NONE, with a level in range. (The kernel's ioprio_valid.)
  [[nodiscard]] constexpr bool valid() const noexcept {
    return class_ != ioprio_class::none && class_ <= ioprio_class::idle && level_ < levels;
  }
  // What it counts as: NONE is BE/4; IDLE has no levels.
  [[nodiscard]] constexpr ioprio effective() const noexcept {
    if (class_ == ioprio_class::none) {
      return {ioprio_class::be, default_level};
    }
    return class_ == ioprio_class::idle ? ioprio{ioprio_class::idle, 0} : *this;
  }

  // Same value, not same effect: NONE differs from BE/4.
  friend constexpr bool operator==(const ioprio&, const ioprio&) = default;

 private:
  static constexpr unsigned class_shift = 13;

  ioprio_class class_ = ioprio_class::none;
  std::uint8_t level_ = 0;
};

// The better of two by effect: RT before BE before IDLE, then the smaller level. (The kernel's ioprio_best.)
[[nodiscard]] constexpr ioprio ioprio_best(ioprio a, ioprio b) noexcept {
  return b.effective().raw() < a.effective().raw() ? b : a;
}

}  // namespace sluice
