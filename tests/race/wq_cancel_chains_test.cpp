// Goal: a cancel of many meets each member of a chain exactly once, also a member whose turn has not come, and reports exactly
// that many (C3 C4 C6 W5).
// Method: the engine on the deterministic scheduler; members that run until they are asked, so that a member that is missed is
// a livelock.
#include <gtest/gtest.h>

#include "race/wq_cancel_counts.h"
#include "race/wq_rig.h"

namespace wq_cancel_chains_test {
namespace {

using namespace sluice;
using test::cancel_kind;
using test::cancel_many;
using test::check_each_counted_once;
using test::owner_of_all;

// Links the jobs in this order.
void chain_up(wq_rig& rig, std::initializer_list<std::size_t> members) {
  race_job* before = nullptr;
  for (const std::size_t i : members) {
    if (before != nullptr) {
      before->then(&rig.jobs[i]);
    }
    before = &rig.jobs[i];
  }
}

// C6 W5: every kind of cancel counts each member of a chain exactly once, also those whose turn has not come: as cancelled if
// its head was pending, as running otherwise.
void explore_chain_counts(cancel_kind how, bool keyed) {
  explore(
      [=](race::run& run) {
        auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
        auto* const one = rig->add_worker();
        for (std::size_t i = 0; i < 5; ++i) {
          run_until_asked(rig->jobs[i]);
          rig->jobs[i].set_owner(owner_of_all);
        }
        if (keyed) {
          rig->set_key(rig->jobs[1], 3);
          rig->set_key(rig->jobs[3], 3);
        }
        chain_up(*rig, {0, 1, 2});
        chain_up(*rig, {3, 4});
        run.thread([=] { rig->pool.worker_loop(*one); });
        run.thread([=] {
          race::check(rig->submit(rig->jobs[0]) && rig->submit(rig->jobs[3]), "accepted");
          check_each_counted_once(*rig, 5, cancel_many(*rig, how, 5));
          rig->stop();
        });
        run.after([=] {
          for (std::size_t i = 0; i < 5; ++i) {
            rig->jobs[i].check_done();
            race::check(rig->jobs[i].asked, "asked, or given up");
          }
        });
      },
      {.schedules = 20'000});
}

TEST(RaceWqCancelChains, CancelAllCountsEachMemberOfAChainOnce) {
  explore_chain_counts(cancel_kind::all, false);
  explore_chain_counts(cancel_kind::all, true);
}

TEST(RaceWqCancelChains, CancelOwnerCountsEachMemberOfAChainOnce) {
  explore_chain_counts(cancel_kind::by_owner, false);
  explore_chain_counts(cancel_kind::by_owner, true);
}

TEST(RaceWqCancelChains, CancelIfCountsEachMemberOfAChainOnce) {
  explore_chain_counts(cancel_kind::chosen, false);
  explore_chain_counts(cancel_kind::chosen, true);
}

// C3 C6 W5: a cancel meets a chain of three members, each with another class or key, between any two of them. Members that
// are not counted had run by then; what is counted and not over is given up when its turn comes.
TEST(RaceWqCancelChains, CancelAllMissesNoMemberOfAChain) {
  for (const cancel_kind how : {cancel_kind::all, cancel_kind::by_owner}) {
    explore(
        [how](race::run& run) {
          auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
          auto* const bound = rig->add_worker();
          auto* const unbound = rig->add_worker(work_class::unbound);
          rig->set_key(rig->jobs[1], 3);
          rig->jobs[2].set_class(work_class::unbound);
          for (std::size_t i = 0; i < 3; ++i) {
            rig->jobs[i].set_owner(owner_of_all);
          }
          chain_up(*rig, {0, 1, 2});
          auto counts = std::make_shared<cancel_counts>();
          run.thread([=] { rig->pool.worker_loop(*bound); });
          run.thread([=] { rig->pool.worker_loop(*unbound); });
          run.thread([=] {
            race::check(rig->submit(rig->jobs[0]), "accepted");
            *counts = cancel_many(*rig, how, 3);
            std::size_t ended = 0;
            for (std::size_t i = 0; i < 3; ++i) {
              ended += rig->jobs[i].ended ? 1U : 0U;
            }
            race::check(ended + counts->running >= 3, "a member that was not counted has ended (C3)");
            rig->stop();
          });
          run.after([=] {
            std::size_t given_up = 0;
            std::size_t ran = 0;
            for (std::size_t i = 0; i < 3; ++i) {
              rig->jobs[i].check_done();
              given_up += rig->jobs[i].on_worker ? 0U : 1U;
              ran += rig->jobs[i].began_cancelled ? 0U : 1U;
            }
            race::check(counts->cancelled == given_up, "cancelled: those that the canceller gave up (C6)");
            race::check(counts->cancelled + counts->running + ran >= 3, "each is counted, or has run (C6)");
            race::check(rig->jobs[2].began_cancelled || counts->cancelled == 0, "given up to the end (W5)");
          });
        },
        {.schedules = 30'000});
  }
}

// C6 W5: the head does not match, a later member does: that one is counted as running, and is given up with the rest of its
// chain when its turn comes. Nothing of it is over at the return.
TEST(RaceWqCancelChains, AMemberMatchesThoughItsHeadDoesNot) {
  for (const cancel_kind how : {cancel_kind::by_owner, cancel_kind::chosen}) {
    explore(
        [how](race::run& run) {
          auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
          auto* const one = rig->add_worker();
          auto cancelled = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
          chain_up(*rig, {0, 1, 2});
          rig->jobs[1].set_owner(owner_of_all);
          rig->jobs[0].body = [=](work_context&) {
            while (cancelled->load(std::memory_order_acquire) == 0) {
              race::sync::wait(*cancelled, 0);
            }
          };
          run.thread([=] { rig->pool.worker_loop(*one); });
          run.thread([=] {
            race::check(rig->submit(rig->jobs[0]), "accepted");
            const auto of_owner = [](void*, const work_view& view) { return view.owner == owner_of_all; };
            const cancel_counts counts = how == cancel_kind::by_owner
                                             ? rig->pool.cancel_owner(owner_of_all)
                                             : rig->pool.cancel_chosen(of_owner, nullptr).value_or(cancel_counts{});
            race::check(counts.cancelled == 0 && counts.running == 1, "the member that matches, as running (C6)");
            race::check(rig->jobs[1].runs == 0, "not over at the return");
            cancelled->store(1, std::memory_order_release);
            race::sync::wake(*cancelled, wake_all);
            rig->stop();
          });
          run.after([=] {
            for (std::size_t i = 0; i < 3; ++i) {
              rig->jobs[i].check_done();
              race::check(rig->jobs[i].on_worker, "the canceller runs none of them");
              race::check(rig->jobs[i].began_cancelled == (i != 0), "given up from the member that matched on (W5)");
            }
          });
        },
        {.schedules = 20'000});
  }
}

// C4 W5: a no_cancel member behind a cancelled one is given up on a thread of the pool, never on the canceller's.
TEST(RaceWqCancelChains, ANoCancelMemberIsGivenUpByThePool) {
  for (const cancel_kind how : {cancel_kind::all, cancel_kind::by_owner, cancel_kind::chosen}) {
    explore(
        [how](race::run& run) {
          auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
          auto* const one = rig->add_worker();
          chain_up(*rig, {0, 1});
          rig->jobs[0].set_owner(owner_of_all);
          rig->jobs[1].set_owner(owner_of_all);
          rig->jobs[1].set_flags(work_flags::no_cancel);
          run_until_asked(rig->jobs[0]);
          rig->pool.expect_canceller();
          run.thread([=] { rig->pool.worker_loop(*one); });
          run.thread([=] { rig->pool.canceller_loop(); });
          run.thread([=] {
            race::check(rig->submit(rig->jobs[0]), "accepted");
            const auto of_owner = [](void*, const work_view& view) { return view.owner == owner_of_all; };
            const cancel_counts counts = how == cancel_kind::chosen
                                             ? rig->pool.cancel_chosen(of_owner, nullptr).value_or(cancel_counts{})
                                             : cancel_many(*rig, how, 1);
            race::check(counts.cancelled + counts.running == 1, "a no_cancel member is never matched (C4)");
            rig->stop();
          });
          run.after([=] {
            rig->jobs[0].check_done();
            rig->jobs[1].check_done();
            race::check(rig->jobs[1].began_cancelled, "given up behind a cancelled one (W5)");
            race::check(rig->jobs[1].fiber == 1 || rig->jobs[1].fiber == 2, "on a thread of the pool (C4)");
          });
        },
        {.schedules = 20'000});
  }
}

}  // namespace
}  // namespace wq_cancel_chains_test
