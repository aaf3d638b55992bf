// Goal: whatever the order of submits, attempts, quanta and ends, no request is stranded, no more than depth go at
// once and no more than its share are on workers; who finds the queue idle sees what was done; and while it is
// quiesced nothing is tried and no quantum begins. Method: the core of request_queue itself on the deterministic
// scheduler (request_queue_rig.h).
#include "race/request_queue_rig.h"

namespace request_queue_race {
namespace {

using world = std::shared_ptr<rig>;

// O4: with one slot, three submit: inline, or by a worker if they had to wait.
TEST(RaceRequestQueue, NobodyIsStrandedAtTheDepth) {
  explore({.depth = 1}, order::unpaired, [](race::run& run, const world& state) {
    for (std::size_t i = 0; i < 3; ++i) {
      rig::party(run, state, [i](rig& w) {
        for (const std::size_t each : {i, i + 3}) {
          w.requests[each].inline_ok = true;
          w.submit(each);
        }
      });
    }
    rig::worker(run, state);
    run.after([=] {
      race::check(state->count_of(rig::answer::refused) == 0, "all were accepted");
      state->check_end();
    });
  });
}

TEST(RaceRequestQueue, NobodyIsStrandedAtTheShareOfTheWorkers) {
  explore({.depth = 3, .max_workers = 1}, order::unpaired, [](race::run& run, const world& state) {
    for (std::size_t i = 0; i < 3; ++i) {
      rig::party(run, state, [i](rig& w) { w.submit(i); });
    }
    rig::worker(run, state);
    rig::worker(run, state);
    run.after([=] {
      race::check(state->answered_with(rig::ran) == 3, "every request ran");
      state->check_end();
    });
  });
}

// The same with an elevator that sees every request, and does its own book-keeping.
TEST(RaceRequestQueue, NobodyIsStrandedInFrontOfAnElevatorWithPairs) {
  explore({.depth = 2, .max_workers = 1}, order::paired, [](race::run& run, const world& state) {
    for (std::size_t i = 0; i < 3; ++i) {
      state->requests[i].inline_ok = i == 0;
      rig::party(run, state, [i](rig& w) { w.submit(i, i % 2); });
    }
    rig::worker(run, state);
    run.after([=] {
      race::check(state->count_of(rig::answer::refused) == 0, "all were accepted");
      const io_cq_stats one = state->core().stats_of(*state->contexts[0]);
      const io_cq_stats other = state->core().stats_of(*state->contexts[1]);
      race::check(one.operations == 2 && other.operations == 1, "each operation counts for its context");
      race::check(one.inline_done == static_cast<unsigned>(state->count_of(rig::answer::in_submit)), "and how it went");
      race::check(one.waits + other.waits == state->core().stats().waited, "and how often it had to wait");
      state->check_end();
    });
  });
}

// One request may wait: another one is refused, or it is answered.
void one_may_wait(race::run& run, const world& state) {
  for (std::size_t i = 0; i < 4; ++i) {
    rig::party(run, state, [i](rig& w) {
      w.submit(i);
      race::check(w.core().stats().waiting <= 1, "no more wait than may");
    });
  }
  rig::worker(run, state);
  run.after([=] {
    for (const raced_request& each : state->requests) {
      race::check(each.error == 0 || each.error == EAGAIN, "refused for that reason only");
    }
    state->check_end();
  });
}

TEST(RaceRequestQueue, TheBoundOfThoseThatWait) {
  explore({.depth = 1, .max_waiting = 1, .max_workers = 1}, order::unpaired, one_may_wait);
  explore({.depth = 3, .max_waiting = 1, .max_workers = 1}, order::unpaired, one_may_wait);  // for a worker
}

// What was submitted before a drain is over when it returns, and its context is not held any more.
TEST(RaceRequestQueue, WhoDrainsSeesWhatWasDone) {
  explore({.depth = 1, .max_workers = 1}, order::unpaired, [](race::run& run, const world& state) {
    for (std::size_t i = 0; i < 2; ++i) {
      rig::party(run, state, [i](rig& w) {
        w.requests[i].inline_ok = i == 0;
        w.submit(i);
      });
    }
    rig::party(run, state, [](rig& w) {
      std::array<bool, 2> before{};
      for (std::size_t i = 0; i < 2; ++i) {
        before[i] = w.requests[i].submitted != rig::answer::none;
      }
      race::check(w.core().drain(no_deadline).has_value(), "it was idle");
      for (std::size_t i = 0; i < 2; ++i) {
        if (before[i] && w.requests[i].submitted == rig::answer::queued) {
          race::check(w.requests[i].completions == 1, "it is over");
          static_cast<void>(w.requests[i].touched.read());  // ordered after all that was done for it
        }
      }
      if (before[0] && before[1]) {
        race::check(w.contexts[0]->use_count() == 1, "no request holds its context");
      }
    });
    rig::worker(run, state);
    run.after([=] { state->check_end(); });
  });
}

// A drain is woken by an attempt's end, and by one that goes round its deadline.
TEST(RaceRequestQueue, DrainsAgainstAttempts) {
  explore({.depth = 2}, order::unpaired, [](race::run& run, const world& state) {
    rig::party(run, state, [](rig& w) {
      for (std::size_t i = 0; i < 3; ++i) {
        w.requests[i].inline_ok = true;
        race::check(w.submit(i) == rig::answer::in_submit, "it never has to wait");
      }
    });
    rig::party(run, state, [](rig& w) { race::check(w.core().drain(no_deadline).has_value(), "it was idle"); });
    rig::party(run, state, [](rig& w) { static_cast<void>(w.core().drain(soon)); });
    run.after([=] { state->check_end(); });
  });
}

// Nothing is tried and nothing is taken up after quiesce has returned (the rig looks); afterwards all of it goes on.
void quiesce_against_submits(race::run& run, const world& state) {
  for (std::size_t i = 0; i < 2; ++i) {
    rig::party(run, state, [i](rig& w) {
      w.requests[i].bytes = 2;
      w.submit(i);
      w.requests[i + 2].inline_ok = true;
      w.submit(i + 2);
    });
  }
  rig::party(run, state, [](rig& w) { w.quiesce_once(); });
  rig::worker(run, state);
  rig::worker(run, state);
  run.after([=] {
    race::check(state->count_of(rig::answer::refused) == 0, "all were accepted");
    state->check_end();
  });
}

TEST(RaceRequestQueue, QuiescedNothingBeginsAndNobodyIsStranded) {
  explore({.depth = 2, .max_workers = 1}, order::unpaired, quiesce_against_submits);
}

TEST(RaceRequestQueue, QuiescedBehindAnElevatorWithPairs) {
  explore({.depth = 2, .max_workers = 2}, order::paired, quiesce_against_submits);
}

// Two hold it still, one of them may give up.
TEST(RaceRequestQueue, QuiescesNestAndGiveUp) {
  explore({.depth = 2, .max_workers = 2}, order::unpaired, [](race::run& run, const world& state) {
    rig::party(run, state, [](rig& w) {
      w.requests[0].inline_ok = true;
      w.submit(0);
      w.submit(1);
    });
    rig::party(run, state, [](rig& w) {
      race::check(w.core().quiesce(no_deadline).has_value(), "without a deadline");
      race::check(w.attempts == 0, "nothing is being tried");
      const auto tried = [&w] { return w.requests[0].tries + w.requests[1].tries; };
      const int before = tried();
      w.pause();
      w.pause();
      race::check(tried() == before, "whatever the other does, nothing is tried until this one lets it go");
      w.core().unquiesce();
    });
    rig::party(run, state, [](rig& w) {
      if (w.core().quiesce(soon)) {
        w.core().unquiesce();
      }
    });
    rig::worker(run, state);
    run.after([=] { state->check_end(); });
  });
}

// A quiesced queue takes back what was handed and not begun: it costs its flow nothing.
TEST(RaceRequestQueue, WhatIsPutBackUntouchedWasNotServed) {
  explore({.depth = 2, .max_workers = 2}, order::paired, [](race::run& run, const world& state) {
    for (std::size_t i = 0; i < 2; ++i) {
      state->requests[i].bytes = 1;
      rig::party(run, state, [i](rig& w) { w.submit(i); });
    }
    rig::party(run, state, [](rig& w) { w.quiesce_once(); });
    rig::worker(run, state);
    run.after([=] {
      const raced_elevator& told = state->core().order();
      race::check(told.served == 2 && told.moved == 2, "each was served once, for its byte");
      const request_queue_stats seen = state->core().stats();
      race::check(seen.bytes == 2 && seen.cut == 0, "none was cut");
      state->check_end();
    });
  });
}

// Requests of several quanta give way to each other; their bytes are counted once, wherever their quanta end.
void long_requests(race::run& run, const world& state) {
  for (std::size_t i = 0; i < 3; ++i) {
    state->requests[i].bytes = 3 - i;
    rig::party(run, state, [i](rig& w) { w.submit(i); });
  }
  rig::worker(run, state);
  rig::worker(run, state);
  run.after([=] {
    race::check(state->answered_with(rig::ran) == 3, "every request ran to its end");
    const request_queue_stats seen = state->core().stats();
    race::check(seen.bytes == 6, "all bytes were moved once");
    race::check(seen.punted + seen.waited >= 3, "they went to workers");
    for (std::size_t i = 0; i < 3; ++i) {
      race::check(state->requests[i].runs == static_cast<int>(3 - i), "a quantum each time");
    }
    if (state->core().order().use() == io_cq_use::wanted) {
      race::check(state->core().order().moved == 6, "the elevator was told of each");
      race::check(state->core().stats_of(*state->contexts[0]).bytes == 6, "and the context");
    }
    state->check_end();
  });
}

TEST(RaceRequestQueue, QuantaAgainstOthersThatWait) {
  explore({.depth = 1, .max_workers = 1}, order::unpaired, long_requests);
  explore({.depth = 2, .max_workers = 2}, order::unpaired, long_requests);
}

TEST(RaceRequestQueue, QuantaUnderAnElevatorWithPairs) {
  explore({.depth = 1, .max_workers = 1}, order::paired, long_requests);
  explore({.depth = 2, .max_workers = 2}, order::paired, long_requests);
}

// Another waits: the long one is cut after its quantum, and the other has run before it ends.
TEST(RaceRequestQueue, WhoWaitsGoesAfterAQuantum) {
  explore({.depth = 1, .max_workers = 1}, order::unpaired, [](race::run& run, const world& state) {
    auto gives_way = std::make_shared<bool>(false);
    state->requests[0].bytes = 3;
    rig::party(run, state, [gives_way](rig& w) {
      w.submit(0);
      w.submit(1);
      // At the latest the end of its second quantum sees that the other waits.
      *gives_way = w.requests[0].runs < 2;
    });
    rig::worker(run, state);
    run.after([=] {
      race::check(!*gives_way || state->core().stats().cut != 0, "it gave way");
      state->check_end();
    });
  });
}

// Requests of one key have one worker between them: the others of the queue have theirs, and no more than its share
// run.
TEST(RaceRequestQueue, RequestsOfOneKeyShareAWorker) {
  static const ref<hash_domain> domain = hash_domain::create().value();
  for (const order kind : {order::unpaired, order::paired}) {
    explore({.depth = 6, .quantum = 1, .max_workers = 2}, kind, [](race::run& run, const world& state) {
      for (std::size_t i = 0; i < 5; ++i) {
        state->requests[i].bytes = i % 2 + 1;
        if (i < 4) {
          state->requests[i].set_key(*domain, i < 3 ? 1 : 2);
        }
      }
      rig::party(run, state, [](rig& w) {
        w.submit(0);
        w.submit(1);
        w.submit(3);
      });
      rig::party(run, state, [](rig& w) {
        w.submit(2);
        w.submit(4);
      });
      rig::worker(run, state);
      rig::worker(run, state);
      run.after([=] {
        race::check(state->answered_with(rig::ran) == 5, "every request ran");
        state->check_end();
      });
    });
  }
}

// With a share of one worker: a request that waits for its key in the pool leaves the share to the one that runs, and
// a request without a key to neither.
TEST(RaceRequestQueue, AKeyIsGivenBackAgainstCancelsAndQuiesce) {
  static const ref<hash_domain> domain = hash_domain::create().value();
  explore({.depth = 4, .quantum = 1, .max_workers = 1}, order::unpaired, [](race::run& run, const world& state) {
    for (std::size_t i = 0; i < 4; ++i) {
      state->requests[i].bytes = 2;
      state->requests[i].set_owner(i + 1);
      if (i != 3) {
        state->requests[i].set_key(*domain, 1);
      }
    }
    rig::party(run, state, [](rig& w) {
      for (std::size_t i = 0; i < 4; ++i) {
        w.submit(i);
      }
    });
    rig::party(run, state, [](rig& w) {
      static_cast<void>(w.core().cancel_owner(2));
      static_cast<void>(w.quiesce_once());
    });
    rig::worker(run, state);
    rig::worker(run, state);
    run.after([=] { state->check_end(); });
  });
}

}  // namespace
}  // namespace request_queue_race
