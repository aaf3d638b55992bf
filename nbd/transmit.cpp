// Bytes out: the replies of a turn leave in as few system calls as the socket allows.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "nbd/connection.h"

namespace sluice::nbd {
namespace {

// Two parts per reply, so 64 replies per call; the kernel's limit is 1024.
constexpr std::size_t parts_per_send = 128;

}  // namespace

std::size_t connection::gather(std::span<iovec> into) const {
  std::size_t parts = 0;
  if (!out_.empty()) {
    into[parts++] = {const_cast<std::byte*>(out_.data()) + out_sent_, out_.size() - out_sent_};
  }
  std::size_t skip = reply_sent_;
  for (slot* at = replies_.front(); at != nullptr && parts + 2 <= into.size(); at = at->next) {
    if (skip < at->reply.size()) {
      into[parts++] = {at->reply.data() + skip, at->reply.size() - skip};
      skip = 0;
    } else {
      skip -= at->reply.size();
    }
    if (at->reply_data_bytes > skip) {
      into[parts++] = {at->data.data() + skip, at->reply_data_bytes - skip};
    }
    skip = 0;
  }
  return parts;
}

void connection::flush() {
  while (phase_ != phase::closed && !waiting_writable_ && !all_sent()) {
    std::array<iovec, parts_per_send> parts;
    const ssize_t bytes = bytes_.send(std::span(parts).first(gather(parts)));
    if (bytes >= 0) {
      sent(static_cast<std::size_t>(bytes));
      if (phase_ == phase::finishing) {
        arm_timer(finish_time);  // the client takes its replies
      }
    } else if (bytes == -EAGAIN) {
      wait_writable();
    } else {
      abort();  // the peer is gone: what is queued for it need not be done
    }
  }
}

void connection::sent(std::size_t bytes) {
  const std::size_t from_out = std::min(out_.size() - out_sent_, bytes);
  out_sent_ += from_out;
  bytes -= from_out;
  if (out_sent_ == out_.size()) {
    out_ = {};
    out_sent_ = 0;
  }
  while (bytes > 0) {
    slot& first = *replies_.front();
    const std::size_t whole = first.reply.size() + first.reply_data_bytes;
    const std::size_t rest = whole - reply_sent_;
    if (bytes < rest) {
      reply_sent_ += bytes;
      return;
    }
    bytes -= rest;
    reply_sent_ = 0;
    --requests_;
    request_bytes_ -= first.counted_bytes;
    home_.give_slot(replies_.pop());
  }
}

void connection::wait_writable() {
  waiting_writable_ = true;
  bytes_.wait_writable([self = ref<connection>::retain(this)](const boost::system::error_code& error) {
    self->waiting_writable_ = false;
    if (self->phase_ == phase::closed) {
      return;
    }
    if (error) {
      self->abort();
    } else {
      self->end_turn();
    }
  });
}

}  // namespace sluice::nbd
