#include "nbd/transport.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace sluice::nbd {
namespace {

namespace asio = boost::asio;

// A silent TCP peer is probed after a minute and given up a minute later.
constexpr int keepalive_idle_s = 60;
constexpr int keepalive_interval_s = 10;
constexpr int keepalive_probes = 6;

std::string internet_address(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &address, sizeof in);
    ::inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
  } else {
    sockaddr_in6 in6{};
    std::memcpy(&in6, &address, sizeof in6);
    ::inet_ntop(AF_INET6, &in6.sin6_addr, text, sizeof text);
  }
  return text;
}

}  // namespace

transport::transport(asio::io_context& context, unique_fd socket) : socket_(true), in_(context), out_(context) {
  take(in_, std::move(socket));
  // Replies leave when they are ready: a turn's replies are one sendmsg already, so Nagle could only delay them. Fails
  // harmlessly on a Unix socket.
  const int on = 1;
  ::setsockopt(in_.native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  // A client that lost its power never says goodbye; without probes it would hold its connection for ever.
  ::setsockopt(in_.native_handle(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  ::setsockopt(in_.native_handle(), IPPROTO_TCP, TCP_KEEPIDLE, &keepalive_idle_s, sizeof keepalive_idle_s);
  ::setsockopt(in_.native_handle(), IPPROTO_TCP, TCP_KEEPINTVL, &keepalive_interval_s, sizeof keepalive_interval_s);
  ::setsockopt(in_.native_handle(), IPPROTO_TCP, TCP_KEEPCNT, &keepalive_probes, sizeof keepalive_probes);
}

transport::transport(asio::io_context& context, unique_fd in, unique_fd out)
    : socket_(false), in_(context), out_(context) {
  in_flags_ = ::fcntl(in.get(), F_GETFL);
  out_flags_ = ::fcntl(out.get(), F_GETFL);
  take(in_, std::move(in));
  take(out_, std::move(out));
}

transport::~transport() {
  close();
}

void transport::take(asio::posix::stream_descriptor& as, unique_fd from) {
  as.assign(from.get());  // throws: then `from` still owns it
  static_cast<void>(from.release());
  as.native_non_blocking(true);
}

void transport::close_one(asio::posix::stream_descriptor& which, int flags) noexcept {
  if (!which.is_open()) {
    return;
  }
  if (!socket_ && flags >= 0) {
    ::fcntl(which.native_handle(), F_SETFL, flags);
  }
  boost::system::error_code ignored;  // the descriptor is gone whatever close(2) says
  static_cast<void>(which.close(ignored));
}

ssize_t transport::receive(std::span<const iovec> into) noexcept {
  for (;;) {
    const ssize_t got = ::readv(in_.native_handle(), into.data(), static_cast<int>(into.size()));
    if (got >= 0 || errno != EINTR) {
      return got >= 0 ? got : -errno;
    }
  }
}

ssize_t transport::send(std::span<const iovec> from) noexcept {
  for (;;) {
    ssize_t sent = 0;
    if (socket_) {
      msghdr message{};
      message.msg_iov = const_cast<iovec*>(from.data());  // sendmsg only reads it
      message.msg_iovlen = from.size();
      sent = ::sendmsg(in_.native_handle(), &message, MSG_NOSIGNAL);
    } else {
      sent = ::writev(out_.native_handle(), from.data(), static_cast<int>(from.size()));
    }
    if (sent >= 0 || errno != EINTR) {
      return sent >= 0 ? sent : -errno;
    }
  }
}

void transport::shut_down_sending() noexcept {
  if (socket_) {
    ::shutdown(in_.native_handle(), SHUT_WR);
  } else {
    // A socketpair as standard input and output needs the shutdown too: closing one of two descriptors says nothing.
    ::shutdown(out_.native_handle(), SHUT_WR);
    close_one(out_, out_flags_);
  }
}

void transport::close() noexcept {
  close_one(in_, in_flags_);
  close_one(out_, out_flags_);
}

std::string transport::peer() const {
  if (!socket_) {
    return "stdio";
  }
  const int fd = const_cast<asio::posix::stream_descriptor&>(in_).native_handle();
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return "unknown";
  }
  if (address.ss_family != AF_UNIX) {
    return internet_address(address);
  }
  ucred credentials{};
  length = sizeof credentials;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return "unknown";
  }
  return "uid " + std::to_string(credentials.uid);
}

}  // namespace sluice::nbd
