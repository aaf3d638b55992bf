// places: the places (drive.h) of a pool whose workers say themselves that a work is done.
//
#pragma once

#include <cstddef>
#include <vector>

#include "../mark.h"

namespace bench::peers {

class places {
 public:
  explicit places(std::size_t count) : done_(count) {
    for (std::size_t i = 0; i < count; ++i) {
      done_[i].stand_at(i, count);
    }
  }

  void wait(std::size_t place) noexcept { done_[place].wait(); }
  [[nodiscard]] mark& at(std::size_t place) noexcept { return done_[place]; }

 private:
  std::vector<mark> done_;
};

}  // namespace bench::peers
