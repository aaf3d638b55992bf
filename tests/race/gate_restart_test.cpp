// Goal: a gate whose cores count without a lock is exact: after close nobody enters, wait ends when and only when
// everybody is out, wherever they counted. Method: the deterministic scheduler with restartable sequences modelled
// (race_core.h); fibers choose their core themselves, and change it inside. Core 2 has no number.
#include <array>
#include <memory>

#include <gtest/gtest.h>

#include "sluice/ref/gate.h"

#include "race/harness/race.h"
#include "race/race_core.h"

namespace gate_restart_test {
namespace {

using gate = sluice::basic_gate<race::sync, race::two_cores>;

constexpr race::options most_of_two{.schedules = 5'000'000, .max_preemptions = 2, .how = race::mode::exhaustive};
constexpr race::options seeds{.schedules = 20'000};
constexpr std::uint32_t no_number = 2;

struct guarded {
  race::cores machine;  // first: the gate asks it
  gate door;
  race::plain<int> contents{7};
  std::array<race::plain<int>, 3> work;

  bool visit(unsigned who, std::uint32_t enter_on, std::uint32_t leave_on, std::int64_t passes = 1) {
    race::my_core() = enter_on;
    if (!door.try_enter(passes)) {
      race::my_core() = leave_on;
      race::check(!door.try_enter(passes), "after one failure all fail");
      return false;
    }
    race::check(contents.read() == 7, "nothing ends while somebody is inside");
    work[who].update([](int& value) { ++value; });
    race::my_core() = leave_on;
    door.leave(passes);
    return true;
  }

  // What the owner does: closes on his own core, and then everything is his alone.
  void end_on(std::uint32_t core) {
    race::my_core() = core;
    door.close_and_wait();
    race::check(!door.try_enter(), "after close nobody enters");
    contents.write(0);
    for (race::plain<int>& each : work) {
      static_cast<void>(each.read());
    }
  }
};

TEST(RaceGateRestart, AVisitAgainstCloseAndWait) {
  for (const std::uint32_t leave_on : {0U, 1U, no_number}) {
    const race::report found = race::explore(most_of_two, [leave_on](race::run& run) {
      auto state = std::make_shared<guarded>();
      run.thread([=] { state->visit(0, 0, leave_on); });
      run.thread([=] { state->end_on(1); });
    });
    EXPECT_TRUE(found.ok()) << found;
    EXPECT_TRUE(found.complete) << found.schedules;
  }
}

TEST(RaceGateRestart, TwoOnOneCoreLoseNothing) {
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<guarded>();
    run.thread([=] {
      state->visit(0, 0, 0);
      state->visit(0, 0, 1);
    });
    run.thread([=] { state->visit(1, 0, 0, 3); });
    run.thread([=] { state->end_on(1); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RaceGateRestart, TwoVisitorsCrossCoresWhileItCloses) {
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<guarded>();
    run.thread([=] {
      state->visit(0, 0, 1);
      state->visit(0, 1, 0);
    });
    run.thread([=] {
      state->visit(1, 1, 0);
      state->visit(1, no_number, 1);
    });
    run.thread([=] { state->end_on(0); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// What a pool does with a batch: one thread takes the passes, each work gives one back.
TEST(RaceGateRestart, PassesOfOneBatchLeaveFromManyThreads) {
  struct handed : guarded {
    race::atomic<std::uint32_t> token{0};
  };
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<handed>();
    run.thread([=] {
      race::my_core() = 0;
      const bool entered = state->door.try_enter(3);
      state->token.store(entered ? 1 : 2, std::memory_order_release);
      race::sync::wake(state->token, sluice::wake_all);
      if (entered) {
        state->work[0].write(1);
        state->door.leave(2);
      }
    });
    run.thread([=] {
      race::my_core() = 1;
      while (state->token.load(std::memory_order_acquire) == 0) {
        race::sync::wait(state->token, 0);
      }
      if (state->token.load(std::memory_order_relaxed) == 1) {
        race::check(state->contents.read() == 7, "nothing ends while a pass is inside");
        state->work[1].write(1);
        state->door.leave();
      }
    });
    run.thread([=] { state->end_on(0); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RaceGateRestart, TwoClosersBothWaitAndOneClosed) {
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<guarded>();
    auto closed = std::make_shared<int>(0);
    run.thread([=] { state->visit(0, 0, 1); });
    for (std::uint32_t core = 0; core < 2; ++core) {
      run.thread([=] {
        race::my_core() = core;
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

TEST(RaceGateRestart, TheOwnerMayDestroyItAfterTheWait) {
  struct owned {
    race::cores machine;
    std::array<race::plain<int>, 2> work;
    std::unique_ptr<gate> door = std::make_unique<gate>();
  };
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<owned>();
    gate* raw = state->door.get();
    race::check(raw->try_enter(2), "open");
    for (unsigned who = 0; who < 2; ++who) {
      run.thread([=] {
        race::my_core() = who;
        state->work[who].write(1);
        raw->leave();
      });
    }
    run.thread([=] {
      raw->close_and_wait();
      race::check(state->work[0].read() + state->work[1].read() == 2, "both have left");
      state->door.reset();
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

}  // namespace
}  // namespace gate_restart_test
