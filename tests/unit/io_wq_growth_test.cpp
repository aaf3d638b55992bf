// Goal: when a worker says that it blocks, or falls idle, the next work starts at once: the sampler is not needed (P5 P6 P8).
// Method: a clock that stands, and so leaves the sampler one turn, which is used up first: a start that only the sampler would
// make never comes. Then the work is not released within the test's minute.
#include <array>
#include <chrono>
#include <latch>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/wq/blocking_region.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"

#include "support/wq_probe.h"

namespace sluice {
namespace io_wq_growth_test {
namespace {

using test::clock_without_sampler;
using test::make_wq;
using test::probe;
using test::use_up_sampler;
using test::within_a_minute;

// Idle workers stay: the clock does not move, so a time-out would be over at once.
io_wq_options without_sampler(clock_without_sampler& clock, unsigned max_bound, unsigned max_unbound = 1) {
  return {.max_bound = max_bound,
          .max_unbound = max_unbound,
          .idle_timeout = std::chrono::milliseconds::max(),
          .clock = &clock};
}

void expect_no_sampling(const io_wq& wq) {
  EXPECT_EQ(wq.stats().bound.found_blocked + wq.stats().unbound.found_blocked, 0U);
}

// A work that blocks, and says so, until the latch opens.
std::unique_ptr<probe> blocks_until(std::latch& go, work_class cls) {
  return std::make_unique<probe>(
      [&go](work_context&) {
        const blocking_region region;
        go.wait();
      },
      cls);
}

// P6 P8: with k workers blocked below the limit, of either class, the next work starts, with and without a key.
TEST(IoWqGrowth, WorkIsStartedBesideWorkersThatSayTheyBlock) {
  within_a_minute([] {
    clock_without_sampler clock;
    constexpr unsigned most = 4;
    const auto wq = make_wq(without_sampler(clock, most, most));
    use_up_sampler(*wq);
    const auto domain = *hash_domain::create();
    std::latch go(1);
    std::vector<std::unique_ptr<probe>> blocked;
    for (const work_class cls : {work_class::bound, work_class::unbound}) {
      for (unsigned k = 1; k < most; ++k) {
        blocked.push_back(blocks_until(go, cls));
        ASSERT_TRUE(wq->submit(*blocked.back()));
        for (const bool keyed : {false, true}) {
          probe next(nullptr, cls);
          if (keyed) {
            next.set_key(*domain, 1);
          }
          ASSERT_TRUE(wq->submit(next));
          next.wait_released();
        }
      }
    }
    expect_no_sampling(*wq);
    go.count_down();
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
    expect_no_sampling(*wq);
  });
}

// P8: a class all of whose workers are blocked never stops the other.
TEST(IoWqGrowth, AClassThatIsBlockedNeverStopsTheOther) {
  within_a_minute([] {
    clock_without_sampler clock;
    const auto wq = make_wq(without_sampler(clock, 2, 2));
    use_up_sampler(*wq);
    for (const work_class cls : {work_class::bound, work_class::unbound}) {
      const work_class others = cls == work_class::bound ? work_class::unbound : work_class::bound;
      std::latch go(1);
      std::array<std::unique_ptr<probe>, 2> blocked{blocks_until(go, cls), blocks_until(go, cls)};
      for (const auto& one : blocked) {
        ASSERT_TRUE(wq->submit(*one));
      }
      for (int i = 0; i < 20; ++i) {
        probe next(nullptr, others);
        ASSERT_TRUE(wq->submit(next));
        next.wait_released();
      }
      go.count_down();
      for (const auto& one : blocked) {
        one->wait_released();
      }
    }
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
    expect_no_sampling(*wq);
  });
}

// P6: the works that a worker has taken together with the one that blocks are run by another.
TEST(IoWqGrowth, TheRestOfABatchIsNotBlockedByItsFirst) {
  within_a_minute([] {
    clock_without_sampler clock;
    const auto wq = make_wq(without_sampler(clock, 2));
    use_up_sampler(*wq);
    for (int round = 0; round < 50; ++round) {
      // Quick works first: a worker takes larger batches after them.
      std::vector<std::unique_ptr<probe>> quick;
      for (int i = 0; i < 64; ++i) {
        quick.push_back(std::make_unique<probe>());
        ASSERT_TRUE(wq->submit(*quick.back()));
      }
      for (const auto& one : quick) {
        one->wait_released();
      }
      std::latch go(1);
      const auto first = blocks_until(go, work_class::bound);
      std::array<probe, 8> rest;
      std::array<work*, 9> all{first.get()};
      for (std::size_t i = 0; i < rest.size(); ++i) {
        all[i + 1] = &rest[i];
      }
      ASSERT_EQ(wq->submit(std::span<work* const>(all)).value_or(0), all.size());
      for (probe& one : rest) {
        one.wait_released();
      }
      go.count_down();
      first->wait_released();
    }
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
    expect_no_sampling(*wq);
  });
}

// P5: a worker that falls idle, or is about to, is woken by the next submit.
TEST(IoWqGrowth, AnIdleWorkerIsWokenByTheSubmit) {
  within_a_minute([] {
    clock_without_sampler clock;
    const auto wq = make_wq(without_sampler(clock, 1));
    use_up_sampler(*wq);
    const auto domain = *hash_domain::create();
    for (int i = 0; i < 3000; ++i) {
      probe one(nullptr, i % 2 == 0 ? work_class::bound : work_class::unbound);
      if (i % 3 == 0) {
        one.set_key(*domain, 1);
      }
      ASSERT_TRUE(wq->submit(one));
      one.wait_released();
      for (int turn = 0; turn < i % 32; ++turn) {
        std::this_thread::yield();
      }
    }
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
    expect_no_sampling(*wq);
  });
}

// P7: concurrent work has its own worker though another runs and does not block.
TEST(IoWqGrowth, ConcurrentWorkIsStartedBesideOneThatRuns) {
  within_a_minute([] {
    clock_without_sampler clock;
    const auto wq = make_wq(without_sampler(clock, 2));
    use_up_sampler(*wq);
    std::latch started(1);
    std::latch go(1);
    probe busy([&](work_context&) {
      started.count_down();
      go.wait();
    });
    ASSERT_TRUE(wq->submit(busy));
    started.wait();
    probe second(nullptr, work_class::bound, work_flags::concurrent);
    ASSERT_TRUE(wq->submit(second));
    second.wait_released();
    go.count_down();
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
    expect_no_sampling(*wq);
  });
}

}  // namespace
}  // namespace io_wq_growth_test
}  // namespace sluice
