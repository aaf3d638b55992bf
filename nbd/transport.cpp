#include "nbd/transport.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace sluice::nbd {
namespace {

namespace asio = boost::asio;

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

transport::transport(asio::io_context& context, unique_fd socket)
    : socket_(true), in_(context, socket.release()), out_(context) {
  in_.native_non_blocking(true);
  // Replies leave when they are ready: a turn's replies are one sendmsg already, so Nagle could only delay them. Fails
  // harmlessly on a Unix socket.
  const int on = 1;
  ::setsockopt(in_.native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

transport::transport(asio::io_context& context, unique_fd in, unique_fd out)
    : socket_(false), in_(context, in.release()), out_(context, out.release()) {
  in_.native_non_blocking(true);
  out_.native_non_blocking(true);
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
  boost::system::error_code ignored;  // the peer may be gone already; then there is nobody to tell
  if (socket_) {
    ::shutdown(in_.native_handle(), SHUT_WR);
  } else {
    // A socketpair as standard input and output needs the shutdown too: closing one of two descriptors says nothing.
    ::shutdown(out_.native_handle(), SHUT_WR);
    static_cast<void>(out_.close(ignored));
  }
}

void transport::close() noexcept {
  boost::system::error_code ignored;  // the descriptors are gone whatever close(2) says
  static_cast<void>(in_.close(ignored));
  static_cast<void>(out_.close(ignored));
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
