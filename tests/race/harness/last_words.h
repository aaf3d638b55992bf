// last_words: when the process aborts in the middle of a schedule (SLUICE_CHECK, a sanitizer's report), the seed and
// the trace still reach stderr.
//
// Installs a handler of SIGABRT and a sanitizer's death callback for as long as an exploration runs. Nothing here
// allocates.
#pragma once

#include <csignal>
#include <cstdint>

#include "race/harness/engine.h"

namespace race::detail {

class last_words {
 public:
  explicit last_words(const engine& of) noexcept;
  ~last_words();
  last_words(const last_words&) = delete;
  last_words& operator=(const last_words&) = delete;

 private:
  struct sigaction before_{};
};

}  // namespace race::detail
