// Goal: whatever the order of creations, lookups, the context's exit, the queue's clear and the last put, there is one
// io_cq per pair, it exits once and is destroyed once, nobody waits for himself, and nobody gets another queue's.
// Method: the links of io_context and request_queue on the deterministic scheduler. Plain memory stands for what an
// elevator keeps: in each io_cq, and of the queue as a whole; unordered uses, and uses after the end, are reported.
#include <gtest/gtest.h>

#include "sluice/ioc/io_context.h"
#include "sluice/ioc/io_cq_links.h"
#include "sluice/ref/kref.h"

#include "race/harness/race.h"

namespace io_cq_test {
namespace {

using namespace sluice;

struct figures {
  int made = 0;
  int exited = 0;
  int destroyed = 0;
  int contexts_freed = 0;
};

struct raced_context;
struct raced_queue;

struct raced_pair : io_cq_node<raced_pair, raced_context, raced_queue> {
  explicit raced_pair(figures& into) : seen(into) { ++seen.made; }
  ~raced_pair() {
    state.write(-1);  // reported unless ordered after every use
    ++seen.destroyed;
  }

  figures& seen;
  race::plain<int> state{0};  // an elevator's: 0, 1 once exited
};

struct raced_context : io_context_counts<raced_context, race::sync>,
                       io_context_links<raced_pair, raced_context, raced_queue, race::sync> {
  explicit raced_context(figures& into) : seen(into) {}
  ~raced_context() { ++seen.contexts_freed; }
  void exit_io_cqs() noexcept;

  figures& seen;
};

// One hint: which context has which must not depend on addresses, or a seed would not replay.
struct raced_queue : kref<raced_queue, delete_release, race::sync>,
                     request_queue_links<raced_pair, raced_context, raced_queue, race::sync, 1> {
  raced_queue(figures& into, std::uint64_t number) : seen(into), number_(number) {}
  ~raced_queue() {
    scoped_lock hold(lock_);
    race::check(!has_io_cqs_locked(), "a queue is freed after its io_cqs");
  }

  [[nodiscard]] std::uint64_t id() const noexcept { return number_; }
  void io_cq_exits_locked(raced_pair& pair) noexcept {
    race::check(pair.state.read() == 0, "exits once");
    pair.state.write(1);
    told.update([](int& exits) { ++exits; });
    ++seen.exited;
  }

  // As request_queue::get_io_cq.
  result<raced_pair*> get_io_cq(raced_context& context) {
    if (raced_pair* found = lookup_io_cq(context)) {
      return found;
    }
    auto made = std::make_unique<raced_pair>(seen);  // before the lock: freed after it if it is not needed
    const scoped_lock hold(lock_);
    return link_io_cq_locked(context, made);
  }
  // As a request that must wait: uses the pair under the queue's lock. Returns whether there was one.
  bool use(raced_context& context) {
    scoped_lock hold(lock_);
    raced_pair* pair = lookup_locked(context);
    if (pair != nullptr) {
      race::check(&pair->queue() == this && &pair->context() == &context, "of this pair");
      race::check(pair->state.read() == 0, "alive");
      pair->state.write(0);
    }
    return pair != nullptr;
  }
  // As a request that begins to wait: what it found, kept while the lock is let go.
  [[nodiscard]] raced_pair* found(raced_context& context) {
    scoped_lock hold(lock_);
    return lookup_locked(context);
  }
  void stop() {
    {
      scoped_lock hold(lock_);
      refuse_io_cqs_locked();
    }
    clear_io_cqs();
  }
  // Acts with the queue's lock held.
  template <class Act>
  void locked(Act act) {
    scoped_lock hold(lock_);
    act();
  }

  figures& seen;
  race::plain<int> told{0};  // the elevator's: guarded by the lock, so an exit without it is reported

 private:
  const std::uint64_t number_;
};

void raced_context::exit_io_cqs() noexcept {
  io_context_links::exit_io_cqs();
}

// A context, with the count of the task that it was made for, and two queues.
struct world {
  world() : context(new raced_context(seen)) {}

  void link_all() {
    for (const ref<raced_queue>& each : queues) {
      race::check(each->get_io_cq(*context).has_value(), "nothing has ended yet");
    }
  }
  [[nodiscard]] ref<raced_context> memory() const { return ref<raced_context>::retain(context); }

