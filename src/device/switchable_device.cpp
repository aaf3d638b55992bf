#include "sluice/device/switchable_device.h"

#include <new>
#include <utility>

#include "sluice/base/check.h"
#include "sluice/rcu/rcu.h"
#include "sluice/ref/gate.h"
#include "sluice/wq/blocking_region.h"

#include "switch_point.h"

namespace sluice {
namespace {

// Why a device cannot take the place of one with these traits: an errno, or 0.
int misfit(const device_traits& ours, const device_traits& next) noexcept {
  if (next.size != ours.size || next.minimum_block > ours.minimum_block) {
    return EINVAL;
  }
  if (next.read_only && !ours.read_only) {
    return EROFS;
  }
  if (ours.read_only) {
    return 0;  // what follows changes something
  }
  const bool less = (ours.flush && !next.flush) || (ours.fua && !next.fua) || (ours.trim && !next.trim) ||
                    (ours.write_zeroes && !next.write_zeroes) || (ours.fast_zero && !next.fast_zero);
  return less ? EOPNOTSUPP : 0;
}

// A flush of its own: a request of one call.
result<void> flush_target(device& target, open_info& info) noexcept {
  if (!target.sees_requests()) {
    return target.flush(info, {});
  }
  const result<open_info*> begun = target.begin(info, io_op::flush, 0, 0, {});
  if (!begun) {
    return std::unexpected(begun.error());
  }
  result<void> did = target.flush(**begun, {});
  target.end(**begun);
  return did;
}

}  // namespace

// A request's way: its leg, and the info that the target gave for it. A target that does not see requests gives that
// of our opening, and then the leg's own route serves all requests. An opening's info is one too, and goes nowhere.
struct switchable_device::route : open_info {
  leg* through = nullptr;  // null: of an opening
  open_info* info = nullptr;
};

// A target, and our opening of it, while requests may come through the door.
struct switchable_device::leg : rcu_obj_base<leg> {
  explicit leg(ref<device> leads_to) : target(std::move(leads_to)) {}
  ~leg() { end(); }
  leg(const leg&) = delete;
  leg& operator=(const leg&) = delete;

  // The way of one request, from what the target gave for it. Without memory that and the pass through the door are
  // given back, and the answer is null.
  [[nodiscard]] route* make_route(open_info* got) noexcept {
    static_assert(sizeof(route) == 16, "decision 6 states it");
    auto* made = new (std::nothrow) route;
    if (made == nullptr) {
      target->end(*got);
      door.leave();
      return nullptr;
    }
    made->through = this;
    made->info = got;
    return made;
  }

  // Gives the opening back. Requires: no request is inside.
  void end() noexcept {
    if (info != nullptr) {
      target->release(std::exchange(info, nullptr));
    }
    target.reset();
  }

  gate door;
  ref<device> target;
  open_info* info = nullptr;
  route shared;  // of all requests, if the target does not see them
};

struct switchable_device::legs {
  explicit legs(leg* first) noexcept : point(first) {}

