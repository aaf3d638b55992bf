// Goal: whatever the order of submits and ends, a freeze returns when all that came before it is over, what it held
// aside goes on afterwards, in order; another elevator and another depth may come at any time; and no request is
// stranded or answered twice by any of it. Method: the core of request_queue itself on the deterministic scheduler
// (request_queue_rig.h).
#include "race/request_queue_rig.h"

namespace request_queue_race {
namespace {

using world = std::shared_ptr<rig>;

// Which requests were accepted, as the submitter knows it. Bare: exact at every instant.
std::array<bool, 6> accepted(const rig& w) {
  std::array<bool, 6> out{};
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = w.requests[i].submitted == rig::answer::queued;
  }
  return out;
}

void check_over(const rig& w, const std::array<bool, 6>& before) {
  for (std::size_t i = 0; i < before.size(); ++i) {
    race::check(!before[i] || w.requests[i].completions == 1, "what was accepted before is over");
    if (before[i]) {
      static_cast<void>(w.requests[i].touched.read());  // ordered after all that was done for it
    }
  }
}

// Freezes for a moment in which nothing is under way.
void freeze_once(rig& w) {
  const std::array<bool, 6> before = accepted(w);
  race::check(w.core().freeze(no_deadline).has_value(), "without a deadline it does not give up");
  check_over(w, before);
  const request_queue_stats left = w.core().stats();
  race::check(left.in_flight == 0 && left.on_workers == 0, "nothing is under way");
  race::check(w.attempts == 0 && w.runs == 0, "nor is anything tried or run");
  w.pause();
  race::check(w.attempts == 0 && w.runs == 0, "until it is let go");
  w.core().unfreeze();
}

void freeze_against_submits(race::run& run, const world& state) {
  for (std::size_t i = 0; i < 2; ++i) {
    rig::party(run, state, [i](rig& w) {
      w.submit(i, i);
      w.requests[i + 2].inline_ok = true;
      w.submit(i + 2, i);
    });
  }
  rig::party(run, state, freeze_once);
  rig::worker(run, state);
  run.after([=] {
    race::check(state->count_of(rig::answer::refused) == 0, "all were accepted");
    state->check_end();
  });
}

TEST(RaceRequestQueueHold, FreezeAgainstSubmits) {
  explore({.depth = 2, .max_workers = 1}, order::unpaired, freeze_against_submits);
}

TEST(RaceRequestQueueHold, FreezeBehindAnElevatorWithPairs) {
  explore({.depth = 2, .max_workers = 1}, order::paired, freeze_against_submits);
}

// Two freezes: the second waits for what the first held aside, if that came before it.
TEST(RaceRequestQueueHold, TheSecondOfTwoFreezesWaitsForWhatTheFirstHeld) {
  explore({.depth = 1, .max_workers = 1}, order::unpaired, [](race::run& run, const world& state) {
    rig::party(run, state, [](rig& w) {
      w.submit(0);
      w.submit(1);
    });
    rig::party(run, state, freeze_once);
    rig::party(run, state, freeze_once);
    rig::worker(run, state);
    run.after([=] { state->check_end(); });
  });
}

// The same made to happen: one is held for certain when the second freeze begins.
TEST(RaceRequestQueueHold, WhatIsHeldGoesBeforeTheNextFreezeReturns) {
  explore({.depth = 2, .max_workers = 2}, order::unpaired, [](race::run& run, const world& state) {
    rig::party(run, state, [](rig& w) {
      race::check(w.core().freeze(no_deadline).has_value(), "nothing is under way");
      w.submit(0);
      race::check(w.core().stats().waiting >= 1, "it is held aside");
      w.core().unfreeze();
    });
    rig::party(run, state, freeze_once);
    rig::party(run, state, [](rig& w) { w.submit(1); });
    rig::worker(run, state);
    run.after([=] { state->check_end(); });
  });
}

// What comes after the second freeze has begun is not let go by the end of the first.
TEST(RaceRequestQueueHold, WhatComesAfterAFreezeIsHeldUntilItsEnd) {
  explore({.depth = 1, .max_workers = 1}, order::unpaired, [](race::run& run, const world& state) {
    rig::party(run, state, [](rig& w) {
      race::check(w.core().freeze(no_deadline).has_value(), "nothing is under way");
      w.submit(0);
      while (w.core().order().lifts < 2) {  // the other one says it with the lock held in which it begins
        race::sync::relax();
      }
      w.submit(1);
      w.core().unfreeze();
    });
    rig::party(run, state, [](rig& w) {
      while (w.requests[0].submitted == rig::answer::none) {
        race::sync::relax();
      }
      race::check(w.core().freeze(no_deadline).has_value(), "without a deadline it does not give up");
      for (int look = 0; look < 2; ++look) {
        race::check(w.requests[0].completions == 1, "what was held before is over");
        race::check(w.requests[1].runs == 0 && w.requests[1].completions == 0, "what came after it is not begun");
        w.pause();
      }
      w.core().unfreeze();
    });
    rig::worker(run, state);
    run.after([=] { state->check_end(); });
  });
}

// It is given up at a deadline, as if it had never been.
TEST(RaceRequestQueueHold, AFreezeGivesUp) {
  explore({.depth = 1, .max_workers = 1}, order::unpaired, [](race::run& run, const world& state) {
    rig::party(run, state, [](rig& w) {
      w.submit(0);
      w.submit(1);
    });
    rig::party(run, state, [](rig& w) {
      const std::array<bool, 6> before = accepted(w);
      if (w.core().freeze(soon)) {
        check_over(w, before);
        w.core().unfreeze();
      }
    });
    rig::party(run, state, freeze_once);
    rig::worker(run, state);
    run.after([=] { state->check_end(); });
  });
}

// Held aside in the order in which they came, and going on in that order, also around those that come meanwhile.
TEST(RaceRequestQueueHold, WhatIsHeldGoesOnInOrder) {
  explore({.depth = 1, .max_workers = 1}, order::unpaired, [](race::run& run, const world& state) {
    auto ended = std::make_shared<std::vector<std::size_t>>();
    for (std::size_t i = 0; i < 3; ++i) {
      state->requests[i].when_complete = [=] { ended->push_back(i); };
    }
    rig::party(run, state, [](rig& w) {
      race::check(w.core().freeze(no_deadline).has_value(), "nothing is under way");
      w.submit(0);
      w.submit(1);
      race::check(w.core().stats().in_flight == 0 && w.core().stats().waiting == 2, "they are held aside");
      w.core().unfreeze();
      w.submit(2);
    });
    rig::party(run, state, freeze_once);
    rig::worker(run, state);
    run.after([=] {
      race::check(*ended == std::vector<std::size_t>{0, 1, 2}, "in the order of their submits");
      state->check_end();
    });
  });
}

// A context exits while its request is held aside: it has the queue's own pair then.
TEST(RaceRequestQueueHold, AContextExitsWhileItsRequestIsHeld) {
  explore({.depth = 1, .max_workers = 1}, order::paired,
          [](race::run& run, const world& state) {
            rig::party(run, state, [held = state->contexts[1]](rig& w) mutable {
              race::check(w.core().freeze(no_deadline).has_value(), "nothing is under way");
              w.submit_to(*w.queue, 0, *held);
              w.submit(1);
              w.core().unfreeze();
              held.reset();
            });
            rig::party(run, state, [](rig& w) { w.contexts[1].release()->exit_task(); });
            rig::worker(run, state);
            run.after([=] {
              race::check(
                  state->requests[0].submitted == rig::answer::refused || state->requests[0].outcome == rig::ran,
                  "accepted is accepted");
              race::check(state->requests[1].outcome == rig::ran, "and the other goes on");
              state->check_end();
            });
          },
          {.schedules = 20'000});
}

// The elevator is changed meanwhile: each has a pair of the new one, of its own context if that is still there.
TEST(RaceRequestQueueHold, WhatIsHeldHasPairsOfTheNewElevator) {
  explore({.depth = 1, .max_workers = 1}, order::unpaired, [](race::run& run, const world& state) {
    rig::party(run, state, [held = state->contexts[1]](rig& w) mutable {
      race::check(w.core().freeze(no_deadline).has_value(), "nothing is under way");
      w.submit_to(*w.queue, 0, *held);
      w.submit(1);
      race::check(w.core().set_elevator(std::make_unique<raced_elevator>(order::paired), no_deadline).has_value(),
                  "it does not wait for what is held");
      w.core().unfreeze();
      held.reset();
    });
    rig::party(run, state, [](rig& w) { w.contexts[1].release()->exit_task(); });
    rig::worker(run, state);
    run.after([=] {
      race::check(state->answered_with(rig::ran) == 2, "both go on");
      race::check(state->core().stats_of(*state->contexts[0]).operations == 1, "as its own context's");
      state->check_end();
    });
  });
}

// A greater depth launches who waits; a smaller one holds as soon as enough have ended.
TEST(RaceRequestQueueHold, ResizeAgainstSubmitsAndEnds) {
  explore({.depth = 2, .max_workers = 2}, order::unpaired, [](race::run& run, const world& state) {
    for (std::size_t i = 0; i < 2; ++i) {
      rig::party(run, state, [i](rig& w) {
        w.submit(i);
        w.requests[i + 2].inline_ok = true;
        w.submit(i + 2);
      });
    }
    rig::party(run, state, [](rig& w) {
      race::check(w.core().resize(1).has_value(), "at once");
      w.pause();
      race::check(w.core().resize(2).has_value(), "at once");
    });
    rig::worker(run, state);
    rig::worker(run, state);
    run.after([=] { state->check_end(); });
  });
}

// It waits for a slot that only the resize brings: the other one is held until that has run.
TEST(RaceRequestQueueHold, AGreaterDepthLaunchesWhoWaits) {
  explore({.depth = 1, .max_workers = 2}, order::unpaired, [](race::run& run, const world& state) {
    state->limits.depth = 2;  // what is checked: one of the two
    state->requests[0].stops = when_told::obeys;
    state->requests[1].when_complete = [w = state.get()] {
      static_cast<void>(w->pool.cancel_if([](const work_view& view) { return view.running; }));
    };
    rig::party(run, state, [](rig& w) {
      w.submit(0);
      w.submit(1);
    });
    rig::party(run, state, [](rig& w) { race::check(w.core().resize(2).has_value(), "at once"); });
    rig::worker(run, state);
    rig::worker(run, state);
    run.after([=] {
      race::check(state->requests[1].completions == 1, "the other went although the first one ran");
      state->check_end();
    });
  });
}

// Another elevator, while requests come.
void swap_against_submits(race::run& run, const world& state, order to) {
  for (std::size_t i = 0; i < 2; ++i) {
    rig::party(run, state, [i](rig& w) {
      w.submit(i, i);
      w.requests[i + 2].inline_ok = true;
      w.submit(i + 2, i);
    });
  }
  rig::party(run, state, [to](rig& w) {
    race::check(w.core().set_elevator(std::make_unique<raced_elevator>(to), no_deadline).has_value(), "swapped");
  });
  rig::worker(run, state);
  run.after([=] {
    race::check(state->count_of(rig::answer::refused) == 0, "all were accepted");
    race::check(state->core().order().kind == to, "the new one is in its place");
    state->check_end();
  });
}

TEST(RaceRequestQueueHold, SetElevatorToOneWithPairs) {
  explore({.depth = 1, .max_workers = 1}, order::unpaired,
          [](race::run& run, const world& state) { swap_against_submits(run, state, order::paired); });
}

TEST(RaceRequestQueueHold, SetElevatorToOneWithoutPairs) {
  explore({.depth = 1, .max_workers = 1}, order::paired,
          [](race::run& run, const world& state) { swap_against_submits(run, state, order::unpaired); });
}

// Its deadline passes, or it comes too late for a queue that stops: the old one stays.
TEST(RaceRequestQueueHold, SetElevatorAgainstStopAndQuiesce) {
  explore({.depth = 1, .max_workers = 1}, order::paired, [](race::run& run, const world& state) {
    rig::party(run, state, [](rig& w) { w.submit(0); });
    rig::party(run, state, [](rig& w) {
      const result<void> done = w.core().set_elevator(std::make_unique<raced_elevator>(order::unpaired), soon);
      race::check(done || done.error() == error_of(ETIMEDOUT) || done.error() == error_of(ESHUTDOWN), "for a reason");
      race::check((w.core().order().kind == order::unpaired) == done.has_value(), "all or nothing");
    });
    rig::party(run, state, [](rig& w) {
      w.quiesce_once(soon);
      race::check(w.core().stop(no_deadline).has_value(), "stopped");
    });
    rig::worker(run, state);
    run.after([=] {
      state->check_answers();
      state->check_idle();
      state->end();
    });
  });
}

}  // namespace
}  // namespace request_queue_race
