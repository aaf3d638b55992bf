#include "nbd/server.h"

#include <sys/socket.h>

#include <cerrno>
#include <csignal>
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
constexpr std::chrono::milliseconds accept_pause{100};
// How long aborted requests that already run may take to come back before they count as stuck.
constexpr std::chrono::milliseconds abort_grace{1000};

bool is_shortage(int err) noexcept {
  return err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM;
}

}  // namespace

server::server(const catalog& exports, server_options options)
    : exports_(exports),
      options_(options),
      signals_(reactor_.context(), SIGTERM, SIGINT),
      deadline_(reactor_.context()) {}

server::~server() {
  for (door& each : doors_) {
    static_cast<void>(each.watch.release());  // the listener closes it
  }
}

void server::listen(listener from) {
  const int fd = from.fd();
  spdlog::info("listening on {}", from.name());
  doors_.push_back({std::move(from), asio::posix::stream_descriptor(reactor_.context(), fd)});
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
  at.watch.async_wait(asio::posix::stream_descriptor::wait_read, [this, &at](const boost::system::error_code& error) {
    if (!error && !draining_) {
      accept_clients(at);
    }
  });
}

void server::accept_clients(door& at) {
  for (int taken = 0; taken < accepts_per_turn; ++taken) {
    unique_fd client(::accept4(at.from.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (client) {
      if (connections_.size() >= options_.max_connections) {
        spdlog::warn("a client is turned away: {} are connected", connections_.size());
        continue;
      }
      admit(transport(reactor_.context(), std::move(client)));
      continue;
    }
    if (errno == EAGAIN) {
      break;
    }
    if (is_shortage(errno)) {
      // The client stays in the backlog, so the listener stays readable: without a pause this would spin.
      spdlog::warn("no new clients for {} ms: {}", accept_pause.count(), error_of(errno).message());
      auto pause = std::make_unique<asio::steady_timer>(reactor_.context(), accept_pause);
      asio::steady_timer& timer = *pause;
      timer.async_wait([this, &at, keep = std::move(pause)](const boost::system::error_code& error) {
        if (!error && !draining_) {
          accept_clients(at);
        }
      });
      return;
    }
    // Anything else is about the one client that gave up before it was accepted: accept(2), "Error handling".
  }
  wait_for_clients(at);
}

void server::admit(transport bytes) {
  const std::string peer = bytes.peer();
  tenant& whose = tenants_[peer];
  if (!whose.client) {
    whose.client = make_ref<session>(peer);
  }
  ++whose.connections;
  auto client = make_ref<connection>(
      connection::environment{
          .home = reactor_,
          .keeper = *this,
          .exports = exports_,
          .client = whose.client,
          .id = next_id_++,
          .handshake_timeout = options_.handshake_timeout,
      },
      std::move(bytes));
  connections_.emplace(client.get(), client);
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
  signals_.async_wait([this](const boost::system::error_code& error, int number) {
    if (error) {
      return;
    }
    if (draining_) {
      spdlog::warn("signal {} again: closing the remaining {} clients at once", number, connections_.size());
      abort_all();
    } else {
      drain(number == SIGTERM ? "SIGTERM" : "SIGINT");
    }
    wait_for_signal();
  });
}

void server::drain(std::string_view why) {
  draining_ = true;
  spdlog::info("{}: draining {} clients", why, connections_.size());
  for (door& each : doors_) {
    static_cast<void>(each.watch.release());
  }
  doors_.clear();
  // A copy: a connection that is at rest closes, and is removed, inside drain().
  const auto clients = connections_;
  for (const auto& [at, client] : clients) {
    client->drain();
  }
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
  const auto clients = connections_;
  for (const auto& [at, client] : clients) {
    client->abort();
  }
  deadline_.expires_after(abort_grace);
  deadline_.async_wait([this](const boost::system::error_code& error) {
    if (!error) {
      reactor_.stop();
    }
  });
  end_if_empty();
}

void server::end_if_empty() {
  if (draining_ && connections_.empty()) {
    reactor_.stop();
  }
}

}  // namespace sluice::nbd
