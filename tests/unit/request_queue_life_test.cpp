// request_queue as a whole: quiesce, freeze, resize, set_elevator, remove, and a device that never answers. A gate
// holds requests on the worker; all waiting is for events.
#include <unistd.h>

#include <array>
#include <semaphore>
#include <thread>

#include <gtest/gtest.h>

#include "support/joined_threads.h"
#include "support/queue_helpers.h"

namespace request_queue_life_test {
namespace {

using namespace sluice;
using test::probe_request;

steady_time at_once() {
  return clock_seam::real().now();
}

TEST(RequestQueueLife, QuiescedNothingIsTriedOrBegun) {
  test::io_bench bench({.depth = 4}, 4);
  test::barrier_gate gate;
  gate.shut();
  probe_request running(&gate), quick, slow;
  quick.inline_ok = true;
  ASSERT_TRUE(bench.queue->submit(running, *bench.context).has_value());
  gate.await_arrivals(1);
  ASSERT_TRUE(bench.queue->quiesce().has_value()) << "does not wait for what runs";
  ASSERT_TRUE(bench.queue->quiesce().has_value()) << "nests";
  for (probe_request* each : {&quick, &slow}) {
    EXPECT_EQ(bench.queue->submit(*each, *bench.context).value(), issued::queued);
  }
  gate.open();
  EXPECT_EQ(running.wait(), 2) << "what runs goes on";
  bench.queue->unquiesce();
  EXPECT_EQ(quick.tries.load(std::memory_order_seq_cst) + slow.tries.load(std::memory_order_seq_cst), 0);
  EXPECT_EQ(bench.queue->stats().waiting, 2U);
  EXPECT_EQ(bench.queue->drain(at_once()).error(), error_of(ETIMEDOUT));
  bench.queue->unquiesce();
  EXPECT_EQ(quick.wait(), 2);
  EXPECT_EQ(slow.wait(), 2);
  EXPECT_EQ(bench.queue->submit(quick, *bench.context).value(), issued::completed);
}

TEST(RequestQueueLife, QuiesceWaitsForAttempts) {
  test::io_bench bench;
  test::barrier_gate gate;
  gate.shut();
  probe_request tried;
  tried.inline_ok = true;
  tried.in_try = [&] { gate.pass(); };
  test::joined_threads both([&] { gate.open(); });
  both.start([&] { EXPECT_EQ(bench.queue->submit(tried, *bench.context).value(), issued::completed); });
  gate.await_arrivals(1);
  EXPECT_EQ(bench.queue->quiesce(at_once()).error(), error_of(ETIMEDOUT));
  probe_request other;
  other.inline_ok = true;
  EXPECT_EQ(bench.queue->submit(other, *bench.context).value(), issued::completed) << "undone";
  both.start([&] { EXPECT_TRUE(bench.queue->quiesce().has_value()); });
  both.stop_and_join();
  bench.queue->unquiesce();
}

// What is in the io_wq already does not begin, and an attempt that ends in a quiesced queue goes nowhere.
TEST(RequestQueueLife, QuiescedWhatTheWorkersHaveDoesNotBegin) {
  test::io_bench bench({.depth = 4, .max_workers = 4}, 1);
  test::barrier_gate gate;
  gate.shut();
  probe_request running(&gate), pending;
  for (probe_request* each : {&running, &pending}) {
    ASSERT_TRUE(bench.queue->submit(*each, *bench.context).has_value());
  }
  gate.await_arrivals(1);
  ASSERT_TRUE(bench.queue->quiesce().has_value());
  gate.open();
  EXPECT_EQ(running.wait(), 2);
  // The only worker turns to `pending` now and puts it back; a work behind it proves that it did.
  std::binary_semaphore behind{0};
  ASSERT_TRUE(bench.wq->submit([&] { behind.release(); }).has_value());
  behind.acquire();
  EXPECT_EQ(pending.runs.load(std::memory_order_seq_cst), 0);
  EXPECT_EQ(bench.queue->stats().cut, 0U);
  bench.queue->unquiesce();
  EXPECT_EQ(pending.wait(), 2);
}

TEST(RequestQueueLife, FreezeWaitsForAllThatWasAcceptedAndHoldsTheRestAside) {
  test::io_bench bench({.depth = 1, .max_waiting = 3}, 2);
  test::barrier_gate gate;
  gate.shut();
  probe_request running(&gate), waiting(&gate), late, later, surplus;
  std::vector<int> order;  // written by one request at a time: the depth is 1
  late.then = [&](probe_request&) { order.push_back(1); };
  later.then = [&](probe_request&) { order.push_back(2); };
  for (probe_request* each : {&running, &waiting}) {
    ASSERT_TRUE(bench.queue->submit(*each, *bench.context).has_value());
  }
  gate.await_arrivals(1);
  EXPECT_EQ(bench.queue->freeze(at_once()).error(), error_of(ETIMEDOUT));
  std::atomic<bool> frozen{false};
  std::thread freezer([&] {
    EXPECT_TRUE(bench.queue->freeze().has_value());
    EXPECT_EQ(running.completions.load(std::memory_order_seq_cst), 1);
    EXPECT_EQ(waiting.completions.load(std::memory_order_seq_cst), 1);
    frozen.store(true, std::memory_order_seq_cst);
  });
  gate.open();
  freezer.join();
  ASSERT_TRUE(bench.queue->freeze(at_once()).has_value()) << "nests";
  for (probe_request* each : {&late, &later, &running}) {
    EXPECT_EQ(bench.queue->submit(*each, *bench.context).value(), issued::queued);
  }
  EXPECT_EQ(bench.queue->submit(surplus, *bench.context).error(), error_of(EAGAIN)) << "held aside, but bounded";
  bench.queue->unfreeze();
  EXPECT_EQ(late.tries.load(std::memory_order_seq_cst) + late.runs.load(std::memory_order_seq_cst), 0);
  EXPECT_EQ(bench.queue->stats().waiting, 3U);
  bench.queue->unfreeze();
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

// What is held aside was accepted: a freeze that comes later waits for it, until the earlier one lets it go.
TEST(RequestQueueLife, ASecondFreezeWaitsForWhatTheFirstHolds) {
  test::io_bench bench;
  probe_request held, late;
  ASSERT_TRUE(bench.queue->freeze().has_value());
  ASSERT_TRUE(bench.queue->submit(held, *bench.context).has_value());
  EXPECT_EQ(bench.queue->freeze(at_once()).error(), error_of(ETIMEDOUT));
  EXPECT_EQ(held.runs.load(std::memory_order_seq_cst), 0) << "undone, and the first one holds";
  std::thread second([&] {
    EXPECT_TRUE(bench.queue->freeze().has_value());
    EXPECT_EQ(held.completions.load(std::memory_order_seq_cst), 1);
    EXPECT_EQ(late.completions.load(std::memory_order_seq_cst), 0);
  });
  while (bench.queue->stats().freezes != 2) {
    std::this_thread::yield();
  }
  EXPECT_TRUE(bench.queue->submit(late, *bench.context).has_value());
  bench.queue->unfreeze();
  second.join();
  EXPECT_EQ(held.wait(), 2);
  EXPECT_EQ(bench.queue->stats().waiting, 1U) << "what came after the second one is held for it";
  bench.queue->unfreeze();
  EXPECT_EQ(late.wait(), 2);
}

TEST(RequestQueueLife, AFreezeThatIsGivenUpLetsTheOthersGoOn) {
  test::io_bench bench;
  std::array<probe_request, 3> all;
  ASSERT_TRUE(bench.queue->freeze().has_value());
  for (probe_request& each : all) {
    ASSERT_TRUE(bench.queue->submit(each, *bench.context).has_value());
    EXPECT_EQ(bench.queue->freeze(at_once()).error(), error_of(ETIMEDOUT));
  }
  EXPECT_EQ(bench.queue->stats().waiting, 3U);
  bench.queue->unfreeze();
  for (probe_request& each : all) {
    EXPECT_EQ(each.wait(), 2);
  }
  probe_request after;
  after.inline_ok = true;
  EXPECT_EQ(bench.queue->submit(after, *bench.context).value(), issued::completed) << "nothing is held any more";
}

// set_elevator, remove and stop of a frozen queue go by the first freeze alone.
TEST(RequestQueueLife, WhatIsHeldDoesNotKeepAnElevatorFromBeingChanged) {
  test::io_bench bench;
  probe_request held;
  ASSERT_TRUE(bench.queue->freeze().has_value());
  ASSERT_TRUE(bench.queue->submit(held, *bench.context).has_value());
  EXPECT_TRUE(bench.queue->set_elevator(nullptr, at_once()).has_value());
  EXPECT_EQ(held.runs.load(std::memory_order_seq_cst), 0);
  bench.queue->unfreeze();
  EXPECT_EQ(held.wait(), 2);
}

TEST(RequestQueueLife, HeldAsideCanBeCancelled) {
  test::io_bench bench;
  probe_request mine(nullptr, 7), other;
  ASSERT_TRUE(bench.queue->freeze().has_value());
  ASSERT_TRUE(bench.queue->submit(mine, *bench.context).has_value());
  ASSERT_TRUE(bench.queue->submit(other, *bench.context).has_value());
  EXPECT_EQ(bench.queue->cancel_owner(7), 1U);
  EXPECT_EQ(mine.result(), -ECANCELED);
  bench.queue->unfreeze();
  EXPECT_EQ(other.wait(), 2);
}

TEST(RequestQueueLife, ResizeLaunchesWhoWaitsAndShrinksAsSlotsEnd) {
  test::io_bench bench({.depth = 1, .max_workers = 4}, 4);
  EXPECT_EQ(bench.queue->resize(0).error(), error_of(EINVAL));
  EXPECT_EQ(bench.queue->resize(1U << 31).error(), error_of(EINVAL));
  test::barrier_gate gate;
  gate.shut();
  std::vector<std::unique_ptr<probe_request>> all;
  for (int i = 0; i < 5; ++i) {
    all.push_back(std::make_unique<probe_request>(&gate));
    ASSERT_TRUE(bench.queue->submit(*all.back(), *bench.context).has_value());
  }
  gate.await_arrivals(1);
  ASSERT_TRUE(bench.queue->resize(3).has_value());
  gate.await_arrivals(3);
  EXPECT_EQ(bench.queue->stats().in_flight, 3U);
  ASSERT_TRUE(bench.queue->resize(1).has_value());
  EXPECT_EQ(bench.queue->stats().in_flight, 3U) << "never waits";
  EXPECT_EQ(bench.queue->depth(), 1U);
  std::atomic<int> most{0};
  all[4]->in_run = [&](cancel_probe) {
    most.store(static_cast<int>(bench.queue->stats().in_flight), std::memory_order_seq_cst);
  };
  gate.open();
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(most.load(std::memory_order_seq_cst), 1);
}

TEST(RequestQueueLife, AnotherElevatorTakesOverWithAllThatWasHeldAside) {
  test::elevator_log first, second;
  test::io_bench bench({.depth = 1}, 2, std::make_unique<test::watching_elevator>(first));
  test::barrier_gate gate;
  gate.shut();
  probe_request running(&gate), late;
  ASSERT_TRUE(bench.queue->submit(running, *bench.context).has_value());
  gate.await_arrivals(1);
  EXPECT_EQ(bench.queue->set_elevator(nullptr, at_once()).error(), error_of(ETIMEDOUT));
  EXPECT_EQ(bench.queue->order().name(), "watching");
  EXPECT_EQ(bench.context->nr_io_cqs(), 1U);
  gate.open();
  ASSERT_TRUE(bench.queue->freeze().has_value());
  ASSERT_TRUE(bench.queue->submit(late, *bench.context).has_value());
  ASSERT_TRUE(bench.queue->set_elevator(std::make_unique<test::watching_elevator>(second)).has_value());
  EXPECT_EQ(first.exits, 1);
  EXPECT_EQ(first.served, 1);
  EXPECT_EQ(bench.context->nr_io_cqs(), 0U);
  bench.queue->unfreeze();
  EXPECT_EQ(late.wait(), 2);
  EXPECT_EQ(bench.context->nr_io_cqs(), 1U) << "it got a pair of the new one";
  ASSERT_TRUE(bench.queue->set_elevator(nullptr).has_value());
  EXPECT_EQ(second.inserted, 1);
  EXPECT_EQ(second.served, 1);
  EXPECT_EQ(bench.queue->order().name(), "none");
  ASSERT_TRUE(bench.queue->stop().has_value());
  EXPECT_EQ(bench.queue->set_elevator(nullptr).error(), error_of(ESHUTDOWN));
}

// O1: a context that exits while its request is held aside: accepted is accepted.
TEST(RequestQueueLife, HeldAsideIsDoneThoughItsContextHasExited) {
  test::elevator_log log;
  test::io_bench bench({}, 2, std::make_unique<test::watching_elevator>(log));
  probe_request orphan;
  {
    task other;
    const ref<io_context> gone = other.get_task_io_context(task_side::current).value();
    ASSERT_TRUE(bench.queue->freeze().has_value());
    ASSERT_TRUE(bench.queue->submit(orphan, *gone).has_value());
  }
  bench.queue->unfreeze();
  EXPECT_EQ(orphan.wait(), 2);
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(log.served, 1);
}

TEST(RequestQueueLife, RemoveAccountsForEveryRequest) {
  test::io_bench bench({.depth = 4, .max_workers = 4}, 2);
  test::barrier_gate gate;
  gate.shut();
  probe_request obeys(&gate), ignores(&gate), pending[2], waiting[3];
  obeys.obeys = true;
  for (probe_request* each : {&obeys, &ignores}) {
    each->has_bytes(64);
    ASSERT_TRUE(bench.queue->submit(*each, *bench.context).has_value());
  }
  gate.await_arrivals(2);  // both workers are taken
  for (probe_request& each : pending) {
    ASSERT_TRUE(bench.queue->submit(each, *bench.context).has_value());
  }
  for (probe_request& each : waiting) {
    ASSERT_TRUE(bench.queue->submit(each, *bench.context).has_value());
  }
  removal_report report = bench.queue->remove(at_once());
  EXPECT_EQ(report.cancelled, 5U);
  EXPECT_EQ(report.stuck, 2U);
  EXPECT_EQ(report.answered + report.interrupted, 0U);
  for (probe_request* each : {&pending[0], &pending[1], &waiting[0], &waiting[1], &waiting[2]}) {
    EXPECT_EQ(each->completions.load(std::memory_order_seq_cst), 1);
    EXPECT_EQ(each->result(), -ENODEV);
    EXPECT_EQ(each->runs.load(std::memory_order_seq_cst), 0);
  }
  EXPECT_EQ(bench.queue->submit(pending[0], *bench.context).error(), error_of(ENODEV));
  EXPECT_EQ(bench.queue->set_elevator(nullptr, at_once()).error(), error_of(ETIMEDOUT));
  gate.open();
  report = bench.queue->remove();
  EXPECT_EQ(obeys.result(), -ENODEV);
  EXPECT_EQ(ignores.result(), 2) << "it ran to its end";
  EXPECT_EQ(report.cancelled, 5U);
  EXPECT_EQ(report.interrupted, 1U);
  EXPECT_EQ(report.answered, 1U);
  EXPECT_EQ(report.stuck, 0U);
  EXPECT_EQ(bench.queue->stats().removed, 6U);
  EXPECT_EQ(bench.queue->set_elevator(nullptr).error(), error_of(ENODEV));
}

TEST(RequestQueueLife, RemoveInterruptsASystemCall) {
  test::io_bench bench({}, 1);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  std::binary_semaphore inside{0};
  probe_request blocked;
  blocked.obeys = true;
  blocked.in_run = [&](cancel_probe probe) {
    inside.release();
    char byte = 0;
    while (!probe.cancelled() && ::read(ends[0], &byte, 1) < 0) {  // nobody writes
    }
  };
  ASSERT_TRUE(bench.queue->submit(blocked, *bench.context).has_value());
  inside.acquire();
  const removal_report report = bench.queue->remove();
  EXPECT_EQ(report.interrupted, 1U);
  EXPECT_EQ(report.stuck, 0U);
  EXPECT_EQ(blocked.result(), -ENODEV);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(RequestQueueLife, RemoveOfAFrozenAndQuiescedQueueAnswersAll) {
  test::elevator_log log;
  test::io_bench bench({.depth = 1}, 1, std::make_unique<test::watching_elevator>(log));
  probe_request waiting, aside;
  ASSERT_TRUE(bench.queue->quiesce().has_value());
  ASSERT_TRUE(bench.queue->submit(waiting, *bench.context).has_value());
  EXPECT_EQ(bench.queue->freeze(at_once()).error(), error_of(ETIMEDOUT)) << "waits on, for unquiesce";
  test::joined_threads freezer([&] { static_cast<void>(bench.queue->remove()); });
  freezer.start([&] { EXPECT_TRUE(bench.queue->freeze().has_value()); });
  while (bench.queue->stats().freezes == 0) {
    std::this_thread::yield();
  }
  ASSERT_TRUE(bench.queue->submit(aside, *bench.context).has_value());
  const removal_report report = bench.queue->remove();
  EXPECT_EQ(report.cancelled, 2U);
  freezer.join();
  bench.queue->unfreeze();
  bench.queue->unquiesce();
  EXPECT_EQ(waiting.result(), -ENODEV);
  EXPECT_EQ(aside.result(), -ENODEV);
  EXPECT_EQ(bench.context->nr_io_cqs(), 0U) << "the pairs ended with it";
  EXPECT_EQ(bench.queue->get_io_cq(*bench.context).error(), error_of(ESHUTDOWN));
}

// The last request of a removed queue keeps it, and ends its pairs.
TEST(RequestQueueLife, AStuckRequestComesBackLateAndOnce) {
  test::elevator_log log;
  const ref<io_wq> wq = io_wq::create({.max_bound = 1, .max_unbound = 1, .name = "test"}).value();
  task self;
  const ref<io_context> context = self.get_task_io_context(task_side::current).value();
  test::barrier_gate gate;
  gate.shut();
  probe_request stuck(&gate);
  {
    const ref<request_queue> queue =
        request_queue::create(*wq, {}, std::make_unique<test::watching_elevator>(log)).value();
    ASSERT_TRUE(queue->submit(stuck, *context).has_value());
    gate.await_arrivals(1);
    EXPECT_EQ(queue->remove(at_once()).stuck, 1U);
  }
  EXPECT_EQ(context->nr_io_cqs(), 1U);
  gate.open();
  EXPECT_EQ(stuck.wait(), 2);
  static_cast<void>(wq->stop(stop_policy::run_queued));
  EXPECT_EQ(context->nr_io_cqs(), 0U);
  EXPECT_EQ(log.exits, 1);
  EXPECT_EQ(stuck.completions.load(std::memory_order_seq_cst), 1);
}

// The failure domain: a device that never answers holds its share of the workers, and no more.
TEST(RequestQueueLife, ADeadDeviceLeavesTheOthersTheirWorkers) {
  test::io_bench dead({.depth = 64}, 4);
  EXPECT_EQ(dead.queue->max_workers(), 3U);
  test::barrier_gate never;
  never.shut();
  std::vector<std::unique_ptr<probe_request>> lost;
  for (int i = 0; i < 20; ++i) {
    lost.push_back(std::make_unique<probe_request>(&never));
    ASSERT_TRUE(dead.queue->submit(*lost.back(), *dead.context).has_value());
  }
  never.await_arrivals(3);
  probe_request quick;
  quick.inline_ok = true;
  EXPECT_EQ(dead.queue->submit(quick, *dead.context).value(), issued::completed) << "needs no worker";
  std::vector<ref<request_queue>> healthy;
  for (int i = 0; i < 3; ++i) {
    healthy.push_back(request_queue::create(*dead.wq).value());
    for (int j = 0; j < 50; ++j) {
      probe_request ok;
      ASSERT_EQ(healthy.back()->submit(ok, *dead.context).value(), issued::queued);
      EXPECT_EQ(ok.wait(), 2);
    }
    ASSERT_TRUE(healthy.back()->stop().has_value());
  }
  EXPECT_EQ(dead.queue->stats().on_workers, 3U);
  removal_report report = dead.queue->remove(at_once());
  EXPECT_EQ(report.cancelled, 17U);
  EXPECT_EQ(report.stuck, 3U);
  never.open();
  report = dead.queue->remove();
  EXPECT_EQ(report.cancelled + report.answered + report.interrupted, 20U);
  EXPECT_EQ(report.stuck, 0U);
  for (auto& each : lost) {
    EXPECT_EQ(each->completions.load(std::memory_order_seq_cst), 1);
  }
}

TEST(RequestQueueLifeDeathTest, UnfreezeAndUnquiesceNeedTheirPartner) {
  test::io_bench bench;
  EXPECT_DEATH(bench.queue->unfreeze(), "without a freeze");
  EXPECT_DEATH(bench.queue->unquiesce(), "without a quiesce");
}

}  // namespace
}  // namespace request_queue_life_test
