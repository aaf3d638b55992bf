// Goal: a cancel has one of three results, each of them true, against every step that a work can take meanwhile.
// Method: the engine on the deterministic scheduler; what a result promises is checked at the moment of the return.
#include <gtest/gtest.h>

#include "race/wq_cancel_counts.h"
#include "race/wq_rig.h"

namespace wq_cancel_test {
namespace {

using namespace sluice;
using test::cancel_kind;
using test::cancel_many;
using test::check_each_counted_once;
using test::owner_of_all;

// Cancels a chain, of one member or more, by its handle. What the result says of the members, given head first, is checked
// at the moment of the return.
cancel_result checked_cancel(wq_rig& rig, work_handle name, std::initializer_list<const race_job*> members) {
  const race_job& last = **std::prev(members.end());
  const bool was_over = last.releases == 1;
  const cancel_result said = rig.pool.cancel(name);
  race::check(!was_over || said == cancel_result::not_found, "what was released before the call is not found (C2 C3)");
  for (const race_job* const each : members) {
    race::check(said != cancel_result::cancelled || each->releases == 1, "cancelled: over at the return (C1 W5)");
    race::check(said != cancel_result::not_found || each->ended, "not found: its run is over (C3)");
  }
  race::check(said != cancel_result::cancelled || (last.began_cancelled && !last.on_worker),
              "cancelled: it was pending, and the canceller gave it up (C1)");
  return said;
}

// C1 C2 C3 W1: cancel against dequeue, of the first and of the second work of a batch, or of a run of one key.
TEST(RaceWqCancel, CancelAgainstDequeue) {
  for (const bool keyed : {false, true}) {
    for (const std::size_t which : {std::size_t{0}, std::size_t{1}}) {
      explore(
          [=](race::run& run) {
            auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
            auto* const one = rig->add_worker();
            for (std::size_t i = 0; keyed && i < 3; ++i) {
              rig->set_key(rig->jobs[i], 7);
            }
            run.thread([=] { rig->pool.worker_loop(*one); });
            run.thread([=] {
              const work_handle first = rig->submit_tracked(rig->jobs[0]);
              const work_handle second = rig->submit_tracked(rig->jobs[1]);
              const work_handle name = which == 0 ? first : second;
              const cancel_result said = checked_cancel(*rig, name, {&rig->jobs[which]});
              const cancel_result again = checked_cancel(*rig, name, {&rig->jobs[which]});
              race::check(again == cancel_result::not_found || said == cancel_result::running,
                          "a handle names its work for ever (no ABA)");
              race::check(rig->submit(rig->jobs[2]), "accepted");
              rig->stop();
            });
            run.after([=] {
              for (std::size_t i = 0; i < 3; ++i) {
                rig->jobs[i].check_done();
              }
            });
          },
          {.schedules = 30'000});
    }
  }
}

// C2 C3: a work that runs until it is asked is never "not found", whichever of two cancels asks it.
TEST(RaceWqCancel, AWorkThatRunsIsFoundByEachCancel) {
  for (const bool keyed : {false, true}) {
    explore(
        [keyed](race::run& run) {
          auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
          auto* const one = rig->add_worker();
          if (keyed) {
            rig->set_key(rig->jobs[0], 7);
          }
          run_until_asked(rig->jobs[0]);
          const work_handle name = rig->submit_tracked(rig->jobs[0]);
          run.thread([=] { rig->pool.worker_loop(*one); });
          run.thread([=] { static_cast<void>(checked_cancel(*rig, name, {&rig->jobs[0]})); });
          run.thread([=] {
            static_cast<void>(checked_cancel(*rig, name, {&rig->jobs[0]}));
            rig->stop();
          });
          run.after([=] {
            rig->jobs[0].check_done();
            race::check(rig->jobs[0].asked, "asked, or given up");
          });
        },
        {.schedules = 30'000});
  }
}

// C2 C5 C8: cancel against completion: the one that runs is interrupted, and the next sees nothing of it.
TEST(RaceWqCancel, CancelAgainstComplete) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
    auto* const one = rig->add_worker();
    rig->jobs[1].body = [seams = &rig->interrupts](work_context& ctx) {
      race::check(seams->sent == 0 && !ctx.cancelled(), "an interrupt for one work is never seen by another (C5)");
    };
    run.thread([=] { rig->pool.worker_loop(*one); });
    run.thread([=] {
      const work_handle name = rig->submit_tracked(rig->jobs[0]);
      race::check(rig->submit(rig->jobs[1]), "accepted");
      static_cast<void>(checked_cancel(*rig, name, {&rig->jobs[0]}));
      rig->stop();
    });
    run.after([=] {
      rig->jobs[0].check_done();
      rig->jobs[1].check_done();
      race::check(rig->interrupts.sent == 0, "every interrupt was consumed");
    });
  });
}

// C7: of two cancels of one work exactly one may say cancelled.
TEST(RaceWqCancel, TwoCancelsOfOneWork) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
    auto* const one = rig->add_worker();
    auto name = std::make_shared<work_handle>(rig->submit_tracked(rig->jobs[0]));
    auto won = std::make_shared<std::array<int, 2>>();
    auto over = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
    run.thread([=] { rig->pool.worker_loop(*one); });
    run.thread([=] {
      (*won)[0] = checked_cancel(*rig, *name, {&rig->jobs[0]}) == cancel_result::cancelled ? 1 : 0;
      over->store(1, std::memory_order_release);
      race::sync::wake(*over, 1);
    });
    run.thread([=] {
      (*won)[1] = static_cast<int>(rig->pool.cancel_owner(0).cancelled);
      while (over->load(std::memory_order_acquire) == 0) {
        race::sync::wait(*over, 0);
      }
      rig->stop();
    });
    run.after([=] {
      rig->jobs[0].check_done();
      race::check((*won)[0] + (*won)[1] == (rig->jobs[0].on_worker ? 0 : 1), "exactly one, if it was pending");
    });
  });
}

