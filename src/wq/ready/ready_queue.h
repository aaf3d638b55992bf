// ready_queue: the works without a key that wait in an account, in lists by class of priority; the class that nearly all works
// have (BE) has a list for each lane.
//
// A lane is what some of the cores submit. A worker takes works of its own core's lane while there are some: they are in that core's
// caches, and another core's worker takes those of another lane. So that no lane waits forever, a lane from which no batch was taken
// for `patience` goes first; of several the one that has waited longest.
//
// | class     | goes before | is passed over for at most    |
// |-----------|-------------|-------------------------------|
// | RT        | BE, IDLE    | 0 batches                     |
// | BE, NONE  | IDLE        | 15 batches of RT              |
// | IDLE      |             | 63 batches of the others      |
//
// Thread safety:  none; the account's lock protects it.
// Invariants:     W1 W7
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "sluice/base/clock.h"

#include "wq/item/work_fifo.h"
#include "wq/ready/batch_fifo.h"

namespace sluice::detail {

class ready_queue {
 public:
  static constexpr unsigned most_lanes = 8;
  static constexpr std::chrono::microseconds patience{50};

  // Whether the work has another class than BE, which is what a work has whose class was not set.
  [[nodiscard]] static bool graded(const work& w) noexcept { return grade_of(w) != be; }

  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  void push_back(work& w) noexcept {
    list_of(w).push_back(w);
    count(w, 1);
  }
  // Requires: w is here.
  void remove(work& w) noexcept {
    list_of(w).remove(w);
    count(w, minus(1));
  }
  // Works of one lane that are linked newest first, none of them graded.
  void append_reversed(work* newest, std::size_t n, unsigned lane) noexcept {
    lanes_[lane].append_reversed(newest, n);
    in_lanes_ += n;
    size_ += n;
  }
  // Each to the head of its own list: a batch whose head's chain went on may have works of several.
  void prepend(work_fifo& some) noexcept {
    while (work* const last = some.back()) {
      some.remove(*last);
      list_of(*last).push_front(*last);
      count(*last, 1);
    }
  }
  // Takes off the first of those whose turn it is, at most `most` (batch_fifo). Requires: `turn` is what next_turn() said.
  template <class Looked>
  std::size_t take(batch_fifo& turn, std::size_t most, work_fifo& into, Looked looked) noexcept {
    const bool of_lane = grade_of(*turn.front()) == be;
    const std::size_t n = turn.take(most, into, looked);
    in_lanes_ -= of_lane ? n : 0;
    size_ -= n;
    return n;
  }
  // The works that are here are looked at when they are taken: some have handles.
  void look_at_each() noexcept {
    for_each_list([](batch_fifo& each) { each.look_at_each(); });
  }
  [[nodiscard]] bool lane_empty(unsigned lane) const noexcept { return lanes_[lane].empty(); }
  // Whether no batch was taken from the lane for `patience`.
  [[nodiscard]] bool passed_over(unsigned lane, steady_time now) const noexcept {
    return now - served_[lane] >= patience;
  }
  // How many works, those of `turn` included, wait beside them and may be run in any order: workers share them.
  [[nodiscard]] std::size_t beside(const batch_fifo& turn) const noexcept {
    return grade_of(*turn.front()) == be ? in_lanes_ : turn.size();
  }

  // The list whose turn it is: a batch will be taken from it. If it is a lane's turn, that is the lane `here`, if it has works and no
  // other lane was passed over. Requires: not empty.
  [[nodiscard]] batch_fifo& next_turn(unsigned here, steady_time now) noexcept {
    if (size_ == in_lanes_) [[likely]] {
      return next_lane(here, now);
    }
    std::size_t chosen = rt;
    while (empty(chosen)) {
      ++chosen;
    }
    for (std::size_t lower = grades - 1; lower > chosen; --lower) {
      if (!empty(lower) && ++passed_over_[lower] > most_passed_over[lower]) {
        chosen = lower;
      }
    }
    passed_over_[chosen] = 0;
    return chosen == be ? next_lane(here, now) : chosen == rt ? rt_ : idle_;
  }

  template <class Visit>
  void for_each(Visit visit) {
    for_each_list([&](batch_fifo& each) { each.for_each(visit); });
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

  [[nodiscard]] static constexpr std::size_t minus(std::size_t n) noexcept { return std::size_t{0} - n; }

  [[nodiscard]] batch_fifo& list_of(const work& w) noexcept {
    const std::size_t grade = grade_of(w);
    return grade == be ? lanes_[work_access::lane(w)] : grade == rt ? rt_ : idle_;
  }
  void count(const work& w, std::size_t n) noexcept {
    in_lanes_ += grade_of(w) == be ? n : 0;
    size_ += n;
  }
  [[nodiscard]] bool empty(std::size_t grade) const noexcept {
    return grade == be ? in_lanes_ == 0 : grade == rt ? rt_.empty() : idle_.empty();
  }

  template <class Visit>
  void for_each_list(Visit visit) {
    visit(rt_);
    std::ranges::for_each(lanes_, visit);
    visit(idle_);
  }

  // Requires: one of them is not empty.
  [[nodiscard]] batch_fifo& next_lane(unsigned here, steady_time now) noexcept {
    unsigned chosen = most_lanes;
    for (unsigned lane = 0; lane < most_lanes; ++lane) {
      if (!lanes_[lane].empty() && (chosen == most_lanes || served_[lane] < served_[chosen])) {
        chosen = lane;
      }
    }
    if (!lanes_[here].empty() && !passed_over(chosen, now)) {
      chosen = here;
    }
    served_[chosen] = now;
    return lanes_[chosen];
  }

  batch_fifo rt_;
  std::array<batch_fifo, most_lanes> lanes_;  // BE
  batch_fifo idle_;
  std::array<std::uint32_t, grades> passed_over_{};
  std::array<steady_time, most_lanes> served_{};  // when a batch was last taken from it
  std::size_t in_lanes_ = 0;
  std::size_t size_ = 0;  // of all
};

}  // namespace sluice::detail
