#include "sluice/base/clock.h"

namespace sluice {
namespace {

class system_clock_seam final : public clock_seam {
 public:
  steady_time now() noexcept override { return std::chrono::steady_clock::now(); }
};

}  // namespace

clock_seam& clock_seam::real() noexcept {
  // Never destroyed: threads that end late may still read the time.
  static clock_seam& instance = *new system_clock_seam;
  return instance;
}

}  // namespace sluice