// Four works in submit order, none of which ends before it is asked, and workers that take several of them at once.
void explore_counts(cancel_kind how, unsigned workers, std::size_t keyed_from, std::uint64_t schedules) {
  explore(
      [=](race::run& run) {
        auto rig = std::make_shared<wq_rig>(wq_rig::options(workers));
        for (unsigned i = 0; i < workers; ++i) {
          auto* const one = rig->add_worker();
          run.thread([=] { rig->pool.worker_loop(*one); });
        }
        for (std::size_t i = 0; i < 4; ++i) {
          run_until_asked(rig->jobs[i]);
          rig->jobs[i].set_owner(owner_of_all);
          if (i >= keyed_from) {
            rig->set_key(rig->jobs[i], 7);
          }
        }
        run.thread([=] {
          for (std::size_t i = 0; i < 4; ++i) {
            race::check(rig->submit(rig->jobs[i]), "accepted");
          }
          check_each_counted_once(*rig, 4, cancel_many(*rig, how, 4));
          rig->stop();
        });
        run.after([=] {
          for (std::size_t i = 0; i < 4; ++i) {
            rig->jobs[i].check_done();
          }
        });
      },
      {.schedules = schedules});
}

// C6: every kind of cancel against workers, works with and without a key, and works in a worker's batch: each is counted
// exactly once, as cancelled or as running.
TEST(RaceWqCancel, CancelAllCountsEachWorkOnce) {
  for (const unsigned workers : {1U, 2U}) {
    for (const std::size_t keyed_from : {std::size_t{0}, std::size_t{2}, std::size_t{4}}) {
      explore_counts(cancel_kind::all, workers, keyed_from, 10'000);
    }
  }
}

TEST(RaceWqCancel, CancelOwnerCountsEachWorkOnce) {
  for (const std::size_t keyed_from : {std::size_t{0}, std::size_t{2}, std::size_t{4}}) {
    explore_counts(cancel_kind::by_owner, 2, keyed_from, 10'000);
  }
}

TEST(RaceWqCancel, CancelIfCountsEachWorkOnce) {
  for (const unsigned workers : {1U, 2U}) {
    for (const std::size_t keyed_from : {std::size_t{0}, std::size_t{2}, std::size_t{4}}) {
      explore_counts(cancel_kind::chosen, workers, keyed_from, 10'000);
    }
  }
}

// C6 H2: the same while works, of one key or of none, are taken together: who was given a name where he waited is met
// where he went.
void explore_cancel_chosen(bool keyed) {
  explore([keyed](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
    auto* const one = rig->add_worker();
    run.thread([=] { rig->pool.worker_loop(*one); });
    run.thread([=] {
      for (std::size_t i = 0; i < 4; ++i) {
        if (keyed) {
          rig->set_key(rig->jobs[i], 7);
        }
        race::check(rig->submit(rig->jobs[i]), "accepted");
      }
      const auto all = [](void*, const work_view&) { return true; };
      race::check(rig->pool.cancel_chosen(all, nullptr).has_value(), "there is memory");
      rig->stop();
    });
    run.after([=] {
      for (std::size_t i = 0; i < 4; ++i) {
        rig->jobs[i].check_done();
      }
    });
  });
}

TEST(RaceWqCancel, CancelChosenAgainstRunOfKey) {
  explore_cancel_chosen(true);
}

TEST(RaceWqCancel, CancelChosenAgainstBatch) {
  explore_cancel_chosen(false);
}

// W4 W5: a chain whose handle is cancelled at any moment: before it began, in a member, between two, or never.
TEST(RaceWqCancel, CancelAgainstChain) {
  for (const work_class second : {work_class::bound, work_class::unbound}) {
    explore([second](race::run& run) {
      auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
      auto* const bound = rig->add_worker();
      auto* const unbound = rig->add_worker(work_class::unbound);
      for (std::size_t i = 0; i < 3; ++i) {
        rig->jobs[i].number = static_cast<int>(i);
        rig->jobs[i].log = &rig->log;
      }
      rig->jobs[1].set_class(second);
      rig->jobs[0].then(&rig->jobs[1]);
      rig->jobs[1].then(&rig->jobs[2]);
      rig->jobs[1].body = [head = &rig->jobs[0]](work_context&) {
        race::check(head->releases == 1, "release(head), then run(linked) (W4)");
      };
      run.thread([=] { rig->pool.worker_loop(*bound); });
      run.thread([=] { rig->pool.worker_loop(*unbound); });
      run.thread([=] {
        const work_handle name = rig->submit_tracked(rig->jobs[0]);
        static_cast<void>(checked_cancel(*rig, name, {&rig->jobs[0], &rig->jobs[1], &rig->jobs[2]}));
        rig->stop();
      });
      run.after([=] {
        bool given_up = false;
        for (std::size_t i = 0; i < 3; ++i) {
          rig->jobs[i].check_done();
          race::check(rig->jobs[i].began_cancelled || !given_up, "after one that gave up, all give up");
          given_up = rig->jobs[i].began_cancelled;
        }
        race::check(rig->log == std::vector<int>({0, 1, 2}), "in order (W4)");
      });
    });
  }
}

// C3: a cancel that finds nothing comes after the run of the chain's last member. Between two members, and while one is given
// up, the answer is another.
TEST(RaceWqCancel, NotFoundMeansOver) {
  enum class turn : std::uint8_t { same_class, other_class, keyed, failed };
  for (const turn how : {turn::same_class, turn::other_class, turn::keyed, turn::failed}) {
    explore([how](race::run& run) {
      auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
      auto* const bound = rig->add_worker();
      auto* const unbound = rig->add_worker(work_class::unbound);
      race_job& last = rig->jobs[1];
      if (how == turn::other_class) {
        last.set_class(work_class::unbound);
      } else if (how == turn::keyed) {
        rig->set_key(last, 7);
      } else if (how == turn::failed) {
        rig->jobs[0].body = [](work_context& ctx) { ctx.fail(); };
      }
      rig->jobs[0].then(&last);
      const work_handle name = rig->submit_tracked(rig->jobs[0]);
      const auto cancel = [=] { static_cast<void>(checked_cancel(*rig, name, {&rig->jobs[0], &rig->jobs[1]})); };
      run.thread([=] { rig->pool.worker_loop(*bound); });
      run.thread([=] { rig->pool.worker_loop(*unbound); });
      run.thread(cancel);
      run.thread([=] {
        cancel();
        rig->stop();
      });
      run.after([=] {
        rig->jobs[0].check_done();
        rig->jobs[1].check_done();
      });
    });
  }
}

}  // namespace
}  // namespace wq_cancel_test
