// work_fifo: a first-in-first-out list through the links in the works; any member can be removed in O(1).
//
// Thread safety:  none; the lock of the place that owns the list protects it.
// Limits:         a work is in at most one list.
// Invariants:     W3 (docs/wq.md, "The engine"): only the holder of that lock reads the links.
#pragma once

#include <cstddef>
#include <utility>

#include "wq/item/work_access.h"

namespace sluice::detail {

class work_fifo {
 public:
  work_fifo() = default;
  work_fifo(work_fifo&& other) noexcept
      : head_(std::exchange(other.head_, nullptr)),
        tail_(std::exchange(other.tail_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  work_fifo& operator=(work_fifo&&) = delete;
  ~work_fifo() = default;

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
  void prepend(work_fifo& other) noexcept {
    other.append(*this);
    swap(other);
  }
  void append(work_fifo& other) noexcept {
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
  void split(std::size_t n, work& last, work_fifo& into) noexcept {
    work_fifo taken;
    taken.head_ = head_;
    taken.tail_ = &last;
    taken.size_ = n;
    head_ = work_access::next(last);
    (head_ != nullptr ? work_access::prev(*head_) : tail_) = nullptr;
    work_access::next(last) = nullptr;
    size_ -= n;
    into.append(taken);
  }

  // Appends works that are linked newest first through next (an inbox links them so), oldest first. Calls visit(w) for
  // each, the newest first.
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
  void swap(work_fifo& other) noexcept {
    std::swap(head_, other.head_);
    std::swap(tail_, other.tail_);
    std::swap(size_, other.size_);
  }

  work* head_ = nullptr;
  work* tail_ = nullptr;
  std::size_t size_ = 0;
};

// forward_fifo: works linked one way only, through `next`. `prev` lies over the key (work_access.h), so a work in such a list
// keeps its domain and key.
class forward_fifo {
 public:
  void push_back(work& w) noexcept {
    work_access::next(w) = nullptr;
    (tail_ != nullptr ? work_access::next(*tail_) : head_) = &w;
    tail_ = &w;
  }
  // Appends works that are linked newest first, oldest first.
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
