// connection: one client from accept to close: it negotiates, decodes requests, issues them and sends the replies.
//
// | phase        | received bytes     | leaves it by                                                                   |
// |--------------|--------------------|--------------------------------------------------------------------------------|
// | negotiating  | handshake messages | GO, EXPORT_NAME → serving; ABORT, a mistake → finishing; time limit → closed   |
// | serving      | requests           | DISC, end of stream, wrong magic, drain() and nothing under way → finishing    |
// | finishing    | not read           | every reply sent → lingering; no progress for a while → closed                 |
// | lingering    | thrown away        | end of stream, time limit → closed                                             |
// | closed       | not read           |                                                                                |
// A failed send or receive, a lack of memory, and abort() lead to closed from everywhere.
//
// A request counts against the limits from its header until its reply is sent, so a client that does not read its
// replies is no longer read from.
//
// Ownership:      kref: the server's list, each wait and each request under way hold a count.
// Thread safety:  the reactor's thread only. Requests come back from workers through the reactor.
// Blocking:       never, but for opening the export (microseconds on a file).
// Errors:         a request that is wrong gets its error reply and the connection goes on while the stream is in step.
//                 What goes wrong in a handler ends this connection, never the server.
// Limits:         max_requests and max_request_bytes under way; about turn_bytes moved before others have their turn.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <boost/asio/steady_timer.hpp>

#include "sluice/device/open_file.h"
#include "sluice/ioc/io_context.h"
#include "sluice/ioc/task.h"
#include "sluice/ref/kref.h"

#include "nbd/catalog.h"
#include "nbd/handshake.h"
#include "nbd/reactor.h"
#include "nbd/session.h"
#include "nbd/transport.h"
#include "nbd/wire.h"

namespace sluice::nbd {

class connection : public kref<connection> {
 public:
  static constexpr unsigned max_requests = 256;
  static constexpr std::size_t max_request_bytes = max_payload_bytes;  // once reached, the next request waits
  static constexpr std::size_t turn_bytes = std::size_t{1} << 20U;
  // How long a client that has said its last word may take none of its replies before they are thrown away.
  static constexpr std::chrono::seconds finish_time{30};

  // Who keeps the connections.
  class keeper {
   public:
    // Called once, when the connection is closed and all its requests are back.
    virtual void over(connection& closed) noexcept = 0;

   protected:
    ~keeper() = default;
  };

  struct environment {
    nbd::reactor& home;
    connection::keeper& keeper;
    const catalog& exports;
    ref<session> client;
    std::uint64_t id;  // not 0, and no other connection's of this process: the owner tag of its requests
    std::chrono::milliseconds handshake_timeout;
  };

  connection(environment around, transport bytes);

  // Greets the client and begins to listen to it.
  void start() noexcept;
  // Requests under way finish, later ones get ESHUTDOWN, then the connection closes.
  void drain() noexcept;
  // Closes at once: queued requests are cancelled, running ones finish unheard.
  void abort() noexcept;

  enum class touch : bool { again, first };
  [[nodiscard]] const session& client() const noexcept { return *client_; }

  // For the reactor: takes a request back from a worker; `first` if end_turn() is owed.
  touch take_completion(slot& done) noexcept;
  // For the reactor: sends what the turn has gathered and goes on receiving where the limits allow it again.
  void end_turn() noexcept;

 private:
  friend struct sluice::delete_release;
  friend class reactor;  // links those that completions touched
  enum class phase { negotiating, serving, finishing, lingering, closed };
  enum class expecting { header, payload, discarded };

  ~connection() = default;

  // connection.cpp: its life
  // Runs a step of a handler; what it throws (memory, descriptors) ends this connection only.
  void guarded(void (connection::*step)()) noexcept;
  void begin();
  void begin_drain();
  void send_and_go_on();
  void arm_timer(std::chrono::milliseconds after);
  void disarm_timer();
  void expire();
  void finish();
  void stop_receiving() noexcept;
  void linger();
  void close() noexcept;
  void report_if_over() noexcept;
  void advance();

  // receive.cpp: bytes in
  void wait_readable();
  void readable();
  void receive_turn();
  void go_on_later();
  struct received {
    ssize_t bytes;      // or a negative errno
    std::size_t asked;  // the room there was
  };
  [[nodiscard]] received receive_once();
  void parse(std::span<const std::byte> in);
  std::span<const std::byte> parse_some(std::span<const std::byte> in);
  void negotiate(std::span<const std::byte>& in);
  void begin_serving();
  [[nodiscard]] bool may_parse() const noexcept;
  [[nodiscard]] bool may_receive() const noexcept;
  [[nodiscard]] bool at_boundary() const noexcept;

  // issue.cpp: requests
  void request(const request_header& header);
  void begin_payload(slot& mine);
  void discard_payload(std::uint32_t bytes);
  void end_payload();
  void issue(slot& mine);
  [[nodiscard]] wire_error judge(const request_header& header) const noexcept;
  [[nodiscard]] wire_error judge_empty(const request_header& header) const noexcept;
  void answer(slot& mine, wire_error error) noexcept;
  void answer_result(slot& mine) noexcept;

  // transmit.cpp: bytes out
  void flush();
  void wait_writable();
  [[nodiscard]] bool all_sent() const noexcept { return out_.empty() && replies_.empty(); }
  [[nodiscard]] std::size_t gather(std::span<iovec> into) const;
  void sent(std::size_t bytes);

  // Constant after construction.
  reactor& home_;
  keeper& keeper_;
  const catalog& exports_;
  const ref<session> client_;
  const std::uint64_t id_;
  const std::chrono::milliseconds handshake_timeout_;

  transport bytes_;
  boost::asio::steady_timer timer_;
  std::uint64_t timer_turn_ = 0;  // counts arming and disarming
  phase phase_ = phase::negotiating;
  bool draining_ = false;
  bool ended_ = false;     // the peer sends no more
  bool reported_ = false;  // to the keeper

  std::unique_ptr<handshake> handshake_;  // while negotiating
  ref<exported> export_;                  // from then on
  ref<open_file> file_;
  task task_;                // the connection as an issuer of I/O
  ref<io_context> context_;  // the client's

  // Receiving.
  bool waiting_readable_ = false;
  bool going_on_ = false;  // go_on_later() is under way
  expecting expecting_ = expecting::header;
  std::array<std::byte, request_header_bytes> header_;
  std::size_t header_bytes_ = 0;
  slot* payload_ = nullptr;       // the write whose payload comes now
  std::size_t payload_left_ = 0;  // bytes of it, or of what is discarded
  std::vector<std::byte> held_;   // received but not parsed: a limit was reached
  std::size_t turn_left_ = 0;     // bytes
  bool dry_ = false;              // the last receive took all there was

  // Under way.
  unsigned requests_ = 0;
  std::size_t request_bytes_ = 0;
  unsigned with_workers_ = 0;
  bool touched_ = false;  // by completions of this turn
  connection* next_touched_ = nullptr;

  // Sending: handshake bytes first, then replies in the order in which they were answered.
  bool waiting_writable_ = false;
  std::vector<std::byte> out_;
  std::size_t out_sent_ = 0;
  slot_list replies_;
  std::size_t reply_sent_ = 0;  // bytes of the first reply
};

}  // namespace sluice::nbd