  figures seen;
  raced_context* context;
  std::array<ref<raced_queue>, 2> queues{make_ref<raced_queue>(seen, std::uint64_t{6}),
                                         make_ref<raced_queue>(seen, std::uint64_t{8})};
};

// Every pair that was linked exited once; every one that was made is destroyed once.
void all_ended(const world& state, int linked) {
  race::check(state.seen.exited == linked, "each exits exactly once");
  race::check(state.seen.destroyed == state.seen.made, "each is destroyed exactly once");
  race::check(state.seen.contexts_freed == 1, "the context is freed once");
}

race::report explore(const std::function<void(race::run&, const std::shared_ptr<world>&)>& scenario) {
  return race::explore({.schedules = 20'000}, [&](race::run& run) { scenario(run, std::make_shared<world>()); });
}

// O1: a request that waits on the queue holds its context, and finds the memory of its io_cq whatever ended meanwhile.
TEST(RaceIoCq, WhoWaitsKeepsTheMemoryOfItsPair) {
  const race::report found = explore([](race::run& run, const std::shared_ptr<world>& state) {
    state->link_all();
    run.thread([=, held = state->memory()]() mutable {
      raced_pair* const pair = state->queues[0]->found(*held);
      state->queues[0]->locked([&] {  // its turn comes
        race::check(pair == nullptr || pair->state.read() >= 0, "exited perhaps, but there");
      });
      held.reset();
    });
    run.thread([=] { state->context->exit_task(); });
    run.thread([=] { state->queues[1]->stop(); });
    run.after([=] {
      all_ended(*state, 2);
      state->queues[0]->stop();
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// O4: three create at once: all get the same, the losers' are freed.
TEST(RaceIoCq, RacingCreatorsGetTheSame) {
  const race::report found = explore([](race::run& run, const std::shared_ptr<world>& state) {
    auto got = std::make_shared<std::array<raced_pair*, 3>>();
    for (std::size_t i = 0; i < 3; ++i) {
      run.thread([=] {
        (*got)[i] = state->queues[0]->get_io_cq(*state->context).value();
        race::check(state->queues[0]->use(*state->context), "there while both sides are");
      });
    }
    run.after([=] {
      race::check((*got)[0] == (*got)[1] && (*got)[1] == (*got)[2], "one pair");
      race::check(state->context->nr_io_cqs() == 1, "linked once");
      race::check(state->seen.destroyed == state->seen.made - 1, "the losers' are freed");
      state->context->exit_task();
      all_ended(*state, 1);
      state->queues[0]->stop();
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// O1 O5: the context's exit, which frees it too, against the clear of both its queues.
TEST(RaceIoCq, ExitAgainstClear) {
  const race::report found = explore([](race::run& run, const std::shared_ptr<world>& state) {
    state->link_all();
    run.thread([=] { state->context->exit_task(); });
    for (std::size_t i = 0; i < 2; ++i) {
      run.thread([=] {
        state->queues[i]->stop();
        state->queues[i].reset();  // the context's side may still hold it
      });
    }
    run.after([=] { all_ended(*state, 2); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// O5: two that clear one queue, and the context's exit.
TEST(RaceIoCq, TwoClearsAndAnExit) {
  const race::report found = explore([](race::run& run, const std::shared_ptr<world>& state) {
    state->link_all();
    for (int i = 0; i < 2; ++i) {
      run.thread([=] { state->queues[0]->stop(); });
    }
    run.thread([=] { state->context->exit_task(); });
    run.after([=] {
      all_ended(*state, 2);
      state->queues[1]->stop();
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// O1 O8: the last put of the context with a queue's lock held, against its exit and that queue's clear.
TEST(RaceIoCq, FinalPutUnderAQueuesLock) {
  const race::report found = explore([](race::run& run, const std::shared_ptr<world>& state) {
    state->link_all();
    run.thread([=, held = state->memory()]() mutable { state->queues[0]->locked([&] { held.reset(); }); });
    run.thread([=] { state->context->exit_task(); });
    run.thread([=] { state->queues[0]->stop(); });
    run.after([=] {
      all_ended(*state, 2);
      state->queues[1]->stop();
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// O1 O4: creators that hold no right to issue, against the last exit: a pair that ends with the context, or none.
TEST(RaceIoCq, CreateAgainstExit) {
  const race::report found = explore([](race::run& run, const std::shared_ptr<world>& state) {
    auto linked = std::make_shared<std::array<raced_pair*, 2>>();
    for (std::size_t i = 0; i < 2; ++i) {
      run.thread([=, held = state->memory()]() mutable {
        const result<raced_pair*> made = state->queues[0]->get_io_cq(*held);
        race::check(made || made.error() == error_of(ESHUTDOWN), "one, or the context has exited");
        (*linked)[i] = made.value_or(nullptr);
        static_cast<void>(state->queues[0]->use(*held));
        held.reset();
      });
    }
    run.thread([=, held = state->memory()]() mutable {
      held->exit_task();
      race::check(held->nr_io_cqs() == 0, "after its exit a context has none");
      race::check(state->queues[1]->get_io_cq(*held).error() == error_of(ESHUTDOWN), "and gets none");
      held.reset();
    });
    run.after([=] {
      const auto& [one, other] = *linked;
      race::check(one == nullptr || other == nullptr || one == other, "racing creators got the same");
      all_ended(*state, one != nullptr || other != nullptr ? 1 : 0);
      state->queues[0]->stop();
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// O4 O5: creators against the queue's clear: a pair that the clear ends, or none; nothing is linked afterwards.
TEST(RaceIoCq, CreateAgainstClear) {
  const race::report found = explore([](race::run& run, const std::shared_ptr<world>& state) {
    auto linked = std::make_shared<race::atomic<int>>(0);
    for (int i = 0; i < 2; ++i) {
      run.thread([=] {
        const result<raced_pair*> made = state->queues[0]->get_io_cq(*state->context);
        race::check(made || made.error() == error_of(ESHUTDOWN), "one, or the queue has stopped");
        linked->fetch_or(made ? 1 : 0, std::memory_order_relaxed);
      });
    }
    run.thread([=] {
      state->queues[0]->stop();
      race::check(!state->queues[0]->use(*state->context), "after its clear a queue has none");
    });
    run.after([=] {
      race::check(state->context->nr_io_cqs() == 0, "and nobody brought one back");
      state->context->exit_task();
      all_ended(*state, linked->load(std::memory_order_relaxed));
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// O6: a queue ends and another gets its id while two look up, by the hint and by the tree, and the context exits.
TEST(RaceIoCq, LookupAfterAnIdIsReused) {
  const race::report found = explore([](race::run& run, const std::shared_ptr<world>& state) {
    auto reused = std::make_shared<ref<raced_queue>>(make_ref<raced_queue>(state->seen, state->queues[0]->id()));
    state->link_all();
    run.thread([=] {
      state->queues[0]->stop();
      static_cast<void>((*reused)->get_io_cq(*state->context));
      race::check((*reused)->use(*state->context), "the new queue's own");
      race::check(!state->queues[0]->use(*state->context), "never again the old one's");
    });
    run.thread([=] {
      static_cast<void>(state->queues[0]->use(*state->context));  // it says whose it got
      static_cast<void>((*reused)->use(*state->context));
      static_cast<void>(state->queues[0]->use(*state->context));
    });
    // Both at once under one id, which no two queues of a process ever have: still nobody gets the other's.
    run.thread([=] {
      race::check((*reused)->get_io_cq(*state->context).has_value(), "neither side has ended");
      static_cast<void>((*reused)->use(*state->context));
    });
    run.after([=] {
      state->context->exit_task();
      all_ended(*state, 3);
      (*reused)->stop();
      state->queues[1]->stop();
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// O6: another context comes to a queue that knows one already: hints name contexts too.
TEST(RaceIoCq, TwoContextsShareOneHint) {
  const race::report found = explore([](race::run& run, const std::shared_ptr<world>& state) {
    auto* other = new raced_context(state->seen);
    state->link_all();
    run.thread([=] {
      static_cast<void>(state->queues[0]->get_io_cq(*other));
      race::check(state->queues[0]->use(*other), "its own");
      other->exit_task();
    });
    run.thread([=] { race::check(state->queues[0]->use(*state->context), "still there"); });
    run.thread([=] { race::check(state->queues[0]->use(*state->context), "still there"); });
    run.after([=] {
      state->context->exit_task();
      race::check(state->seen.exited == 3 && state->seen.destroyed == state->seen.made, "ended once");
      state->queues[0]->stop();
      state->queues[1]->stop();
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// O1 O2 O4 O5 O8: three threads, each of which creates, uses and ends something.
TEST(RaceIoCq, AllAtOnce) {
  const race::report found = explore([](race::run& run, const std::shared_ptr<world>& state) {
    auto linked = std::make_shared<race::atomic<int>>(0);
    const auto create = [=](std::size_t queue, raced_context& context) {
      if (state->queues[queue]->get_io_cq(context)) {
        linked->fetch_or(1 << queue, std::memory_order_relaxed);
      }
    };
    run.thread([=] {
      create(0, *state->context);
      create(1, *state->context);
      static_cast<void>(state->queues[0]->use(*state->context));
      state->context->exit_task();
    });
    run.thread([=, held = state->memory()]() mutable {
      create(0, *held);
      static_cast<void>(state->queues[0]->use(*held));
      state->queues[0]->stop();
      held.reset();
    });
    run.thread([=, held = state->memory()]() mutable {
      create(1, *held);
      state->queues[1]->locked([&] { held.reset(); });
      state->queues[1]->stop();
    });
    run.after([=] {
      const int got = linked->load(std::memory_order_relaxed);
      all_ended(*state, (got & 1) + (got >> 1));
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

}  // namespace
}  // namespace io_cq_test
