// elevator: the FIFO that requests wait in, and the elevator `none` on top of it.
#include "sluice/ioc/elevator.h"

#include <gtest/gtest.h>

namespace elevator_test {
namespace {

using namespace sluice;

struct numbered : request {
  explicit numbered(int value, std::uint64_t owner = 0) : number(value) { set_owner(owner); }
  int number;
};

int number_of(request* each) {
  return each == nullptr ? -1 : static_cast<numbered*>(each)->number;
}

TEST(RequestFifo, GivesInTheOrderOfPushes) {
  request_fifo list;
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(list.pop(), nullptr);
  numbered one{1}, two{2}, three{3};
  list.push(one);
  list.push(two);
  EXPECT_EQ(number_of(list.pop()), 1);
  list.push(three);
  EXPECT_EQ(number_of(list.pop()), 2);
  EXPECT_EQ(number_of(list.pop()), 3);
  EXPECT_TRUE(list.empty());
  list.push(one);
  EXPECT_EQ(number_of(list.pop()), 1) << "an emptied list starts anew";
}

TEST(RequestFifo, ExtractsOneOwnerFromHeadMiddleAndTail) {
  request_fifo list;
  numbered a{1, 7}, b{2, 8}, c{3, 7}, d{4, 8}, e{5, 7};
  for (numbered* each : {&a, &b, &c, &d, &e}) {
    list.push(*each);
  }
  request_fifo taken;
  EXPECT_EQ(list.extract_owner(7, taken), 3U);
  EXPECT_EQ(list.extract_owner(7, taken), 0U);
  for (const int expected : {1, 3, 5, -1}) {
    EXPECT_EQ(number_of(taken.pop()), expected);
  }
  list.push(a);
  for (const int expected : {2, 4, 1, -1}) {
    EXPECT_EQ(number_of(list.pop()), expected);
  }
}

TEST(NoneElevator, IsAFifoThatKnowsNoContexts) {
  const std::unique_ptr<elevator> order = make_none_elevator();
  EXPECT_EQ(order->name(), "none");
  EXPECT_EQ(order->use(), io_cq_use::unused);
  EXPECT_TRUE(order->empty_locked());
  EXPECT_EQ(order->next_locked({}).next, nullptr);
  numbered one{1, 5}, two{2, 6}, three{3, 5};
  for (numbered* each : {&one, &two, &three}) {
    order->insert_locked(*each, nullptr);
  }
  request_fifo taken;
  EXPECT_EQ(order->extract_owner_locked(6, taken), 1U);
  EXPECT_EQ(number_of(taken.pop()), 2);
  EXPECT_FALSE(order->empty_locked());
  EXPECT_EQ(number_of(order->next_locked({}).next), 1);
  EXPECT_EQ(number_of(order->next_locked({}).next), 3);
  EXPECT_TRUE(order->empty_locked());
}

TEST(NoneElevator, WhatComesAgainGoesBehindTheOthers) {
  const std::unique_ptr<elevator> order = make_none_elevator();
  numbered large{1}, small{2}, late{3};
  order->insert_locked(large, nullptr);
  order->insert_locked(small, nullptr);
  EXPECT_EQ(number_of(order->next_locked({}).next), 1);
  order->insert_again_locked(large, nullptr);
  EXPECT_EQ(number_of(order->next_locked({}).next), 2);
  order->insert_locked(late, nullptr);
  request_fifo taken;
  EXPECT_EQ(order->extract_all_locked(taken), 2U);
  EXPECT_TRUE(order->empty_locked());
  EXPECT_EQ(order->next_locked({}).ask_again, no_deadline);
  for (const int expected : {1, 3, -1}) {
    EXPECT_EQ(number_of(taken.pop()), expected);
  }
}

}  // namespace
}  // namespace elevator_test
