#include "sluice/ref/fault.h"

#include <execinfo.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace sluice {
namespace {

constexpr int stack_depth = 32;
constexpr std::size_t message_bytes = 512;

std::atomic<refcount_fault_handler> installed{&report_refcount_fault_once};
std::array<std::atomic<bool>, refcount_fault_kinds> reported{};

void write_report(const refcount_fault_report& report) noexcept {
  std::array<char, message_bytes> text;
  const int length =
      std::snprintf(text.data(), text.size(), "sluice: refcount: %s: %s at %p, count was %lld; it is never freed\n",
                    to_string(report.fault), report.owner.type != nullptr ? report.owner.type : "unnamed object",
                    report.owner.object, static_cast<long long>(report.found));
  const auto bytes = static_cast<std::size_t>(std::clamp(length, 0, static_cast<int>(text.size()) - 1));
  // One write, so that reports of several threads do not mix. A stderr that cannot be written has no substitute.
  static_cast<void>(!::write(STDERR_FILENO, text.data(), bytes));
  std::array<void*, stack_depth> frames;
  ::backtrace_symbols_fd(frames.data(), ::backtrace(frames.data(), stack_depth), STDERR_FILENO);
}

}  // namespace

const char* to_string(refcount_fault fault) noexcept {
  switch (fault) {
    case refcount_fault::add_overflow:
      return "get overflowed or hit a saturated count";
    case refcount_fault::add_not_zero_overflow:
      return "get_unless_zero overflowed or hit a saturated count";
    case refcount_fault::add_from_zero:
      return "get after the last put (use after free)";
    case refcount_fault::sub_underflow:
      return "put without a count (double put)";
    case refcount_fault::dec_to_zero:
      return "dec took the last count (leak)";
  }
  return "unknown fault";
}

refcount_fault_handler set_refcount_fault_handler(refcount_fault_handler handler) noexcept {
  // acq_rel: what the installer prepared for its handler is there when the handler runs; pairs with the load below.
  return installed.exchange(handler != nullptr ? handler : &report_refcount_fault_once, std::memory_order_acq_rel);
}

void report_refcount_fault_once(const refcount_fault_report& report) noexcept {
  // relaxed: the exchange alone picks one reporter; nothing else is shared.
  if (!reported[static_cast<std::size_t>(report.fault)].exchange(true, std::memory_order_relaxed)) {
    write_report(report);
  }
}

void abort_on_refcount_fault(const refcount_fault_report& report) noexcept {
  write_report(report);
  std::abort();
}

void detail::refcount_faulted(refcount_fault fault, refcount_owner owner, std::int64_t found) noexcept {
  installed.load(std::memory_order_acquire)({.fault = fault, .owner = owner, .found = found});
}

}  // namespace sluice
