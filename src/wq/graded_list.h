// graded_list: the works without a key that wait in an account: three lists, by class of priority.
//
// | class     | goes before | is passed over for at most    |
// |-----------|-------------|-------------------------------|
// | RT        | BE, IDLE    | 0 batches                     |
// | BE, NONE  | IDLE        | 15 batches of RT              |
// | IDLE      |             | 63 batches of the others      |
//
// Thread safety:  none; it stands under its account's lock.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "work_list.h"

namespace sluice::detail {

class graded_list {
 public:
  // False for a class that all works have of whom nobody said otherwise.
  [[nodiscard]] static bool graded(const work& w) noexcept { return grade_of(w) != be; }

  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  void push_back(work& w) noexcept {
    lists_[grade_of(w)].push_back(w);
    ++size_;
  }
  // Requires: w is here.
  void remove(work& w) noexcept {
    lists_[grade_of(w)].remove(w);
    --size_;
  }
  // Works that are linked newest first, none of them graded.
  void append_reversed(work* newest, std::size_t n) noexcept {
    lists_[be].append_reversed(newest, n);
    size_ += n;
  }
  // Requires: the works are of one class.
  void prepend(work_list& some) noexcept {
    size_ += some.size();
    lists_[grade_of(*some.front())].prepend(some);
  }
  // Cuts off the first n of those whose turn it is, in order. Requires: they are at least n, and `last` is the n-th.
  void split(std::size_t n, work& last, work_list& into) noexcept {
    lists_[grade_of(last)].split(n, last, into);
    size_ -= n;
  }

  // Those whose turn it is: a batch will be taken from them. Requires: not empty.
  [[nodiscard]] const work_list& next_turn() noexcept {
    if (size_ == lists_[be].size()) [[likely]] {
      return lists_[be];
    }
    std::size_t chosen = rt;
    while (lists_[chosen].empty()) {
      ++chosen;
    }
    for (std::size_t lower = grades - 1; lower > chosen; --lower) {
      if (!lists_[lower].empty() && ++passed_over_[lower] > most_passed_over[lower]) {
        chosen = lower;
      }
    }
    passed_over_[chosen] = 0;
    return lists_[chosen];
  }

  template <class Visit>
  void for_each(Visit visit) {
    for (work_list& each : lists_) {
      for (work* w = each.front(); w != nullptr;) {
        work* const behind = work_list::after(*w);
        visit(*w);  // may remove it
        w = behind;
      }
    }
  }

 private:
  static constexpr std::size_t grades = 3;
  static constexpr std::size_t rt = 0;
  static constexpr std::size_t be = 1;
  static constexpr std::size_t idle = 2;
  static constexpr std::array<std::uint32_t, grades> most_passed_over{0, 15, 63};

  [[nodiscard]] static std::size_t grade_of(const work& w) noexcept {
    constexpr std::array<std::uint8_t, 4> by_class{be, rt, be, idle};
    return by_class[std::to_underlying(w.priority())];
  }

  std::array<work_list, grades> lists_;
  std::array<std::uint32_t, grades> passed_over_{};
  std::size_t size_ = 0;
};

}  // namespace sluice::detail
