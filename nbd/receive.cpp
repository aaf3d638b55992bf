// Bytes in: one receive for many requests, payload straight into its buffer, and a limit on what one turn may take.
#include <algorithm>
#include <cerrno>
#include <utility>

#include <boost/asio/post.hpp>
#include <spdlog/spdlog.h>

#include "nbd/connection.h"

namespace sluice::nbd {

bool connection::may_parse() const noexcept {
  return (phase_ == phase::negotiating || phase_ == phase::serving) && requests_ < max_requests &&
         request_bytes_ < max_request_bytes;
}

bool connection::may_receive() const noexcept {
  // A payload that has begun is always taken to its end: it has its buffer, and nothing behind it can be reached else.
  return may_parse() || payload_left_ > 0 || phase_ == phase::lingering;
}

bool connection::at_boundary() const noexcept {
  return expecting_ == expecting::header && header_bytes_ == 0 && held_.empty();
}

void connection::wait_readable() {
  if (waiting_readable_) {
    return;
  }
  waiting_readable_ = true;
  bytes_.wait_readable([self = ref<connection>::retain(this)](const boost::system::error_code& error) {
    self->waiting_readable_ = false;
    if (self->phase_ == phase::closed) {
      return;
    }
    if (error) {
      self->abort();
    } else {
      self->guarded(&connection::readable);
    }
  });
}

void connection::go_on_later() {
  if (going_on_) {
    return;
  }
  going_on_ = true;
  // Behind the handlers that are ready now: the other clients' turns.
  boost::asio::post(home_.context(), [self = ref<connection>::retain(this)] {
    self->going_on_ = false;
    if (self->phase_ != phase::closed) {
      self->guarded(&connection::readable);
    }
  });
}

void connection::readable() {
  turn_left_ = turn_bytes;
  receive_turn();
  send_and_go_on();
}

void connection::receive_turn() {
  if (!held_.empty()) {
    const std::vector<std::byte> held = std::exchange(held_, {});
    parse(held);
  }
  while (held_.empty() && turn_left_ > 0 && may_receive()) {
    const received got_of = receive_once();
    const ssize_t got = got_of.bytes;
    dry_ = got == -EAGAIN || (got > 0 && static_cast<std::size_t>(got) < got_of.asked);
    if (got == 0) {
      ended_ = true;
      if (phase_ == phase::lingering) {
        close();
      }
      finish();
      return;
    }
    if (got < 0) {
      if (got != -EAGAIN) {
        abort();
      }
      return;
    }
    if (dry_) {
      return;
    }
  }
}

connection::received connection::receive_once() {
  const std::span<std::byte> scratch = home_.scratch();
  std::array<iovec, 2> into;
  std::size_t parts = 0;
  const std::size_t direct = payload_ != nullptr ? std::min(payload_left_, turn_left_) : 0;
  std::size_t asked = direct;
  if (direct > 0) {
    into[parts++] = {payload_->buffer + (payload_->length - payload_left_), direct};
  }
  // What follows the payload is wanted too, unless this turn ends inside it.
  if (direct == 0 || direct == payload_left_) {
    into[parts++] = {scratch.data(), scratch.size()};
    asked += scratch.size();
  }
  const ssize_t got = bytes_.receive(std::span(into).first(parts));
  if (got <= 0) {
    return {got, asked};
  }
  const auto bytes = static_cast<std::size_t>(got);
  turn_left_ -= std::min(turn_left_, bytes);
  if (phase_ == phase::lingering) {
    return {got, asked};
  }
  const std::size_t to_payload = std::min(direct, bytes);
  if (to_payload > 0) {
    payload_left_ -= to_payload;
    if (payload_left_ == 0) {
      end_payload();
    }
  }
  parse(scratch.first(bytes - to_payload));
  return {got, asked};
}

void connection::parse(std::span<const std::byte> in) {
  while (!in.empty()) {
    switch (phase_) {
      case phase::negotiating:
        negotiate(in);
        break;
      case phase::serving:
        if (at_boundary() && (!may_parse() || turn_left_ == 0)) {
          held_.assign(in.begin(), in.end());
          return;
        }
        in = parse_some(in);
        break;
      default:
        return;  // what comes after the end is not read
    }
  }
}

std::span<const std::byte> connection::parse_some(std::span<const std::byte> in) {
  if (expecting_ == expecting::header) {
    const std::size_t take = std::min(header_.size() - header_bytes_, in.size());
    std::copy_n(in.begin(), take, header_.begin() + static_cast<std::ptrdiff_t>(header_bytes_));
    header_bytes_ += take;
    if (header_bytes_ == header_.size()) {
      header_bytes_ = 0;
      request(decode_request(header_));
    }
    return in.subspan(take);
  }
  const std::size_t take = std::min(payload_left_, in.size());
  if (payload_ != nullptr) {
    std::copy_n(in.begin(), take, payload_->buffer + (payload_->length - payload_left_));
  }
  payload_left_ -= take;
  if (payload_left_ == 0) {
    end_payload();
  }
  return in.subspan(take);
}

void connection::negotiate(std::span<const std::byte>& in) {
  switch (handshake_->consume(in, out_)) {
    case handshake::state::negotiating:
      break;
    case handshake::state::dropped:
      finish();
      break;
    case handshake::state::transmission:
      begin_serving();
      break;
  }
}

void connection::begin_serving() {
  export_ = handshake_->chosen();
  handshake_.reset();
  disarm_timer();
  result<ref<io_context>> joined = client_->join(task_);
  result<ref<open_file>> opened = export_->open();
  if (!joined || !opened) {
    const std::error_code why = joined ? opened.error() : joined.error();
    spdlog::error("export '{}' cannot be opened for a client: {}", export_->name(), why.message());
    finish();
    return;
  }
  context_ = std::move(*joined);
  file_ = std::move(*opened);
  phase_ = phase::serving;
}

}  // namespace sluice::nbd
