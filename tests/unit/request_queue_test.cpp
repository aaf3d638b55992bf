// request_queue: inline or queued, depth and waiting, refusal, cancel by owner, drain and stop. The requests are
// closures that a gate holds on the worker; all waiting is for events, none for time.
#include "sluice/ioc/request_queue.h"

#include <gtest/gtest.h>

#include "sluice/ioc/slot_counter.h"

#include "support/io_helpers.h"

namespace request_queue_test {
namespace {

using namespace sluice;

struct probe_request : request {
  static attempt try_run(request& base) noexcept {
    auto& mine = static_cast<probe_request&>(base);
    mine.tries.fetch_add(1, std::memory_order_seq_cst);
    if (mine.inline_ok) {
      mine.set_result(1);
      return attempt::done;
    }
    return attempt::would_block;
  }
  static void run(request& base, std::uint64_t, cancel_probe) noexcept {
    auto& mine = static_cast<probe_request&>(base);
    if (mine.gate != nullptr) {
      mine.gate->pass();
    }
    mine.set_result(2);
  }
  static void complete(request& base) noexcept {
    auto& mine = static_cast<probe_request&>(base);
    mine.completions.fetch_add(1, std::memory_order_seq_cst);
    if (mine.then) {
      mine.then(mine);
    }
    mine.sleeper.wake();
  }
  static constexpr request_ops ops{.try_run = try_run, .run = run, .complete = complete};

  explicit probe_request(test::barrier_gate* hold = nullptr, std::uint64_t owner = 0) : gate(hold) {
    set_request_ops(ops);
    set_owner(owner);
  }
  std::int64_t wait() {
    sleeper.park();
    return result();
  }

  test::barrier_gate* gate;
  bool inline_ok = false;
  std::function<void(probe_request&)> then;
  std::atomic<int> tries{0};
  std::atomic<int> completions{0};
  parker sleeper;
};

TEST(RequestQueue, DoesInsideSubmitWhatNeedNotBlock) {
  test::io_bench bench;
  probe_request quick;
  quick.inline_ok = true;
  for (int i = 1; i <= 3; ++i) {
    EXPECT_EQ(bench.queue->submit(quick, *bench.context).value(), issued::completed);
    EXPECT_EQ(quick.result(), 1);
    EXPECT_EQ(quick.tries.load(std::memory_order_seq_cst), i);
  }
  EXPECT_EQ(quick.completions.load(std::memory_order_seq_cst), 0) << "completed: no callback";
  const request_queue_stats figures = bench.queue->stats();
  EXPECT_EQ(figures.inline_done, 3U);
  EXPECT_EQ(figures.punted, 0U);
  EXPECT_EQ(figures.in_flight, 0U);
}

// W1: what is queued runs once and completes once.
TEST(RequestQueue, SendsTheRestToAWorkerAndCompletesOnce) {
  test::io_bench bench;
  probe_request slow;
  for (int i = 1; i <= 3; ++i) {
    EXPECT_EQ(bench.queue->submit(slow, *bench.context).value(), issued::queued);
    EXPECT_EQ(slow.wait(), 2);
    EXPECT_EQ(slow.completions.load(std::memory_order_seq_cst), i);
  }
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(bench.queue->stats().punted, 3U);
  EXPECT_EQ(bench.context->use_count(), 2U) << "requests that are over hold no count";
}

TEST(RequestQueue, HoldsTheRestInOrderWhenTheDepthIsReached) {
  test::io_bench bench({.depth = 2, .max_waiting = 8, .max_workers = 2}, 1);
  test::barrier_gate gate;
  gate.shut();
  std::vector<int> order;  // written by the one worker only
  std::vector<std::unique_ptr<probe_request>> all;
  for (int i = 0; i < 6; ++i) {
    all.push_back(std::make_unique<probe_request>(&gate));
    all.back()->then = [&order, i](probe_request&) { order.push_back(i); };
    EXPECT_EQ(bench.queue->submit(*all.back(), *bench.context).value(), issued::queued);
  }
  gate.await_arrivals(1);
  EXPECT_EQ(bench.queue->stats().in_flight, 2U);
  EXPECT_EQ(bench.queue->stats().waited, 4U);
  EXPECT_EQ(all[5]->tries.load(std::memory_order_seq_cst), 0) << "what waits is not tried";
  gate.open();
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5}));
}

