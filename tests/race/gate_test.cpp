// Goal: a gate is exact: after close nobody enters, wait ends when and only when everybody is out, once, whatever
// stripe each used. Method: the deterministic scheduler; fibers choose their stripe themselves, and change it inside.
#include "sluice/ref/gate.h"

#include <array>
#include <memory>

#include <gtest/gtest.h>

#include "race/harness/engine.h"
#include "race/harness/race.h"

namespace gate_test {
namespace {

// Where each fiber runs. Set by the fiber itself, so it is a function of the schedule.
std::array<std::uint32_t, 8> core_of{};

std::uint32_t& my_core() {
  return core_of[race::detail::engine::active()->self_index()];
}

struct chosen_core {
  static std::uint32_t index() noexcept { return my_core(); }
  static std::uint32_t stripes() noexcept { return 2; }
};

using gate = sluice::basic_gate<race::sync, chosen_core>;

constexpr race::options all_of_two{.schedules = 5'000'000, .how = race::mode::exhaustive};
// Of longer scenes: those in which threads are put aside three times.
constexpr race::options most_of_two{.schedules = 5'000'000, .max_preemptions = 3, .how = race::mode::exhaustive};
constexpr race::options seeds{.schedules = 10'000};

struct guarded {
  gate door;
  race::plain<int> contents{7};
  std::array<race::plain<int>, 3> work;

  // Enters on one stripe, leaves on the other: the case in which a sum of stripes is no count.
  bool visit(unsigned who, std::uint32_t enter_on, std::uint32_t leave_on) {
    my_core() = enter_on;
    if (!door.try_enter()) {
      my_core() = leave_on;
      race::check(!door.try_enter(), "after one failure all fail");
      return false;
    }
    race::check(contents.read() == 7, "nothing ends while somebody is inside");
    work[who].update([](int& value) { ++value; });
    my_core() = leave_on;
    door.leave();
    return true;
  }

  // What the owner does after the wait: everything is his alone.
  void end() {
    my_core() = 0;
    race::check(!door.try_enter(), "after close nobody enters");
    contents.write(0);
    for (race::plain<int>& each : work) {
      static_cast<void>(each.read());
    }
  }
};

TEST(RaceGate, EnterLeaveAgainstCloseAndWaitAllSchedules) {
  const race::report found = race::explore(all_of_two, [](race::run& run) {
    auto state = std::make_shared<guarded>();
    run.thread([=] { state->visit(0, 0, 1); });
    run.thread([=] {
      state->door.close_and_wait();
      state->end();
    });
  });
  EXPECT_TRUE(found.ok()) << found;
  EXPECT_TRUE(found.complete) << found.schedules;
}

TEST(RaceGate, TwoVisitorsCrossStripesWhileItCloses) {
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<guarded>();
    run.thread([=] {
      state->visit(0, 0, 1);
      state->visit(0, 1, 0);
    });
    run.thread([=] {
      state->visit(1, 1, 0);
      state->visit(1, 0, 1);
    });
    run.thread([=] {
      state->door.close_and_wait();
      state->end();
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// A thread that holds a pass lets another one in beside it, while the gate closes: the end waits for both.
TEST(RaceGate, EnterBesideAgainstClose) {
  const race::report found = race::explore(most_of_two, [](race::run& run) {
    auto state = std::make_shared<guarded>();
    run.thread([=] {
      my_core() = 0;
      if (!state->door.try_enter()) {
        return;
      }
      my_core() = 1;
      state->door.enter_beside();
      my_core() = 0;
      state->door.leave();
      race::check(state->contents.read() == 7, "nothing ends while the second pass is inside");
      my_core() = 1;
      state->door.leave();
    });
    run.thread([=] {
      state->door.close_and_wait();
      state->end();
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// Three passes at once, given back in parts and on both stripes: the door is held by the last part.
constexpr std::int64_t three = 3;

void visit_in_parts(guarded& state, std::uint32_t enter_on) {
  my_core() = enter_on;
  if (!state.door.try_enter(three)) {
    race::check(!state.door.try_enter(three), "after one failure all fail");
    return;
  }
  race::check(state.contents.read() == 7, "nothing ends while somebody is inside");
  state.door.leave();
  my_core() = 1 - enter_on;
  race::check(state.contents.read() == 7, "the other passes are still inside");
  state.work[0].write(1);
  state.door.leave(three - 1);
}

TEST(RaceGate, ManyPassesLeaveInPartsAgainstClose) {
  const race::report found = race::explore(most_of_two, [](race::run& run) {
    auto state = std::make_shared<guarded>();
    run.thread([=] { visit_in_parts(*state, 0); });
    run.thread([=] {
      state->door.close_and_wait();
      state->end();
    });
  });
  EXPECT_TRUE(found.ok()) << found;
  EXPECT_TRUE(found.complete) << found.schedules;
}

// One thread takes the passes for works that others end, each with its own leave: what a pool does with a batch.
TEST(RaceGate, PassesOfOneBatchLeaveFromManyThreads) {
  struct handed : guarded {
    race::atomic<std::uint32_t> token{0};
  };
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<handed>();
    run.thread([=] {
      my_core() = 0;
      const bool entered = state->door.try_enter(three);
      state->token.store(entered ? 1 : 2, std::memory_order_release);
      race::sync::wake(state->token, sluice::wake_all);
      if (entered) {
        state->work[0].write(1);
        state->door.leave(2);
      }
    });
    run.thread([=] {
      my_core() = 1;
      while (state->token.load(std::memory_order_acquire) == 0) {
        race::sync::wait(state->token, 0);
      }
      if (state->token.load(std::memory_order_relaxed) == 1) {
        race::check(state->contents.read() == 7, "nothing ends while a pass is inside");
        state->work[1].write(1);
        state->door.leave();
      }
    });
    run.thread([=] {
      state->door.close_and_wait();
      state->end();
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RaceGate, LeaveFromAnotherThreadThanEnter) {
  struct handed : guarded {
    race::atomic<std::uint32_t> token{0};
  };
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<handed>();
    run.thread([=] {
      my_core() = 0;
      const bool entered = state->door.try_enter();
      state->token.store(entered ? 1 : 2, std::memory_order_release);
      race::sync::wake(state->token, sluice::wake_all);
    });
    run.thread([=] {
      my_core() = 1;
      while (state->token.load(std::memory_order_acquire) == 0) {
        race::sync::wait(state->token, 0);
      }
      if (state->token.load(std::memory_order_relaxed) == 1) {
        race::check(state->contents.read() == 7, "nothing ends while somebody is inside");
        state->door.leave();
      }
    });
    run.thread([=] {
      state->door.close_and_wait();
      state->end();
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RaceGate, TwoClosersBothWaitAndOneClosed) {
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<guarded>();
    auto closed = std::make_shared<int>(0);
    run.thread([=] { state->visit(0, 0, 1); });
    for (int i = 0; i < 2; ++i) {
      run.thread([=] {
        *closed += state->door.close() ? 1 : 0;
        race::check(!state->door.try_enter(), "whichever close it was, it has closed");
        state->door.wait();
        static_cast<void>(state->work[0].read());
      });
    }
    run.after([=] { race::check(*closed == 1, "exactly one call closed it"); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RaceGate, TheOwnerMayDestroyItAfterTheWait) {
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<std::unique_ptr<guarded>>(std::make_unique<guarded>());
    guarded* raw = state->get();
    raw->door.try_enter() ? void() : race::check(false, "open");
    raw->door.try_enter() ? void() : race::check(false, "open");
    for (unsigned who = 0; who < 2; ++who) {
      run.thread([=] {
        my_core() = who;
        raw->work[who].write(1);
        raw->door.leave();
      });
    }
    run.thread([=] {
      raw->door.close_and_wait();
      race::check(raw->work[0].read() + raw->work[1].read() == 2, "both have left");
      state->reset();
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RaceGate, KillCallsBackOnceWithNobodyInsideAndMayDestroyTheGate) {
  struct killed {
    std::unique_ptr<guarded> inner = std::make_unique<guarded>();
    int calls = 0;
    static void drained(void* self) noexcept {
      auto* state = static_cast<killed*>(self);
      ++state->calls;
      for (race::plain<int>& each : state->inner->work) {
        static_cast<void>(each.read());
      }
      state->inner.reset();
    }
  };
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<killed>();
    guarded* raw = state->inner.get();
    for (unsigned who = 0; who < 2; ++who) {
      race::check(raw->door.try_enter(), "open");
      run.thread([=] {
        my_core() = who;
        raw->work[who].write(1);
        raw->door.leave();
      });
    }
    run.thread([=] { race::check(raw->door.kill(&killed::drained, state.get()), "the first to close it"); });
    run.after([=] { race::check(state->calls == 1, "called exactly once"); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// A waiter may be the one who destroys, while the last leave is between its last store and the callback.
TEST(RaceGate, AWaiterMayDestroyAKilledGateBesideItsCallback) {
  struct killed {
    std::unique_ptr<guarded> inner = std::make_unique<guarded>();
    int calls = 0;
    static void drained(void* self) noexcept { ++static_cast<killed*>(self)->calls; }
  };
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<killed>();
    guarded* raw = state->inner.get();
    race::check(raw->door.try_enter(), "open");
    run.thread([=] { raw->door.leave(); });
    run.thread([=] {
      raw->door.kill(&killed::drained, state.get());
      raw->door.wait();
      state->inner.reset();
    });
    run.after([=] { race::check(state->calls == 1, "called exactly once"); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RaceGate, AWaitWithADeadlineSaysWhetherItDrained) {
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<guarded>();
    race::check(state->door.try_enter(), "open");
    run.thread([=] {
      state->work[0].write(1);
      state->door.leave();
    });
    run.thread([=] {
      state->door.close();
      if (state->door.wait_until(sluice::steady_time{})) {
        race::check(state->work[0].read() == 1, "drained means left");
      } else {
        state->door.wait();
      }
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

}  // namespace
}  // namespace gate_test
