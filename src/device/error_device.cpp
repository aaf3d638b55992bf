#include "sluice/device/error_device.h"

#include <algorithm>
#include <new>

#include "sluice/base/check.h"

#include "mix.h"

namespace sluice {
namespace {

constexpr std::uint32_t million = 1'000'000;

// The end of a range that may reach beyond the numbers.
std::uint64_t end_of(std::uint64_t offset, std::uint64_t length) noexcept {
  return length > ~offset ? ~std::uint64_t{0} : offset + length;
}

bool matches(const error_rule& rule, io_op op, std::uint64_t offset, std::uint64_t length) noexcept {
  if (!rule.ops.has(op)) {
    return false;
  }
  return op == io_op::flush || (offset < end_of(rule.offset, rule.length) && rule.offset < end_of(offset, length));
}

}  // namespace

result<ref<error_device>> error_device::create(ref<device> target) {
  try {
    return ref<error_device>::adopt(new error_device(std::move(target)));
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
}

std::span<error_device::slot> error_device::used_locked() noexcept {
  return std::span(slots_).first(rules_.load(std::memory_order_relaxed));  // relaxed: under the lock
}

std::span<const error_device::slot> error_device::used_locked() const noexcept {
  return std::span(slots_).first(rules_.load(std::memory_order_relaxed));  // relaxed: under the lock
}

result<std::size_t> error_device::add(const error_rule& rule) noexcept {
  SLUICE_CHECK(rule.every > 0 && rule.err > 0 && rule.per_million <= million, "a rule that can pick something");
  const mutex_lock hold(lock_);
  const std::size_t used = used_locked().size();
  if (used == max_rules) {
    return fail(ENOSPC);
  }
  slots_[used] = slot{.number = next_number_, .rule = rule};
  // release: who learns of the return of this call finds that there is a rule.
  rules_.store(used + 1, std::memory_order_release);
  return next_number_++;
}

result<void> error_device::remove(std::size_t number) noexcept {
  const mutex_lock hold(lock_);
  const std::span<slot> used = used_locked();
  const auto found = std::ranges::find(used, number, &slot::number);
  if (found == used.end()) {
    return fail(ENOENT);
  }
  std::move(found + 1, used.end(), found);
  rules_.store(used.size() - 1, std::memory_order_release);
  return {};
}

void error_device::clear() noexcept {
  const mutex_lock hold(lock_);
  rules_.store(0, std::memory_order_release);
}

void error_device::fail_opens(int err) noexcept {
  SLUICE_CHECK(err >= 0, "an errno, or 0 for none");
  const mutex_lock hold(lock_);
  open_error_ = err;
}

std::uint64_t error_device::failed() const noexcept {
  const mutex_lock hold(lock_);
  return failed_;
}

result<std::uint64_t> error_device::failed_by(std::size_t number) const noexcept {
  const mutex_lock hold(lock_);
  const std::span<const slot> used = used_locked();
  const auto found = std::ranges::find(used, number, &slot::number);
  if (found == used.end()) {
    return fail(ENOENT);
  }
  return found->failed;
}

result<open_info*> error_device::open(access_mode mode) noexcept {
  {
    const mutex_lock hold(lock_);
    if (open_error_ != 0) {
      ++failed_;
      return fail(open_error_);
    }
  }
  return filter_device::open(mode);
}

bool error_device::may_try(io_op op, std::uint64_t offset, std::uint64_t length) noexcept {
  // acquire: pairs with the stores of the controls.
  if (rules_.load(std::memory_order_acquire) == 0) {
    return true;
  }
  const mutex_lock hold(lock_);
  return std::ranges::none_of(used_locked(), [&](const slot& each) { return matches(each.rule, op, offset, length); });
}

result<void> error_device::before(io_op op, std::uint64_t offset, std::uint64_t length,
                                  cancel_probe /*probe*/) noexcept {
  if (rules_.load(std::memory_order_acquire) == 0) {
    return {};
  }
  const mutex_lock hold(lock_);
  for (slot& each : used_locked()) {
    if (matches(each.rule, op, offset, length) && picks(each)) {
      ++each.failed;
      ++failed_;
      return fail(each.rule.err);
    }
  }
  return {};
}

bool error_device::picks(slot& one) noexcept {
  const error_rule& rule = one.rule;
  const std::uint64_t nth = ++one.matches;
  if (nth <= rule.skip || (nth - rule.skip) % rule.every != 0 || one.failed >= rule.times) {
    return false;
  }
  return rule.per_million == million || detail::mix(rule.seed, nth) % million < rule.per_million;
}

}  // namespace sluice
