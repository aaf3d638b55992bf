// Goal: bugs that other pools shipped are not in this one: lost and orphaned works, pools that wait for themselves.
// Method: the scene of each report, rebuilt with latches; whoever gets it wrong hangs.
#include <array>
#include <barrier>
#include <cerrno>
#include <latch>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/wq/blocking_region.h"
#include "sluice/wq/io_wq.h"

#include "support/wq_probe.h"

namespace sluice {
namespace wq_others_bugs_test {
namespace {

using namespace std::chrono_literals;
using test::held_worker;
using test::make_wq;
using test::probe;

// tokio #8056: two submits count on the same idle worker; the second task is lost between the wake and the spawn (P5 P6).
TEST(WqOthersBugs, SubmitsThatMeetTheSameIdleWorkerLoseNoWork) {
  constexpr int submitters = 3;
  constexpr int rounds = 600;
  const auto wq = make_wq({.max_bound = submitters, .max_unbound = submitters, .idle_timeout = 1ms});
  std::barrier together(submitters);
  // Each needs a worker of its own: none can go on before all have begun.
  std::barrier all_in(submitters);
  std::vector<std::jthread> crowd;
  for (int t = 0; t < submitters; ++t) {
    crowd.emplace_back([&] {
      for (int i = 0; i < rounds; ++i) {
        probe one(
            [&](work_context&) {
              const blocking_region region;
              all_in.arrive_and_wait();
            },
            i % 2 == 0 ? work_class::bound : work_class::unbound);
        together.arrive_and_wait();
        EXPECT_TRUE(wq->submit(one));
        one.wait_released();
        EXPECT_EQ(one.runs(), 1);
      }
    });
  }
  crowd.clear();
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
}

// Once armed, the next creations fail, so many of them.
class threads_that_fail_for_a_while : public thread_seam {
 public:
  result<named_thread> start(std::string_view name, std::move_only_function<void()> body, std::size_t stack) override {
    if (failures.load(std::memory_order_seq_cst) > 0 && failures.fetch_sub(1, std::memory_order_seq_cst) > 0) {
      return fail(EAGAIN);
    }
    return thread_seam::real().start(name, std::move(body), stack);
  }
  std::atomic<int> failures{0};
};

// tokio #8406: the thread for a task cannot be created (EAGAIN) and the task is left an orphan (P10 X4 W1).
TEST(WqOthersBugs, FailedThreadCreationOrphansNoWork) {
  // How many creations fail before they succeed again; the last: so many that they never do.
  for (const int failures : {1, 2, 5, 1 << 20}) {
    threads_that_fail_for_a_while threads;
    const auto wq = make_wq({.max_bound = 3, .max_unbound = 3, .threads = &threads});
    threads.failures.store(failures, std::memory_order_seq_cst);
    held_worker blocker(*wq);
    std::vector<std::unique_ptr<probe>> all;
    for (int i = 0; i < 12; ++i) {
      all.push_back(std::make_unique<probe>(nullptr, i % 2 == 0 ? work_class::bound : work_class::unbound));
      ASSERT_TRUE(wq->submit(*all.back()));
    }
    for (const auto& one : all) {
      one->wait_released();
      EXPECT_FALSE(one->was_cancelled());
    }
    blocker.unblock();
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
    const wq_stats stats = wq->stats();
    EXPECT_GE(stats.bound.create_failures + stats.unbound.create_failures, 1U);
    EXPECT_EQ(stats.bound.released + stats.unbound.released, 13U);
  }
}

enum class waits : std::uint8_t { in_region, silently };

// A work that submits the next one, of its own class, and waits until that is released.
void submit_and_wait(io_wq& wq, work_class cls, int generations, waits how) {
  probe child(
      [&](work_context&) {
        if (generations > 1) {
          submit_and_wait(wq, cls, generations - 1, how);
        }
      },
      cls);
  if (how == waits::silently) {
    EXPECT_TRUE(wq.submit(child));
    child.wait_released();
  } else {
    const blocking_region region;
    EXPECT_TRUE(wq.submit(child));
    child.wait_released();
  }
}

// stdexec #1305: a child is put behind its parent, which waits for it (P5 P6).
TEST(WqOthersBugs, ChildIsNotQueuedBehindItsBlockedParent) {
  constexpr int generations = 6;
  const auto wq = make_wq({.max_bound = generations, .max_unbound = generations});
  for (int round = 0; round < 40; ++round) {
    const auto cls = round % 2 == 0 ? work_class::bound : work_class::unbound;
    submit_and_wait(*wq, cls, generations, round % 4 < 2 ? waits::in_region : waits::silently);
  }
  EXPECT_LE(wq->stats().bound.workers, static_cast<std::size_t>(generations));
}

// What a worker is told that submits to its own full queue, whose room it alone can make.
int submit_to_own_full_queue(when_full full) {
  const auto wq = make_wq({.max_bound = 1, .queue_limit = 2, .full = full, .full_wait = 3'600'000ms});
  std::array<probe, 3> children;
  int said = 0;
  probe parent([&](work_context&) {
    EXPECT_TRUE(wq->submit(children[0]));
    EXPECT_TRUE(wq->submit(children[1]));
    const blocking_region region;
    const auto third = wq->submit(children[2]);
    said = third ? 0 : third.error().value();
  });
  EXPECT_TRUE(wq->submit(parent));
  parent.wait_released();
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  EXPECT_EQ(children[0].runs() + children[1].runs(), 2);
  EXPECT_EQ(children[2].runs(), said == 0 ? 1 : 0);
  return said;
}

// folly #1864: a worker waits for room in the bounded queue that only it could empty (W6).
TEST(WqOthersBugs, BoundedQueueDoesNotWaitForItself) {
  EXPECT_EQ(submit_to_own_full_queue(when_full::refuse), EAGAIN);
  EXPECT_EQ(submit_to_own_full_queue(when_full::wait), EDEADLK);
}

// folly #1864: nor do two pools whose workers wait for room in each other's queue, not for ever (W6).
TEST(WqOthersBugs, TwoPoolsThatFillEachOtherEnd) {
  const io_wq_options options{.max_bound = 1, .queue_limit = 1, .full = when_full::wait, .full_wait = 20ms};
  const std::array<ref<io_wq>, 2> pools{make_wq(options), make_wq(options)};
  std::barrier both_run(2);
  std::array<std::array<probe, 3>, 2> children;
  std::array<std::unique_ptr<probe>, 2> parents;
  std::atomic<int> refused{0};
  for (std::size_t i = 0; i < 2; ++i) {
    parents[i] = std::make_unique<probe>([&, i](work_context&) {
      both_run.arrive_and_wait();
      for (probe& child : children[i]) {
        if (const auto how = pools[1 - i]->submit(child); !how) {
          EXPECT_EQ(how.error().value(), ETIMEDOUT);
          refused.fetch_add(1, std::memory_order_seq_cst);
        }
      }
    });
    ASSERT_TRUE(pools[i]->submit(*parents[i]));
  }
  for (std::size_t i = 0; i < 2; ++i) {
    parents[i]->wait_released();
  }
  for (const auto& pool : pools) {
    EXPECT_TRUE(pool->stop(stop_policy::run_queued).finished);
  }
  int runs = 0;
  for (const auto& some : children) {
    for (const probe& child : some) {
      runs += child.runs();
    }
  }
  EXPECT_EQ(runs + refused.load(std::memory_order_seq_cst), 6);
}

}  // namespace
}  // namespace wq_others_bugs_test
}  // namespace sluice
