// transport: the bytes of one client: a socket, or a pair of descriptors (standard input and output).
//
// Ownership:      owns its descriptors; close() or destruction closes them. A pair gets its blocking mode back then: the
//                 open files behind standard input and output are shared with others.
// Thread safety:  one thread at a time, the reactor's.
// Blocking:       never: the descriptors are non-blocking, waits are asynchronous.
// Errors:         send and receive return bytes or a negative errno; -EAGAIN means wait. A peer that is gone is -EPIPE or
//                 -ECONNRESET, never a signal on a socket; a program that serves pipes must ignore SIGPIPE. The
//                 constructors throw std::system_error.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "sluice/base/unique_fd.h"

namespace sluice::nbd {

class transport {
 public:
  // A connected stream socket.
  transport(boost::asio::io_context& context, unique_fd socket);
  // Two descriptors that epoll can watch (pipes, sockets, ttys; not regular files).
  transport(boost::asio::io_context& context, unique_fd in, unique_fd out);
  transport(transport&&) = default;
  ~transport();

  [[nodiscard]] ssize_t receive(std::span<const iovec> into) noexcept;
  [[nodiscard]] ssize_t send(std::span<const iovec> from) noexcept;

  // Calls handler(error_code) once there is something to receive, or room to send. At most one wait of each kind at a
  // time.
  template <class Handler>
  void wait_readable(Handler&& handler) {
    in_.async_wait(boost::asio::posix::stream_descriptor::wait_read, std::forward<Handler>(handler));
  }
  template <class Handler>
  void wait_writable(Handler&& handler) {
    sending().async_wait(boost::asio::posix::stream_descriptor::wait_write, std::forward<Handler>(handler));
  }

  // Says "no more bytes from us" to the peer.
  void shut_down_sending() noexcept;
  // Ends every wait (their handlers run with an error) and closes the descriptors.
  void close() noexcept;

  // Who is at the other end, so that connections of one client can be told: "uid 1000" on a Unix socket, the address
  // without the port on TCP, "stdio" else.
  [[nodiscard]] std::string peer() const;

 private:
  [[nodiscard]] boost::asio::posix::stream_descriptor& sending() noexcept { return out_.is_open() ? out_ : in_; }

  static void take(boost::asio::posix::stream_descriptor& as, unique_fd from);
  void close_one(boost::asio::posix::stream_descriptor& which, int flags) noexcept;

  const bool socket_;
  int in_flags_ = -1;  // of a pair: the file status flags to restore
  int out_flags_ = -1;
  boost::asio::posix::stream_descriptor in_;
  boost::asio::posix::stream_descriptor out_;  // open only where sending has a descriptor of its own
};

}  // namespace sluice::nbd
