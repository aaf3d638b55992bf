// Goal: what waits leaves in the order in which it came, a batch is taken without a look at each only if nobody must be told
// of one of its members, and it is taken so whenever that can be, however many wait. Who left has no key, as before.
// Method: the list alone, beside a plain queue that says what must come, through every way of filling and emptying it.
#include "wq/ready/batch_fifo.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace sluice::detail {
namespace batch_fifo_test {
namespace {

constexpr std::size_t batch = batch_fifo::batch;

struct plain_work : work {};

class BatchFifo : public testing::Test {
 protected:
  // Makes n works and hangs them newest first, as an inbox does, or puts them one by one.
  void append(std::size_t n) {
    const std::size_t first = make(n);
    for (std::size_t i = first; i < works_.size(); ++i) {
      work_access::next(works_[i]) = i == first ? nullptr : &works_[i - 1];
    }
    list_.append_reversed(&works_.back(), n);
  }
  void put(std::size_t n, std::uint32_t slot = 0) {
    for (std::size_t i = make(n); i < works_.size(); ++i) {
      work_access::slot(works_[i]) = slot;
      list_.push_back(works_[i]);
    }
  }
  // Takes at most n and checks that they are the oldest, in order, each looked at that has a handle. Returns how many.
  std::size_t take(std::size_t n) {
    work_fifo taken;
    looked_.clear();
    const std::size_t got = list_.take(n, taken, [&](work& w) { looked_.push_back(&w); });
    EXPECT_EQ(got, taken.size());
    EXPECT_LE(got, n);
    for (std::size_t i = 0; i < got; ++i) {
      work* const w = taken.pop_front();
      EXPECT_EQ(w, waiting_[i]);
      EXPECT_FALSE(w->keyed());
      EXPECT_TRUE(work_access::slot(*w) == 0 || std::ranges::find(looked_, w) != looked_.end());
      work_access::slot(*w) = 0;
    }
    EXPECT_TRUE(looked_.empty() || looked_.size() == got);
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(got));
    EXPECT_EQ(list_.size(), waiting_.size());
    return got;
  }
  void remove(std::size_t i) {
    list_.remove(*waiting_[i]);
    EXPECT_FALSE(waiting_[i]->keyed());
    work_access::slot(*waiting_[i]) = 0;
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  void give_back(work& w) {
    list_.push_front(w);
    waiting_.push_front(&w);
  }
  [[nodiscard]] bool unseen() const { return looked_.empty(); }

  batch_fifo list_;
  std::deque<work*> waiting_;
  std::deque<plain_work> works_;  // they stay where they are

 private:
  std::size_t make(std::size_t n) {
    const std::size_t first = works_.size();
    for (std::size_t i = 0; i < n; ++i) {
      waiting_.push_back(&works_.emplace_back());
    }
    return first;
  }

  std::vector<work*> looked_;
};

TEST_F(BatchFifo, AnInboxLeavesInBatchesThatNobodyLooksAt) {
  append(4 * batch);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(take(batch), batch);
    EXPECT_TRUE(unseen());
  }
  EXPECT_EQ(take(batch), 0U);
}

TEST_F(BatchFifo, BatchesReachOverWhatWasPutAtDifferentTimes) {
  append(batch - 28);
  append(3 * batch + 56);
  put(batch);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(take(batch), batch);
    EXPECT_TRUE(unseen());
  }
  EXPECT_EQ(take(batch), 28U);
  EXPECT_TRUE(unseen());
}

TEST_F(BatchFifo, LessThanABatchIsLookedAtAndTheNextBatchesAreNot) {
  append(3 * batch);
  EXPECT_EQ(take(batch / 2), batch / 2);
  EXPECT_FALSE(unseen());
  EXPECT_EQ(take(batch), batch / 2);  // up to where the next begins
  EXPECT_FALSE(unseen());
  EXPECT_EQ(take(batch), batch);
  EXPECT_TRUE(unseen());
}

TEST_F(BatchFifo, WhoHasAHandleIsLookedAt) {
  append(batch);
  put(1, 7);
  append(2 * batch);
  while (take(batch) != 0) {
  }
  append(batch);
  list_.look_at_each();  // a handle was given to one that waits
  EXPECT_EQ(take(batch), batch);
  EXPECT_FALSE(unseen());
}

TEST_F(BatchFifo, WhatIsTakenOutOrComesBackLeavesNoEndThatIsWrong) {
  append(2 * batch);
  remove(batch - 1);  // the end of the first
  EXPECT_EQ(take(batch), batch);
  EXPECT_EQ(take(batch), batch - 1);
  append(2 * batch);
  work& first = *waiting_.front();
  EXPECT_EQ(take(1), 1U);
  give_back(first);
  EXPECT_EQ(take(batch), batch);
  EXPECT_FALSE(unseen());
  EXPECT_EQ(take(batch), batch);
  EXPECT_TRUE(unseen());
}

TEST_F(BatchFifo, HoweverManyWaitBatchesAreTakenUnseen) {
  constexpr std::size_t batches = 4096;
  append(batches / 2 * batch + 1);
  put(1);
  append(batches / 2 * batch - 2);
  for (std::size_t i = 0; i < batches; ++i) {
    ASSERT_EQ(take(batch), batch);
    ASSERT_TRUE(unseen());
    if (i % 3 == 0) {
      append(2);  // in the end these are more than 21 batches
    }
  }
  while (waiting_.size() >= batch) {
    ASSERT_EQ(take(batch), batch);
    ASSERT_TRUE(unseen());
  }
  const std::size_t left = waiting_.size();
  EXPECT_EQ(take(batch), left);
  EXPECT_TRUE(unseen());
}

TEST_F(BatchFifo, WhoIsFirstOfABatchLeavesAloneWithoutItsEnd) {
  append(3 * batch);
  remove(batch);  // the first of the second
  remove(0);
  EXPECT_EQ(take(1), 1U);
  while (take(batch) != 0) {
    EXPECT_FALSE(unseen());
  }
}

TEST_F(BatchFifo, SaysHowManyWereTaken) {
  append(10);
  work& first = *waiting_.front();
  EXPECT_EQ(take(3), 3U);
  remove(2);  // not taken
  EXPECT_EQ(list_.taken(), 3);
  give_back(first);
  EXPECT_EQ(list_.taken(), 2);
  EXPECT_EQ(take(batch), 7U);
  EXPECT_EQ(list_.taken(), 9);
}

TEST_F(BatchFifo, AnyMixLeavesInOrder) {
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    const auto up_to = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(1, n)(random); };
    for (int step = 0; step < 2000; ++step) {
      switch (up_to(12)) {
        case 1:
          put(1, static_cast<std::uint32_t>(up_to(40) == 1));
          break;
        case 2:
          append(up_to(4 * batch));
          break;
        case 3:
          put(up_to(3));
          break;
        case 4:
          if (!waiting_.empty() && up_to(20) == 1) {
            remove(up_to(waiting_.size()) - 1);
          }
          break;
        case 5:
          if (!waiting_.empty() && up_to(10) == 1) {
            work& first = *waiting_.front();
            ASSERT_EQ(take(1), 1U);
            give_back(first);
          }
          break;
        case 6: {
          const bool none = waiting_.empty();
          ASSERT_EQ(take(up_to(batch)) == 0, none);
          break;
        }
        default:
          static_cast<void>(take(batch));
      }
    }
    while (take(batch) != 0) {
    }
    EXPECT_TRUE(waiting_.empty());
    works_.clear();
  }
}

}  // namespace
}  // namespace batch_fifo_test
}  // namespace sluice::detail
