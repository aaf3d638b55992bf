// switchable_device: a device whose target can be replaced under load.
//
//   auto disk = switchable_device::create(old_target).value();
//   auto switched = disk->replace(new_target);                    // operations go on meanwhile
//
// replace() opens the new target; from then on requests that begin go there; it waits until the last one on the old
// target has ended, flushes that one and releases it. No request fails or is lost because of it, and each is done by
// one target as a whole, in however many quanta. What the targets hold is the caller's matter: a request that is
// under way on the old one is not repeated on the new one.
//
// | request began           | goes to                                                                                |
// |-------------------------|----------------------------------------------------------------------------------------|
// | before replace()        | the old target, to its end                                                             |
// | during replace()        | one of the two                                                                         |
// | after it returned       | the new one                                                                            |
//
// A request begins when the first byte of it is tried or moved, not while it waits. One that has begun and waits for
// its next quantum (in a queue that is quiesced, or under a limit) is waited for: give replace() a deadline there.
// All openings of this device share one opening of the target.
//
// | state         | replace                          | settle        |
// |---------------|----------------------------------|---------------|
// | settled       | switches                         | nothing to do |
// | old one stays | EBUSY, if it still does not leave | waits on      |
//
// Ownership:      one count on the target; during a replace on both.
// Thread safety:  as device; of several replace or settle at once one works and the others get EBUSY.
// Blocking:       replace and settle wait for requests on the old target, up to the deadline, and for its flush.
//                 Do not call them from an operation of this device.
// Errors:         see replace. Where one is returned nothing was switched.
// Cost:           per request a read section and a wide gate, for a write that is hashed two of each.
// Invariants:     D1 D2
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <system_error>

#include "sluice/base/clock.h"
#include "sluice/device/device.h"
#include "sluice/ref/ref.h"
#include "sluice/wq/hash_domain.h"

namespace sluice {

// What became of a target that was replaced.
enum class old_target : std::uint8_t {
  released,    // no operation uses it, and it was given back
  still_used,  // the deadline came first: settle() goes on waiting; the end of the device releases it at the latest
};

struct switch_report {
  old_target old = old_target::released;
  std::error_code flush;  // of the old one, before its release
};

class switchable_device final : public device {
 public:
  // Size and capabilities are the first target's, for ever. Errors: what opening it says; ENOMEM.
  [[nodiscard]] static result<ref<switchable_device>> create(ref<device> first);

  // Errors: EBUSY another one is at it, or the last one's old target stays; EINVAL another size, or a larger minimum
  // block; EROFS read-only, where the first was not; EOPNOTSUPP it can do less than the first; what opening it says;
  // ENOMEM.
  [[nodiscard]] result<switch_report> replace(ref<device> next, steady_time deadline = no_deadline);
  // Waits for an old target that a replace had to leave. Errors: EBUSY.
  [[nodiscard]] result<switch_report> settle(steady_time deadline = no_deadline) noexcept;

  [[nodiscard]] std::uint64_t replacements() const noexcept { return replacements_.load(std::memory_order_relaxed); }

  [[nodiscard]] std::string_view name() const noexcept override { return "switchable"; }
  [[nodiscard]] result<open_info*> open(access_mode mode) noexcept override;
  void release(open_info* info) noexcept override;

  [[nodiscard]] std::size_t try_read(open_info& info, std::uint64_t offset,
                                     std::span<std::byte> into) noexcept override;
  [[nodiscard]] std::size_t try_write(open_info& info, std::uint64_t offset, std::span<const std::byte> from,
                                      io_flags flags) noexcept override;
  [[nodiscard]] attempt try_range(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length,
                                  io_flags flags) noexcept override;
  [[nodiscard]] result<void> read(open_info& info, std::uint64_t offset, std::span<std::byte> into,
                                  cancel_probe probe) noexcept override;
  [[nodiscard]] result<void> write(open_info& info, std::uint64_t offset, std::span<const std::byte> from,
                                   io_flags flags, cancel_probe probe) noexcept override;
  [[nodiscard]] result<void> flush(open_info& info, cancel_probe probe) noexcept override;
  [[nodiscard]] result<void> trim(open_info& info, std::uint64_t offset, std::uint64_t length, io_flags flags,
                                  cancel_probe probe) noexcept override;
  [[nodiscard]] result<void> write_zeroes(open_info& info, std::uint64_t offset, std::uint64_t length, io_flags flags,
                                          cancel_probe probe) noexcept override;
  [[nodiscard]] result<void> cache(open_info& info, std::uint64_t offset, std::uint64_t length,
                                   cancel_probe probe) noexcept override;
  [[nodiscard]] result<std::size_t> extents(open_info& info, std::uint64_t offset, std::uint64_t length,
                                            std::span<extent> into, cancel_probe probe) noexcept override;

  // The target's key in a domain of its own: that of the target may die with it.
  [[nodiscard]] write_hash hash_of_write(std::uint64_t offset, std::uint64_t length) noexcept override;

  [[nodiscard]] result<open_info*> begin(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length,
                                         cancel_probe probe) noexcept override;
  [[nodiscard]] open_info* try_begin(open_info& info, io_op op, std::uint64_t offset,
                                     std::uint64_t length) noexcept override;
  void end(open_info& begun) noexcept override;

 private:
  struct leg;
  struct legs;
  struct route;

  switchable_device(device_traits traits, ref<hash_domain> writes, std::unique_ptr<leg> first);
  ~switchable_device() override;

  // An opening of a target. Throws bad_alloc.
  [[nodiscard]] static result<std::unique_ptr<leg>> open_leg(ref<device> target, bool read_only);
  // Waits for the leg that is leaving, if there is one. Requires: changing_ is ours.
  [[nodiscard]] switch_report finish_leaving(steady_time deadline) noexcept;
  // Calls use(target, the target's info) for a request that has begun, or as a request of its own.
  template <class Use>
  [[nodiscard]] result<void> on_target(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length,
                                       cancel_probe probe, Use use) noexcept;
  // The same inside submit; `refused` if it may not be tried.
  template <class Answer, class Use>
  [[nodiscard]] Answer try_on_target(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length,
                                     Answer refused, Use use) noexcept;

  // Constant after construction.
  const ref<hash_domain> writes_;
  const std::unique_ptr<legs> legs_;
  // Synchronise themselves.
  std::atomic<bool> changing_{false};  // a replace or settle is at it
  std::atomic<std::uint64_t> replacements_{0};
};

}  // namespace sluice
