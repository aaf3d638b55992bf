// server: listeners, connections and their end, on one reactor.
//
// run() serves until SIGTERM, SIGINT or SIGHUP (or, with serve_pair, until that client is gone), then drains: no new clients;
// requests under way finish, later ones get ESHUTDOWN; what has not ended at drain_timeout is aborted. A second signal
// aborts at once.
//
// Ownership:      the catalog outlives the server. Destroy the server after the io_wq has stopped: a worker may still
// be handing
//                 back a request.
// Thread safety:  one thread: the one that calls run().
// Blocking:       run() until the end.
// Errors:         set-up throws setup_error; while it serves, a client's trouble ends that client only.
// Limits:         max_connections; a client above it is closed at once.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include "sluice/base/unique_fd.h"

#include "nbd/catalog.h"
#include "nbd/connection.h"
#include "nbd/handler_memory.h"
#include "nbd/listener.h"
#include "nbd/reactor.h"
#include "nbd/session.h"

namespace sluice::nbd {

struct server_options {
  std::chrono::milliseconds handshake_timeout{30'000};
  std::chrono::milliseconds drain_timeout{2'500};
  std::size_t max_connections = 8192;
};

// How run() ended.
enum class outcome {
  drained,  // every request was answered or cancelled and is back
  stuck,    // requests still run on workers: joining these could take for ever
};

class server final : private connection::keeper {
 public:
  explicit server(const catalog& exports, server_options options = {});
  ~server();
  server(const server&) = delete;
  server& operator=(const server&) = delete;

  void listen(listener from);
  // Serves one client on two descriptors; run() ends when it is gone.
  void serve_pair(unique_fd in, unique_fd out);

  [[nodiscard]] outcome run();

 private:
  struct door {
    listener from;
    boost::asio::posix::stream_descriptor watch;
    boost::asio::steady_timer pause;
    handler_memory& memory;  // of the one wait, for a client or for the end of the pause
  };
  struct tenant {
    ref<session> client;
    unsigned connections = 0;
  };

  void wait_for_clients(door& at);
  void pause_clients(door& at, int err);
  [[nodiscard]] bool admit_client(unique_fd client) noexcept;
  void accept_clients(door& at);
  void admit(transport bytes);
  void over(connection& closed) noexcept override;
  void wait_for_signal();
  void drain(std::string_view why);
  void abort_all();
  void for_each_connection(void (connection::*step)() noexcept) noexcept;
  void end_if_empty();

  const catalog& exports_;
  const server_options options_;
  // Before the reactor: their waits end with it, later than the doors.
  handler_memory signal_memory_;
  std::deque<handler_memory> door_memory_;
  reactor reactor_;
  boost::asio::signal_set signals_;
  boost::asio::steady_timer deadline_;
  std::list<door> doors_;
  std::map<connection*, ref<connection>> connections_;
  std::map<std::string, tenant> tenants_;
  std::uint64_t next_id_ = 1;
  bool serves_pair_ = false;
  bool draining_ = false;
  bool aborting_ = false;
};

}  // namespace sluice::nbd
