// Requests: what is wrong is answered at once, what is right is issued; the answers join the turn's replies.
#include <algorithm>
#include <cerrno>
#include <utility>

#include <spdlog/spdlog.h>

#include "sluice/base/check.h"

#include "nbd/connection.h"

namespace sluice::nbd {
namespace {

// The flags that mean something for a command. FUA is allowed on all: "the server MUST accept all commands with this
// bit".
std::uint16_t known_flags(command type) noexcept {
  return type == command::write_zeroes ? cmd_flag_fua | cmd_flag_no_hole | cmd_flag_fast_zero : cmd_flag_fua;
}

io_op op_of(command type) noexcept {
  switch (type) {
    case command::write:
      return io_op::write;
    case command::flush:
      return io_op::flush;
    case command::trim:
      return io_op::trim;
    case command::cache:
      return io_op::cache;
    case command::write_zeroes:
      return io_op::write_zeroes;
    default:
      return io_op::read;
  }
}

io_flags flags_of(const request_header& header) noexcept {
  const auto type = static_cast<command>(header.type);
  const bool changes = type == command::write || type == command::trim || type == command::write_zeroes;
  io_flags flags = io_flags::none;
  if (changes && (header.flags & cmd_flag_fua) != 0) {
    flags = flags | io_flags::fua;
  }
  if ((header.flags & cmd_flag_no_hole) != 0) {
    flags = flags | io_flags::no_hole;
  }
  if ((header.flags & cmd_flag_fast_zero) != 0) {
    flags = flags | io_flags::fast_zero;
  }
  return flags;
}

bool known(command type) noexcept {
  return type <= command::write_zeroes && type != command::disc;
}

}  // namespace

wire_error connection::judge(const request_header& header) const noexcept {
  const auto type = static_cast<command>(header.type);
  if (draining_) {
    return wire_error::eshutdown;
  }
  if (!known(type) || (header.flags & ~known_flags(type)) != 0) {
    return wire_error::einval;
  }
  const bool carries = type == command::read || type == command::write;
  if (carries && header.length > max_payload_bytes) {
    return wire_error::einval;
  }
  if (type == command::flush) {
    return header.offset != 0 || header.length != 0 ? wire_error::einval : wire_error::none;
  }
  if (header.length == 0) {
    return judge_empty(header);
  }
  return wire_error::none;
}

// The protocol leaves requests of length 0 open. A read of nothing is refused: not every client could tell its reply from
// an error. The others have nothing to do, but must be allowed to do it.
wire_error connection::judge_empty(const request_header& header) const noexcept {
  const auto type = static_cast<command>(header.type);
  const bool adds = type == command::write || type == command::write_zeroes;
  if ((adds || type == command::trim) && export_->mode() == access_mode::read_only) {
    return wire_error::eperm;
  }
  if (header.offset > export_->size()) {
    return adds ? wire_error::enospc : wire_error::einval;
  }
  return type == command::read ? wire_error::einval : wire_error::none;
}

void connection::request(const request_header& header) {
  if (header.magic != request_magic) {
    spdlog::warn("client {} lost step: a request begins with {:#x}", client_->name(), header.magic);
    finish();
    return;
  }
  const auto type = static_cast<command>(header.type);
  if (type == command::disc) {
    finish();
    return;
  }
  slot& mine = home_.take_slot(ref<connection>::retain(this));
  ++requests_;
  mine.cookie = header.cookie;
  mine.op = op_of(type);
  mine.flags = flags_of(header);
  mine.offset = header.offset;
  mine.length = header.length;
  mine.set_owner(id_);
  mine.done = [](io_request& done) noexcept {
    auto& came_back = static_cast<slot&>(done);
    came_back.home->completed(came_back);
  };
  wire_error error = judge(header);
  if (error == wire_error::none && type != command::flush && header.length != 0) {
    // Before a payload is received: what cannot be done needs no buffer.
    error = wire_error_of(file_->validate(mine));
  }
  const bool carries =
      error == wire_error::none && header.length != 0 && (mine.op == io_op::read || mine.op == io_op::write);
  if (carries) {
    mine.data = home_.buffers().get(header.length);
    mine.buffer = mine.data.data();
    error = mine.data ? wire_error::none : wire_error::enomem;
  }
  mine.counted_bytes = static_cast<std::uint32_t>(mine.data.capacity());
  request_bytes_ += mine.counted_bytes;
  if (error != wire_error::none) {
    answer(mine, error);
    if (type == command::write) {
      discard_payload(header.length);
    }
  } else if (type == command::write && header.length != 0) {
    begin_payload(mine);
  } else {
    issue(mine);
  }
}

void connection::begin_payload(slot& mine) {
  expecting_ = expecting::payload;
  payload_ = &mine;
  payload_left_ = mine.length;
}

void connection::discard_payload(std::uint32_t bytes) {
  if (bytes != 0) {
    expecting_ = expecting::discarded;
    payload_left_ = bytes;
  }
}

void connection::end_payload() {
  expecting_ = expecting::header;
  if (slot* const complete = std::exchange(payload_, nullptr)) {
    issue(*complete);
  }
}

void connection::issue(slot& mine) {
  if (mine.length == 0 && mine.op != io_op::flush) {
    answer(mine, wire_error::none);  // judged before
    return;
  }
  // Counted before: a worker may finish it before submit returns.
  ++with_workers_;
  const result<issued> how = file_->submit(mine, *context_);
  if (how && *how == issued::queued) {
    return;
  }
  --with_workers_;
  if (!how) {
    answer(mine, wire_error_of(how.error().value()));
    return;
  }
  turn_left_ -= std::min<std::uint64_t>(turn_left_, mine.length);
  answer_result(mine);
}

connection::touch connection::take_completion(slot& done) noexcept {
  SLUICE_CHECK_OP(with_workers_, >, 0U);
  --with_workers_;
  if (phase_ == phase::closed) {
    --requests_;
    // Held over the two lines: the slot's count may be the connection's last.
    const auto self = ref<connection>::retain(this);
    home_.give_slot(done);
    report_if_over();
    return touch::again;
  }
  answer_result(done);
  return std::exchange(touched_, true) ? touch::again : touch::first;
}

void connection::answer_result(slot& mine) noexcept {
  answer(mine, mine.result() < 0 ? wire_error_of(static_cast<int>(-mine.result())) : wire_error::none);
}

void connection::answer(slot& mine, wire_error error) noexcept {
  encode_simple_reply(mine.reply, mine.cookie, error);
  const bool with_data = mine.op == io_op::read && error == wire_error::none;
  mine.reply_data_bytes = with_data ? static_cast<std::uint32_t>(mine.length) : 0;
  if (!with_data) {
    home_.buffers().put(std::move(mine.data));
  }
  replies_.push(mine);
}

}  // namespace sluice::nbd
