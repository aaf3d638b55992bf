#include "sluice/base/sync.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

namespace sluice {
namespace {

static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t), "a futex is a bare 32-bit word");

// A time before the clock's epoch has passed as the epoch has; the kernel refuses it (EINVAL), and a caller that takes that
// for a wake would look again forever.
timespec absolute(steady_time deadline) noexcept {
  const auto since_boot = std::max(deadline.time_since_epoch(), steady_time::duration::zero());
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since_boot);
  const auto rest = std::chrono::duration_cast<std::chrono::nanoseconds>(since_boot - seconds);
  return {.tv_sec = static_cast<std::time_t>(seconds.count()), .tv_nsec = static_cast<long>(rest.count())};
}

}  // namespace

bool os_sync::wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected, steady_time deadline) noexcept {
  const bool forever = deadline == no_deadline;
  const timespec until = forever ? timespec{} : absolute(deadline);
  // WAIT_BITSET takes an absolute CLOCK_MONOTONIC time: a wait that a signal interrupts does not start over.
  const long rc = ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected,
                            forever ? nullptr : &until, nullptr, FUTEX_BITSET_MATCH_ANY);
  return rc == 0 || errno != ETIMEDOUT;
}

void os_sync::wake(std::atomic<std::uint32_t>& word, int count) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, nullptr, nullptr, 0);
}

}  // namespace sluice
