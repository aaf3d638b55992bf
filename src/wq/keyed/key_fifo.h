// key_fifo: the works that wait for one key, in order, and what is known of them without a look at each.
//
// A worker takes up to a batch of them at once. To find the end of the batch, and whether a member has a handle, it would have to
// visit each work, and a work that has waited is in no near cache. So the thread that puts a work says whether it is plain: of the
// account that owns the table, with no handle, and nothing linked behind it. As long as all are plain they are taken together.
//
// Thread safety:  none; the shard's lock protects it.
// Invariants:     H2
#pragma once

#include <cstddef>

#include "wq/item/work_fifo.h"

namespace sluice::detail {

class key_fifo {
 public:
  // The most that are taken at once.
  static constexpr unsigned batch = 128;

  [[nodiscard]] work* front() const noexcept { return works_.front(); }
  [[nodiscard]] bool empty() const noexcept { return works_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return works_.size(); }

  void push_back(work& w, bool plain) noexcept {
    works_.push_back(w);
    if (works_.size() == 1) {
      all_plain_ = plain;
      end_of_batch_ = nullptr;
    } else {
      all_plain_ = all_plain_ && plain;
    }
    if (works_.size() == batch) {
      end_of_batch_ = &w;
    }
  }
  // A member was given a slot where it waits: each is looked at when it is taken.
  void look_at_each() noexcept { all_plain_ = false; }
  // Requires: w is here.
  void remove(work& w) noexcept {
    works_.remove(w);
    end_of_batch_ = nullptr;
  }
  // What was taken comes back, in order.
  void prepend(work_fifo& some) noexcept {
    works_.prepend(some);
    all_plain_ = false;
    end_of_batch_ = nullptr;
  }
  // Takes a batch without a look at its members. Returns 0 if the members must be looked at.
  [[nodiscard]] std::size_t take_batch(work_fifo& into) noexcept {
    if (!all_plain_) {
      return 0;
    }
    if (works_.size() <= batch) {
      const std::size_t all = works_.size();
      into.append(works_);
      return all;
    }
    if (end_of_batch_ == nullptr) {
      return 0;
    }
    split(batch, *end_of_batch_, into);
    return batch;
  }
  // Takes the first n. Requires: `last` is the n-th.
  void split(std::size_t n, work& last, work_fifo& into) noexcept {
    works_.split(n, last, into);
    end_of_batch_ = nullptr;
  }

 private:
  work_fifo works_;
  work* end_of_batch_ = nullptr;  // the batch-th, if it is known
  bool all_plain_ = false;
};

}  // namespace sluice::detail
