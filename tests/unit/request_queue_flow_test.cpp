// request_queue between its requests: quanta, a cap's time, what an elevator is told, figures per context. Gates hold
// requests; the clock is the test's own where time matters.
#include <deque>
#include <semaphore>

#include <gtest/gtest.h>

#include "sluice/ioc/fair.h"

#include "support/queue_helpers.h"

namespace request_queue_flow_test {
namespace {

using namespace sluice;
using std::chrono::hours;
using test::probe_request;

TEST(RequestQueueFlow, ASmallRequestWaitsForAQuantumOfALargeOne) {
  test::io_bench bench({.depth = 1, .quantum = 1000}, 1);
  test::barrier_gate gate;
  gate.shut();
  std::vector<int> order;  // the depth is 1
  probe_request large(&gate), small;
  large.has_bytes(10'000);
  large.in_run = [&](cancel_probe) { order.push_back(1); };
  small.in_run = [&](cancel_probe) { order.push_back(2); };
  ASSERT_TRUE(bench.queue->submit(large, *bench.context).has_value());
  gate.await_arrivals(1);
  ASSERT_TRUE(bench.queue->submit(small, *bench.context).has_value());
  gate.open();
  EXPECT_EQ(large.wait(), 2);
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(order, (std::vector<int>{1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(large.completions.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(bench.queue->stats().cut, 1U) << "alone, it goes on in the worker";
  EXPECT_EQ(bench.queue->stats().bytes, 10'000U);
}

TEST(RequestQueueFlow, AQuantumOf0CutsNothing) {
  test::io_bench bench({.depth = 1, .quantum = 0}, 1);
  test::barrier_gate gate;
  gate.shut();
  probe_request large(&gate), small;
  large.has_bytes(1U << 30);
  ASSERT_TRUE(bench.queue->submit(large, *bench.context).has_value());
  gate.await_arrivals(1);
  ASSERT_TRUE(bench.queue->submit(small, *bench.context).has_value());
  gate.open();
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(large.runs.load(std::memory_order_seq_cst), 1);
}

TEST(RequestQueueFlow, LargeRequestsTakeTurns) {
  test::io_bench bench({.depth = 1, .quantum = 100}, 1);
  test::barrier_gate gate;
  gate.shut();
  std::vector<int> order;
  probe_request all[3] = {probe_request(&gate), probe_request(&gate), probe_request(&gate)};
  for (int i = 0; i < 3; ++i) {
    all[i].has_bytes(300);
    all[i].in_run = [&order, i](cancel_probe) { order.push_back(i); };
    ASSERT_TRUE(bench.queue->submit(all[i], *bench.context).has_value());
  }
  gate.await_arrivals(1);
  gate.open();
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 0, 1, 2, 0, 1, 2}));
}

TEST(RequestQueueFlow, BetweenTwoQuantaARequestCanBeCancelled) {
  test::io_bench bench({.depth = 1, .quantum = 100}, 1);
  test::barrier_gate gate, second;
  gate.shut();
  second.shut();
  probe_request large(&gate, 7), small(&second);
  large.has_bytes(300);
  ASSERT_TRUE(bench.queue->submit(large, *bench.context).has_value());
  gate.await_arrivals(1);
  ASSERT_TRUE(bench.queue->submit(small, *bench.context).has_value());
  gate.open();
  second.await_arrivals(1);  // so `large` waits
  EXPECT_EQ(bench.queue->cancel_owner(7), 1U);
  EXPECT_EQ(large.result(), -ECANCELED);
  EXPECT_EQ(large.bytes_left(), 200U);
  second.open();
  EXPECT_EQ(small.wait(), 2);
}

// A transfer through an open file arrives whole, however it is cut.
TEST(RequestQueueFlow, AnOpenFilesTransferArrivesWholeThroughItsQuanta) {
  auto [target, device] = test::make_gated_device(1 << 20);
  test::io_bench bench({.depth = 1, .quantum = 4096}, 2);
  const ref<open_file> file = open_file::open(target, bench.queue, access_mode::read_write).value();
  device->inline_bytes.store(1000, std::memory_order_seq_cst);  // the attempt moves a part as well
  test::awaited_request writes, reads, small;
  test::fill(writes, io_op::write, 512, 100'000);
  for (std::size_t i = 0; i < writes.space.size(); ++i) {
    writes.space[i] = static_cast<std::byte>(i * 7);
  }
  test::fill(small, io_op::flush, 0, 0);
  device->gate.shut();
  ASSERT_EQ(file->submit(writes, *bench.context).value(), issued::queued);
  device->gate.await_arrivals(1);
  ASSERT_EQ(file->submit(small, *bench.context).value(), issued::queued);
  device->gate.open();
  EXPECT_EQ(writes.wait(), 100'000);
  EXPECT_EQ(small.wait(), 0);
  EXPECT_EQ(device->operations.load(std::memory_order_seq_cst), 26) << "99 000 bytes in 25 quanta, and the flush";
  test::fill(reads, io_op::read, 512, 100'000, io_flags::no_inline);
  ASSERT_EQ(file->submit(reads, *bench.context).value(), issued::queued);
  EXPECT_EQ(reads.wait(), 100'000);
  EXPECT_EQ(reads.space, writes.space);
}

TEST(RequestQueueFlow, AnErrorInAQuantumEndsTheRequest) {
  auto [target, device] = test::make_gated_device(1 << 20);
  test::io_bench bench({.quantum = 4096}, 2);
  const ref<open_file> file = open_file::open(target, bench.queue, access_mode::read_write).value();
  device->next_error.store(EIO, std::memory_order_seq_cst);
  test::awaited_request reads;
  test::fill(reads, io_op::read, 0, 100'000);
  ASSERT_EQ(file->submit(reads, *bench.context).value(), issued::queued);
  EXPECT_EQ(reads.wait(), -EIO);
  EXPECT_EQ(device->operations.load(std::memory_order_seq_cst), 1);
}

// What elevator.h promises: each that is let go is served once, with what it moved.
TEST(RequestQueueFlow, AnElevatorIsAskedAndToldOfEverything) {
  test::elevator_log log;
  auto made = std::make_unique<test::watching_elevator>(log);
  test::watching_elevator& order = *made;
  test::io_bench bench({.depth = 1, .quantum = 100}, 1, std::move(made));
  probe_request quick;
  quick.inline_ok = true;
  quick.has_bytes(50);
  EXPECT_EQ(bench.queue->submit(quick, *bench.context).value(), issued::completed);
  EXPECT_EQ(log.asked, 1);
  EXPECT_EQ(log.served, 1);
  EXPECT_EQ(log.bytes, 50U);
  EXPECT_EQ(log.inserted, 0) << "let go without being inserted";

  order.refuses.store(true, std::memory_order_seq_cst);
  quick.has_bytes(50);
  EXPECT_EQ(bench.queue->submit(quick, *bench.context).value(), issued::completed) << "inserted, picked, tried";
  EXPECT_EQ(log.inserted, 1);
  EXPECT_EQ(log.picked, 1);
  EXPECT_EQ(log.served, 2);
  order.refuses.store(false, std::memory_order_seq_cst);

  test::barrier_gate gate;
  gate.shut();
  probe_request large(&gate), small(&gate);
  large.has_bytes(250);
  ASSERT_TRUE(bench.queue->submit(large, *bench.context).has_value());
  gate.await_arrivals(1);
  ASSERT_TRUE(bench.queue->submit(small, *bench.context).has_value());
  gate.open();
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(log.inserted_again, 1);
  EXPECT_EQ(log.asked + log.picked, log.served + 1) << "the first no was one question more";
  EXPECT_EQ(log.bytes, 350U);
}

// A request that is tried and finds all workers taken goes back, charged with what the attempt moved.
TEST(RequestQueueFlow, WithoutAWorkerItIsServedAndInserted) {
  test::elevator_log log;
  test::io_bench bench({.depth = 8, .max_workers = 1}, 4, std::make_unique<test::watching_elevator>(log));
  test::barrier_gate gate;
  gate.shut();
  probe_request running(&gate), waits;
  ASSERT_TRUE(bench.queue->submit(running, *bench.context).has_value());
  gate.await_arrivals(1);
  ASSERT_EQ(bench.queue->submit(waits, *bench.context).value(), issued::queued);
  EXPECT_EQ(waits.tries.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(bench.queue->stats().waiting, 1U);
  EXPECT_EQ(bench.queue->stats().in_flight, 1U);
  gate.open();
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(log.inserted, 1);
  EXPECT_EQ(log.served, 3);
}

TEST(RequestQueueFlow, ACapsTimeComesWithoutAnybodysHelp) {
  test::moved_clock clock;
  const ref<io_wq> wq = io_wq::create({.max_bound = 1, .name = "test", .clock = &clock}).value();
  test::elevator_log log;
  auto made = std::make_unique<test::watching_elevator>(log);
  test::watching_elevator& order = *made;
  const ref<request_queue> queue = request_queue::create(*wq, {.clock = &clock}, std::move(made)).value();
  task self;
  const ref<io_context> context = self.get_task_io_context(task_side::current).value();
  order.refuses.store(true, std::memory_order_seq_cst);
  order.not_before.store(clock.now() + hours(1), std::memory_order_seq_cst);
  probe_request capped[3];
  for (probe_request& each : capped) {
    EXPECT_EQ(queue->submit(each, *context).value(), issued::queued);
  }
  test::make_manager_look(*wq);
  EXPECT_EQ(queue->stats().waiting, 3U);
  EXPECT_EQ(capped[0].runs.load(std::memory_order_seq_cst), 0);
  clock.at.fetch_add(std::chrono::nanoseconds(hours(1)).count(), std::memory_order_seq_cst);
  test::make_manager_look(*wq);
  for (probe_request& each : capped) {
    EXPECT_EQ(each.wait(), 2);
  }
  ASSERT_TRUE(queue->drain().has_value());
  const io_cq_stats used = queue->stats_of(*context);
  EXPECT_EQ(used.waits, 3U);
  EXPECT_EQ(used.waited, 3 * hours(1));
  ASSERT_TRUE(queue->stop().has_value());
  static_cast<void>(wq->stop(stop_policy::run_queued));
}

// The real clock, the real manager: a cap of a moment.
TEST(RequestQueueFlow, CappedRequestsGoWhenTheMachinesClockSaysSo) {
  test::elevator_log log;
  auto made = std::make_unique<test::watching_elevator>(log);
  test::watching_elevator& order = *made;
  test::io_bench bench({}, 1, std::move(made));
  order.refuses.store(true, std::memory_order_seq_cst);
  for (int i = 0; i < 20; ++i) {
    order.not_before.store(clock_seam::real().now() + std::chrono::microseconds(100 * i), std::memory_order_seq_cst);
    probe_request capped;
    if (bench.queue->submit(capped, *bench.context).value() == issued::queued) {
      EXPECT_EQ(capped.wait(), 2);
    }
  }
  ASSERT_TRUE(bench.queue->drain().has_value());
}

TEST(RequestQueueFlow, AQueueMayGoWithItsTimerArmed) {
  test::moved_clock clock;
  const ref<io_wq> wq = io_wq::create({.max_bound = 1, .name = "test", .clock = &clock}).value();
  test::elevator_log log;
  auto made = std::make_unique<test::watching_elevator>(log);
  test::watching_elevator& order = *made;
  ref<request_queue> queue = request_queue::create(*wq, {.clock = &clock}, std::move(made)).value();
  task self;
  const ref<io_context> context = self.get_task_io_context(task_side::current).value();
  order.refuses.store(true, std::memory_order_seq_cst);
  order.not_before.store(clock.now() + hours(1), std::memory_order_seq_cst);
  probe_request capped;
  ASSERT_TRUE(queue->submit(capped, *context).has_value());
  EXPECT_EQ(queue->remove().cancelled, 1U);
  queue.reset();
  clock.at.fetch_add(std::chrono::nanoseconds(hours(2)).count(), std::memory_order_seq_cst);
  test::make_manager_look(*wq);
  static_cast<void>(wq->stop(stop_policy::run_queued));
}

TEST(RequestQueueFlow, EachContextsUseIsCounted) {
  test::elevator_log log;
  test::io_bench bench({.depth = 1, .quantum = 100}, 1, std::make_unique<test::watching_elevator>(log));
  task other;
  const ref<io_context> stranger = other.get_task_io_context(task_side::current).value();
  EXPECT_EQ(bench.queue->stats_of(*stranger).operations, 0U);
  test::barrier_gate gate;
  gate.shut();
  probe_request quick, large(&gate), theirs;
  quick.inline_ok = true;
  quick.has_bytes(10);
  ASSERT_TRUE(bench.queue->submit(quick, *bench.context).has_value());
  large.has_bytes(250);
  ASSERT_TRUE(bench.queue->submit(large, *bench.context).has_value());
  gate.await_arrivals(1);
  theirs.has_bytes(7);
  ASSERT_TRUE(bench.queue->submit(theirs, *stranger).has_value());
  gate.open();
  ASSERT_TRUE(bench.queue->drain().has_value());
  const io_cq_stats ours = bench.queue->stats_of(*bench.context);
  EXPECT_EQ(ours.operations, 2U);
  EXPECT_EQ(ours.bytes, 260U);
  EXPECT_EQ(ours.inline_done, 1U);
  EXPECT_EQ(ours.waits, 1U) << "between its first and its second quantum";
  const io_cq_stats its = bench.queue->stats_of(*stranger);
  EXPECT_EQ(its.operations, 1U);
  EXPECT_EQ(its.bytes, 7U);
  EXPECT_EQ(its.waits, 1U);
  EXPECT_GE(its.waited.count(), 0);
  const request_queue_stats all = bench.queue->stats();
  EXPECT_EQ(all.bytes, 267U);
  EXPECT_EQ(all.inline_done, 1U);
}

struct no_op : work {
  no_op() : work(ops) {}
  static void run(work& /*w*/, work_context& /*ctx*/) noexcept {}
  static void release(work& w) noexcept { static_cast<no_op&>(w).over.release(); }
  static constexpr work_ops ops{run, release};

  std::binary_semaphore over{0};
};

// O5: the io_wq is full of others' works. What waits here is sent again when there is room, and never answered with
// the refusal.
TEST(RequestQueueFlow, ARequestThatTheWqRefusesWaitsOn) {
  for (const bool fair : {false, true}) {
    const ref<io_wq> wq = io_wq::create({.max_bound = 1, .name = "test", .queue_limit = 1}).value();
    task self;
    const ref<io_context> context = self.get_task_io_context(task_side::current).value();
    const ref<request_queue> queue =
        request_queue::create(*wq, {.depth = 1}, fair ? make_fair_elevator() : nullptr).value();
    test::barrier_gate gate;
    gate.shut();
    probe_request first(&gate), second, third;
    ASSERT_EQ(queue->submit(first, *context).value(), issued::queued);
    gate.await_arrivals(1);
    ASSERT_EQ(queue->submit(second, *context).value(), issued::queued);
    ASSERT_EQ(queue->submit(third, *context).value(), issued::queued);
    no_op filler;
    ASSERT_TRUE(wq->submit(filler)) << "the one place of the wq, while its one worker runs the first";
    gate.open();
    EXPECT_EQ(first.wait(), 2);
    filler.over.acquire();
    EXPECT_EQ(second.wait(), 2);
    EXPECT_EQ(third.wait(), 2);
    EXPECT_TRUE(queue->stop());
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  }
}

TEST(RequestQueueFlow, AWqThatWaitsWhenItIsFullIsRefused) {
  const ref<io_wq> wq = io_wq::create({.max_bound = 1, .name = "test", .full = when_full::wait}).value();
  EXPECT_EQ(request_queue::create(*wq).error(), error_of(EINVAL));
}

// A request that carries a key: those of one key run one at a time.
struct keyed_request : probe_request {
  keyed_request(test::barrier_gate& hold, hash_domain& domain, std::uint64_t key) : probe_request(&hold) {
    set_key(domain, key);
  }
};

// What waits in the io_wq for its key has no worker, and takes none from the others of its queue.
TEST(RequestQueueFlow, RequestsOfOneKeyCountAsOneOfTheWorkers) {
  test::io_bench bench({.depth = 64, .max_workers = 2}, 4);
  const ref<hash_domain> domain = hash_domain::create().value();
  test::barrier_gate gate;
  gate.shut();
  std::deque<keyed_request> writes;
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(bench.queue->submit(writes.emplace_back(gate, *domain, 7), *bench.context).value(), issued::queued);
  }
  gate.await_arrivals(1);
  for (int i = 0; i < 100; ++i) {
    probe_request read;
    ASSERT_EQ(bench.queue->submit(read, *bench.context).value(), issued::queued);
    EXPECT_EQ(read.wait(), 2);
  }
  EXPECT_EQ(gate.arrived(), 1) << "one at a time";
  gate.open();
  for (keyed_request& each : writes) {
    EXPECT_EQ(each.wait(), 2);
  }
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(bench.queue->stats().on_workers, 0U);
}

// The failure domain holds for keys too: each may have a worker.
TEST(RequestQueueFlow, DifferentKeysCountEachForItself) {
  test::io_bench bench({.depth = 256, .max_workers = 2}, 4);
  const ref<hash_domain> domain = hash_domain::create().value();
  test::barrier_gate gate;
  gate.shut();
  std::deque<keyed_request> writes;
  for (std::uint64_t key = 0; key < 100; ++key) {  // more than the queue has places for
    ASSERT_EQ(bench.queue->submit(writes.emplace_back(gate, *domain, key), *bench.context).value(), issued::queued);
  }
  gate.await_arrivals(2);
  EXPECT_EQ(bench.queue->stats().on_workers, 2U);
  EXPECT_EQ(bench.queue->stats().waiting, 98U);
  gate.open();
  for (keyed_request& each : writes) {
    EXPECT_EQ(each.wait(), 2);
  }
}

// Cancelled, cut between quanta, refused by a wq that has stopped: however a request with a key ends, its key is
// given back.
TEST(RequestQueueFlow, AKeyIsGivenBackHoweverItsRequestEnds) {
  test::io_bench bench({.depth = 8, .quantum = 100, .max_workers = 1}, 2);
  const ref<hash_domain> domain = hash_domain::create().value();
  test::barrier_gate gate;
  for (int round = 0; round < 20; ++round) {
    gate.shut();
    std::deque<keyed_request> writes;
    for (std::uint64_t i = 0; i < 6; ++i) {
      keyed_request& one = writes.emplace_back(gate, *domain, i % 2);
      one.set_owner(i + 1);
      one.has_bytes(350);
      ASSERT_EQ(bench.queue->submit(one, *bench.context).value(), issued::queued);
    }
    for (const std::uint64_t owner : {2U, 3U, 5U}) {
      static_cast<void>(bench.queue->cancel_owner(owner));
    }
    gate.open();
    for (keyed_request& each : writes) {
      static_cast<void>(each.wait());
    }
    ASSERT_TRUE(bench.queue->drain().has_value());
    ASSERT_EQ(bench.queue->stats().on_workers, 0U);
  }
  // Only one worker's share: with a key that was not given back, the second of these would be handed as well, or never.
  gate.shut();
  probe_request one(&gate), two(&gate);
  ASSERT_EQ(bench.queue->submit(one, *bench.context).value(), issued::queued);
  ASSERT_EQ(bench.queue->submit(two, *bench.context).value(), issued::queued);
  EXPECT_EQ(bench.queue->stats().on_workers, 1U);
  gate.open();
  EXPECT_EQ(one.wait() + two.wait(), 4);
}

}  // namespace
}  // namespace request_queue_flow_test
