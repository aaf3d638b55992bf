// work_list: a first-in-first-out list through the works' own links; any member leaves in O(1).
//
// Thread safety:  none; it stands under somebody's lock.
// Limits:         a work is in at most one list.
#pragma once

#include <cstddef>
#include <utility>

#include "work_access.h"

namespace sluice::detail {

class work_list {
 public:
  work_list() = default;
  work_list(work_list&& other) noexcept
      : head_(std::exchange(other.head_, nullptr)),
        tail_(std::exchange(other.tail_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  work_list& operator=(work_list&&) = delete;
  ~work_list() = default;

  [[nodiscard]] work* front() const noexcept { return head_; }
  [[nodiscard]] work* back() const noexcept { return tail_; }
  [[nodiscard]] bool empty() const noexcept { return head_ == nullptr; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] static work* after(work& w) noexcept { return work_access::next(w); }

  void push_back(work& w) noexcept {
    work_access::next(w) = nullptr;
    work_access::prev(w) = tail_;
    (tail_ != nullptr ? work_access::next(*tail_) : head_) = &w;
    tail_ = &w;
    ++size_;
  }

  void push_front(work& w) noexcept {
    work_access::prev(w) = nullptr;
    work_access::next(w) = head_;
    (head_ != nullptr ? work_access::prev(*head_) : tail_) = &w;
    head_ = &w;
    ++size_;
  }

  [[nodiscard]] work* pop_front() noexcept {
    work* const first = head_;
    if (first != nullptr) {
      remove(*first);
    }
    return first;
  }

  // Requires: w is in this list.
  void remove(work& w) noexcept {
    work* const before = work_access::prev(w);
    work* const behind = work_access::next(w);
    (before != nullptr ? work_access::next(*before) : head_) = behind;
    (behind != nullptr ? work_access::prev(*behind) : tail_) = before;
    --size_;
  }

  // Takes all of another list, in order, before or behind what is here.
  void prepend(work_list& other) noexcept {
    other.append(*this);
    swap(other);
  }
  void append(work_list& other) noexcept {
    if (other.head_ == nullptr) {
      return;
    }
    work_access::prev(*other.head_) = tail_;
    (tail_ != nullptr ? work_access::next(*tail_) : head_) = other.head_;
    tail_ = other.tail_;
    size_ += other.size_;
    other.head_ = other.tail_ = nullptr;
    other.size_ = 0;
  }

  // Cuts off the first n, in order. Requires: n <= size().
  void split(std::size_t n, work& last, work_list& into) noexcept {
    work_list taken;
    taken.head_ = head_;
    taken.tail_ = &last;
    taken.size_ = n;
    head_ = work_access::next(last);
    (head_ != nullptr ? work_access::prev(*head_) : tail_) = nullptr;
    work_access::next(last) = nullptr;
    size_ -= n;
    into.append(taken);
  }

  // Takes over a chain that is linked newest first through next (an inbox has it so), and appends it oldest first.
  // visit(w) is called for each, the newest first.
  template <class Visit>
  void append_reversed(work* newest, std::size_t n, Visit visit) noexcept {
    work* const last = newest;
    work* behind = nullptr;
    for (work* at = newest; at != nullptr;) {
      work* const older = work_access::next(*at);
      work_access::next(*at) = behind;
      work_access::prev(*at) = older;
      visit(*at);
      behind = at;
      at = older;
    }
    if (behind == nullptr) {
      return;
    }
    work_access::prev(*behind) = tail_;
    (tail_ != nullptr ? work_access::next(*tail_) : head_) = behind;
    tail_ = last;
    size_ += n;
  }

 private:
  void swap(work_list& other) noexcept {
    std::swap(head_, other.head_);
    std::swap(tail_, other.tail_);
    std::swap(size_, other.size_);
  }

  work* head_ = nullptr;
  work* tail_ = nullptr;
  std::size_t size_ = 0;
};

// Works that were taken out of everything: linked one way only, so that each can be told its key again.
class work_chain {
 public:
  void push_back(work& w) noexcept {
    work_access::next(w) = nullptr;
    (tail_ != nullptr ? work_access::next(*tail_) : head_) = &w;
    tail_ = &w;
  }
  // What is linked newest first, behind what is here, oldest first.
  void append_reversed(work* newest) noexcept {
    work* oldest = nullptr;
    for (work* at = newest; at != nullptr;) {
      work* const older = work_access::next(*at);
      work_access::next(*at) = oldest;
      oldest = at;
      at = older;
    }
    if (oldest == nullptr) {
      return;
    }
    (tail_ != nullptr ? work_access::next(*tail_) : head_) = oldest;
    tail_ = newest;
  }
  void push_front(work& w) noexcept {
    work_access::next(w) = head_;
    head_ = &w;
    tail_ = tail_ != nullptr ? tail_ : &w;
  }
  [[nodiscard]] bool empty() const noexcept { return head_ == nullptr; }
  [[nodiscard]] work* front() const noexcept { return head_; }
  [[nodiscard]] static work* after(work& w) noexcept { return work_access::next(w); }
  // Takes out all that match, each handed to `taken`.
  template <class Match, class Taken>
  void take_out(Match match, Taken taken) noexcept {
    work_chain rest;
    while (work* const w = pop_front()) {
      if (match(*w)) {
        taken(*w);
      } else {
        rest.push_back(*w);
      }
    }
    head_ = rest.head_;
    tail_ = rest.tail_;
  }
  [[nodiscard]] work* pop_front() noexcept {
    work* const first = head_;
    if (first != nullptr) {
      head_ = work_access::next(*first);
      tail_ = head_ != nullptr ? tail_ : nullptr;
    }
    return first;
  }

 private:
  work* head_ = nullptr;
  work* tail_ = nullptr;
};

}  // namespace sluice::detail
