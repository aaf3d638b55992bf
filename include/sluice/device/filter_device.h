// filter_device: a device over another one: what is not held up or refused on the way goes to the target unchanged.
//
// A filter derives from it and says two things of a request: whether it may be tried inside submit, and what happens
// before it begins on a worker, once, however many calls it takes. Everything else is the target's: size, capabilities,
// per-open info, how writes are hashed, extents (which are asked for and answered at once). A filter may stand on a
// filter.
//
// Ownership:      one count on the target.
// Cost:           no allocation per request over a target that does not see requests, one of 16 bytes over one that does.
// Thread safety:  as device.
// Blocking:       before() may; may_try() must not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "sluice/device/device.h"
#include "sluice/ref/ref.h"

namespace sluice {

inline constexpr std::size_t io_op_count = 6;
static_assert(static_cast<std::size_t>(io_op::cache) + 1 == io_op_count);

// Some of the operations: `io_op::read`, `op_set(io_op::read) | io_op::write`, `op_set::all()`.
class op_set {
 public:
  constexpr op_set() noexcept = default;
  // NOLINTNEXTLINE(google-explicit-constructor): one operation is a set
  constexpr op_set(io_op op) noexcept : bits_(static_cast<std::uint8_t>(1U << static_cast<unsigned>(op))) {}

  [[nodiscard]] static constexpr op_set all() noexcept {
    op_set every;
    every.bits_ = (1U << io_op_count) - 1;
    return every;
  }
  [[nodiscard]] constexpr bool has(io_op op) const noexcept { return (bits_ >> static_cast<unsigned>(op) & 1U) != 0; }
  [[nodiscard]] friend constexpr op_set operator|(op_set a, op_set b) noexcept {
    a.bits_ |= b.bits_;
    return a;
  }

 private:
  std::uint8_t bits_ = 0;
};

class filter_device : public device {
 public:
  [[nodiscard]] device& target() const noexcept { return *target_; }

  // "filter:target".
  [[nodiscard]] std::string_view name() const noexcept final { return name_; }
  [[nodiscard]] result<open_info*> open(access_mode mode) noexcept override;
  void release(open_info* info) noexcept final;

  [[nodiscard]] std::size_t try_read(open_info& info, std::uint64_t offset, std::span<std::byte> into) noexcept final;
  [[nodiscard]] std::size_t try_write(open_info& info, std::uint64_t offset, std::span<const std::byte> from,
                                      io_flags flags) noexcept final;
  [[nodiscard]] attempt try_range(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length,
                                  io_flags flags) noexcept final;
  [[nodiscard]] result<void> read(open_info& info, std::uint64_t offset, std::span<std::byte> into,
                                  cancel_probe probe) noexcept final;
  [[nodiscard]] result<void> write(open_info& info, std::uint64_t offset, std::span<const std::byte> from,
                                   io_flags flags, cancel_probe probe) noexcept final;
  [[nodiscard]] result<void> flush(open_info& info, cancel_probe probe) noexcept final;
  [[nodiscard]] result<void> trim(open_info& info, std::uint64_t offset, std::uint64_t length, io_flags flags,
                                  cancel_probe probe) noexcept final;
  [[nodiscard]] result<void> write_zeroes(open_info& info, std::uint64_t offset, std::uint64_t length, io_flags flags,
                                          cancel_probe probe) noexcept final;
  [[nodiscard]] result<void> cache(open_info& info, std::uint64_t offset, std::uint64_t length,
                                   cancel_probe probe) noexcept final;

  [[nodiscard]] result<std::size_t> extents(open_info& info, std::uint64_t offset, std::uint64_t length,
                                            std::span<extent> into, cancel_probe probe) noexcept final;

  [[nodiscard]] write_hash hash_of_write(std::uint64_t offset, std::uint64_t length) noexcept final {
    return target_->hash_of_write(offset, length);
  }

  [[nodiscard]] result<open_info*> begin(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length,
                                         cancel_probe probe) noexcept final;
  [[nodiscard]] open_info* try_begin(open_info& info, io_op op, std::uint64_t offset,
                                     std::uint64_t length) noexcept final;
  void end(open_info& begun) noexcept final;

 protected:
  // Throws bad_alloc (set-up).
  filter_device(std::string_view filter, ref<device> target);
  ~filter_device() override = default;

  // Whether a request may be tried inside submit.
  [[nodiscard]] virtual bool may_try(io_op op, std::uint64_t offset, std::uint64_t length) noexcept = 0;
  // On a worker, before a request begins: its whole range, 0 and 0 for a flush. An error is its answer, and the
  // target never hears of it.
  [[nodiscard]] virtual result<void> before(io_op op, std::uint64_t offset, std::uint64_t length,
                                            cancel_probe probe) noexcept = 0;

 private:
  struct way;
  struct opening;

  // Calls call(the target's info) for a request that has begun, or as a request of its own.
  template <class Call>
  [[nodiscard]] result<void> pass(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length,
                                  cancel_probe probe, Call call) noexcept;
  // The same inside submit; `refused` if it may not be tried.
  template <class Answer, class Call>
  [[nodiscard]] Answer try_pass(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length, Answer refused,
                                Call call) noexcept;

  // Constant after construction.
  const ref<device> target_;
  const std::string name_;
};

}  // namespace sluice
