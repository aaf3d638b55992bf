// rate_gate: a limit of so much per second, as the time at which the next may go (GCRA, ITU-T I.371: the virtual
// scheduling form of a token bucket).
//
// The gate knows when what went so far is paid for. Who comes earlier than that by at most the burst goes; what goes
// moves the time on by its size over the rate. There is no timer and no refill: a gate that nobody asks costs nothing.
// Fractions of a nanosecond are carried, so the rate is exact however long it runs.
//
// In any span t at most rate * (t + burst) and one piece more go through.
//
// Ownership:      a member of whoever is limited.
// Thread safety:  none: its user's lock.
// Blocking:       never.
// Limits:         times are ns, below 2^62.
// Cost:           16 bytes; a division or two per charge.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace sluice {

class rate_gate {
 public:
  // When the next may go.
  [[nodiscard]] constexpr std::uint64_t ready_ns(std::uint64_t burst_ns) const noexcept {
    return paid_ns_ > burst_ns ? paid_ns_ - burst_ns : 0;
  }

  // `amount` goes now. Requires: rate is not 0, and has been the same since the last reset.
  constexpr void charge(std::uint64_t amount, std::uint64_t rate, std::uint64_t now_ns) noexcept {
    if (paid_ns_ < now_ns) {  // nothing is saved up beyond the burst
      paid_ns_ = now_ns;
    }
    const price found = price_of(amount, rate, rest_);
    paid_ns_ += found.ns;
    rest_ = found.rest;
  }
  // What was charged did not go after all. Requires: as charge; it was charged.
  constexpr void take_back(std::uint64_t amount, std::uint64_t rate) noexcept {
    paid_ns_ -= std::min(paid_ns_, price_of(amount, rate, 0).ns);
  }

  // The rate is another one: what went under the old one is forgotten.
  constexpr void reset() noexcept { *this = {}; }

 private:
  struct price {
    std::uint64_t ns;
    std::uint64_t rest;
  };
  static constexpr price price_of(std::uint64_t amount, std::uint64_t rate, std::uint64_t rest) noexcept {
    const std::uint64_t seconds = std::min(amount / rate, most_s);
    const std::uint64_t part = amount % rate;
    if (std::bit_width(rate) <= fine_bits) [[likely]] {
      const std::uint64_t sum = part * ns_per_s + rest;
      return {.ns = seconds * ns_per_s + sum / rate, .rest = sum % rate};
    }
    const wide sum = static_cast<wide>(part) * ns_per_s + rest;
    return {.ns = seconds * ns_per_s + static_cast<std::uint64_t>(sum / rate),
            .rest = static_cast<std::uint64_t>(sum % rate)};
  }

  __extension__ using wide = unsigned __int128;
  static constexpr std::uint64_t ns_per_s = 1'000'000'000;
  static constexpr int fine_bits = 34;  // 2^34 * 10^9 + 2^34 < 2^64
  static constexpr std::uint64_t most_s = 1ULL << 30U;

  std::uint64_t paid_ns_ = 0;  // until then what went is paid for
  std::uint64_t rest_ = 0;     // of a nanosecond, in 1/rate
};

}  // namespace sluice
