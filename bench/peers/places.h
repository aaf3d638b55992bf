// places: the places (drive.h) of a pool whose workers say themselves that a work is done.
//
// One parker each: the worker's last act is one exchange, and a system call only if the submitter sleeps there.
#pragma once

#include <cstddef>
#include <vector>

#include "sluice/base/park.h"

namespace bench::peers {

class places {
 public:
  explicit places(std::size_t count) : done_(count) {}

  void wait(std::size_t place) noexcept { done_[place].park(); }
  [[nodiscard]] sluice::parker& at(std::size_t place) noexcept { return done_[place]; }

 private:
  std::vector<sluice::parker> done_;
};

}  // namespace bench::peers
