// Goal: what went wrong with workers in the kernel's io-wq does not go wrong here. Method: many short rounds in which
// work comes at the worst moment; a work that is left lying, even for a second, shows as a test that hangs.
#include <array>
#include <latch>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/wq/blocking_region.h"
#include "sluice/wq/io_wq.h"

#include "support/proc_threads.h"
#include "support/wq_probe.h"

namespace sluice {
namespace wq_defects_workers_test {
namespace {

using namespace std::chrono_literals;
using test::make_wq;
using test::probe;

// Defect 3: a worker that drained work at exit unlinks itself from a list that it is not on (X1 P9 W7).
TEST(WqDefects, WorkersThatDrainTheQueueAtStopLeaveCleanly) {
  for (int round = 0; round < 100; ++round) {
    const auto wq = make_wq({.max_bound = 3, .max_unbound = 3, .idle_timeout = 1ms, .name = "drain"});
    std::vector<std::unique_ptr<probe>> all;
    for (int i = 0; i < 40; ++i) {
      all.push_back(std::make_unique<probe>(
          [i](work_context&) {
            if (i % 4 == 0) {
              const blocking_region region;
              std::this_thread::yield();
            }
          },
          i % 2 == 0 ? work_class::bound : work_class::unbound));
      ASSERT_TRUE(wq->submit(*all.back()));
    }
    EXPECT_TRUE(wq->stop(round % 2 == 0 ? stop_policy::run_queued : stop_policy::cancel_queued).finished);
    for (const auto& one : all) {
      EXPECT_EQ(one->runs() + one->releases(), 2);
    }
    const wq_stats stats = wq->stats();
    EXPECT_EQ(stats.bound.workers + stats.unbound.workers, 0U);
    EXPECT_EQ(stats.bound.idle + stats.unbound.idle, 0U);
    EXPECT_EQ(stats.unbound.workers_created, stats.unbound.workers_died);
  }
  while (test::threads_named("drain") != 0) {
    std::this_thread::yield();  // a joined thread may be listed for a moment longer
  }
}

// Defect 4: the manager looks, work comes, the manager sleeps: the work waits for its next look (P5).
TEST(WqDefects, WorkThatNeedsANewWorkerNeverWaitsForTheManagersNextLook) {
  const auto wq = make_wq({.max_bound = 3, .max_unbound = 2, .idle_timeout = 1ms});
  for (int round = 0; round < 300; ++round) {
    // Two needs at once for a worker that does not exist yet, one of each class, the one a moment after the other.
    std::latch go(1);
    probe blocks([&](work_context&) {
      const blocking_region region;
      go.wait();
    });
    probe behind;
    probe other(nullptr, work_class::unbound);
    ASSERT_TRUE(wq->submit(blocks));
    ASSERT_TRUE(wq->submit(other));
    ASSERT_TRUE(wq->submit(behind));
    behind.wait_released();
    other.wait_released();
    go.count_down();
    blocks.wait_released();
    while (round % 8 == 0 && wq->stats().unbound.workers != 0) {
      std::this_thread::yield();
    }
  }
}

// Defect 5: only the head of the free list is tried, and the others sleep on while work waits (P5 P6).
TEST(WqDefects, EveryIdleWorkerIsWokenIfThereIsWorkForIt) {
  constexpr int workers = 5;
  // No idle worker leaves, or comes to look by itself, while this runs.
  const auto wq = make_wq({.max_bound = workers, .idle_timeout = 1h});
  for (int round = 0; round < 200; ++round) {
    std::latch all_in(workers);
    std::vector<std::unique_ptr<probe>> all;
    std::vector<work*> batch;
    for (int i = 0; i < workers; ++i) {
      all.push_back(std::make_unique<probe>([&](work_context&) {
        const blocking_region region;
        all_in.arrive_and_wait();
      }));
      batch.push_back(all.back().get());
    }
    if (round % 2 == 0) {
      ASSERT_EQ(*wq->submit(std::span<work* const>(batch)), batch.size());
    } else {
      for (work* const one : batch) {
        ASSERT_TRUE(wq->submit(*one));
      }
    }
    for (const auto& one : all) {
      one->wait_released();
    }
  }
  EXPECT_EQ(wq->stats().bound.workers, static_cast<std::size_t>(workers));
  EXPECT_EQ(wq->stats().bound.workers_died, 0U);
}

// Chains whose members change class at each step, many at once; each counts itself into its class.
class class_flippers {
 public:
  explicit class_flippers(int chains) {
    for (int c = 0; c < chains; ++c) {
      for (int i = 0; i < 4; ++i) {
        const auto cls = (c + i) % 2 == 0 ? work_class::bound : work_class::unbound;
        auto& here = inside[static_cast<std::size_t>(std::to_underlying(cls))];
        works_.push_back(std::make_unique<probe>(
            [this, &here](work_context&) {
              const int now = here.fetch_add(1, std::memory_order_seq_cst) + 1;
              int before = most.load(std::memory_order_seq_cst);
              while (before < now && !most.compare_exchange_weak(before, now, std::memory_order_seq_cst)) {
              }
              {
                const blocking_region region;
                std::this_thread::yield();
              }
              here.fetch_sub(1, std::memory_order_seq_cst);
            },
            cls));
      }
    }
  }

