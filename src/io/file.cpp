#include "sluice/io/file.h"

#include <algorithm>

#include "sluice/base/park.h"
#include "sluice/device/file_device.h"
#include "sluice/wq/blocking_region.h"

namespace sluice {
namespace {

// An operation that a thread sleeps for.
struct awaited : io_request {
  parker sleeper;
};

void fill(io_request& request, io_op op, std::uint64_t offset, std::byte* buffer, std::uint64_t length) noexcept {
  request.op = op;
  request.flags = io_flags::none;
  request.offset = offset;
  request.buffer = buffer;
  request.length = length;
}

// The buffer of a write is not changed: io_request has one pointer for both directions.
std::byte* source(std::span<const std::byte> from) noexcept {
  return const_cast<std::byte*>(from.data());
}

}  // namespace

result<file> file::open(io_wq& workers, task& self, const std::string& path, access_mode mode,
                        request_queue_options options) {
  result<ref<device>> target = file_device::create(path, mode);
  if (!target) {
    return std::unexpected(target.error());
  }
  return open(workers, self, *target, mode, options);
}

result<file> file::open(io_wq& workers, task& self, const ref<device>& target, access_mode mode,
                        request_queue_options options) {
  result<ref<io_context>> context = self.get_task_io_context(task_side::current);
  if (!context) {
    return std::unexpected(context.error());
  }
  result<ref<request_queue>> queue = request_queue::create(workers, options);
  if (!queue) {
    return std::unexpected(queue.error());
  }
  result<ref<open_file>> opened = open_file::open(target, std::move(*queue), mode);
  if (!opened) {
    return std::unexpected(opened.error());
  }
  return file(std::move(*opened), std::move(*context));
}

file& file::operator=(file&& other) noexcept {
  if (this != &other) {
    close();
    open_ = std::move(other.open_);
    context_ = std::move(other.context_);
  }
  return *this;
}

file::~file() {
  close();
}

void file::close() noexcept {
  if (open_) {
    static_cast<void>(open_->close());
    // Cannot fail without a deadline: what was accepted ends, if not otherwise then by the io_wq's own stop.
    static_cast<void>(open_->queue().stop());
    open_.reset();
  }
}

result<std::size_t> file::wait_for(io_request& request) noexcept {
  // Found in the parker's permit rather than here: a callback that comes before the sleep is kept.
  auto& mine = static_cast<awaited&>(request);
  mine.done = [](io_request& over) noexcept { static_cast<awaited&>(over).sleeper.wake(); };
  if (!open_) {
    return fail(EBADF);
  }
  const result<issued> how = open_->submit(mine, *context_);
  if (!how) {
    return std::unexpected(how.error());
  }
  if (*how == issued::queued) {
    const blocking_region region;
    mine.sleeper.park();
  }
  if (mine.result() < 0) {
    return fail(static_cast<int>(-mine.result()));
  }
  return static_cast<std::size_t>(mine.result());
}

result<std::size_t> file::read_at(std::uint64_t offset, std::span<std::byte> into) noexcept {
  const std::uint64_t left = offset < size() ? size() - offset : 0;
  const std::uint64_t length = std::min<std::uint64_t>(into.size(), left);
  if (length == 0 && open_) {
    return 0;
  }
  awaited request;
  fill(request, io_op::read, offset, into.data(), length);
  return wait_for(request);
}

result<std::size_t> file::write_at(std::uint64_t offset, std::span<const std::byte> from) noexcept {
  if (from.empty() && open_) {
    return 0;
  }
  awaited request;
  fill(request, io_op::write, offset, source(from), from.size());
  return wait_for(request);
}

result<void> file::flush() noexcept {
  awaited request;
  fill(request, io_op::flush, 0, nullptr, 0);
  const result<std::size_t> flushed = wait_for(request);
  return flushed ? result<void>{} : std::unexpected(flushed.error());
}

result<issued> file::async_read(file_operation& op, std::uint64_t offset, std::span<std::byte> into,
                                callback done) noexcept {
  fill(op, io_op::read, offset, into.data(), into.size());
  return start(op, std::move(done));
}

result<issued> file::async_write(file_operation& op, std::uint64_t offset, std::span<const std::byte> from,
                                 callback done) noexcept {
  fill(op, io_op::write, offset, source(from), from.size());
  return start(op, std::move(done));
}

result<issued> file::start(file_operation& op, callback done) noexcept {
  if (!open_) {
    return fail(EBADF);
  }
  op.callback_ = std::move(done);
  op.done = [](io_request& over) noexcept {
    auto& mine = static_cast<file_operation&>(over);
    // Moved out: the callback may start the operation anew, with another callback, or free it.
    callback call = std::exchange(mine.callback_, {});
    call(mine.transferred());
  };
  return open_->submit(op, *context_);
}

}  // namespace sluice
