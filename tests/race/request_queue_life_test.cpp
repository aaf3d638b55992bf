// Goal: whatever the order of cancels, refusals of the pool, caps, a stop, a removal and the last put, each accepted
// request is answered once, with the right answer, the reports add up, and the queue is freed once, after all of it.
// Method: the core of request_queue itself on the deterministic scheduler (request_queue_rig.h).
#include "race/request_queue_rig.h"

namespace request_queue_race {
namespace {

using world = std::shared_ptr<rig>;

// An owner's requests are waiting, held, between two quanta, pending in the pool, or run: each is answered once.
void cancel_against_all(race::run& run, const world& state) {
  for (std::size_t i = 0; i < 3; ++i) {
    state->requests[i].set_owner(i == 1 ? 8 : 7);
    state->requests[i].bytes = 2;
  }
  auto answered = std::make_shared<std::size_t>(0);
  rig::party(run, state, [](rig& w) {
    w.submit(0);
    w.submit(1);
    w.submit(2);
  });
  rig::party(run, state, [answered](rig& w) { *answered += w.core().cancel_owner(7); });
  rig::worker(run, state);
  run.after([=] {
    const auto cancelled = static_cast<std::size_t>(state->answered_with(-ECANCELED));
    race::check(*answered == cancelled, "those that it says it answered");
    race::check(state->core().stats().cancelled == *answered, "and the figure says so");
    race::check(state->requests[1].outcome == rig::ran, "the other owner's is left alone");
    race::check(state->requests[0].outcome == rig::ran || state->requests[0].outcome == -ECANCELED, "an answer");
    state->check_end();
  });
}

TEST(RaceRequestQueueLife, CancelOwnerAgainstAll) {
  explore({.depth = 1, .max_workers = 1}, order::unpaired, cancel_against_all);
  explore({.depth = 2, .max_workers = 1}, order::paired, cancel_against_all);
}

// What waits is answered for certain: held aside, or in the elevator.
TEST(RaceRequestQueueLife, CancelOwnerAnswersWhatWaits) {
  explore({.depth = 2, .max_workers = 2}, order::paired, [](race::run& run, const world& state) {
    for (const std::size_t i : {0U, 2U}) {
      state->requests[i].set_owner(7);
    }
    rig::party(run, state, [](rig& w) {
      race::check(w.core().freeze(no_deadline).has_value(), "nothing is under way");
      w.submit(0);
      w.submit(1);
      race::check(w.core().cancel_owner(7) == 1 && w.requests[0].outcome == -ECANCELED, "held aside");
      race::check(w.core().quiesce(no_deadline).has_value(), "nothing is tried");
      w.core().unfreeze();
      w.submit(2);
      race::check(w.core().cancel_owner(7) == 1 && w.requests[2].outcome == -ECANCELED, "in the elevator");
      w.core().unquiesce();
    });
    rig::party(run, state, [](rig& w) { w.submit(3, 1); });
    rig::worker(run, state);
    run.after([=] {
      race::check(state->requests[1].outcome == rig::ran && state->core().stats().cancelled == 2, "the others go on");
      state->check_end();
    });
  });
}

// The same while a freeze holds them aside, and a drain waits for their answers.
TEST(RaceRequestQueueLife, CancelOwnerAgainstAFreeze) {
  explore({.depth = 1, .max_workers = 1}, order::unpaired, [](race::run& run, const world& state) {
    state->requests[0].set_owner(7);
    state->requests[1].set_owner(8);
    rig::party(run, state, [](rig& w) {
      race::check(w.core().freeze(no_deadline).has_value(), "nothing is under way");
      w.submit(0);
      w.submit(1);
      w.core().unfreeze();
    });
    rig::party(run, state, [](rig& w) { static_cast<void>(w.core().cancel_owner(7)); });
    rig::party(run, state, [](rig& w) {
      const bool both = w.requests[1].submitted == rig::answer::queued;
      race::check(w.core().drain(no_deadline).has_value(), "it was idle");
      if (both) {
        race::check(w.requests[0].completions == 1 && w.requests[1].completions == 1, "both are answered");
        static_cast<void>(w.requests[0].touched.read());
      }
    });
    rig::worker(run, state);
    run.after([=] { state->check_end(); });
  });
}

// A removal accounts for each request that was accepted.
void remove_against_all(race::run& run, const world& state) {
  state->requests[0].bytes = 2;
  state->requests[1].stops = when_told::obeys;
  auto report = std::make_shared<removal_report>();
  rig::party(run, state, [](rig& w) {
    w.submit(0, 0);
    w.submit(1, 1);
  });
  rig::party(run, state, [](rig& w) {
    w.submit(2, 1);
    w.requests[3].inline_ok = true;
    w.submit(3, 1);
  });
  rig::party(run, state, [report](rig& w) {
    *report = w.core().remove(no_deadline);
    race::check(report->stuck == 0, "nothing is left");
    race::check(w.attempts == 0 && w.runs == 0, "nor goes on");
    race::check(w.submit(4) == rig::answer::refused && w.requests[4].error == ENODEV, "no new ones");
  });
  rig::worker(run, state);
  rig::worker(run, state);
  run.after([=] {
    for (const raced_request& each : state->requests) {
      race::check(each.error == 0 || each.error == ENODEV, "refused for that reason only");
      race::check(each.submitted != rig::answer::queued || each.outcome == rig::ran || each.outcome == -ENODEV ||
                      each.outcome == -ECANCELED,
                  "answered in one of three ways");
    }
    const int gone = state->answered_with(-ENODEV);
    race::check(report->cancelled + report->interrupted == static_cast<std::size_t>(gone), "each is accounted for");
    race::check(report->answered <= static_cast<std::size_t>(state->answered_with(rig::ran)), "no more than ran");
    race::check(state->core().stats().removed == static_cast<std::uint64_t>(gone), "the figures as well");
    const removal_report again = state->core().remove(no_deadline);
    race::check(again.answered == report->answered && again.cancelled == report->cancelled &&
                    again.interrupted == report->interrupted,
                "the report is of the removal as a whole");
    state->check_answers();
    state->check_idle();
    race::check(state->core().remove(soon).stuck == 0, "again");
    state->queue.reset();
    state->free_contexts();
  });
}

// Each of the three ends, as the request itself knows it.
TEST(RaceRequestQueueLife, ARemovalReportsWhatBecameOfEach) {
  explore({.depth = 2, .max_workers = 2}, order::unpaired, [](race::run& run, const world& state) {
    state->requests[0].stops = when_told::obeys;
    state->requests[1].stops = when_told::finishes;
    rig::party(run, state, [](rig& w) {
      w.submit(0);
      w.submit(1);
      w.submit(2);
      const removal_report report = w.core().remove(no_deadline);
      std::size_t interrupted = 0;
      std::size_t answered = 0;
      for (std::size_t i = 0; i < 2; ++i) {
        const bool begun = w.requests[i].runs != 0;
        interrupted += begun && w.requests[i].outcome == -ENODEV ? 1U : 0U;
        answered += begun && w.requests[i].outcome == rig::ran ? 1U : 0U;
      }
      race::check(report.interrupted == interrupted && report.answered == answered, "told while it ran");
      race::check(report.cancelled == 3 - interrupted - answered, "the others never ran");
      race::check(w.core().stats().removed == report.cancelled + report.interrupted, "as the figures say");
    });
    rig::worker(run, state);
    rig::worker(run, state);
    run.after([=] {
      race::check(state->requests[0].outcome == -ENODEV && state->requests[2].outcome == -ENODEV, "their answer");
      state->check_answers();
      state->check_idle();
      state->queue.reset();
      state->free_contexts();
    });
  });
}

TEST(RaceRequestQueueLife, RemoveAgainstAll) {
  explore({.depth = 2, .max_workers = 2}, order::unpaired, remove_against_all);
}

TEST(RaceRequestQueueLife, RemoveAgainstAllWithPairs) {
  explore({.depth = 2, .max_workers = 1}, order::paired, remove_against_all);
}

// One that hangs beyond the deadline is stuck; when it comes back it ends what the removal left.
TEST(RaceRequestQueueLife, WhatIsStuckEndsTheRemoval) {
  explore({.depth = 2, .max_workers = 2}, order::paired, [](race::run& run, const world& state) {
    state->requests[0].stops = when_told::obeys;
    rig::party(run, state, [](rig& w) { w.submit(0); });
    rig::party(run, state, [](rig& w) {
      const removal_report report = w.core().remove(soon);
      race::check(report.stuck <= 1, "at most that one");
    });
    rig::worker(run, state);
    run.after([=] {
      state->check_answers();
      state->check_idle();
      // Without a stop or another remove: its last request has ended the pairs.
      state->queue.reset();
      state->free_contexts();
    });
  });
}

// Nor does it wait for a cap, between two quanta or before the first.
TEST(RaceRequestQueueLife, ARemovalDoesNotWaitForACap) {
  explore({.depth = 2, .max_workers = 2}, order::capped, [](race::run& run, const world& state) {
    rig::party(run, state, [](rig& w) {
      w.requests[0].bytes = 3;
      w.submit(0);
      w.submit(1);
    });
    rig::party(run, state, [](rig& w) { race::check(w.core().remove(no_deadline).stuck == 0, "all is answered"); });
    rig::worker(run, state);  // and no timer
    run.after([=] {
      state->check_answers();
      state->check_idle();
      state->queue.reset();
      state->free_contexts();
    });
  });
}

// A removal and a freeze that holds requests aside.
TEST(RaceRequestQueueLife, RemoveAgainstAFreeze) {
  explore({.depth = 1, .max_workers = 1}, order::unpaired, [](race::run& run, const world& state) {
    rig::party(run, state, [](rig& w) {
      race::check(w.core().freeze(no_deadline).has_value(), "nothing is under way");
      w.submit(0);
      w.submit(1);
      w.core().unfreeze();
    });
    rig::party(run, state, [](rig& w) { race::check(w.core().remove(no_deadline).stuck == 0, "all is answered"); });
    rig::worker(run, state);
    run.after([=] {
      state->check_answers();
      state->check_idle();
      state->queue.reset();
      state->free_contexts();
    });
  });
}

// What was accepted before a stop is over when it returns; what comes later is refused.
void stop_against_submits(race::run& run, const world& state) {
  for (std::size_t i = 0; i < 2; ++i) {
    state->requests[i].bytes = 2;
    rig::party(run, state, [i](rig& w) {
      w.submit(i, i);
      w.requests[i + 2].inline_ok = true;
      w.submit(i + 2, i);
    });
  }
  rig::party(run, state, [](rig& w) {
    race::check(w.core().stop(no_deadline).has_value(), "it stops");
    race::check(w.attempts == 0 && w.runs == 0, "nothing goes on");
    const request_queue_stats left = w.core().stats();
    race::check(left.in_flight == 0 && left.waiting == 0, "nothing is left");
    race::check(w.submit(4) == rig::answer::refused && w.requests[4].error == ESHUTDOWN, "no new ones");
    for (std::size_t i = 0; i < 4; ++i) {
      if (w.requests[i].submitted == rig::answer::queued) {
        static_cast<void>(w.requests[i].touched.read());  // ordered after all that was done for it
      }
    }
  });
  rig::worker(run, state);
  run.after([=] {
    for (const raced_request& each : state->requests) {
      race::check(each.error == 0 || each.error == ESHUTDOWN, "refused for that reason only");
      race::check(each.submitted != rig::answer::queued || each.outcome == rig::ran, "it ran");
    }
    state->check_answers();
    state->check_idle();
    state->end();
  });
}

TEST(RaceRequestQueueLife, StopAgainstSubmits) {
  explore({.depth = 1, .max_workers = 1}, order::unpaired, stop_against_submits);
  explore({.depth = 2, .max_workers = 1}, order::paired, stop_against_submits);
}

// The pool is full for a moment: what waited is sent again, by the timer or by the next end.
void pool_refuses(race::run& run, const world& state) {
  state->pool.refusals = 2;
  for (std::size_t i = 0; i < 2; ++i) {
    rig::party(run, state, [i](rig& w) {
      w.submit(i);
      w.submit(i + 2);
    });
  }
  rig::worker(run, state);
  rig::timer(run, state);
  run.after([=] {
    for (const raced_request& each : state->requests) {
      race::check(each.error == 0 || each.error == EAGAIN, "refused for that reason only");
      race::check(each.submitted != rig::answer::queued || each.outcome == rig::ran, "what waited ran");
    }
    state->check_end();
  });
}

TEST(RaceRequestQueueLife, ThePoolIsFullForAMoment) {
  explore({.depth = 1, .max_workers = 1}, order::unpaired, pool_refuses);
  explore({.depth = 2, .max_workers = 1}, order::paired, pool_refuses);
}

// Nothing is under way whose end would send it again: the timer does.
TEST(RaceRequestQueueLife, TheTimerSendsAgainWhatThePoolRefused) {
  explore({.depth = 1, .max_workers = 1}, order::unpaired, [](race::run& run, const world& state) {
    rig::party(run, state, [](rig& w) {
      race::check(w.core().quiesce(no_deadline).has_value(), "nothing is tried");
      w.submit(0);
      w.core().unquiesce();
    });
    state->pool.refusals = 2;
    rig::worker(run, state);
    rig::timer(run, state);
    run.after([=] {
      race::check(state->pool.fired == 2 && state->requests[0].outcome == rig::ran, "once for each refusal");
      state->check_end();
    });
  });
}

// It is not sent again before that: another submit does not.
TEST(RaceRequestQueueLife, WhatThePoolRefusedWaits) {
  explore({.depth = 2, .max_workers = 2}, order::unpaired, [](race::run& run, const world& state) {
    rig::party(run, state, [](rig& w) {
      race::check(w.core().quiesce(no_deadline).has_value(), "nothing is tried");
      w.submit(0);
      w.core().unquiesce();
      w.submit(1);
      race::check(w.pool.submits == 1 || w.pool.fired != 0, "the pool is left alone for a while");
    });
    state->pool.refusals = 1;
    rig::worker(run, state);
    rig::timer(run, state);
    run.after([=] { state->check_end(); });
  });
}

// Without the timer: the one behind it goes, sees that it waits, gives way after a quantum, and so sends it again.
TEST(RaceRequestQueueLife, TheNextEndSendsAgainWhatThePoolRefused) {
  explore({.depth = 2, .max_workers = 2}, order::unpaired, [](race::run& run, const world& state) {
    rig::party(run, state, [](rig& w) {
      race::check(w.core().quiesce(no_deadline).has_value(), "nothing is tried");
      w.submit(0);
      w.requests[1].bytes = 3;
      w.submit(1);
      w.pool.refusals = 1;
      w.core().unquiesce();
    });
    rig::worker(run, state);
    run.after([=] {
      race::check(state->core().stats().cut != 0, "it gave way");
      state->check_end();
    });
  });
}

// A submit that the pool refuses gives its slot back, also round a drain.
void refused_submits(race::run& run, const world& state) {
  state->pool.refusals = 2;
  for (std::size_t i = 0; i < 2; ++i) {
    rig::party(run, state, [i](rig& w) { w.submit(i); });
  }
  rig::party(run, state, [](rig& w) {
    static_cast<void>(w.core().drain(soon));
    static_cast<void>(w.core().drain(soon));
  });
  run.after([=] {
    race::check(state->count_of(rig::answer::refused) == 2, "both were refused");
    state->check_end();
  });
}

TEST(RaceRequestQueueLife, ARefusedSubmitAgainstDrains) {
  explore({.depth = 2, .max_workers = 2}, order::unpaired, refused_submits);
  explore({.depth = 2, .max_workers = 2}, order::paired, refused_submits);
}

// The pool is full, and the queue is removed or quiesced meanwhile.
TEST(RaceRequestQueueLife, ARefusalAgainstRemove) {
  explore({.depth = 1, .max_workers = 1}, order::paired, [](race::run& run, const world& state) {
    rig::party(run, state, [](rig& w) {
      w.submit(0);
      w.submit(1);
    });
    rig::party(run, state, [](rig& w) {
      w.pool.refusals = 2;
      race::check(w.core().remove(no_deadline).stuck == 0, "all is answered");
    });
    rig::worker(run, state);
    rig::timer(run, state);
    run.after([=] {
      for (const raced_request& each : state->requests) {
        race::check(each.error == 0 || each.error == ENODEV || each.error == EAGAIN, "refused for a reason");
        race::check(each.submitted != rig::answer::queued || each.outcome == rig::ran || each.outcome == -ENODEV,
                    "answered for that reason only");
      }
      state->check_answers();
      state->check_idle();
      state->queue.reset();
      state->free_contexts();
    });
  });
}

// The pool has stopped: that is the answer of what waited, and the next one's turn comes.
TEST(RaceRequestQueueLife, ThePoolStops) {
  explore({.depth = 1, .max_workers = 1}, order::unpaired, [](race::run& run, const world& state) {
    rig::party(run, state, [](rig& w) {
      w.submit(0);
      w.submit(1);
      w.submit(2);
    });
    rig::party(run, state, [](rig& w) { w.pool.end(); });
    rig::worker(run, state);
    run.after([=] {
      for (const raced_request& each : state->requests) {
        race::check(each.error == 0 || each.error == ESHUTDOWN, "refused for that reason only");
        race::check(each.submitted != rig::answer::queued || each.outcome == rig::ran || each.outcome == -ESHUTDOWN,
                    "answered for that reason only");
      }
      state->check_end();
    });
  });
}

// A cap: one per hour. The timer asks again; a stop lifts it.
TEST(RaceRequestQueueLife, TheTimerAsksAgainAtACap) {
  explore({.depth = 2, .max_workers = 2}, order::capped, [](race::run& run, const world& state) {
    for (std::size_t i = 0; i < 2; ++i) {
      rig::party(run, state, [i](rig& w) {
        w.requests[i].inline_ok = true;
        w.submit(i);
        w.submit(i + 2);
      });
    }
    rig::worker(run, state);
    rig::timer(run, state);
    run.after([=] {
      race::check(state->pool.fired >= 3, "an hour for each");
      race::check(state->pool.arms <= state->pool.fired + 1, "it is armed once for each");
      state->check_end();
    });
  });
}

TEST(RaceRequestQueueLife, AStopLiftsTheCap) {
  explore({.depth = 2, .max_workers = 2}, order::capped, [](race::run& run, const world& state) {
    rig::party(run, state, [](rig& w) {
      w.submit(0);
      w.submit(1);
      w.submit(2);
    });
    rig::party(run, state, [](rig& w) { race::check(w.core().stop(no_deadline).has_value(), "it stops"); });
    rig::worker(run, state);  // and no timer
    run.after([=] {
      state->check_answers();
      state->check_idle();
      state->end();
    });
  });
}

TEST(RaceRequestQueueLife, AStopAgainstTheTimer) {
  explore({.depth = 2, .max_workers = 2}, order::capped, [](race::run& run, const world& state) {
    rig::party(run, state, [](rig& w) {
      w.submit(0);
      w.submit(1);
    });
    rig::party(run, state, [](rig& w) { race::check(w.core().stop(no_deadline).has_value(), "it stops"); });
    rig::worker(run, state);
    rig::timer(run, state);
    run.after([=] {
      state->check_answers();
      state->check_idle();
      state->end();
    });
  });
}

// A freeze lifts it too, and it holds again after that.
TEST(RaceRequestQueueLife, AFreezeLiftsTheCap) {
  explore({.depth = 2, .max_workers = 2}, order::capped, [](race::run& run, const world& state) {
    rig::party(run, state, [](rig& w) {
      w.submit(0);
      w.submit(1);
      race::check(w.core().freeze(no_deadline).has_value(), "it does not wait for the cap");
      race::check(w.requests[0].completions == 1 && w.requests[1].completions == 1, "both are over");
      w.core().unfreeze();
      race::check(!w.core().order().lifted, "it holds again");
    });
    rig::worker(run, state);  // and no timer
    run.after([=] { state->check_end(); });
  });
}

// Whoever submitted has gone: with the last request goes the queue.
void last_put(race::run& run, const world& state) {
  state->requests[0].bytes = 2;
  state->requests[0].when_complete = [w = state.get()] { w->queue.reset(); };
  state->requests[1].when_complete = [w = state.get()] { w->other.reset(); };
  state->other = state->queue;
  rig::party(run, state, [](rig& w) {
    const ref<raced_queue> mine = w.queue;
    if (w.submit_to(*mine, 0, *w.contexts[0]) == rig::answer::refused) {
      w.queue.reset();
    }
  });
  rig::party(run, state, [](rig& w) {
    const ref<raced_queue> mine = w.other;
    if (w.submit_to(*mine, 1, *w.contexts[1]) == rig::answer::refused) {
      w.other.reset();
    }
  });
  rig::worker(run, state);
  run.after([=] {
    state->check_answers();
    race::check(!state->queue && !state->other, "both have let go");
    state->free_contexts();
  });
}

TEST(RaceRequestQueueLife, ACompletionPutsLast) {
  explore({.depth = 2, .max_workers = 2}, order::unpaired, last_put);
  explore({.depth = 1, .max_workers = 1}, order::unpaired, last_put);
}

// The same while the timer fires that a refusal has armed.
TEST(RaceRequestQueueLife, ACompletionPutsLastBesideTheTimer) {
  explore({.depth = 2, .max_workers = 2}, order::unpaired, [](race::run& run, const world& state) {
    state->requests[0].when_complete = [w = state.get()] { w->other.reset(); };
    state->other = state->queue;
    rig::party(run, state, [](rig& w) {
      ref<raced_queue> mine = std::move(w.queue);
      auto& core = static_cast<raced_core&>(*mine);
      race::check(core.quiesce(no_deadline).has_value(), "nothing is tried");
      w.submit_to(*mine, 0, *w.contexts[0]);
      w.submit_to(*mine, 1, *w.contexts[0]);
      w.pool.refusals = 1;
      core.unquiesce();
      mine.reset();
    });
    rig::worker(run, state);
    rig::timer(run, state);
    run.after([=] {
      state->check_answers();
      race::check(state->pool.armed == nullptr && state->pool.firing == nullptr, "no timer is left");
      state->free_contexts();
    });
  });
}

}  // namespace
}  // namespace request_queue_race
