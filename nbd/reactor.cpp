#include "nbd/reactor.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "sluice/base/check.h"

#include "nbd/connection.h"
#include "nbd/setup_error.h"

namespace sluice::nbd {
namespace {

namespace asio = boost::asio;

}  // namespace

void slot_list::push(slot& last) noexcept {
  last.next = nullptr;
  (tail_ == nullptr ? head_ : tail_->next) = &last;
  tail_ = &last;
}

slot& slot_list::pop() noexcept {
  SLUICE_CHECK(head_ != nullptr);
  slot& first = *head_;
  head_ = std::exchange(first.next, nullptr);
  if (head_ == nullptr) {
    tail_ = nullptr;
  }
  return first;
}

reactor::reactor() {
  const int fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) {
    throw setup_error("cannot make an eventfd: " + error_of(errno).message());
  }
  wake_.assign(fd);
}

reactor::~reactor() {
  SLUICE_CHECK(completed_.load(std::memory_order_acquire) == nullptr, "a request came back too late");
}

void reactor::run() {
  wait_for_completions();
  const auto keep_running = asio::make_work_guard(context_);
  context_.run();
}

slot& reactor::take_slot(ref<connection> client) {
  if (free_ == nullptr) {
    slots_.emplace_back().home = this;
    free_ = &slots_.back();
  }
  slot& taken = *free_;
  free_ = std::exchange(taken.next, nullptr);
  taken.client = std::move(client);
  return taken;
}

void reactor::give_slot(slot& back) noexcept {
  buffers_.put(std::move(back.data));
  back.reply_data_bytes = 0;
  back.error = wire_error::none;
  back.next = std::exchange(free_, &back);
  // Last: it may be the last count of the connection.
  back.client = nullptr;
}

void reactor::completed(slot& done) noexcept {
  slot* head = completed_.load(std::memory_order_relaxed);
  do {
    done.next = head;
    // release: the reactor must see the result and the buffer. Pairs with the acquire in take_completions().
  } while (!completed_.compare_exchange_weak(head, &done, std::memory_order_release, std::memory_order_relaxed));
  if (head == nullptr) {
    // Only the push that found the stack empty wakes: whoever empties it takes all that the later ones left.
    const std::uint64_t one = 1;
    const ssize_t written = ::write(wake_.native_handle(), &one, sizeof one);
    SLUICE_CHECK(written == sizeof one || errno == EAGAIN);  // EAGAIN: the counter is full, so it is readable anyway
  }
}

void reactor::wait_for_completions() {
  const auto handler = [this](const boost::system::error_code& error) {
    if (!error) {
      take_completions();
      wait_for_completions();
    }
  };
  wake_.async_wait(asio::posix::stream_descriptor::wait_read, asio::bind_allocator(wake_memory_.allocator(), handler));
}

void reactor::take_completions() {
  std::uint64_t wakes = 0;
  // Before the stack is emptied: a push after the exchange writes again, and that must not be swallowed here.
  if (::read(wake_.native_handle(), &wakes, sizeof wakes) < 0) {
    SLUICE_CHECK_OP(errno, ==, EAGAIN);
  }
  slot* newest = completed_.exchange(nullptr, std::memory_order_acquire);
  slot* oldest = nullptr;
  while (newest != nullptr) {
    slot* const next = newest->next;
    newest->next = std::exchange(oldest, newest);
    newest = next;
  }
  connection* touched = nullptr;
  while (oldest != nullptr) {
    slot& done = *std::exchange(oldest, oldest->next);
    connection& client = *done.client;
    if (client.take_completion(done) == connection::touch::first) {
      client.get();  // until it has sent below: its last slot may go back on the way
      client.next_touched_ = std::exchange(touched, &client);
    }
  }
  while (touched != nullptr) {
    connection& client = *std::exchange(touched, touched->next_touched_);
    client.end_turn();
    client.put();
  }
}

}  // namespace sluice::nbd
