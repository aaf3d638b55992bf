// counter: counts, and says in which order. // Not a comment in a comment.
#pragma once

#include <atomic>

namespace sluice {

class counter {
 public:
  void up() noexcept { count_.fetch_add(1, std::memory_order_relaxed); }
  [[nodiscard]] int get(std::memory_order order) const noexcept { return count_.load(order); }
  [[nodiscard]] static bool same(int count, int other) { return count == other; }

 private:
  std::atomic<int> count_ = 0;
};

}  // namespace sluice