// The pool knows on whose behalf it works: with one worker the urgent context's request overtakes.
TEST(RequestQueue, TheContextsClassDecidesWhoWaitsInThePool) {
  test::io_bench bench({.depth = 8, .max_workers = 8}, 1);
  test::barrier_gate gate;
  gate.shut();
  task urgent_task;
  const ref<io_context> urgent = urgent_task.get_task_io_context(task_side::current).value();
  urgent->set_ioprio({ioprio_class::rt, 0});
  std::vector<std::string> order;  // written by the one worker only
  probe_request holds(&gate), plain, first;
  plain.then = [&](probe_request&) { order.emplace_back("plain"); };
  first.then = [&](probe_request&) { order.emplace_back("urgent"); };
  ASSERT_EQ(bench.queue->submit(holds, *bench.context).value(), issued::queued);
  gate.await_arrivals(1);
  ASSERT_EQ(bench.queue->submit(plain, *bench.context).value(), issued::queued);
  ASSERT_EQ(bench.queue->submit(first, *urgent).value(), issued::queued);
  gate.open();
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(order, (std::vector<std::string>{"urgent", "plain"}));
}

// W6: refused is untouched: no run, no callback.
TEST(RequestQueue, RefusesBeyondMaxWaiting) {
  test::io_bench bench({.depth = 1, .max_waiting = 1}, 1);
  test::barrier_gate gate;
  gate.shut();
  probe_request running(&gate), waiting(&gate), surplus(&gate);
  ASSERT_TRUE(bench.queue->submit(running, *bench.context).has_value());
  ASSERT_TRUE(bench.queue->submit(waiting, *bench.context).has_value());
  EXPECT_EQ(bench.queue->submit(surplus, *bench.context).error(), error_of(EAGAIN));
  gate.open();
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(surplus.completions.load(std::memory_order_seq_cst), 0);
  EXPECT_EQ(bench.queue->submit(surplus, *bench.context).value(), issued::queued) << "it was left idle";
  EXPECT_EQ(surplus.wait(), 2);
}

TEST(RequestQueue, ACompletionMaySubmitTheSameRequestAgain) {
  test::io_bench bench({.depth = 1});
  probe_request again;
  std::atomic<int> left{20};
  again.then = [&](probe_request& self) {
    if (left.fetch_sub(1, std::memory_order_seq_cst) > 1) {
      EXPECT_EQ(bench.queue->submit(self, *bench.context).value(), issued::queued);
    }
  };
  ASSERT_TRUE(bench.queue->submit(again, *bench.context).has_value());
  while (again.completions.load(std::memory_order_seq_cst) < 20) {
    again.sleeper.park();
  }
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(again.completions.load(std::memory_order_seq_cst), 20);
}

