// The life of a connection: how it starts, drains and ends. See the table in connection.h.
#include "nbd/connection.h"

#include <exception>
#include <utility>

#include <spdlog/spdlog.h>

#include "sluice/base/check.h"

namespace sluice::nbd {
namespace {

// How long a peer that was told "no more from us" may take to close. Its side of the stream is read meanwhile: closing
// with unread bytes would make the kernel reset the connection and throw away replies that the peer has not read yet.
constexpr std::chrono::milliseconds linger_time{1000};

}  // namespace

connection::connection(environment around, transport bytes)
    : home_(around.home),
      keeper_(around.keeper),
      exports_(around.exports),
      client_(std::move(around.client)),
      id_(around.id),
      handshake_timeout_(around.handshake_timeout),
      bytes_(std::move(bytes)),
      timer_(home_.context()),
      handshake_(std::make_unique<handshake>(exports_)) {}

void connection::guarded(void (connection::*step)()) noexcept {
  try {
    (this->*step)();
  } catch (const std::exception& error) {
    spdlog::error("client {} is cut off: {}", client_->name(), error.what());
    abort();
  }
}

void connection::start() noexcept {
  guarded(&connection::begin);
}
void connection::drain() noexcept {
  guarded(&connection::begin_drain);
}
void connection::end_turn() noexcept {
  guarded(&connection::send_and_go_on);
}

void connection::begin() {
  handshake_->greet(out_);
  arm_timer(handshake_timeout_);
  turn_left_ = turn_bytes;
  send_and_go_on();
}

void connection::arm_timer(std::chrono::milliseconds after) {
  timer_.expires_after(after);
  timer_.async_wait([self = ref<connection>::retain(this), armed = ++timer_turn_](const auto& error) {
    // A handler that is queued already cannot be cancelled: an old one must not strike the phase that came after it.
    if (!error && self->timer_turn_ == armed) {
      self->expire();
    }
  });
}

void connection::disarm_timer() {
  ++timer_turn_;
  timer_.cancel();
}

void connection::expire() {
  if (phase_ == phase::finishing && with_workers_ != 0) {
    arm_timer(finish_time);  // the device is slow, not the client
    return;
  }
  abort();
}

void connection::begin_drain() {
  if (phase_ == phase::negotiating) {
    finish();
    send_and_go_on();
    return;
  }
  if (phase_ != phase::serving || draining_) {
    return;
  }
  draining_ = true;
  dry_ = false;
  // What the client has sent already gets its answer now; if there is nothing, this finds the connection at rest.
  turn_left_ = turn_bytes;
  receive_turn();
  send_and_go_on();
}

void connection::abort() noexcept {
  if (phase_ == phase::closed) {
    return;
  }
  if (file_) {
    // Only what no worker has begun: a running request ends by itself and comes back to a closed connection.
    file_->queue().cancel_owner(id_);
  }
  close();
}

void connection::finish() {
  if (phase_ == phase::finishing || phase_ == phase::lingering || phase_ == phase::closed) {
    return;
  }
  phase_ = phase::finishing;
  stop_receiving();
  arm_timer(finish_time);
}

void connection::stop_receiving() noexcept {
  handshake_.reset();
  held_ = {};
  if (slot* const unfinished = std::exchange(payload_, nullptr)) {
    // Its payload will not come any more: the write never happened.
    --requests_;
    request_bytes_ -= unfinished->counted_bytes;
    home_.give_slot(*unfinished);
  }
  payload_left_ = 0;
}

void connection::linger() {
  if (ended_) {
    close();
    return;
  }
  phase_ = phase::lingering;
  bytes_.shut_down_sending();
  arm_timer(linger_time);
}

void connection::close() noexcept {
  stop_receiving();
  phase_ = phase::closed;
  disarm_timer();
  bytes_.close();
  if (file_) {
    static_cast<void>(file_->close());
  }
  out_ = {};
  while (!replies_.empty()) {
    slot& unsent = replies_.pop();
    --requests_;
    home_.give_slot(unsent);
  }
  report_if_over();
}

void connection::report_if_over() noexcept {
  if (phase_ == phase::closed && with_workers_ == 0 && !reported_) {
    SLUICE_CHECK_OP(requests_, ==, 0U);
    reported_ = true;
    keeper_.over(*this);
  }
}

void connection::send_and_go_on() {
  touched_ = false;
  flush();
  advance();
}

void connection::advance() {
  if (phase_ == phase::serving && draining_ && dry_ && requests_ == 0 && all_sent() && at_boundary()) {
    finish();
  }
  if (phase_ == phase::finishing && requests_ == 0 && all_sent()) {
    linger();
  }
  switch (phase_) {
    case phase::negotiating:
    case phase::serving:
      if (!may_receive()) {
        break;  // a reply that is sent brings us here again
      }
      if (!held_.empty() || turn_left_ == 0) {
        go_on_later();
      } else {
        wait_readable();
      }
      break;
    case phase::lingering:
      wait_readable();
      break;
    case phase::finishing:
    case phase::closed:
      break;
  }
}

}  // namespace sluice::nbd