  void submit(io_wq& wq) {
    for (std::size_t i = 0; i < works_.size(); i += 4) {
      const std::array<work*, 4> chain{works_[i].get(), works_[i + 1].get(), works_[i + 2].get(), works_[i + 3].get()};
      EXPECT_TRUE(wq.submit_chain(chain));
    }
    for (std::size_t i = 3; i < works_.size(); i += 4) {
      works_[i]->wait_released();
    }
  }

  std::array<std::atomic<int>, work_classes> inside{};
  std::atomic<int> most{0};  // of one class at once

 private:
  std::vector<std::unique_ptr<probe>> works_;
};

// Defect 6: a worker that changes its class ignores the limit of the new one (P1).
TEST(WqDefects, WorksOfChangingClassStayBelowBothLimits) {
  const auto wq = make_wq({.max_bound = 2, .max_unbound = 2});
  for (int round = 0; round < 20; ++round) {
    class_flippers chains(20);
    chains.submit(*wq);
    EXPECT_LE(chains.most.load(std::memory_order_seq_cst), 2);
    const wq_stats stats = wq->stats();
    EXPECT_LE(stats.bound.workers, 2U);
    EXPECT_LE(stats.unbound.workers, 2U);
  }
}

// Defect 13: a worker that must stay keeps that mark when it changes its class, and stays there too (P3).
TEST(WqDefects, OnlyTheFixedWorkersStayAfterWorksOfChangingClass) {
  const auto wq = make_wq({.max_bound = 4, .max_unbound = 4, .idle_timeout = 1ms});
  const wq_stats at_first = wq->stats();
  for (int round = 0; round < 5; ++round) {
    class_flippers(8).submit(*wq);
    for (wq_stats now = wq->stats();
         now.bound.workers != at_first.bound.workers || now.unbound.workers != at_first.unbound.workers;
         now = wq->stats()) {
      std::this_thread::yield();
    }
  }
}

// Defect 7: one queue for both classes, so that works of one class stand in the way of the other's (P8).
TEST(WqDefects, FullQueueOfOneClassDoesNotStandInTheWayOfTheOther) {
  for (const auto stuck : {work_class::bound, work_class::unbound}) {
    const auto wq = make_wq({.max_bound = 2, .max_unbound = 2, .queue_limit = 64});
    std::latch go(1);
    std::vector<std::unique_ptr<probe>> all;
    // Two block for ever, the rest fills the queue of their class behind them.
    for (;;) {
      all.push_back(std::make_unique<probe>([&](work_context&) { go.wait(); }, stuck));
      if (!wq->submit(*all.back())) {
        all.pop_back();
        break;
      }
      if (all.size() <= 2) {
        while (wq->stats().of(stuck).queued != 0) {
          std::this_thread::yield();
        }
      }
    }
    for (int i = 0; i < 200; ++i) {
      probe other(nullptr, stuck == work_class::bound ? work_class::unbound : work_class::bound);
      ASSERT_TRUE(wq->submit(other));
      other.wait_released();
    }
    EXPECT_GE(wq->stats().of(stuck).queued, 64U);
    go.count_down();
    wq->stop(stop_policy::run_queued);
  }
}

// Defect 9: a linked work that is run directly runs on the wrong class, and is counted nowhere (W4 P8 P1).
TEST(WqDefects, LinkedWorkOfTheOtherClassHoldsNoWorkerOfThisOne) {
  for (const auto first : {work_class::bound, work_class::unbound}) {
    const auto second = first == work_class::bound ? work_class::unbound : work_class::bound;
    const auto wq = make_wq({.max_bound = 1, .max_unbound = 1});
    std::latch started(1);
    std::latch go(1);
    probe head(nullptr, first);
    probe linked(
        [&](work_context&) {
          started.count_down();
          const blocking_region region;
          go.wait();
        },
        second);
    const std::array<work*, 2> chain{&head, &linked};
    ASSERT_TRUE(wq->submit_chain(chain));
    started.wait();
    const wq_stats during = wq->stats();
    EXPECT_EQ(during.of(second).workers, 1U);
    EXPECT_EQ(during.of(second).running + during.of(second).blocked, 1U);
    EXPECT_EQ(during.of(second).accepted, 1U);
    // The only worker of the head's class is free for the next work of that class.
    probe next(nullptr, first);
    ASSERT_TRUE(wq->submit(next));
    next.wait_released();
    go.count_down();
    wq->stop(stop_policy::run_queued);
    EXPECT_EQ(wq->stats().of(first).released, 2U);
    EXPECT_EQ(wq->stats().of(second).released, 1U);
  }
}

}  // namespace
}  // namespace wq_defects_workers_test
}  // namespace sluice