  detail::basic_switch_point<leg> point;
  std::unique_ptr<leg> leaving;  // its door is closed; whoever has changing_ may touch it
};

result<std::unique_ptr<switchable_device::leg>> switchable_device::open_leg(ref<device> target, bool read_only) {
  auto made = std::make_unique<leg>(std::move(target));
  const result<open_info*> info = made->target->open(read_only ? access_mode::read_only : access_mode::read_write);
  if (!info) {
    return std::unexpected(info.error());
  }
  made->info = *info;
  made->shared.through = made.get();
  made->shared.info = *info;
  return made;
}

result<ref<switchable_device>> switchable_device::create(ref<device> first) {
  SLUICE_CHECK(first, "a switch needs a device to begin with");
  const device_traits traits = first->traits();
  result<ref<hash_domain>> writes = hash_domain::create();
  if (!writes) {
    return std::unexpected(writes.error());
  }
  try {
    result<std::unique_ptr<leg>> opened = open_leg(std::move(first), traits.read_only);
    if (!opened) {
      return std::unexpected(opened.error());
    }
    return ref<switchable_device>::adopt(new switchable_device(traits, std::move(*writes), std::move(*opened)));
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
}

switchable_device::switchable_device(device_traits traits, ref<hash_domain> writes, std::unique_ptr<leg> first)
    : device(traits, requests::seen), writes_(std::move(writes)), legs_(std::make_unique<legs>(first.get())) {
  static_cast<void>(first.release());  // the point's now
}

switchable_device::~switchable_device() {
  // No request is left: each belongs to an opening, which holds a count.
  delete legs_->point.current();
}

result<switch_report> switchable_device::replace(ref<device> next, steady_time deadline) {
  SLUICE_CHECK(next, "replaced by what?");
  if (const int wrong = misfit(traits(), next->traits()); wrong != 0) {
    return fail(wrong);
  }
  // acquire, with the release at the end: what the last one at it did to the legs.
  if (changing_.exchange(true, std::memory_order_acquire)) {
    return fail(EBUSY);
  }
  const auto done = [this](result<switch_report> how) {
    changing_.store(false, std::memory_order_release);
    return how;
  };
  if (finish_leaving(deadline).old == old_target::still_used) {
    return done(fail(EBUSY));
  }
  try {
    result<std::unique_ptr<leg>> fresh = open_leg(std::move(next), traits().read_only);
    if (!fresh) {
      return done(std::unexpected(fresh.error()));
    }
    legs_->leaving.reset(legs_->point.change_to(fresh->release()));
  } catch (const std::bad_alloc&) {
    return done(fail(ENOMEM));
  }
  replacements_.fetch_add(1, std::memory_order_relaxed);
  return done(finish_leaving(deadline));
}

result<switch_report> switchable_device::settle(steady_time deadline) noexcept {
  if (changing_.exchange(true, std::memory_order_acquire)) {
    return fail(EBUSY);
  }
  const switch_report how = finish_leaving(deadline);
  changing_.store(false, std::memory_order_release);
  return how;
}

switch_report switchable_device::finish_leaving(steady_time deadline) noexcept {
  if (!legs_->leaving) {
    return {};
  }
  const blocking_region region;
  leg& old = *legs_->leaving;
  if (!old.door.wait_until(deadline)) {
    return {.old = old_target::still_used, .flush = {}};
  }
  switch_report report;
  // What was written to it is the old target's to keep: a flush that comes later goes to the new one.
  if (!old.target->traits().read_only) {
    if (const result<void> flushed = flush_target(*old.target, *old.info); !flushed) {
      report.flush = flushed.error();
    }
  }
  old.end();
  legs_->leaving.release()->retire();  // enter() may still look at the door
  return report;
}

result<open_info*> switchable_device::open(access_mode mode) noexcept {
  if (mode == access_mode::read_write && traits().read_only) {
    return fail(EROFS);
  }
  auto* info = new (std::nothrow) route;
  if (info == nullptr) {
    return fail(ENOMEM);
  }
  return info;
}

void switchable_device::release(open_info* info) noexcept {
  delete static_cast<route*>(info);
}

write_hash switchable_device::hash_of_write(std::uint64_t offset, std::uint64_t length) noexcept {
  leg& mine = legs_->point.enter();
  const write_hash wanted = mine.target->hash_of_write(offset, length);
  mine.door.leave();
  return wanted.domain != nullptr ? write_hash{writes_.get(), wanted.key} : write_hash{};
}

result<open_info*> switchable_device::begin(open_info& /*info*/, io_op op, std::uint64_t offset, std::uint64_t length,
                                            cancel_probe probe) noexcept {
  leg& mine = legs_->point.enter();
  if (!mine.target->sees_requests()) {
    return &mine.shared;
  }
  const result<open_info*> got = mine.target->begin(*mine.info, op, offset, length, probe);
  if (!got) {
    mine.door.leave();
    return got;
  }
  if (route* own = mine.make_route(*got)) {
    return own;
  }
  return fail(ENOMEM);
}

open_info* switchable_device::try_begin(open_info& /*info*/, io_op op, std::uint64_t offset,
                                        std::uint64_t length) noexcept {
  leg& mine = legs_->point.enter();
  if (!mine.target->sees_requests()) {
    return &mine.shared;
  }
  open_info* const got = mine.target->try_begin(*mine.info, op, offset, length);
  if (got == nullptr) {
    mine.door.leave();
    return nullptr;
  }
  return mine.make_route(got);
}

void switchable_device::end(open_info& begun) noexcept {
  auto& mine = static_cast<route&>(begun);
  leg& through = *mine.through;
  if (&mine != &through.shared) {
    through.target->end(*mine.info);
    delete &mine;
  }
  through.door.leave();  // from here on it may be released, and gone
}

template <class Use>
result<void> switchable_device::on_target(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length,
                                          cancel_probe probe, Use use) noexcept {
  if (const auto& mine = static_cast<route&>(info); mine.through != nullptr) {
    return use(*mine.through->target, *mine.info);
  }
  const result<open_info*> begun = begin(info, op, offset, length, probe);
  if (!begun) {
    return std::unexpected(begun.error());
  }
  const auto& mine = static_cast<route&>(**begun);
  result<void> did = use(*mine.through->target, *mine.info);
  end(**begun);
  return did;
}

template <class Answer, class Use>
Answer switchable_device::try_on_target(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length,
                                        Answer refused, Use use) noexcept {
  if (const auto& mine = static_cast<route&>(info); mine.through != nullptr) {
    return use(*mine.through->target, *mine.info);
  }
  open_info* const begun = try_begin(info, op, offset, length);
  if (begun == nullptr) {
    return refused;
  }
  const auto& mine = static_cast<route&>(*begun);
  Answer did = use(*mine.through->target, *mine.info);
  end(*begun);
  return did;
}

std::size_t switchable_device::try_read(open_info& info, std::uint64_t offset, std::span<std::byte> into) noexcept {
  return try_on_target(info, io_op::read, offset, into.size(), std::size_t{0},
                       [&](device& target, open_info& below) { return target.try_read(below, offset, into); });
}

std::size_t switchable_device::try_write(open_info& info, std::uint64_t offset, std::span<const std::byte> from,
                                         io_flags flags) noexcept {
  return try_on_target(info, io_op::write, offset, from.size(), std::size_t{0},
                       [&](device& target, open_info& below) { return target.try_write(below, offset, from, flags); });
}

attempt switchable_device::try_range(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length,
                                     io_flags flags) noexcept {
  return try_on_target(info, op, offset, length, attempt::would_block, [&](device& target, open_info& below) {
    return target.try_range(below, op, offset, length, flags);
  });
}

result<void> switchable_device::read(open_info& info, std::uint64_t offset, std::span<std::byte> into,
                                     cancel_probe probe) noexcept {
  return on_target(info, io_op::read, offset, into.size(), probe,
                   [&](device& target, open_info& below) { return target.read(below, offset, into, probe); });
}

result<void> switchable_device::write(open_info& info, std::uint64_t offset, std::span<const std::byte> from,
                                      io_flags flags, cancel_probe probe) noexcept {
  return on_target(info, io_op::write, offset, from.size(), probe,
                   [&](device& target, open_info& below) { return target.write(below, offset, from, flags, probe); });
}

result<void> switchable_device::flush(open_info& info, cancel_probe probe) noexcept {
  return on_target(info, io_op::flush, 0, 0, probe,
                   [&](device& target, open_info& below) { return target.flush(below, probe); });
}

result<void> switchable_device::trim(open_info& info, std::uint64_t offset, std::uint64_t length, io_flags flags,
                                     cancel_probe probe) noexcept {
  return on_target(info, io_op::trim, offset, length, probe,
                   [&](device& target, open_info& below) { return target.trim(below, offset, length, flags, probe); });
}

result<void> switchable_device::write_zeroes(open_info& info, std::uint64_t offset, std::uint64_t length,
                                             io_flags flags, cancel_probe probe) noexcept {
  return on_target(info, io_op::write_zeroes, offset, length, probe, [&](device& target, open_info& below) {
    return target.write_zeroes(below, offset, length, flags, probe);
  });
}

result<void> switchable_device::cache(open_info& info, std::uint64_t offset, std::uint64_t length,
                                      cancel_probe probe) noexcept {
  return on_target(info, io_op::cache, offset, length, probe,
                   [&](device& target, open_info& below) { return target.cache(below, offset, length, probe); });
}

// Asked for and answered at once: no request.
result<std::size_t> switchable_device::extents(open_info& /*info*/, std::uint64_t offset, std::uint64_t length,
                                               std::span<extent> into, cancel_probe probe) noexcept {
  leg& mine = legs_->point.enter();
  result<std::size_t> answer = mine.target->extents(*mine.info, offset, length, into, probe);
  mine.door.leave();
  return answer;
}

}  // namespace sluice
