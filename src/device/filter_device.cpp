#include "sluice/device/filter_device.h"

#include <new>
#include <utility>

#include "sluice/base/check.h"

namespace sluice {
namespace {

device_traits traits_of(const ref<device>& target) noexcept {
  SLUICE_CHECK(target, "a filter needs a device to stand on");
  return target->traits();
}

}  // namespace

filter_device::filter_device(std::string_view filter, ref<device> target)
    : device(traits_of(target), requests::seen),
      target_(std::move(target)),
      name_(std::string(filter).append(":").append(target_->name())) {}

// An opening's info, or a request's: the target's beneath it.
struct filter_device::way : open_info {
  way(open_info* of_target, bool has_begun) noexcept : info(of_target), begun(has_begun) {}

  open_info* const info;
  const bool begun;
};

struct filter_device::opening : way {
  explicit opening(open_info* of_target) noexcept : way(of_target, false), shared(of_target, true) {}

  way shared;  // of all requests, if the target does not see them
};

result<open_info*> filter_device::open(access_mode mode) noexcept {
  const result<open_info*> got = target_->open(mode);
  if (!got) {
    return got;
  }
  if (auto* made = new (std::nothrow) opening(*got)) {
    return made;
  }
  target_->release(*got);
  return fail(ENOMEM);
}

void filter_device::release(open_info* info) noexcept {
  auto* mine = static_cast<opening*>(info);
  target_->release(mine->info);
  delete mine;
}

result<open_info*> filter_device::begin(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length,
                                        cancel_probe probe) noexcept {
  auto& mine = static_cast<opening&>(info);
  if (result<void> go_on = before(op, offset, length, probe); !go_on) {
    return std::unexpected(go_on.error());
  }
  static_assert(sizeof(way) == 16, "filter_device.h and decision 6 state it");
  if (!target_->sees_requests()) {
    return &mine.shared;
  }
  const result<open_info*> got = target_->begin(*mine.info, op, offset, length, probe);
  if (!got) {
    return got;
  }
  if (auto* made = new (std::nothrow) way(*got, true)) {
    return made;
  }
  target_->end(**got);
  return fail(ENOMEM);
}

open_info* filter_device::try_begin(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length) noexcept {
  auto& mine = static_cast<opening&>(info);
  if (!may_try(op, offset, length)) {
    return nullptr;
  }
  if (!target_->sees_requests()) {
    return &mine.shared;
  }
  open_info* const got = target_->try_begin(*mine.info, op, offset, length);
  if (got == nullptr) {
    return nullptr;
  }
  auto* made = new (std::nothrow) way(got, true);
  if (made == nullptr) {
    target_->end(*got);
  }
  return made;
}

void filter_device::end(open_info& begun) noexcept {
  if (target_->sees_requests()) {
    auto* mine = static_cast<way*>(&begun);
    target_->end(*mine->info);
    delete mine;
  }
}

template <class Call>
result<void> filter_device::pass(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length,
                                 cancel_probe probe, Call call) noexcept {
  if (const auto& mine = static_cast<way&>(info); mine.begun) {
    return call(*mine.info);
  }
  const result<open_info*> begun = begin(info, op, offset, length, probe);
  if (!begun) {
    return std::unexpected(begun.error());
  }
  result<void> did = call(*static_cast<way&>(**begun).info);
  end(**begun);
  return did;
}

template <class Answer, class Call>
Answer filter_device::try_pass(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length, Answer refused,
                               Call call) noexcept {
  if (const auto& mine = static_cast<way&>(info); mine.begun) {
    return call(*mine.info);
  }
  open_info* const begun = try_begin(info, op, offset, length);
  if (begun == nullptr) {
    return refused;
  }
  Answer did = call(*static_cast<way&>(*begun).info);
  end(*begun);
  return did;
}

std::size_t filter_device::try_read(open_info& info, std::uint64_t offset, std::span<std::byte> into) noexcept {
  return try_pass(info, io_op::read, offset, into.size(), std::size_t{0},
                  [&](open_info& below) { return target_->try_read(below, offset, into); });
}

std::size_t filter_device::try_write(open_info& info, std::uint64_t offset, std::span<const std::byte> from,
                                     io_flags flags) noexcept {
  return try_pass(info, io_op::write, offset, from.size(), std::size_t{0},
                  [&](open_info& below) { return target_->try_write(below, offset, from, flags); });
}

attempt filter_device::try_range(open_info& info, io_op op, std::uint64_t offset, std::uint64_t length,
                                 io_flags flags) noexcept {
  return try_pass(info, op, offset, length, attempt::would_block,
                  [&](open_info& below) { return target_->try_range(below, op, offset, length, flags); });
}

result<void> filter_device::read(open_info& info, std::uint64_t offset, std::span<std::byte> into,
                                 cancel_probe probe) noexcept {
  return pass(info, io_op::read, offset, into.size(), probe,
              [&](open_info& below) { return target_->read(below, offset, into, probe); });
}

result<void> filter_device::write(open_info& info, std::uint64_t offset, std::span<const std::byte> from,
                                  io_flags flags, cancel_probe probe) noexcept {
  return pass(info, io_op::write, offset, from.size(), probe,
              [&](open_info& below) { return target_->write(below, offset, from, flags, probe); });
}

result<void> filter_device::flush(open_info& info, cancel_probe probe) noexcept {
  return pass(info, io_op::flush, 0, 0, probe, [&](open_info& below) { return target_->flush(below, probe); });
}

result<void> filter_device::trim(open_info& info, std::uint64_t offset, std::uint64_t length, io_flags flags,
                                 cancel_probe probe) noexcept {
  return pass(info, io_op::trim, offset, length, probe,
              [&](open_info& below) { return target_->trim(below, offset, length, flags, probe); });
}

result<void> filter_device::write_zeroes(open_info& info, std::uint64_t offset, std::uint64_t length, io_flags flags,
                                         cancel_probe probe) noexcept {
  return pass(info, io_op::write_zeroes, offset, length, probe,
              [&](open_info& below) { return target_->write_zeroes(below, offset, length, flags, probe); });
}

result<void> filter_device::cache(open_info& info, std::uint64_t offset, std::uint64_t length,
                                  cancel_probe probe) noexcept {
  return pass(info, io_op::cache, offset, length, probe,
              [&](open_info& below) { return target_->cache(below, offset, length, probe); });
}

// Asked for and answered at once, by the info of the opening: no request.
result<std::size_t> filter_device::extents(open_info& info, std::uint64_t offset, std::uint64_t length,
                                           std::span<extent> into, cancel_probe probe) noexcept {
  return target_->extents(*static_cast<way&>(info).info, offset, length, into, probe);
}

}  // namespace sluice
