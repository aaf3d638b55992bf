#include "sluice/base/clock.h"

#include "sluice/base/immortal.h"

namespace sluice {
namespace {

class system_clock_seam final : public clock_seam {
 public:
  steady_time now() noexcept override { return std::chrono::steady_clock::now(); }
};

}  // namespace

clock_seam& clock_seam::real() noexcept {
  // Never destroyed: threads that end late may still read the time.
  static immortal<system_clock_seam> instance;
  return *instance;
}

}  // namespace sluice
