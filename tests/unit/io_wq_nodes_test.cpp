// Goal: several engines are one wq: limits, order, stop and statistics hold over all nodes; workers go where they are told.
// Method: a synthetic topology, whose nodes are dealt out to the submitting threads in turn.
#include <sched.h>

#include <algorithm>
#include <array>
#include <latch>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/wq/blocking_region.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"

#include "support/wq_probe.h"

namespace io_wq_nodes_test {
namespace {

using namespace sluice;
using test::make_wq;
using test::probe;

constexpr io_wq_options eight_nodes() {
  return {.max_bound = 8, .max_unbound = 8, .topology = "node:8 pu:2"};
}

// W1 W7 X1: from many threads, to all nodes.
TEST(IoWqNodes, WorksOfEveryNodeAreRunOnce) {
  const auto wq = make_wq(eight_nodes());
  constexpr int threads = 16;
  constexpr std::size_t each = 200;
  std::vector<std::vector<std::unique_ptr<probe>>> all(threads);
  {
    std::vector<std::jthread> submitting;
    for (auto& mine : all) {
      submitting.emplace_back([&] {
        for (std::size_t i = 0; i < each; ++i) {
          mine.push_back(std::make_unique<probe>(nullptr, i % 2 == 0 ? work_class::bound : work_class::unbound));
          EXPECT_TRUE(wq->submit(*mine.back()));
        }
      });
    }
  }
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  for (const auto& mine : all) {
    for (const auto& one : mine) {
      EXPECT_EQ(one->runs() + one->releases(), 2);
    }
  }
  const wq_stats stats = wq->stats();
  EXPECT_EQ(stats.bound.accepted + stats.unbound.accepted, threads * each);
  EXPECT_EQ(stats.bound.released + stats.unbound.released, threads * each);
}

// P1 P6: the limit is the wq's, not a node's; and work of a node that may have no worker is taken by another's.
TEST(IoWqNodes, LimitsHoldOverAllNodes) {
  const auto wq = make_wq({.max_bound = 2, .max_unbound = 2, .topology = "node:8 pu:2"});
  std::latch go(1);
  std::vector<std::unique_ptr<probe>> all;
  for (int i = 0; i < 16; ++i) {
    all.push_back(std::make_unique<probe>([&](work_context&) {
      const blocking_region region;
      go.wait();
    }));
    std::thread([&] { EXPECT_TRUE(wq->submit(*all.back())); }).join();  // each from a node of its own
    EXPECT_LE(wq->stats().bound.workers, 2U);
  }
  go.count_down();
  for (const auto& one : all) {
    one->wait_released();
  }
  EXPECT_LE(wq->stats().bound.workers, 2U);
}

// H1 H2, defect 8: a key is one key on all nodes.
TEST(IoWqNodes, AKeyRunsOnOneNodeAtATime) {
  const auto wq = make_wq(eight_nodes());
  const auto domain = *hash_domain::create();
  std::atomic<int> inside{0};
  std::vector<int> order;
  std::vector<std::unique_ptr<probe>> all;
  for (int i = 0; i < 64; ++i) {
    all.push_back(std::make_unique<probe>([&, i](work_context&) {
      EXPECT_EQ(inside.fetch_add(1, std::memory_order_seq_cst), 0);
      order.push_back(i);
      inside.fetch_sub(1, std::memory_order_seq_cst);
    }));
    all.back()->set_key(*domain, 5);
    std::thread([&] { EXPECT_TRUE(wq->submit(*all.back())); }).join();
  }
  wq->stop(stop_policy::run_queued);
  EXPECT_EQ(order.size(), 64U);
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

TEST(IoWqNodes, ATopologyThatIsNoneIsRefused) {
  const auto made = io_wq::create({.topology = "no such thing"});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().value(), EINVAL);
}

TEST(IoWqNodes, WorkersKeepToTheCpusThatTheyAreGiven) {
  const auto wq = make_wq({.max_bound = 1, .max_unbound = 1});
  cpu_set_t allowed;
  ASSERT_EQ(::sched_getaffinity(0, sizeof allowed, &allowed), 0);
  unsigned first = 0;
  while (!CPU_ISSET(first, &allowed)) {
    ++first;
  }
  const std::array<unsigned, 1> one{first};
  ASSERT_TRUE(wq->set_affinity(one));
  // One that is there, and one that is yet to be created.
  for (const work_class cls : {work_class::bound, work_class::unbound}) {
    int cpus = 0;
    probe asks(
        [&](work_context&) {
          cpu_set_t mine;
          EXPECT_EQ(::sched_getaffinity(0, sizeof mine, &mine), 0);
          cpus = CPU_COUNT(&mine);
          EXPECT_TRUE(CPU_ISSET(first, &mine));
        },
        cls);
    ASSERT_TRUE(wq->submit(asks));
    asks.wait_released();
    EXPECT_EQ(cpus, 1);
  }
  EXPECT_EQ(wq->set_affinity({}).error().value(), EINVAL);
  const std::array<unsigned, 1> none{CPU_SETSIZE};
  EXPECT_EQ(wq->set_affinity(none).error().value(), EINVAL);
}

// H2 W6: a span of keyed works keeps its order, and what there is no room for stays the caller's.
TEST(IoWqNodes, ASpanOfKeyedWorksIsAcceptedInOrder) {
  const auto wq = make_wq({.max_bound = 1, .queue_limit = 40});
  const auto domain = *hash_domain::create();
  std::binary_semaphore started(0);
  std::binary_semaphore go(0);
  probe blocker([&](work_context&) {
    started.release();
    go.acquire();
  });
  ASSERT_TRUE(wq->submit(blocker));
  started.acquire();
  std::array<std::vector<int>, 4> order;
  std::vector<std::unique_ptr<probe>> all;
  std::vector<work*> span;
  for (int i = 0; i < 64; ++i) {
    const auto key = static_cast<std::size_t>(i % 4);
    all.push_back(std::make_unique<probe>([&order, key, i](work_context&) { order[key].push_back(i); }));
    all.back()->set_key(*domain, key);
    span.push_back(all.back().get());
  }
  const auto accepted = wq->submit(std::span<work* const>(span));
  ASSERT_TRUE(accepted);
  EXPECT_EQ(*accepted, 40U);
  EXPECT_EQ(wq->stats().bound.queued + wq->stats().bound.waiting_on_key, 40U);
  go.release();
  wq->stop(stop_policy::run_queued);
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i]->runs(), i < *accepted ? 1 : 0);
  }
  for (const auto& each : order) {
    EXPECT_TRUE(std::ranges::is_sorted(each));
  }
}

}  // namespace
}  // namespace io_wq_nodes_test
