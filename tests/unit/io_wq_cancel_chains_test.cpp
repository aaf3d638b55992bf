// Goal: a member of a chain is met by a cancel of many as any work is, also before its turn; a no_cancel member never is, and is
// given up by the pool if the chain ends before it (C4 C6 W5).
// Method: works that stand where the test wants them: a gate holds the only worker, and running works end only when asked.
#include <array>
#include <latch>
#include <optional>

#include <gtest/gtest.h>

#include "sluice/wq/io_wq.h"

#include "support/cancel_scene.h"
#include "support/wq_probe.h"

namespace sluice {
namespace io_wq_cancel_chains_test {
namespace {

using test::all_kinds;
using test::cancel_kind;
using test::cancel_wanted;
using test::gate;
using test::make_wq;
using test::obedient;
using test::other;
using test::probe;
using test::wanted;

// C6 W5: a running head counts as running, and so does each later member that matches; none of these is over at the return.
TEST(IoWqCancelChains, MembersBehindARunningHeadAreCountedAsRunning) {
  for (const cancel_kind how : all_kinds) {
    const auto wq = make_wq({.max_bound = 1});
    obedient head;
    std::array<probe, 3> rest;
    rest[0].set_owner(wanted);
    rest[1].set_owner(other);
    rest[2].set_owner(wanted);
    const std::array<work*, 4> links{&head, &rest[0], &rest[1], &rest[2]};
    ASSERT_TRUE(wq->submit_chain(links));
    head.started.wait();
    const cancel_counts counts = cancel_wanted(*wq, how);
    EXPECT_EQ(counts.cancelled, 0U);
    EXPECT_EQ(counts.running, how == cancel_kind::all ? 4U : 3U);
    head.leave.count_down();
    for (probe& one : rest) {
      one.wait_released();
      EXPECT_TRUE(one.was_cancelled());
      EXPECT_NE(one.ran_on(), std::this_thread::get_id());
    }
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  }
}

// C6 W5: the head belongs to another owner and is left alone. The member that matches counts as running, and is given up with
// the rest of its chain when its turn comes: on a thread of the pool, whether the head was pending or running.
TEST(IoWqCancelChains, AMemberMatchesThoughItsHeadDoesNot) {
  for (const cancel_kind how : {cancel_kind::by_owner, cancel_kind::by_predicate}) {
    for (const bool running : {false, true}) {
      const auto wq = make_wq({.max_bound = 1});
      std::latch started(1);
      std::latch go(1);
      probe blocker([&](work_context&) { go.wait(); });
      probe head([&](work_context&) {
        started.count_down();
        go.wait();
      });
      std::array<probe, 3> rest;
      rest[1].set_owner(wanted);
      const std::array<work*, 4> links{&head, &rest[0], &rest[1], &rest[2]};
      if (!running) {
        ASSERT_TRUE(wq->submit(blocker));
      }
      ASSERT_TRUE(wq->submit_chain(links));
      if (running) {
        started.wait();
      }
      const cancel_counts counts = cancel_wanted(*wq, how);
      EXPECT_EQ(counts.cancelled, 0U);
      EXPECT_EQ(counts.running, 1U);
      EXPECT_EQ(rest[1].runs(), 0) << "not over at the return";
      go.count_down();
      EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
      EXPECT_FALSE(head.was_cancelled());
      EXPECT_FALSE(rest[0].was_cancelled());
      EXPECT_TRUE(rest[1].was_cancelled());
      EXPECT_TRUE(rest[2].was_cancelled());
      EXPECT_NE(rest[1].ran_on(), std::this_thread::get_id());
      EXPECT_EQ(rest[2].releases(), 1);
    }
  }
}

// C4 C6: no cancel matches a no_cancel work, in a chain or not. Behind a cancelled member it is given up on a thread of the
// pool, and is not counted.
TEST(IoWqCancelChains, ANoCancelMemberIsGivenUpByThePool) {
  for (const cancel_kind how : all_kinds) {
    for (const bool head_runs : {false, true}) {
      const auto wq = make_wq({.max_bound = 2});
      std::optional<gate> held;
      obedient running_head;
      probe pending_head;
      pending_head.set_owner(wanted);
      probe kept(nullptr, work_class::bound, work_flags::no_cancel);
      kept.set_owner(wanted);
      probe alone(nullptr, work_class::unbound, work_flags::no_cancel);
      alone.set_owner(wanted);
      if (!head_runs) {
        wq->set_max_workers(work_class::bound, 1);
        held.emplace(*wq);
      }
      const std::array<work*, 2> links{head_runs ? static_cast<work*>(&running_head) : &pending_head, &kept};
      ASSERT_TRUE(wq->submit_chain(links));
      if (head_runs) {
        running_head.started.wait();
      }
      const cancel_counts counts = cancel_wanted(*wq, how);
      EXPECT_EQ(counts.cancelled, head_runs ? 0U : 1U);
      EXPECT_EQ(counts.running, head_runs ? 1U : 0U);
      running_head.leave.count_down();
      if (held) {
        held->open.count_down();
      }
      kept.wait_released();
      EXPECT_TRUE(kept.was_cancelled());
      EXPECT_NE(kept.ran_on(), std::this_thread::get_id());
      ASSERT_TRUE(wq->submit(alone));
      alone.wait_released();
      EXPECT_FALSE(alone.was_cancelled());
      EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
    }
  }
}

}  // namespace
}  // namespace io_wq_cancel_chains_test
}  // namespace sluice
