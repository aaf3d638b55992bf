#include "nbd/server.h"

#include <sys/socket.h>

#include <cerrno>
#include <csignal>
#include <exception>
#include <memory>
#include <utility>

#include <spdlog/spdlog.h>

#include "sluice/base/error.h"

namespace sluice::nbd {
namespace {

namespace asio = boost::asio;

// Clients taken per turn of one listener, so that a flood of them does not hold up those that are served.
constexpr int accepts_per_turn = 64;
// How long to leave new clients waiting when descriptors or memory are short.
constexpr std::chrono::milliseconds accept_pause{500};
// How long aborted requests that already run may take to come back before they count as stuck.
constexpr std::chrono::milliseconds abort_grace{1000};

// Errors of accept(2) that are about the one client that gave up before it was accepted ("Error handling" there).
bool is_the_clients(int err) noexcept {
  switch (err) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
      return true;
    default:
      return false;
  }
}

}  // namespace

server::server(const catalog& exports, server_options options)
    : exports_(exports),
      options_(options),
      signals_(reactor_.context(), SIGTERM, SIGINT, SIGHUP),
      deadline_(reactor_.context()) {}

server::~server() {
  for (door& each : doors_) {
    static_cast<void>(each.watch.release());  // the listener closes it
  }
}

void server::listen(listener from) {
  const int fd = from.fd();
  spdlog::info("listening on {}", from.name());
  doors_.push_back({std::move(from), asio::posix::stream_descriptor(reactor_.context(), fd),
                    asio::steady_timer(reactor_.context()), door_memory_.emplace_back()});
  wait_for_clients(doors_.back());
}

void server::serve_pair(unique_fd in, unique_fd out) {
  serves_pair_ = true;
  admit(transport(reactor_.context(), std::move(in), std::move(out)));
}

outcome server::run() {
  wait_for_signal();
  reactor_.run();
  return connections_.empty() ? outcome::drained : outcome::stuck;
}

void server::wait_for_clients(door& at) {
  const auto handler = [this, &at](const boost::system::error_code& error) {
    if (!error && !draining_) {
      accept_clients(at);
    }
  };
  at.watch.async_wait(asio::posix::stream_descriptor::wait_read, asio::bind_allocator(at.memory.allocator(), handler));
}

void server::accept_clients(door& at) {
  for (int taken = 0; taken < accepts_per_turn; ++taken) {
    unique_fd client(::accept4(at.from.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (client) {
      if (!admit_client(std::move(client))) {
        pause_clients(at, ENOMEM);
        return;
      }
    } else if (errno == EAGAIN) {
      break;
    } else if (!is_the_clients(errno)) {
      pause_clients(at, errno);
      return;
    }
  }
  wait_for_clients(at);
}

void server::pause_clients(door& at, int err) {
  // Short of descriptors or memory, or a broken listener: it stays readable, so without a pause this would spin.
  spdlog::warn("no new clients on {} for {} ms: {}", at.from.name(), accept_pause.count(), error_of(err).message());
  const auto handler = [this, &at](const boost::system::error_code& error) {
    if (!error && !draining_) {
      wait_for_clients(at);
    }
  };
  try {
    at.pause.expires_after(accept_pause);
    at.pause.async_wait(asio::bind_allocator(at.memory.allocator(), handler));
  } catch (const std::exception&) {
    wait_for_clients(at);  // no room for a timer: then without a pause
  }
}

bool server::admit_client(unique_fd client) noexcept {
  if (connections_.size() >= options_.max_connections) {
    spdlog::warn("a client is turned away: {} are connected", connections_.size());
    return true;
  }
  try {
    admit(transport(reactor_.context(), std::move(client)));
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

void server::admit(transport bytes) {
  const std::string peer = bytes.peer();
  const auto known = tenants_.find(peer);
  const ref<session> whose = known != tenants_.end() ? known->second.client : make_ref<session>(peer);
  auto client = make_ref<connection>(
      connection::environment{
          .home = reactor_,
          .keeper = *this,
          .exports = exports_,
          .client = whose,
          .id = next_id_++,
          .handshake_timeout = options_.handshake_timeout,
      },
      std::move(bytes));
  // Either both tables know it or none does.
  const auto place = connections_.emplace(client.get(), client).first;
  try {
    ++tenants_.try_emplace(peer, tenant{whose}).first->second.connections;
  } catch (...) {
    connections_.erase(place);
    throw;
  }
  client->start();
}

void server::over(connection& closed) noexcept {
  const auto at = tenants_.find(closed.client().name());
  if (at != tenants_.end() && --at->second.connections == 0) {
    tenants_.erase(at);
  }
  connections_.erase(&closed);
  if (serves_pair_ && !draining_) {
    drain("the client is gone");
  }
  end_if_empty();
}

void server::wait_for_signal() {
  const auto handler = [this](const boost::system::error_code& error, int number) {
    if (error) {
      return;
    }
    if (draining_) {
      spdlog::warn("signal {} again: closing the remaining {} clients at once", number, connections_.size());
      abort_all();
    } else {
      drain(number == SIGTERM ? "SIGTERM" : number == SIGINT ? "SIGINT" : "SIGHUP");
    }
    wait_for_signal();
  };
  signals_.async_wait(asio::bind_allocator(signal_memory_.allocator(), handler));
}

void server::drain(std::string_view why) {
  draining_ = true;
  spdlog::info("{}: draining {} clients", why, connections_.size());
  for (door& each : doors_) {
    static_cast<void>(each.watch.release());
  }
  doors_.clear();
  for_each_connection(&connection::drain);
  deadline_.expires_after(options_.drain_timeout);
  deadline_.async_wait([this](const boost::system::error_code& error) {
    if (!error) {
      spdlog::warn("closing {} clients that did not end in time", connections_.size());
      abort_all();
    }
  });
  end_if_empty();
}

void server::abort_all() {
  if (std::exchange(aborting_, true)) {
    return;  // the grace below is given once
  }
  for_each_connection(&connection::abort);
  deadline_.expires_after(abort_grace);
  deadline_.async_wait([this](const boost::system::error_code& error) {
    if (!error) {
      reactor_.stop();
    }
  });
  end_if_empty();
}

void server::for_each_connection(void (connection::*step)() noexcept) noexcept {
  for (auto at = connections_.begin(); at != connections_.end();) {
    // The step may end the connection, which takes it, and it alone, out of the map.
    const ref<connection> client = (at++)->second;
    (client.get()->*step)();
  }
}

void server::end_if_empty() {
  if (draining_ && connections_.empty()) {
    reactor_.stop();
  }
}

}  // namespace sluice::nbd
