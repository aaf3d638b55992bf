#include "sluice/wq/stats.h"

#include <numeric>

namespace sluice {

std::uint64_t latency_histogram::total() const noexcept {
  return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

std::uint64_t latency_histogram::percentile_ns(double share) const noexcept {
  const std::uint64_t all = total();
  if (all == 0) {
    return 0;
  }
  const double wanted = share * static_cast<double>(all);
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < buckets; ++i) {
    seen += counts[i];
    if (seen != 0 && static_cast<double>(seen) >= wanted) {
      return std::uint64_t{1} << (i + 1);
    }
  }
  return std::uint64_t{1} << buckets;
}

}  // namespace sluice
