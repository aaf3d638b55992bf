// Goal: R1–R5 of a refcount under every interleaving of two threads, and 10 000 random ones of three. Method: the
// deterministic scheduler with the weak memory model; contents are plain variables, so a missing order is a race.
#include "sluice/ref/refcount.h"

#include <memory>

#include <gtest/gtest.h>

#include "race/harness/race.h"

namespace refcount_test {
namespace {

using count = sluice::basic_refcount<race::sync>;

constexpr race::options all_of_two{.schedules = 5'000'000, .how = race::mode::exhaustive};
constexpr race::options seeds{.schedules = 10'000};

// The faults of the schedule that runs.
int faults = 0;
void count_fault(const sluice::refcount_fault_report& /*report*/) noexcept {
  ++faults;
}

class RaceRefcount : public testing::Test {
 protected:
  RaceRefcount() : before_(sluice::set_refcount_fault_handler(&count_fault)) {}
  ~RaceRefcount() override { sluice::set_refcount_fault_handler(before_); }

  static void expect_all(const race::report& found) {
    EXPECT_TRUE(found.ok()) << found;
    EXPECT_TRUE(found.complete) << found.schedules << " schedules did not suffice";
  }

 private:
  sluice::refcount_fault_handler before_;
};

// One object: its contents, its count, how often it was released.
struct object {
  explicit object(std::uint32_t owners) : users(owners) {}
  count users;
  race::plain<int> written[3];
  race::plain<int> releases{0};

  // R4: whoever was last may look at everything without further ado.
  void put_as(unsigned who, unsigned owners) {
    written[who].write(1);
    if (users.put()) {
      for (unsigned i = 0; i < owners; ++i) {
        race::check(written[i].read() == 1, "the last putter sees all earlier writes");
      }
      releases.write(releases.read() + 1);
    }
  }
};

TEST_F(RaceRefcount, R1_R4_TwoPutsReleaseOnceAndSeeEverything) {
  expect_all(race::explore(all_of_two, [](race::run& run) {
    auto state = std::make_shared<object>(2);
    run.thread([=] { state->put_as(0, 2); });
    run.thread([=] { state->put_as(1, 2); });
    run.after([=] { race::check(state->releases.read() == 1, "released exactly once"); });
  }));
}

TEST_F(RaceRefcount, R1_R4_TwoThreadsOfThreeOperations) {
  expect_all(race::explore(all_of_two, [](race::run& run) {
    faults = 0;
    auto state = std::make_shared<object>(2);
    for (unsigned who = 0; who < 2; ++who) {
      run.thread([=] {
        state->users.get();
        race::check(!state->users.put(), "its own count is still there");
        state->put_as(who, 2);
      });
    }
    run.after([=] { race::check(state->releases.read() == 1 && faults == 0, "released exactly once"); });
  }));
}

TEST_F(RaceRefcount, R1_R4_ThreeThreadsGetAndPut) {
  const race::report found = race::explore(seeds, [](race::run& run) {
    faults = 0;
    auto state = std::make_shared<object>(3);
    for (unsigned who = 0; who < 3; ++who) {
      run.thread([=] {
        state->users.get();
        state->users.dec();
        race::check(state->users.get_unless_zero(), "it owns a count");
        race::check(state->users.put_unless_one(), "and another");
        state->put_as(who, 3);
      });
    }
    run.after([=] { race::check(state->releases.read() == 1 && faults == 0, "released exactly once"); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST_F(RaceRefcount, R3_GetUnlessZeroAgainstTheLastPut) {
  expect_all(race::explore(all_of_two, [](race::run& run) {
    auto state = std::make_shared<object>(1);
    run.thread([=] {
      if (state->users.put()) {
        state->releases.write(1);
      }
    });
    run.thread([=] {
      if (state->users.get_unless_zero()) {
        if (state->users.put()) {
          state->releases.write(1);
        }
      } else {
        race::check(state->users.read() == 0, "a failure changes nothing");
      }
    });
    run.after([=] { race::check(state->releases.read() == 1 && state->users.read() == 0, "released exactly once"); });
  }));
}

TEST_F(RaceRefcount, R1_PutIfOneAgainstPut) {
  expect_all(race::explore(all_of_two, [](race::run& run) {
    auto state = std::make_shared<object>(2);
    run.thread([=] {
      state->written[0].write(1);
      // Tries as a holder would that may not release here: falls back to a put that must then not be the last.
      if (state->users.put_if_one()) {
        race::check(state->written[1].read() == 1, "put_if_one acquires");
        state->releases.update([](int& value) { ++value; });
      } else {
        state->put_as(0, 2);
      }
    });
    run.thread([=] { state->put_as(1, 2); });
    run.after([=] { race::check(state->releases.read() == 1, "released exactly once"); });
  }));
}

TEST_F(RaceRefcount, R4_PutUnlessOneIsARelease) {
  expect_all(race::explore(all_of_two, [](race::run& run) {
    auto state = std::make_shared<object>(2);
    run.thread([=] {
      state->written[0].write(1);
      if (!state->users.put_unless_one()) {
        state->put_as(0, 2);
      }
    });
    run.thread([=] { state->put_as(1, 2); });
    run.after([=] { race::check(state->releases.read() == 1, "released exactly once"); });
  }));
}

TEST_F(RaceRefcount, R4_DecIsARelease) {
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<object>(2);
    run.thread([=] {
      state->written[0].write(1);
      state->users.dec();
    });
    run.thread([=] {
      while (state->users.read() != 1) {
        race::sync::relax();
      }
      state->put_as(1, 2);
    });
    run.after([=] { race::check(state->releases.read() == 1, "released exactly once"); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST_F(RaceRefcount, R2_RacingOverflowsNeverComeBack) {
  expect_all(race::explore(all_of_two, [](race::run& run) {
    faults = 0;
    auto state = std::make_shared<object>(count::max_count);
    for (unsigned who = 0; who < 2; ++who) {
      run.thread([=] {
        state->users.get();
        race::check(!state->users.put(), "a saturated object is never freed");
      });
    }
    run.after([=] {
      race::check(faults > 0, "an overflow reports");
      for (int i = 0; i < 8; ++i) {
        race::check(!state->users.put(), "a saturated object is never freed");
      }
    });
  }));
}

TEST_F(RaceRefcount, R2_ADoublePutReleasesAtMostOnce) {
  expect_all(race::explore(all_of_two, [](race::run& run) {
    faults = 0;
    auto state = std::make_shared<object>(1);
    auto releases = std::make_shared<int>(0);
    for (unsigned who = 0; who < 2; ++who) {
      run.thread([=] { *releases += state->users.put() ? 1 : 0; });
    }
    run.after([=] {
      race::check(*releases == 1, "exactly one of two puts of one count is the last");
      race::check(faults == 1, "the other reports");
    });
  }));
}

// A table of one slot under a lock; the lookup owns no count before, so it is serialised by the lock (rule 3).
struct table {
  race::mutex lock;
  race::plain<bool> linked{true};
  object entry{1};
  race::plain<bool> locked_for_nothing{false};
};

TEST_F(RaceRefcount, R5_PutAndLockAgainstALookupUnderTheLock) {
  const auto scenario = [](race::run& run) {
    faults = 0;
    auto state = std::make_shared<table>();
    const auto put = [state] {
      const std::unique_lock<race::mutex> held = state->entry.users.put_and_lock(state->lock);
      if (held.owns_lock()) {
        state->linked.write(false);
        state->entry.releases.update([](int& value) { ++value; });
      }
    };
    run.thread(put);
    run.thread([=] {
      bool found = false;
      {
        const std::unique_lock<race::mutex> held(state->lock);
        if (state->linked.read()) {
          state->entry.users.get();  // never from zero: the last put would hold the lock
          found = true;
        }
      }
      if (found) {
        put();
      }
    });
    run.after([=] {
      race::check(faults == 0, "no get from zero");
      race::check(state->entry.releases.read() == 1, "released exactly once, under the lock");
    });
  };
  expect_all(race::explore(all_of_two, scenario));
}

TEST_F(RaceRefcount, R5_ThreePuttersTakeTheLockOnlyForTheLast) {
  const race::report found = race::explore(seeds, [](race::run& run) {
    faults = 0;
    auto state = std::make_shared<table>();
    state->entry.users.add(2);
    for (int who = 0; who < 3; ++who) {
      run.thread([=] {
        const std::unique_lock<race::mutex> held = state->entry.users.put_and_lock(state->lock);
        if (held.owns_lock()) {
          race::check(state->entry.users.read() == 0, "the lock comes with the last count");
          state->entry.releases.update([](int& value) { ++value; });
        }
      });
    }
    run.after([=] { race::check(state->entry.releases.read() == 1 && faults == 0, "released exactly once"); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

}  // namespace
}  // namespace refcount_test
