// Goal: works without a key leave by class of priority, those of a lane in order, and no lane is passed over for ever.
// Method: the list alone, filled and emptied in each way that an account has.
#include "wq/ready/ready_queue.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace sluice::detail {
namespace ready_queue_test {
namespace {

struct numbered : work {
  std::size_t number = 0;
};

class ReadyQueue : public testing::Test {
 protected:
  ReadyQueue() {
    for (std::size_t i = 0; i < works_.size(); ++i) {
      works_[i].number = i;
    }
  }
  ~ReadyQueue() override {
    for (numbered& each : works_) {
      work_access::set_state(each, work_state::idle);
    }
  }
  void add(std::size_t first, std::size_t end, unsigned lane, ioprio_class priority = ioprio_class::none) {
    for (std::size_t i = first; i < end; ++i) {
      work_access::set_state(works_[i], work_state::idle);
      works_[i].set_ioprio_class(priority);
      work_access::accept(works_[i], lane);
      list_.push_back(works_[i]);
    }
  }
  // The numbers of the next batch, of at most n, for a worker on the core of lane `here`.
  std::vector<std::size_t> take(std::size_t n, unsigned here) {
    work_fifo batch;
    list_.take(list_.next_turn(here, now_), n, batch, [](work& /*w*/) {});
    std::vector<std::size_t> found;
    while (work* const w = batch.pop_front()) {
      found.push_back(static_cast<numbered&>(*w).number);
    }
    return found;
  }
  // All lanes have just had their turn.
  void serve_all() {
    for (unsigned lane = 0; lane < ready_queue::most_lanes; ++lane) {
      add(31, 32, lane);
      static_cast<void>(take(1, lane));
    }
  }
  using numbers = std::vector<std::size_t>;

  std::array<numbered, 32> works_;
  ready_queue list_;
  steady_time now_{std::chrono::hours(1)};
};

TEST_F(ReadyQueue, OwnLaneFirstThenAnother) {
  serve_all();
  add(0, 3, 1);
  add(3, 5, 5);
  EXPECT_EQ(take(2, 5), (numbers{3, 4}));
  EXPECT_EQ(take(2, 5), (numbers{0, 1}));
  EXPECT_EQ(take(2, 7), (numbers{2}));
  EXPECT_TRUE(list_.empty());
}

// However busy its own lane keeps a worker, and whatever it runs in between: keys, works of priority.
TEST_F(ReadyQueue, WhoIsPassedOverForLongGoesFirst) {
  serve_all();
  add(0, 4, 0);
  add(4, 6, 2);
  add(6, 8, 6);
  now_ += ready_queue::patience / 2;
  EXPECT_EQ(take(1, 0), (numbers{0}));
  EXPECT_EQ(take(1, 6), (numbers{6}));
  now_ += ready_queue::patience / 2;
  EXPECT_EQ(take(1, 0), (numbers{4})) << "lane 2 has waited";
  EXPECT_EQ(take(1, 0), (numbers{1}));
  now_ += ready_queue::patience / 2;
  EXPECT_EQ(take(1, 0), (numbers{7})) << "lane 6 has";
  EXPECT_EQ(take(1, 0), (numbers{2}));
}

TEST_F(ReadyQueue, SlowWorksHaveTurnsLaneByLane) {
  serve_all();
  add(0, 3, 0);
  add(3, 6, 1);
  std::vector<std::size_t> ran;
  while (!list_.empty()) {
    now_ += 2 * ready_queue::patience;
    ran.push_back(take(1, 1).front());
  }
  EXPECT_EQ(ran, (numbers{0, 3, 1, 4, 2, 5}));
}

TEST_F(ReadyQueue, PriorityGoesBeforeLanes) {
  add(0, 2, 0);
  add(2, 3, 3, ioprio_class::idle);
  add(3, 4, 3, ioprio_class::rt);
  EXPECT_EQ(take(4, 0), (numbers{3}));
  EXPECT_EQ(take(4, 3), (numbers{0, 1}));
  EXPECT_EQ(take(4, 0), (numbers{2}));
  EXPECT_EQ(list_.size(), 0U);
}

// Workers divide what waits in lanes among them, and works of priority by themselves.
TEST_F(ReadyQueue, WhatWorkersShare) {
  add(0, 3, 0);
  add(3, 8, 2);
  EXPECT_EQ(list_.beside(list_.next_turn(0, now_)), 8U);
  add(8, 10, 1, ioprio_class::rt);
  EXPECT_EQ(list_.beside(list_.next_turn(0, now_)), 2U);
}

TEST_F(ReadyQueue, LeavesFromTheMiddleOfALane) {
  serve_all();
  add(0, 3, 2);
  add(3, 6, 4);
  list_.remove(works_[4]);
  list_.remove(works_[0]);
  EXPECT_EQ(list_.size(), 4U);
  EXPECT_FALSE(list_.lane_empty(2));
  EXPECT_TRUE(list_.lane_empty(3));
  EXPECT_EQ(take(4, 4), (numbers{3, 5}));
  EXPECT_EQ(take(4, 4), (numbers{1, 2}));
}

TEST_F(ReadyQueue, WhatComesBackIsFirstInItsLane) {
  add(0, 2, 3);
  work_fifo back;
  for (const std::size_t i : {std::size_t{7}, std::size_t{8}}) {
    work_access::accept(works_[i], 3);
    back.push_back(works_[i]);
  }
  list_.prepend(back);
  EXPECT_EQ(list_.size(), 4U);
  EXPECT_EQ(take(3, 3), (numbers{7, 8, 0}));
}

// A batch whose head's chain went on has a work that was in no lane, or of another priority.
TEST_F(ReadyQueue, WhatComesBackMayBeOfSeveralLists) {
  serve_all();
  add(0, 1, 1);
  add(1, 2, 0);
  work_fifo back;
  works_[9].set_ioprio_class(ioprio_class::rt);
  for (const auto& [i, lane] : {std::pair{7U, 0U}, std::pair{8U, 1U}, std::pair{9U, 1U}}) {
    work_access::accept(works_[i], lane);
    back.push_back(works_[i]);
  }
  list_.prepend(back);
  EXPECT_TRUE(back.empty());
  EXPECT_EQ(list_.size(), 5U);
  EXPECT_EQ(take(4, 0), (numbers{9}));
  EXPECT_EQ(take(4, 0), (numbers{7, 1}));
  EXPECT_EQ(take(4, 0), (numbers{8, 0}));
  EXPECT_TRUE(list_.empty());
}

TEST_F(ReadyQueue, AnInboxIsAppendedOldestFirst) {
  add(0, 1, 1);
  for (std::size_t i = 10; i < 13; ++i) {
    work_access::accept(works_[i], 1);
    work_access::next(works_[i]) = i == 10 ? nullptr : &works_[i - 1];
  }
  list_.append_reversed(&works_[12], 3, 1);
  EXPECT_EQ(take(8, 1), (numbers{0, 10, 11, 12}));
  EXPECT_TRUE(list_.empty());
}

}  // namespace
}  // namespace ready_queue_test
}  // namespace sluice::detail
