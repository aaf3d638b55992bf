// error_device: a filter that answers chosen requests with an errno before they reach the target. A request counts
// once, with its whole range, however many quanta it has.
//
//   auto bad = error_device::create(target).value();                                      // no rule: all goes through
//   bad->add({.ops = io_op::write, .every = 10, .err = ENOSPC}).value();                  // every tenth write
//   bad->add({.offset = 1 << 20, .length = 4096, .err = EIO}).value();                    // a bad block, for any operation
//   bad->add({.ops = op_set::all(), .per_million = 1000, .seed = 7}).value();             // one in a thousand
//
// Each rule counts the operations that match it. The first rule in the order of adding that picks an operation decides;
// a rule behind it does not count that operation. With one thread the same rules and seeds pick the same operations.
//
// What a rule might pick is not tried inside submit: an attempt cannot report an error.
//
// Ownership:      one count on the target.
// Thread safety:  as device; the controls by any thread. A change holds for operations that begin after it.
// Blocking:       never.
// Errors:         of add: ENOSPC, there are max_rules; of an operation: what the rule says.
// Limits:         max_rules rules.
// Cost:           without a rule one load per operation, with rules a lock.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>

#include "sluice/base/mutex.h"
#include "sluice/device/filter_device.h"
#include "sluice/ref/ref.h"

namespace sluice {

// Of the operations that match (kind and range), which fail, and with what.
struct error_rule {
  op_set ops = op_set::all();
  // The range that an operation must touch. A flush, which has none, matches any.
  std::uint64_t offset = 0;
  std::uint64_t length = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t skip = 0;                 // the first so many pass
  std::uint64_t every = 1;                // then each nth is a candidate, the nth first
  std::uint32_t per_million = 1'000'000;  // and so many of a million candidates fail, chosen by the seed
  std::uint64_t seed = 0;
  std::uint64_t times = std::numeric_limits<std::uint64_t>::max();  // at most so often
  int err = EIO;                                                    // a positive errno
};

class error_device final : public filter_device {
 public:
  static constexpr std::size_t max_rules = 16;

  // Errors: ENOMEM.
  [[nodiscard]] static result<ref<error_device>> create(ref<device> target);

  // Returns the rule's number, which no other one ever gets. Requires: every > 0, err > 0, per_million at most a
  // million.
  [[nodiscard]] result<std::size_t> add(const error_rule& rule) noexcept;
  // Takes a rule away. Errors: ENOENT.
  [[nodiscard]] result<void> remove(std::size_t number) noexcept;
  void clear() noexcept;
  // Every open fails with it from now on; 0 ends that.
  void fail_opens(int err) noexcept;

  // Operations and opens that failed here, since the start.
  [[nodiscard]] std::uint64_t failed() const noexcept;
  // Those that a rule has picked. Errors: ENOENT.
  [[nodiscard]] result<std::uint64_t> failed_by(std::size_t number) const noexcept;

  [[nodiscard]] result<open_info*> open(access_mode mode) noexcept override;

 private:
  struct slot {
    std::size_t number = 0;
    std::uint64_t matches = 0;
    std::uint64_t failed = 0;
    error_rule rule;
  };

  explicit error_device(ref<device> target) : filter_device("error", std::move(target)) {}
  ~error_device() override = default;

  [[nodiscard]] bool may_try(io_op op, std::uint64_t offset, std::uint64_t length) noexcept override;
  [[nodiscard]] result<void> before(io_op op, std::uint64_t offset, std::uint64_t length,
                                    cancel_probe probe) noexcept override;
  // Counts a match; true if the rule picks it.
  [[nodiscard]] static bool picks(slot& one) noexcept;

  // The slots in use: the first rules_ of them, in the order of adding.
  [[nodiscard]] std::span<slot> used_locked() noexcept SLUICE_REQUIRES(lock_);
  [[nodiscard]] std::span<const slot> used_locked() const noexcept SLUICE_REQUIRES(lock_);

  mutable mutex lock_;
  std::array<slot, max_rules> slots_ SLUICE_GUARDED_BY(lock_){};
  std::size_t next_number_ SLUICE_GUARDED_BY(lock_) = 0;
  std::uint64_t failed_ SLUICE_GUARDED_BY(lock_) = 0;
  int open_error_ SLUICE_GUARDED_BY(lock_) = 0;
  std::atomic<std::size_t> rules_{0};  // how many; written under the lock, read without it to see that there is none
};

}  // namespace sluice
