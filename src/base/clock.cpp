#include "sluice/base/clock.h"

#include <sys/resource.h>

#include "sluice/base/immortal.h"

namespace sluice {
namespace {

class system_clock_seam final : public clock_seam {
 public:
  steady_time now() noexcept override { return std::chrono::steady_clock::now(); }
  std::uint64_t thread_sleeps() noexcept override {
    struct ::rusage used{};
    // Cannot fail: RUSAGE_THREAD is known since Linux 2.6.26.
    static_cast<void>(::getrusage(RUSAGE_THREAD, &used));
    return static_cast<std::uint64_t>(used.ru_nvcsw);
  }
};

}  // namespace

clock_seam& clock_seam::real() noexcept {
  // Never destroyed: threads that end late may still read the time.
  static immortal<system_clock_seam> instance;
  return *instance;
}

}  // namespace sluice
