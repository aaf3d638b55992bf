// Goal: every kind of cancel meets each work that matches exactly once and reports exactly that many, wherever the works are:
// queued, waiting for a key, running, or in a chain before their turn. What it does not report was over (C3 C6).
// Method: works that stand where the test wants them: a gate holds the only worker, and running works end only when asked.
#include <array>
#include <latch>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/wq/blocking_region.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"

#include "support/cancel_scene.h"
#include "support/wq_probe.h"

namespace sluice {
namespace io_wq_cancel_counts_test {
namespace {

using test::all_kinds;
using test::cancel_kind;
using test::cancel_wanted;
using test::expect_given_up_here;
using test::gate;
using test::make_wq;
using test::obedient;
using test::other;
using test::probe;
using test::wanted;

// C6: works that wait in the queue, for keys, and in chains are each given up and counted once; a second cancel finds none.
TEST(IoWqCancelCounts, PendingWorksAreCountedOnce) {
  for (const cancel_kind how : all_kinds) {
    const auto wq = make_wq({.max_bound = 1});
    const auto domain = *hash_domain::create();
    gate held(*wq);
    std::vector<std::unique_ptr<probe>> all;
    for (std::size_t i = 0; i < 24; ++i) {
      all.push_back(std::make_unique<probe>());
      all.back()->set_owner(how == cancel_kind::all || i % 4 != 3 ? wanted : other);
      if (i % 2 == 0) {
        all.back()->set_key(*domain, i % 3);
      }
      ASSERT_TRUE(wq->submit(*all.back()));
    }
    // A chain, all of whose members match.
    std::array<probe, 3> chain;
    for (probe& one : chain) {
      one.set_owner(wanted);
    }
    chain[1].set_key(*domain, 1);
    chain[2].set_class(work_class::unbound);
    const std::array<work*, 3> links{&chain[0], &chain[1], &chain[2]};
    ASSERT_TRUE(wq->submit_chain(links));
    const std::size_t matches = (how == cancel_kind::all ? 24U : 18U) + chain.size();
    const cancel_counts counts = cancel_wanted(*wq, how);
    EXPECT_EQ(counts.cancelled, matches);
    EXPECT_EQ(counts.running, 0U);
    std::size_t given_up = 0;
    for (const auto& one : all) {
      if (one->was_cancelled()) {
        ++given_up;
        expect_given_up_here(*one);
      }
    }
    for (const probe& one : chain) {
      expect_given_up_here(one);
    }
    EXPECT_EQ(given_up + chain.size(), matches);
    const cancel_counts again = cancel_wanted(*wq, how);
    EXPECT_EQ(again.cancelled + again.running, 0U);
    held.open.count_down();
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
    for (const auto& one : all) {
      EXPECT_EQ(one->runs() + one->releases(), 2);
    }
    EXPECT_EQ(wq->stats().bound.cancelled + wq->stats().unbound.cancelled, matches);
  }
}

// C6: a chain of which only the head matches is given up whole, and counted whole.
TEST(IoWqCancelCounts, APendingHeadThatMatchesTakesItsChainAlong) {
  for (const cancel_kind how : {cancel_kind::by_owner, cancel_kind::by_predicate}) {
    const auto wq = make_wq({.max_bound = 1});
    gate held(*wq);
    std::array<probe, 3> chain;
    chain[0].set_owner(wanted);
    const std::array<work*, 3> links{&chain[0], &chain[1], &chain[2]};
    ASSERT_TRUE(wq->submit_chain(links));
    const cancel_counts counts = cancel_wanted(*wq, how);
    EXPECT_EQ(counts.cancelled, 3U);
    EXPECT_EQ(counts.running, 0U);
    for (const probe& one : chain) {
      expect_given_up_here(one);
    }
    held.open.count_down();
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  }
}

// C6: running works of both classes are asked and counted once each, as is what waits behind them.
TEST(IoWqCancelCounts, RunningWorksAreCountedOnce) {
  for (const cancel_kind how : all_kinds) {
    const auto wq = make_wq({.max_bound = 2, .max_unbound = 2});
    const auto domain = *hash_domain::create();
    std::array<obedient, 4> running;
    running[0].set_key(*domain, 1);
    running[2].set_class(work_class::unbound);
    running[3].set_class(work_class::unbound);
    for (obedient& one : running) {
      ASSERT_TRUE(wq->submit(one));
    }
    for (obedient& one : running) {
      one.started.wait();
    }
    std::array<probe, 6> pending;
    for (std::size_t i = 0; i < pending.size(); ++i) {
      pending[i].set_owner(wanted);
      pending[i].set_class(i % 2 == 0 ? work_class::bound : work_class::unbound);
      if (i < 2) {
        pending[i].set_key(*domain, 1);
      }
      ASSERT_TRUE(wq->submit(pending[i]));
    }
    const cancel_counts counts = cancel_wanted(*wq, how);
    EXPECT_EQ(counts.running, running.size());
    EXPECT_EQ(counts.cancelled, pending.size());
    for (probe& one : pending) {
      expect_given_up_here(one);
    }
    for (obedient& one : running) {
      one.leave.count_down();
      one.wait_released();
      EXPECT_FALSE(one.was_cancelled());
    }
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  }
}

// C3: cancels by handle against works that end at that moment. "Not found" comes after the run of the last member of what the
// handle names: a plain work, a work with a key, a chain.
TEST(IoWqCancelCounts, NotFoundMeansThatTheRunIsOver) {
  const auto wq = make_wq({.max_bound = 2});
  const auto domain = *hash_domain::create();
  std::array<int, 3> found{};
  for (int i = 0; i < 2000; ++i) {
    probe head;
    probe last;
    probe* end = &head;
    switch (i % 4) {
      case 1:
        head.set_key(*domain, 1);
        break;
      case 2:
        head.then(&last);
        end = &last;
        break;
      case 3:
        head.then(&last);
        last.set_key(*domain, 1);
        last.set_class(work_class::unbound);
        end = &last;
        break;
      default:
        break;
    }
    const auto handle = wq->submit_tracked(head);
    ASSERT_TRUE(handle);
    for (int turn = 0; turn < i % 64; ++turn) {
      std::this_thread::yield();
    }
    const cancel_result said = wq->cancel(*handle);
    ++found[static_cast<std::size_t>(said)];
    if (said == cancel_result::not_found) {
      EXPECT_TRUE(end->run_is_over());
    } else if (said == cancel_result::cancelled) {
      EXPECT_EQ(end->releases(), 1);
      EXPECT_EQ(end->ran_on(), std::this_thread::get_id());
    }
    head.wait_released();
    if (end != &head) {
      end->wait_released();
    }
  }
  EXPECT_GT(found[static_cast<std::size_t>(cancel_result::not_found)], 0);
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
}

// C3: while a work runs every cancel finds it, by its handle, its owner and a predicate, and as a member of a chain.
TEST(IoWqCancelCounts, AWorkThatRunsIsFoundAgainAndAgain) {
  const auto wq = make_wq({.max_bound = 1});
  const auto domain = *hash_domain::create();
  for (const bool keyed : {false, true}) {
    probe head;
    std::latch started(1);
    std::latch go(1);
    probe member([&](work_context&) {
      started.count_down();
      const blocking_region region;
      go.wait();
    });
    member.set_owner(wanted);
    if (keyed) {
      member.set_key(*domain, 1);
    }
    head.then(&member);
    const auto handle = wq->submit_tracked(head);
    ASSERT_TRUE(handle);
    started.wait();
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(wq->cancel(*handle), cancel_result::running);
      EXPECT_EQ(wq->cancel_owner(wanted).running, 1U);
      EXPECT_EQ(wq->cancel_if([](const work_view& v) { return v.owner == wanted; })->running, 1U);
    }
    go.count_down();
    member.wait_released();
    head.wait_released();
    EXPECT_EQ(wq->cancel(*handle), cancel_result::not_found);
  }
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
}

}  // namespace
}  // namespace io_wq_cancel_counts_test
}  // namespace sluice
