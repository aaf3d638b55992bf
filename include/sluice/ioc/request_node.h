// request_node: what a request queue keeps in each of its requests, and a list of them.
//
// A base of the class Request itself. A template, so that the requests of the race tests are the same to the very
// queue: Ops is the table that Request is submitted with, Queue, Context and Pair what it is issued to, for and by.
//
// | field          | idle | being tried, under way  | waits in the elevator | held aside by a freeze |
// |----------------|------|-------------------------|-----------------------|------------------------|
// | queue_         | null | null when tried; a count | a count              | a count                |
// | context_       | null | as queue_               | a count               | a count                |
// | pair_          | -    | if the elevator wants one | the same            | -                      |
// | left_at_start_ | -    | bytes_left_ when let go | -                     | -                      |
// | waits_since_   | -    | -                       | the queue's clock     | -                      |
// | held_as_       | -    | -                       | -                     | its number             |
//
// Ownership:      as request.h says.
// Thread safety:  one thread at a time; the queue's and the pool's locks order the hand-overs.
// Cost:           72 bytes beside the work.
// Invariants:     W1 W3
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "sluice/base/check.h"
#include "sluice/ref/ref.h"
#include "sluice/wq/work.h"

namespace sluice {

namespace detail {

// What became of a request in its last run.
enum class request_fate : std::uint8_t {
  ended,        // ran to its end, well or not
  never_ran,    // told to stop before it ran
  interrupted,  // told to stop while it ran
  again,        // has more to do, and others wait
};

template <class Request, class Ops, class Queue, class Context, class Pair>
struct request_node : work {
  const Ops* request_ops_ = nullptr;
  Request* waits_behind_ = nullptr;  // the next in a FIFO
  // Counts, while accepted: who finishes a request still needs both after it was handed back.
  ref<Queue> queue_;
  ref<Context> context_;
  std::int64_t result_ = 0;
  std::uint64_t bytes_left_ = 0;
  Pair* pair_ = nullptr;
  union {
    std::uint64_t left_at_start_ = 0;  // under way: bytes_left_ when it was let go
    std::int64_t waits_since_;         // waiting: nanoseconds of the queue's clock
    std::uint64_t held_as_;            // held aside by a freeze: its number
  };
  request_fate fate_ = request_fate::ended;
  std::uint8_t key_ticket_ = 0;  // handed, with a key: what the queue's handed_keys gave for it
  // The elevator's: set when it lets the request go, read when that has ended.
  std::uint16_t elevator_note_ = 0;
};

}  // namespace detail

// A FIFO of requests, linked through them.
template <class Request>
class basic_request_fifo {
 public:
  [[nodiscard]] bool empty() const noexcept { return head_ == nullptr; }
  [[nodiscard]] Request* front() const noexcept { return head_; }

  void push(Request& last) noexcept {
    SLUICE_DCHECK(last.waits_behind_ == nullptr && &last != tail_, "the request is in a list already");
    if (tail_ == nullptr) {
      head_ = &last;
    } else {
      tail_->waits_behind_ = &last;
    }
    tail_ = &last;
  }
  // Takes the first, or null.
  [[nodiscard]] Request* pop() noexcept {
    Request* first = head_;
    if (first != nullptr) {
      head_ = std::exchange(first->waits_behind_, nullptr);
      if (head_ == nullptr) {
        tail_ = nullptr;
      }
    }
    return first;
  }
  // Moves those of one owner to the end of another list, in order. Returns how many.
  std::size_t extract_owner(std::uint64_t owner, basic_request_fifo& into) noexcept {
    basic_request_fifo kept;
    std::size_t count = 0;
    while (Request* each = pop()) {
      if (each->owner() == owner) {
        into.push(*each);
        ++count;
      } else {
        kept.push(*each);
      }
    }
    *this = kept;
    return count;
  }
  // Moves all of them there. Returns how many.
  std::size_t extract_all(basic_request_fifo& into) noexcept {
    std::size_t count = 0;
    while (Request* each = pop()) {
      into.push(*each);
      ++count;
    }
    return count;
  }

 private:
  Request* head_ = nullptr;
  Request* tail_ = nullptr;
};

}  // namespace sluice
