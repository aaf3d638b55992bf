// Goal: a key's works leave in the order in which they came, and a batch is taken without a look at each only if all are
// plain (H2 H7).
// Method: the list alone, filled and emptied in each way that the engine has.
#include "wq/keyed/key_fifo.h"

#include <array>
#include <cstddef>
#include <vector>

#include <gtest/gtest.h>

namespace sluice::detail {
namespace key_fifo_test {
namespace {

struct numbered : work {
  std::size_t number = 0;
};

class KeyFifo : public testing::Test {
 protected:
  KeyFifo() {
    for (std::size_t i = 0; i < works_.size(); ++i) {
      works_[i].number = i;
    }
  }
  // The numbers of the works in `some`, which is empty then.
  static std::vector<std::size_t> numbers_of(work_fifo& some) {
    std::vector<std::size_t> found;
    while (work* const w = some.pop_front()) {
      found.push_back(static_cast<numbered&>(*w).number);
    }
    return found;
  }
  static std::vector<std::size_t> range(std::size_t first, std::size_t end) {
    std::vector<std::size_t> all;
    for (std::size_t i = first; i < end; ++i) {
      all.push_back(i);
    }
    return all;
  }
  void put(std::size_t first, std::size_t end, bool plain = true) {
    for (std::size_t i = first; i < end; ++i) {
      list_.push_back(works_[i], plain);
    }
  }
  std::vector<std::size_t> take() {
    work_fifo taken;
    const std::size_t n = list_.take_batch(taken);
    EXPECT_EQ(n, taken.size());
    return numbers_of(taken);
  }

  std::array<numbered, 3 * key_fifo::batch> works_;
  key_fifo list_;
};

TEST_F(KeyFifo, TakesAllOfAFew) {
  put(0, 3);
  EXPECT_EQ(take(), range(0, 3));
  EXPECT_TRUE(list_.empty());
  EXPECT_TRUE(take().empty());
}

TEST_F(KeyFifo, TakesABatchOfMany) {
  put(0, key_fifo::batch + 5);
  EXPECT_EQ(take(), range(0, key_fifo::batch));
  EXPECT_EQ(list_.size(), 5U);
  put(key_fifo::batch + 5, key_fifo::batch + 7);
  EXPECT_EQ(take(), range(key_fifo::batch, key_fifo::batch + 7));
}

// Where the second batch ends nobody has noted.
TEST_F(KeyFifo, LooksAtEachOfASecondBatch) {
  put(0, works_.size());
  EXPECT_EQ(take(), range(0, key_fifo::batch));
  EXPECT_TRUE(take().empty());
  EXPECT_EQ(list_.size(), works_.size() - key_fifo::batch);
  work_fifo taken;
  list_.split(key_fifo::batch, works_[2 * key_fifo::batch - 1], taken);
  EXPECT_EQ(numbers_of(taken), range(key_fifo::batch, 2 * key_fifo::batch));
  EXPECT_EQ(take(), range(2 * key_fifo::batch, works_.size()));
}

TEST_F(KeyFifo, OneThatIsNotPlainStopsIt) {
  put(0, 2);
  put(2, 3, false);
  put(3, 5);
  EXPECT_TRUE(take().empty());
  EXPECT_EQ(list_.size(), 5U);
  work_fifo taken;
  list_.split(5, works_[4], taken);
  EXPECT_EQ(numbers_of(taken), range(0, 5));
  put(5, 7);  // forgotten once it is empty
  EXPECT_EQ(take(), range(5, 7));
}

TEST_F(KeyFifo, OneThatIsPlainNoMoreStopsIt) {
  put(0, 3);
  list_.look_at_each();
  EXPECT_TRUE(take().empty());
  put(3, 4);
  EXPECT_TRUE(take().empty());
}

TEST_F(KeyFifo, OneThatWasTakenOutMovesTheEnd) {
  put(0, key_fifo::batch + 2);
  list_.remove(works_[1]);
  EXPECT_TRUE(take().empty());
  work_fifo taken;
  list_.split(key_fifo::batch, works_[key_fifo::batch], taken);
  std::vector<std::size_t> expected = range(0, key_fifo::batch + 1);
  expected.erase(expected.begin() + 1);
  EXPECT_EQ(numbers_of(taken), expected);
  EXPECT_EQ(take(), range(key_fifo::batch + 1, key_fifo::batch + 2));
}

TEST_F(KeyFifo, WhatComesBackGoesFirst) {
  put(0, 4);
  work_fifo taken;
  ASSERT_EQ(list_.take_batch(taken), 4U);
  put(4, 6);
  list_.prepend(taken);
  EXPECT_EQ(list_.front(), &works_[0]);
  EXPECT_TRUE(take().empty());  // those are looked at
  list_.split(6, works_[5], taken);
  EXPECT_EQ(numbers_of(taken), range(0, 6));
}

}  // namespace
}  // namespace key_fifo_test
}  // namespace sluice::detail
