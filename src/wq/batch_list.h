// batch_list: works that wait in order, and where among them a batch ends.
//
// A worker takes up to a batch of them at once. To find out where the batch ends it would have to visit each, one after the
// other, and a work that has waited is in no near cache any more. Whoever puts works here has them near: so the end of each
// batch is noted then, and a batch comes off without a look at its members. They are looked at all the same if somebody must
// be told of one of them (it has a handle), if one was taken out or came back, and if less than a batch is wanted.
//
//   front_ works          batches_ * batch works     back_ works
//   to be looked at       the end of each is known   less than a batch, or ends nobody knows
//
// Thread safety:  none; it stands under its account's lock.
// Limits:         the ends of `most_batches` are known; what comes behind them is looked at.
// Cost:           2 KB.
// Invariants:     front_ + batches_ * batch + back_ is the size
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "run_list.h"
#include "work_list.h"

namespace sluice::detail {

class batch_list {
 public:
  static constexpr std::size_t batch = run_list::batch;
  static constexpr std::size_t most_batches = 256;

  [[nodiscard]] work* front() const noexcept { return works_.front(); }
  [[nodiscard]] work* back() const noexcept { return works_.back(); }
  [[nodiscard]] bool empty() const noexcept { return works_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return works_.size(); }
  // How many were taken so far, less those that went back to the head. Who is at the end now has been taken when this has
  // grown by size(), or he was looked at when he was: as all are that are here when one is taken out.
  [[nodiscard]] std::int64_t taken() const noexcept { return taken_; }

  void push_back(work& w) noexcept {
    works_.push_back(w);
    note_end(w, 1);
    note_appended(1, work_access::slot(w) != 0);
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
    std::size_t behind = 0;
    works_.append_reversed(newest, n, [&](work& w) {
      note_end(w, n - behind);
      ++behind;
      named |= work_access::slot(w) != 0;
    });
    note_appended(n, named);
  }
  // Requires: w is here.
  void remove(work& w) noexcept {
    works_.remove(w);
    look_at_each();
  }
  // Somebody must be told of those that are here when they are taken.
  void look_at_each() noexcept {
    front_ = works_.size();
    batches_ = 0;
    back_ = 0;
  }

  // Takes off the first, at most `most`; looked(w) is called for each that must be looked at. Returns how many, none only if
  // there are none.
  template <class Looked>
  std::size_t take(std::size_t most, work_list& into, Looked looked) noexcept {
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
      work* const next = work_list::after(*w);
      visit(*w);  // may remove it
      w = next;
    }
  }

 private:
  // Of works that are being appended, w is the nth. (Where ends are missing before it, nobody reads what is noted here.)
  void note_end(work& w, std::size_t nth) noexcept {
    const std::size_t at = back_ + nth;  // behind the last known end
    if (at % batch == 0 && batches_ + at / batch <= most_batches) {
      ends_[(first_ + batches_ + at / batch - 1) % most_batches] = &w;
    }
  }
  void note_appended(std::size_t n, bool named) noexcept {
    const bool known = back_ < batch;
    back_ += n;
    if (known) {
      const std::size_t whole = std::min(back_ / batch, most_batches - batches_);
      batches_ += whole;
      back_ -= whole * batch;
    }
    if (named) {
      look_at_each();
    }
  }
  [[nodiscard]] work& pop_end() noexcept {
    work& end = *ends_[first_];
    first_ = (first_ + 1) % most_batches;
    --batches_;
    return end;
  }

  [[nodiscard]] std::size_t take_unseen(std::size_t most, work_list& into) noexcept {
    if (front_ != 0) {
      return 0;
    }
    if (batches_ != 0 && most >= batch) {
      works_.split(batch, pop_end(), into);
      return batch;
    }
    if (batches_ == 0 && most >= back_) {
      into.append(works_);
      return std::exchange(back_, 0);
    }
    return 0;
  }

  template <class Looked>
  [[nodiscard]] std::size_t take_each(std::size_t most, work_list& into, Looked looked) noexcept {
    if (batches_ == 0) {
      look_at_each();
    } else if (front_ == 0) {
      static_cast<void>(pop_end());
      front_ = batch;
    }
    const std::size_t n = std::min(most, front_);  // up to where a batch begins
    work* last = works_.front();
    looked(*last);
    for (std::size_t i = 1; i < n; ++i) {
      last = work_list::after(*last);
      looked(*last);
    }
    works_.split(n, *last, into);
    front_ -= n;
    return n;
  }

  work_list works_;
  std::size_t front_ = 0;
  std::size_t batches_ = 0;
  std::size_t back_ = 0;
  std::int64_t taken_ = 0;
  std::size_t first_ = 0;
  std::array<work*, most_batches> ends_{};  // a ring; batches_ of them, from first_ on
};

}  // namespace sluice::detail
