// The life of a connection: how it starts, drains and ends. See the table in connection.h.
#include "nbd/connection.h"

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

void connection::start() {
  handshake_->greet(out_);
  arm_timer(handshake_timeout_);
  turn_left_ = turn_bytes;
  end_turn();
}

void connection::arm_timer(std::chrono::milliseconds after) {
  timer_.expires_after(after);
  timer_.async_wait([self = ref<connection>::retain(this)](const boost::system::error_code& error) {
    // The timer may have been cancelled or armed anew after this handler was queued: then it has not expired.
    if (!error && self->timer_.expiry() <= std::chrono::steady_clock::now()) {
      self->abort();
    }
  });
}

void connection::drain() {
  if (phase_ == phase::negotiating) {
    finish();
    end_turn();
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
  end_turn();
}

void connection::abort() {
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

void connection::close() {
  finish();
  phase_ = phase::closed;
  timer_.cancel();
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

void connection::report_if_over() {
  if (phase_ == phase::closed && with_workers_ == 0 && !reported_) {
    SLUICE_CHECK_OP(requests_, ==, 0U);
    reported_ = true;
    keeper_.over(*this);
  }
}

void connection::end_turn() {
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
