#include "sluice/device/open_file.h"

#include <algorithm>
#include <new>
#include <span>
#include <utility>

#include "sluice/base/check.h"

namespace sluice {
namespace {

// Which flags an operation may carry.
io_flags allowed_flags(io_op op) noexcept {
  switch (op) {
    case io_op::write:
    case io_op::trim:
      return io_flags::fua | io_flags::no_inline;
    case io_op::write_zeroes:
      return io_flags::fua | io_flags::no_hole | io_flags::fast_zero | io_flags::no_inline;
    case io_op::read:
    case io_op::flush:
    case io_op::cache:
      break;
  }
  return io_flags::no_inline;
}

bool changes(io_op op) noexcept {
  return op == io_op::write || op == io_op::trim || op == io_op::write_zeroes;
}

bool moves_bytes(io_op op) noexcept {
  return op == io_op::read || op == io_op::write;
}

bool offers(const device_traits& traits, io_op op) noexcept {
  switch (op) {
    case io_op::flush:
      return traits.flush;
    case io_op::trim:
      return traits.trim;
    case io_op::write_zeroes:
      return traits.write_zeroes;
    case io_op::cache:
      return traits.cache;
    case io_op::read:
    case io_op::write:
      break;
  }
  return true;
}

// The codes that NBD asks for (doc/proto.md, "Error values"): a write past the end is a full disk, others are wrong.
int past_end(io_op op) noexcept {
  return op == io_op::write || op == io_op::write_zeroes ? ENOSPC : EINVAL;
}

// The range of a request; a flush has none.
std::uint64_t offset_of(const io_request& request) noexcept {
  return request.op == io_op::flush ? 0 : request.offset;
}
std::uint64_t length_of(const io_request& request) noexcept {
  return request.op == io_op::flush ? 0 : request.length;
}

// Where a transfer of [offset, end) that may move `budget` bytes is cut: between two blocks, because a device may
// refuse less than one or write it by reading it first.
std::uint64_t cut_of(std::uint64_t offset, std::uint64_t end, std::uint64_t budget,
                     const device_traits& traits) noexcept {
  if (end - offset <= budget) {
    return end;
  }
  const std::uint64_t wanted = offset + budget;
  for (const std::uint64_t block : {traits.preferred_block, traits.minimum_block}) {
    if (const std::uint64_t cut = wanted - wanted % block; cut > offset) {
      return cut;
    }
  }
  return std::min(end, offset + traits.minimum_block);
}

}  // namespace

const request_ops open_file::operations{.try_run = try_run, .run = run, .complete = complete};

void open_file_delete::operator()(open_file* file) const noexcept {
  delete file;
}

open_file::open_file(ref<device> target, ref<request_queue> queue, open_info* info, access_mode mode)
    : device_(std::move(target)), queue_(std::move(queue)), info_(info), mode_(mode) {}

result<ref<open_file>> open_file::open(const ref<device>& target, ref<request_queue> queue, access_mode mode) {
  SLUICE_CHECK(target && queue, "an open file needs a device and a queue");
  result<open_info*> info = target->open(mode);
  if (!info) {
    return std::unexpected(info.error());
  }
  try {
    return ref<open_file>::adopt(new open_file(target, std::move(queue), *info, mode));
  } catch (const std::bad_alloc&) {
    target->release(*info);
    return fail(ENOMEM);
  }
}

int open_file::validate(const io_request& request) const noexcept {
  const device_traits& traits = device_->traits();
  const io_flags wrong = static_cast<io_flags>(~static_cast<unsigned>(allowed_flags(request.op)) & 0xFFU);
  if (has(request.flags, wrong)) {
    return EINVAL;
  }
  if (changes(request.op) && mode_ == access_mode::read_only) {
    return EPERM;
  }
  if (!offers(traits, request.op) || (has(request.flags, io_flags::fast_zero) && !traits.fast_zero)) {
    return EOPNOTSUPP;
  }
  if (request.op == io_op::flush) {
    return 0;
  }
  if (request.length == 0) {
    return EINVAL;
  }
  if (request.offset > traits.size || request.length > traits.size - request.offset) {
    return past_end(request.op);
  }
  if (moves_bytes(request.op) && request.length > device::max_transfer) {
    return EINVAL;
  }
  return 0;
}

result<issued> open_file::submit(io_request& request, io_context& context) noexcept {
  SLUICE_CHECK(request.done != nullptr, "a request needs somebody to tell when it is done");
  if (!begin_operation()) {
    return fail(EBADF);
  }
  if (const int wrong = validate(request); wrong != 0) {
    end_operation();
    return fail(wrong);
  }
  SLUICE_CHECK(request.buffer != nullptr || !moves_bytes(request.op), "a transfer needs a buffer");
  request.file_ = this;
  request.set_bytes_left(moves_bytes(request.op) ? request.length : 0);
  request.set_request_ops(operations);
  const write_hash hash =
      request.op == io_op::write ? device_->hash_of_write(request.offset, request.length) : write_hash{};
  if (hash.domain != nullptr) {
    request.set_key(*hash.domain, hash.key);
  } else {
    request.clear_key();
  }
  result<issued> got = queue_->submit(request, context);
  // queued: it may be over by now, and ends its operation by itself.
  if (!got || *got == issued::completed) {
    end(request);
    end_operation();
  }
  return got;
}

open_info* open_file::try_begin(io_request& request) noexcept {
  if (!device_->sees_requests()) [[likely]] {
    return info_;
  }
  request.begun_ = device_->try_begin(*info_, request.op, offset_of(request), length_of(request));
  return request.begun_;
}

result<open_info*> open_file::begin(io_request& request, cancel_probe probe) noexcept {
  if (!device_->sees_requests()) [[likely]] {
    return info_;
  }
  if (request.begun_ == nullptr) {
    const result<open_info*> got = device_->begin(*info_, request.op, offset_of(request), length_of(request), probe);
    if (!got) {
      return got;
    }
    request.begun_ = *got;
  }
  return request.begun_;
}

void open_file::end(io_request& request) noexcept {
  if (request.begun_ != nullptr) {
    device_->end(*std::exchange(request.begun_, nullptr));
  }
}

attempt open_file::try_run(request& base) noexcept {
  auto& request = static_cast<io_request&>(base);
  open_file& file = *request.file_;
  device& target = *file.device_;
  const bool moves = moves_bytes(request.op);
  if (has(request.flags, io_flags::no_inline) || (moves && request.length > target.traits().inline_limit)) {
    return attempt::would_block;
  }
  open_info* const info = file.try_begin(request);
  if (info == nullptr) {
    return attempt::would_block;
  }
  if (!moves) {
    if (target.try_range(*info, request.op, request.offset, request.length, request.flags) == attempt::done) {
      request.set_result(0);
      return attempt::done;
    }
    file.end(request);
    return attempt::would_block;
  }
  const std::span<std::byte> bytes(request.buffer, static_cast<std::size_t>(request.length));
  // A part is a part, not the end of the file: the rest is for the worker.
  const std::uint64_t moved = request.op == io_op::read ? target.try_read(*info, request.offset, bytes)
                                                        : target.try_write(*info, request.offset, bytes, request.flags);
  SLUICE_CHECK(moved <= request.length, "a device moved more than it was asked to");
  request.set_bytes_left(request.length - moved);
  if (moved < request.length) {
    if (moved == 0) {
      file.end(request);  // it holds nothing while it waits
    }
    return attempt::would_block;
  }
  request.set_result(static_cast<std::int64_t>(request.length));
  return attempt::done;
}

void open_file::run(request& base, std::uint64_t budget, cancel_probe probe) noexcept {
  auto& request = static_cast<io_request&>(base);
  if (const result<void> did = request.file_->serve(request, budget, probe); !did) {
    request.set_result(-did.error().value());
  } else {
    request.set_result(moves_bytes(request.op) ? static_cast<std::int64_t>(request.length) : 0);
  }
}

result<void> open_file::serve(io_request& request, std::uint64_t budget, cancel_probe probe) noexcept {
  const result<open_info*> info = begin(request, probe);
  if (!info) {
    return std::unexpected(info.error());
  }
  return moves_bytes(request.op) ? transfer(request, **info, budget, probe) : perform(request, **info, probe);
}

// Moves what the budget allows of what is left.
result<void> open_file::transfer(io_request& request, open_info& info, std::uint64_t budget,
                                 cancel_probe probe) noexcept {
  const std::uint64_t left = request.bytes_left();
  const std::uint64_t moved = request.length - left;
  const std::span<std::byte> all(request.buffer, static_cast<std::size_t>(request.length));
  const std::uint64_t offset = request.offset + moved;
  const std::uint64_t until = cut_of(offset, offset + left, budget, device_->traits());
  const std::span<std::byte> part =
      all.subspan(static_cast<std::size_t>(moved), static_cast<std::size_t>(until - offset));
  const result<void> did = request.op == io_op::read ? device_->read(info, offset, part, probe)
                                                     : device_->write(info, offset, part, request.flags, probe);
  if (did) {
    request.set_bytes_left(left - part.size());
  }
  return did;
}

result<void> open_file::perform(io_request& request, open_info& info, cancel_probe probe) noexcept {
  switch (request.op) {
    case io_op::flush:
      return device_->flush(info, probe);
    case io_op::trim:
      return device_->trim(info, request.offset, request.length, request.flags, probe);
    case io_op::write_zeroes:
      return device_->write_zeroes(info, request.offset, request.length, request.flags, probe);
    case io_op::cache:
      return device_->cache(info, request.offset, request.length, probe);
    case io_op::read:
    case io_op::write:
      break;  // transfer() has them
  }
  return fail(EOPNOTSUPP);
}

void open_file::complete(request& base) noexcept {
  auto& request = static_cast<io_request&>(base);
  open_file& file = *request.file_;
  file.end(request);
  request.done(request);  // may free the request, or drop the last count of the file: our operation keeps it
  file.end_operation();
}

void open_file::release_info() noexcept {
  device_->release(info_);
}

void open_file::free_memory() noexcept {
  // A lookup that is under way reads nothing but the count. Device and queue need not wait for it.
  device_.reset();
  queue_.reset();
  retire();
}

}  // namespace sluice
