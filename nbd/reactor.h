// reactor: one thread that owns sockets: its event loop, its buffers, its request slots, and the way back from the
// workers.
//
// A worker that finishes a request pushes its slot here; the first push after the reactor looked wakes it. The reactor
// then takes all that has come, lets each connection take its reply, and lets each touched connection send once.
//
// Ownership:      owns slots and buffers; a slot is with a connection from take_slot() to give_slot().
// Thread safety:  completed() by any thread; everything else by the reactor's thread.
// Blocking:       never, but for run().
// Limits:         slots grow to the sum of what connections may have in flight, and are kept.
// Destroy:        after the last completed() returned: join the workers first.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "sluice/device/io_request.h"
#include "sluice/ref/ref.h"

#include "nbd/buffer_pool.h"
#include "nbd/handler_memory.h"
#include "nbd/wire.h"

namespace sluice::nbd {

class connection;
class reactor;

// One request of one client from its header to its sent reply.
struct slot : io_request {
  slot() = default;
  ~slot() = default;
  slot(const slot&) = delete;
  slot& operator=(const slot&) = delete;

  reactor* home = nullptr;
  ref<connection> client;
  slot* next = nullptr;  // of the one list it is on: free, completed, to send
  std::uint64_t cookie = 0;
  wire_error error = wire_error::none;
  nbd::buffer data;
  std::uint32_t counted_bytes = 0;  // of data, against the connection's limit
  std::array<std::byte, simple_reply_bytes> reply;
  std::uint32_t reply_data_bytes = 0;  // of data, behind the reply's header
};

// A FIFO of slots.
class slot_list {
 public:
  [[nodiscard]] bool empty() const noexcept { return head_ == nullptr; }
  [[nodiscard]] slot* front() const noexcept { return head_; }
  void push(slot& last) noexcept;
  // Requires: not empty.
  slot& pop() noexcept;

 private:
  slot* head_ = nullptr;
  slot* tail_ = nullptr;
};

class reactor {
 public:
  reactor();
  ~reactor();
  reactor(const reactor&) = delete;
  reactor& operator=(const reactor&) = delete;

  // Runs handlers until stop().
  void run();
  void stop() noexcept { context_.stop(); }

  [[nodiscard]] boost::asio::io_context& context() noexcept { return context_; }
  [[nodiscard]] buffer_pool& buffers() noexcept { return buffers_; }
  // Where bytes are received before anybody knows whose they are. Valid until the next handler.
  [[nodiscard]] std::span<std::byte> scratch() noexcept { return scratch_; }

  // A slot for a request of that client.
  [[nodiscard]] slot& take_slot(ref<connection> client);
  // Takes it back, with its buffer.
  void give_slot(slot& back) noexcept;

  // Hands a finished request to its connection, on the reactor's thread. From any thread; the slot is not the caller's
  // any more.
  void completed(slot& done) noexcept;

 private:
  void wait_for_completions();
  void take_completions();

  static constexpr std::size_t scratch_bytes = std::size_t{128} << 10U;
  static constexpr std::size_t kept_buffer_bytes = std::size_t{128} << 20U;

  handler_memory wake_memory_;  // before the context: its waits end with it
  boost::asio::io_context context_{1};
  boost::asio::posix::stream_descriptor wake_{context_};  // an eventfd
  buffer_pool buffers_{kept_buffer_bytes};
  std::vector<std::byte> scratch_ = std::vector<std::byte>(scratch_bytes);
  std::deque<slot> slots_;
  slot* free_ = nullptr;

  // Synchronises itself: a stack that workers push on and the reactor takes whole.
  alignas(64) std::atomic<slot*> completed_{nullptr};
};

}  // namespace sluice::nbd
