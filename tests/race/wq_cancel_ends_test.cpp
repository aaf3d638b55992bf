// Goal: a cancel of many against works that end by themselves: what it counts is exact, and what it does not count has ended,
// also when the handle of a work that ended is used again meanwhile (C3 C6).
// Method: the engine on the deterministic scheduler.
#include <gtest/gtest.h>

#include "race/wq_cancel_counts.h"
#include "race/wq_rig.h"

namespace wq_cancel_ends_test {
namespace {

using namespace sluice;
using test::cancel_kind;
using test::cancel_many;
using test::owner_of_all;

// Works that end by themselves: those that the canceller gave up are counted as cancelled, exactly; one that was not
// counted has ended; one that was asked was counted.
void explore_works_that_end(cancel_kind how) {
  explore(
      [how](race::run& run) {
        auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
        for (int i = 0; i < 2; ++i) {
          auto* const one = rig->add_worker();
          run.thread([=] { rig->pool.worker_loop(*one); });
        }
        for (std::size_t i = 0; i < 4; ++i) {
          rig->jobs[i].set_owner(owner_of_all);
        }
        rig->set_key(rig->jobs[2], 7);
        rig->set_key(rig->jobs[3], 7);
        auto counts = std::make_shared<cancel_counts>();
        run.thread([=] {
          for (std::size_t i = 0; i < 4; ++i) {
            race::check(rig->submit(rig->jobs[i]), "accepted");
          }
          const auto matches = [](void*, const work_view&) { return true; };
          *counts = how == cancel_kind::chosen ? rig->pool.cancel_chosen(matches, nullptr).value_or(cancel_counts{})
                                               : cancel_many(*rig, how, 4);
          std::size_t ended = 0;
          for (std::size_t i = 0; i < 4; ++i) {
            ended += rig->jobs[i].ended ? 1U : 0U;
          }
          race::check(ended + counts->running >= 4, "what was not counted has ended (C3)");
          rig->stop();
        });
        run.after([=] {
          std::size_t given_up = 0;
          std::size_t asked = 0;
          for (std::size_t i = 0; i < 4; ++i) {
            rig->jobs[i].check_done();
            given_up += rig->jobs[i].on_worker ? 0U : 1U;
            asked += rig->jobs[i].on_worker && rig->jobs[i].asked ? 1U : 0U;
          }
          race::check(counts->cancelled == given_up, "cancelled: those that the canceller gave up (C6)");
          race::check(counts->running >= asked && counts->running <= 4 - given_up, "running: the others, once (C6)");
        });
      },
      {.schedules = 30'000});
}

TEST(RaceWqCancelEnds, CancelAllCountsWhatHasNotEnded) {
  explore_works_that_end(cancel_kind::all);
}

TEST(RaceWqCancelEnds, CancelOwnerCountsWhatHasNotEnded) {
  explore_works_that_end(cancel_kind::by_owner);
}

TEST(RaceWqCancelEnds, CancelIfCountsWhatHasNotEnded) {
  explore_works_that_end(cancel_kind::chosen);
}

}  // namespace
}  // namespace wq_cancel_ends_test
