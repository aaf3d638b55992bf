// batch_fifo: works that wait in order, and where among them a batch ends.
//
// A worker takes up to a batch of them at once. To find the end of the batch it would have to visit each work, and a work that has
// waited is in no near cache. The thread that puts works here has them near: so it notes in the first work of each batch which work is
// the last, and the batch is taken without a look at its members. They are looked at if one of them has a handle, was removed or came
// back, and if less than a batch is wanted.
//
//   front_ works          batches_ * batch works     back_ works
//   to be looked at       the end of each is known   less than a batch
//
// The end stands where a keyed work names its domain or its key's entry: works without a key have neither (work_access.h).
//
// Thread safety:  none; the account's lock protects it.
// Limits:         works without a key only.
// Invariants:     front_ + batches_ * batch + back_ is the size; of the batches_ only the first work of each names an end
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "wq/item/work_fifo.h"
#include "wq/keyed/key_fifo.h"

namespace sluice::detail {

class batch_fifo {
 public:
  static constexpr std::size_t batch = key_fifo::batch;

  [[nodiscard]] work* front() const noexcept { return works_.front(); }
  [[nodiscard]] work* back() const noexcept { return works_.back(); }
  [[nodiscard]] bool empty() const noexcept { return works_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return works_.size(); }
  // How many were taken so far, less those that went back to the head. The work that is last now has been taken when this has grown
  // by size(), or it was looked at when it was taken, as all are that are here when one is removed.
  [[nodiscard]] std::int64_t taken() const noexcept { return taken_; }

  void push_back(work& w) noexcept {
    works_.push_back(w);
    noted some;
    note(w, 1, some);
    note_appended(1, some, work_access::slot(w) != 0);
  }
  // To the head: one that a worker had.
  void push_front(work& w) noexcept {
    works_.push_front(w);
    ++front_;
    --taken_;
  }
  // Works that are linked newest first.
  void append_reversed(work* newest, std::size_t n) noexcept {
    bool named = false;
    noted some;
    std::size_t nth = n;
    works_.append_reversed(newest, n, [&](work& w) {
      note(w, nth, some);
      --nth;
      named |= work_access::slot(w) != 0;
    });
    note_appended(n, some, named);
  }
  // Requires: w is here.
  void remove(work& w) noexcept {
    works_.remove(w);
    work_access::restore_key(w, nullptr, 0);
    look_at_each();
  }
  // The works that are here are looked at when they are taken: some have handles.
  void look_at_each() noexcept {
    front_ = works_.size();
    batches_ = 0;
    back_ = 0;
  }

  // Takes off the first, at most `most`; looked(w) is called for each that must be looked at. Returns how many, none only if
  // there are none.
  template <class Looked>
  std::size_t take(std::size_t most, work_fifo& into, Looked looked) noexcept {
    std::size_t n = take_unseen(most, into);
    if (n == 0 && !works_.empty()) {
      n = take_each(most, into, looked);
    }
    taken_ += static_cast<std::int64_t>(n);
    return n;
  }

  template <class Visit>
  void for_each(Visit visit) {
    for (work* w = works_.front(); w != nullptr;) {
      work* const next = work_fifo::after(*w);
      visit(*w);  // may remove it
      w = next;
    }
  }

 private:
  // Of works that are being appended, the newest first.
  struct noted {
    work* end = nullptr;    // the last of a batch whose first has not been met yet
    work* begun = nullptr;  // the first of a batch that is not full yet
  };

  // w is the nth of those that come behind what was here.
  void note(work& w, std::size_t nth, noted& some) noexcept {
    const std::size_t in_batch = (back_ + nth) % batch;
    if (in_batch == 0) {
      some.end = &w;
    } else if (in_batch == 1) {
      if (work* const end = std::exchange(some.end, nullptr)) {
        work_access::set_batch_end(w, *end);
      } else {
        some.begun = &w;
      }
    }
  }
  void note_appended(std::size_t n, const noted& some, bool named) noexcept {
    if (some.end != nullptr) {
      work_access::set_batch_end(*begun_, *some.end);
    }
    if (some.begun != nullptr) {
      begun_ = some.begun;
    }
    back_ += n;
    batches_ += back_ / batch;
    back_ %= batch;
    if (named) {
      look_at_each();
    }
  }

  [[nodiscard]] std::size_t take_unseen(std::size_t most, work_fifo& into) noexcept {
    if (front_ != 0) {
      return 0;
    }
    if (batches_ != 0 && most >= batch) {
      work& first = *works_.front();
      work& end = work_access::batch_end(first);
      work_access::restore_key(first, nullptr, 0);
      works_.split(batch, end, into);
      --batches_;
      return batch;
    }
    if (batches_ == 0 && most >= back_) {
      into.append(works_);
      return std::exchange(back_, 0);
    }
    return 0;
  }

  template <class Looked>
  [[nodiscard]] std::size_t take_each(std::size_t most, work_fifo& into, Looked looked) noexcept {
    if (batches_ == 0) {
      look_at_each();
    } else if (front_ == 0) {
      --batches_;
      front_ = batch;
    }
    const std::size_t n = std::min(most, front_);  // up to where a batch begins
    work* last = nullptr;
    for (std::size_t i = 0; i < n; ++i) {
      last = last == nullptr ? works_.front() : work_fifo::after(*last);
      work_access::restore_key(*last, nullptr, 0);
      looked(*last);
    }
    works_.split(n, *last, into);
    front_ -= n;
    return n;
  }

  work_fifo works_;
  std::size_t front_ = 0;
  std::size_t batches_ = 0;
  std::size_t back_ = 0;
  std::int64_t taken_ = 0;
  work* begun_ = nullptr;  // the first of the back_ works, if there are some
};

}  // namespace sluice::detail
