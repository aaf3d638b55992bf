#include "sluice/base/check.h"

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

namespace sluice::detail {
namespace {

constexpr std::size_t message_bytes = 1024;

[[noreturn]] void die(const char* message, int length) noexcept {
  const auto bytes = static_cast<std::size_t>(std::clamp(length, 0, static_cast<int>(message_bytes) - 1));
  // One write, so that lines of several dying threads do not mix. Nothing can be done if it fails.
  if (::write(STDERR_FILENO, message, bytes) < 0) {
    std::abort();
  }
  std::abort();
}

}  // namespace

void check_failed(const char* file, int line, const char* expression, const char* advice) noexcept {
  char message[message_bytes];
  const int length = std::snprintf(message, sizeof message, "sluice: check failed: %s at %s:%d%s%s\n", expression, file,
                                   line, advice != nullptr ? ": " : "", advice != nullptr ? advice : "");
  die(message, length);
}

void check_op_failed(const char* file, int line, const char* expression, std::int64_t left,
                     std::int64_t right) noexcept {
  char message[message_bytes];
  const int length = std::snprintf(message, sizeof message, "sluice: check failed: %s (%lld against %lld) at %s:%d\n",
                                   expression, static_cast<long long>(left), static_cast<long long>(right), file, line);
  die(message, length);
}

}  // namespace sluice::detail
