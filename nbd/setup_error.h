// setup_error: what stops a server from starting, as one sentence that tells the operator what to do.
#pragma once

#include <stdexcept>

namespace sluice::nbd {

class setup_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace sluice::nbd
