// tbb_pool: oneTBB's task_arena, fed with enqueue.
#pragma once

#include <cstddef>

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include "places.h"

namespace bench::peers {

class tbb_pool {
 public:
  // oneTBB counts the submitter as one of the threads that it allows, and by default allows as many as there are CPUs:
  // on two of them that would leave one worker.
  tbb_pool(std::size_t count, unsigned threads)
      : places_(count),
        allowed_(oneapi::tbb::global_control::max_allowed_parallelism, threads + 1),
        arena_(static_cast<int>(threads), /*reserved_for_masters=*/0) {}

  void post(std::size_t place) {
    arena_.enqueue([done = &places_.at(place)] { done->set(); });
  }
  void flush() noexcept {}
  void wait(std::size_t place) noexcept { places_.wait(place); }

 private:
  places places_;
  oneapi::tbb::global_control allowed_;
  oneapi::tbb::task_arena arena_;
};

}  // namespace bench::peers
