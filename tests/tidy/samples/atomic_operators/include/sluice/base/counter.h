// counter: a counter that counts without saying in which order.
#pragma once

#include <atomic>

namespace sluice {

class counter {
 public:
  void set(int to);
  void up() { ++count_; }

 private:
  std::atomic<int> count_ = 0;
};

}  // namespace sluice