TEST(RequestQueue, StopRefusesAndWaits) {
  test::io_bench bench({.depth = 1}, 1);
  test::barrier_gate gate;
  gate.shut();
  probe_request running(&gate), waiting, late;
  ASSERT_TRUE(bench.queue->submit(running, *bench.context).has_value());
  ASSERT_TRUE(bench.queue->submit(waiting, *bench.context).has_value());
  gate.await_arrivals(1);
  EXPECT_EQ(bench.queue->stop(clock_seam::real().now()).error(), error_of(ETIMEDOUT));
  EXPECT_EQ(bench.queue->submit(late, *bench.context).error(), error_of(ESHUTDOWN));
  gate.open();
  EXPECT_TRUE(bench.queue->stop().has_value());
  EXPECT_EQ(running.completions.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(waiting.completions.load(std::memory_order_seq_cst), 1) << "accepted before the stop: runs";
  EXPECT_EQ(late.completions.load(std::memory_order_seq_cst), 0);
  EXPECT_TRUE(bench.queue->stop().has_value()) << "idempotent";
}

TEST(RequestQueue, DrainWaitsAndLeavesItOpen) {
  test::io_bench bench;
  test::barrier_gate gate;
  gate.shut();
  probe_request held(&gate);
  ASSERT_TRUE(bench.queue->submit(held, *bench.context).has_value());
  EXPECT_EQ(bench.queue->drain(clock_seam::real().now()).error(), error_of(ETIMEDOUT));
  gate.open();
  EXPECT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(held.completions.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(bench.queue->submit(held, *bench.context).value(), issued::queued);
  ASSERT_TRUE(bench.queue->drain().has_value());
}

TEST(RequestQueue, CancelOwnerAnswersWhatDoesNotRunYet) {
  test::io_bench bench({.depth = 2}, 1);
  test::barrier_gate gate;
  gate.shut();
  probe_request running(&gate, 7), pending(&gate, 7), waiting(&gate, 7), stranger(&gate, 8);
  for (probe_request* each : {&running, &pending, &waiting, &stranger}) {
    ASSERT_TRUE(bench.queue->submit(*each, *bench.context).has_value());
  }
  gate.await_arrivals(1);  // `running` is on the only worker; `pending` holds the other slot; the rest waits
  EXPECT_EQ(bench.queue->cancel_owner(7), 2U);
  EXPECT_EQ(pending.result(), -ECANCELED);
  EXPECT_EQ(waiting.result(), -ECANCELED);
  EXPECT_EQ(pending.completions.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(waiting.completions.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(running.completions.load(std::memory_order_seq_cst), 0);
  gate.open();
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(running.result(), 2) << "what runs finishes as usual";
  EXPECT_EQ(stranger.result(), 2) << "and takes the slot that came free";
  EXPECT_EQ(bench.queue->cancel_owner(7), 0U);
  EXPECT_EQ(bench.queue->stats().cancelled, 2U);
}

// W6: a wq that has stopped refuses; the slot comes back, and who waited for it is told.
TEST(RequestQueue, AWqThatRefusesIsReportedToTheSubmitter) {
  test::io_bench bench({.depth = 1});
  static_cast<void>(bench.wq->stop(stop_policy::run_queued));
  probe_request any;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(bench.queue->submit(any, *bench.context).error(), error_of(ESHUTDOWN));
  }
  EXPECT_EQ(any.completions.load(std::memory_order_seq_cst), 0);
  EXPECT_EQ(bench.queue->stats().in_flight, 0U);
  any.inline_ok = true;
  EXPECT_EQ(bench.queue->submit(any, *bench.context).value(), issued::completed) << "needs no worker";
}

TEST(RequestQueue, WaitingRequestsAreAnsweredWhenTheWqHasStopped) {
  test::io_bench bench({.depth = 1}, 1);
  test::barrier_gate gate;
  gate.shut();
  probe_request running(&gate), waiting, behind;
  ASSERT_TRUE(bench.queue->submit(running, *bench.context).has_value());
  ASSERT_TRUE(bench.queue->submit(waiting, *bench.context).has_value());
  ASSERT_TRUE(bench.queue->submit(behind, *bench.context).has_value());
  gate.await_arrivals(1);
  // The stop is refused by its deadline but submits are refused from here.
  EXPECT_FALSE(bench.wq->stop(stop_policy::run_queued, clock_seam::real().now()).finished);
  gate.open();
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(running.result(), 2);
  EXPECT_EQ(waiting.result(), -ESHUTDOWN);
  EXPECT_EQ(behind.result(), -ESHUTDOWN);
  EXPECT_EQ(behind.completions.load(std::memory_order_seq_cst), 1);
}

TEST(RequestQueue, RefusesSenselessLimits) {
  test::io_bench bench;
  EXPECT_EQ(request_queue::create(*bench.wq, {.depth = 0}).error(), error_of(EINVAL));
  EXPECT_EQ(request_queue::create(*bench.wq, {.max_waiting = 0}).error(), error_of(EINVAL));
  EXPECT_EQ(request_queue::create(*bench.wq, {.depth = 1U << 31}).error(), error_of(EINVAL));
}

TEST(RequestQueue, IdsAreNeverTheSame) {
  test::io_bench bench;
  std::uint64_t last = bench.queue->id();
  for (int i = 0; i < 10; ++i) {
    const ref<request_queue> other = request_queue::create(*bench.wq).value();
    EXPECT_GT(other->id(), last);
    last = other->id();
  }
}

TEST(SlotCounter, CountsAloneUntilFrozenThenUnderTheLockOnly) {
  basic_slot_counter<os_sync> slots;
  EXPECT_TRUE(slots.try_take(2));
  EXPECT_TRUE(slots.try_take(2));
  EXPECT_FALSE(slots.try_take(2));
  EXPECT_TRUE(slots.try_give());
  slots.freeze_locked();
  slots.freeze_locked();
  EXPECT_FALSE(slots.try_take(2));
  EXPECT_FALSE(slots.try_give());
  EXPECT_EQ(slots.count(), 1U);
  slots.take_locked(3);
  slots.give_locked();
  EXPECT_EQ(slots.count(), 3U);
  slots.thaw_locked();
  EXPECT_TRUE(slots.try_give());
  EXPECT_FALSE(slots.try_take(2));
  EXPECT_EQ(slots.count(), 2U);
}

}  // namespace
}  // namespace request_queue_test
