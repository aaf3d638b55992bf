// The harness's scheduler: it finds each kind of bug that it promises to find, passes the corrected twin, replays a
// seed, enumerates small scenarios completely, and goes on after a schedule that had to be abandoned.
#include <cstdlib>
#include <set>
#include <sstream>
#include <stdexcept>

#include <gtest/gtest.h>

#include "race/harness/race.h"
#include "race/harness/sanitizers.h"

namespace harness_test {
namespace {

using race::explore;
using race::mode;
using race::report;
using race::sync;

constexpr race::options every_schedule{.schedules = 200'000, .how = mode::exhaustive, .model = race::memory::sc};

struct counter {
  sync::atomic<int> value{0};
};

void lost_update(race::run& run) {
  auto state = std::make_shared<counter>();
  for (int i = 0; i < 2; ++i) {
    run.thread([=] {
      const int seen = state->value.load(std::memory_order_seq_cst);
      state->value.store(seen + 1, std::memory_order_seq_cst);
    });
  }
  run.after([=] { race::check(state->value.load(std::memory_order_relaxed) == 2, "both increments count"); });
}

TEST(RaceHarness, FindsALostUpdate) {
  const report found = explore({}, lost_update);
  EXPECT_TRUE(found.failed);
  EXPECT_NE(found.message.find("both increments count"), std::string::npos) << found;
  EXPECT_NE(found.trace.find("harness_test.cpp"), std::string::npos) << found;

  const report listed = explore(every_schedule, lost_update);
  EXPECT_TRUE(listed.failed);
  EXPECT_FALSE(listed.complete);
}

TEST(RaceHarness, PassesTheAtomicUpdate) {
  const report found = explore({}, [](race::run& run) {
    auto state = std::make_shared<counter>();
    for (int i = 0; i < 3; ++i) {
      run.thread([=] { state->value.fetch_add(1, std::memory_order_relaxed); });
    }
    run.after([=] { race::check(state->value.load(std::memory_order_relaxed) == 3, "every increment counts"); });
  });
  EXPECT_TRUE(found.ok()) << found;
  EXPECT_GT(found.schedules, 0U);
}

// Fibers of some operations each, on atomics that nobody else looks at: only the interleaving differs.
report count_interleavings(race::options how, int fibers, int operations) {
  return explore(how, [=](race::run& run) {
    auto state = std::make_shared<counter>();
    for (int f = 0; f < fibers; ++f) {
      run.thread([=] {
        for (int i = 0; i < operations; ++i) {
          state->value.fetch_add(1, std::memory_order_relaxed);
        }
      });
    }
  });
}

TEST(RaceHarness, ExhaustiveModeRunsEachInterleavingOnce) {
  const report two = count_interleavings(every_schedule, 2, 3);
  EXPECT_TRUE(two.complete);
  EXPECT_EQ(two.schedules, 20U) << "6! / (3! 3!)";
  const report three = count_interleavings(every_schedule, 3, 2);
  EXPECT_TRUE(three.complete);
  EXPECT_EQ(three.schedules, 90U) << "6! / (2! 2! 2!)";
}

TEST(RaceHarness, ExhaustiveModeReportsWhatItCutOff) {
  race::options capped = every_schedule;
  capped.schedules = 7;
  const report found = count_interleavings(capped, 2, 3);
  EXPECT_FALSE(found.complete);
  EXPECT_EQ(found.schedules, 7U);
  EXPECT_TRUE(found.ok());
}

TEST(RaceHarness, PreemptionsAreBounded) {
  race::options bounded = every_schedule;
  bounded.max_preemptions = 0;
  EXPECT_EQ(count_interleavings(bounded, 2, 3).schedules, 2U) << "one after the other";
  // One preemption: the first fiber is cut once after 1 or 2 of its operations, whichever of the two it is.
  bounded.max_preemptions = 1;
  EXPECT_EQ(count_interleavings(bounded, 2, 3).schedules, 2U + 4U);
}

TEST(RaceHarness, RandomModeReachesEveryInterleaving) {
  std::set<std::string> seen;
  const report found = explore({.schedules = 5'000}, [&](race::run& run) {
    auto order = std::make_shared<std::string>();
    auto state = std::make_shared<counter>();
    for (char name = 'a'; name <= 'b'; ++name) {
      run.thread([=] {
        for (int i = 0; i < 3; ++i) {
          state->value.fetch_add(1, std::memory_order_relaxed);
          order->push_back(name);
        }
      });
    }
    run.after([&seen, order] { seen.insert(*order); });
  });
  EXPECT_TRUE(found.ok()) << found;
  EXPECT_EQ(seen.size(), 20U);
}

// Two locks taken in opposite order.
void crossed_locks(race::run& run) {
  struct locks {
    sync::mutex first;
    sync::mutex second;
  };
  auto state = std::make_shared<locks>();
  run.thread([=] {
    sluice::scoped_lock outer(state->first);
    sluice::scoped_lock inner(state->second);
  });
  run.thread([=] {
    sluice::scoped_lock outer(state->second);
    sluice::scoped_lock inner(state->first);
  });
}

TEST(RaceHarness, FindsADeadlockOfTwoLocks) {
  for (const report& found : {explore({}, crossed_locks), explore(every_schedule, crossed_locks)}) {
    EXPECT_TRUE(found.failed);
    EXPECT_NE(found.message.find("deadlock"), std::string::npos) << found;
    EXPECT_NE(found.message.find("held by fiber 1"), std::string::npos) << found;
  }
}

TEST(RaceHarness, ALockExcludesAndOrders) {
  struct guarded {
    sync::mutex lock;
    race::plain<int> value{0};
  };
  const report found = explore({.schedules = 3'000}, [](race::run& run) {
    auto state = std::make_shared<guarded>();
    for (int i = 0; i < 2; ++i) {
      run.thread([=] {
        sluice::scoped_lock held(state->lock);
        state->value.update([](int& number) { ++number; });
      });
    }
    run.thread([=] {
      if (state->lock.try_lock()) {
        state->value.update([](int& number) { ++number; });
        state->lock.unlock();
      }
    });
    run.after([=] { race::check(state->value.read() >= 2, "no update is lost under the lock"); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// "Look, then sleep" against "publish, then wake whoever sleeps": the sleeper says that it sleeps too late.
template <bool Announced>
void sleeper(race::run& run) {
  struct bed {
    sync::atomic<std::uint32_t> asleep{0};
    sync::atomic<bool> work{false};
  };
  auto state = std::make_shared<bed>();
  run.thread([=] {
    if constexpr (Announced) {
      state->asleep.store(1, std::memory_order_seq_cst);
    }
    if (!state->work.load(std::memory_order_seq_cst)) {
      if constexpr (!Announced) {
        state->asleep.store(1, std::memory_order_seq_cst);
      }
      while (state->asleep.load(std::memory_order_seq_cst) == 1) {
        sync::wait(state->asleep, 1);
      }
    }
  });
  run.thread([=] {
    state->work.store(true, std::memory_order_seq_cst);
    if (state->asleep.exchange(0, std::memory_order_seq_cst) == 1) {
      sync::wake(state->asleep, 1);
    }
  });
}

TEST(RaceHarness, FindsALostWakeUp) {
  const report found = explore({}, sleeper<false>);
  EXPECT_TRUE(found.failed);
  EXPECT_NE(found.message.find("lost wake-up"), std::string::npos) << found;
  EXPECT_NE(found.message.find("sleeps on a"), std::string::npos) << found;

  const report right = explore({}, sleeper<true>);
  EXPECT_TRUE(right.ok()) << right;
}

TEST(RaceHarness, FindsALivelock) {
  const report found = explore({.max_steps = 500}, [](race::run& run) {
    auto state = std::make_shared<counter>();
    run.thread([=] {
      while (state->value.load(std::memory_order_acquire) == 0) {
        sync::relax();
      }
    });
  });
  EXPECT_TRUE(found.failed);
  EXPECT_NE(found.message.find("livelock"), std::string::npos) << found;
}

// Two that spin for a third: relax() must let it run, in every mode, also on the path that always prefers a spinner.
void spinners(race::run& run) {
  auto state = std::make_shared<counter>();
  for (int i = 0; i < 2; ++i) {
    run.thread([=] {
      while (state->value.load(std::memory_order_acquire) == 0) {
        sync::relax();
      }
    });
  }
  run.thread([=] { state->value.store(1, std::memory_order_release); });
}

TEST(RaceHarness, RelaxLetsOthersGo) {
  const report random = explore({.schedules = 3'000, .max_steps = 1'000}, spinners);
  EXPECT_TRUE(random.ok()) << random;
  race::options tree = every_schedule;
  tree.max_steps = 100;
  const report all = explore(tree, spinners);
  EXPECT_TRUE(all.complete && all.ok()) << all;
}

// A wait with a deadline ends either way; one without ends only by a wake.
void one_wait(race::run& run, sluice::steady_time deadline, std::set<bool>& results) {
  struct bed {
    sync::atomic<std::uint32_t> word{0};
  };
  auto state = std::make_shared<bed>();
  run.thread([=, &results] {
    bool before_deadline = true;
    while (before_deadline && state->word.load(std::memory_order_acquire) == 0) {
      before_deadline = sync::wait(state->word, 0, deadline);
    }
    results.insert(before_deadline);
  });
  run.thread([=] {
    state->word.store(1, std::memory_order_release);
    sync::wake(state->word, sluice::wake_all);
  });
}

TEST(RaceHarness, ADeadlinePassesWhenTheSchedulerSaysSo) {
  for (const race::options& how : {race::options{.schedules = 3'000}, every_schedule}) {
    std::set<bool> results;
    const report timed = explore(how, [&](race::run& run) { one_wait(run, sluice::steady_time{}, results); });
    EXPECT_TRUE(timed.ok()) << timed;
    EXPECT_EQ(results.size(), 2U);
    results.clear();
    const report endless = explore(how, [&](race::run& run) { one_wait(run, sluice::no_deadline, results); });
    EXPECT_TRUE(endless.ok()) << endless;
    EXPECT_EQ(results, std::set<bool>{true});
  }
}

TEST(RaceHarness, AWaitThatIsNotLoopedIsFound) {
  const report found = explore({}, [](race::run& run) {
    auto state = std::make_shared<sync::atomic<std::uint32_t>>(0U);
    run.thread([=] {
      sync::wait(*state, 0);
      race::check(state->load(std::memory_order_acquire) == 1, "awake means woken");
    });
    run.thread([=] {
      state->store(1, std::memory_order_release);
      sync::wake(*state, 1);
    });
  });
  EXPECT_TRUE(found.failed) << "a wake without a reason belongs to the choices";
}

TEST(RaceHarness, AWeakCompareExchangeFailsWithoutAReason) {
  const report found = explore({}, [](race::run& run) {
    auto state = std::make_shared<counter>();
    run.thread([=] {
      int expected = 0;
      race::check(state->value.compare_exchange_weak(expected, 1, std::memory_order_relaxed), "must be looped");
    });
  });
  EXPECT_TRUE(found.failed);
}

TEST(RaceHarness, FindsDestructionUnorderedWithAUse) {
  // The put that does not reach zero publishes nothing: whoever frees is not ordered after it.
  const auto last_put_frees = [](std::memory_order order) {
    return explore({}, [=](race::run& run) {
      auto* object = new counter;
      object->value.store(2, std::memory_order_relaxed);
      for (int i = 0; i < 2; ++i) {
        run.thread([=] {
          if (object->value.fetch_sub(1, order) == 1) {
            delete object;
          }
        });
      }
    });
  };
  const report found = last_put_frees(std::memory_order_relaxed);
  EXPECT_TRUE(found.failed);
  EXPECT_NE(found.message.find("destroyed"), std::string::npos) << found;
  const report right = last_put_frees(std::memory_order_acq_rel);
  EXPECT_TRUE(right.ok()) << right;
}

// The first to come frees, while the other has yet to look.
void use_after_free(race::run& run) {
  auto* object = new counter;
  for (int i = 0; i < 2; ++i) {
    run.thread([=] {
      if (object->value.fetch_add(1, std::memory_order_acq_rel) == 0) {
        delete object;
      }
    });
  }
}

#if defined(RACE_ASAN)
TEST(RaceHarnessDeathTest, UseAfterDestructionIsAddressSanitizersAndTheSeedIsSaid) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(static_cast<void>(explore({}, use_after_free)), "SLUICE_RACE_SEED=");
}
#else
TEST(RaceHarness, FindsUseAfterDestruction) {
  const report found = explore({}, use_after_free);
  EXPECT_TRUE(found.failed);
  EXPECT_NE(found.message.find("operation on the destroyed"), std::string::npos) << found;
}

TEST(RaceHarness, FindsADoubleFree) {
  const report found = explore({}, [](race::run& run) {
    auto* block = new int(0);
    run.thread([=] { delete block; });
    run.thread([=] { delete block; });
  });
  EXPECT_TRUE(found.failed);
  EXPECT_NE(found.message.find("freed twice"), std::string::npos) << found;
}
#endif

TEST(RaceHarness, AnExceptionThatLeavesAFiberIsAFailure) {
  const report found = explore({}, [](race::run& run) { run.thread([] { throw std::runtime_error("oh"); }); });
  EXPECT_TRUE(found.failed);
  EXPECT_NE(found.message.find("oh"), std::string::npos) << found;
}

// The seed of a report, through the environment as a person would give it.
class replayed_seed {
 public:
  explicit replayed_seed(const std::string& seed) { ::setenv("SLUICE_RACE_SEED", seed.c_str(), 1); }
  ~replayed_seed() { ::unsetenv("SLUICE_RACE_SEED"); }
  replayed_seed(const replayed_seed&) = delete;
  replayed_seed& operator=(const replayed_seed&) = delete;
};

TEST(RaceHarness, ASeedReplaysOneScheduleIdentically) {
  race::options tree = every_schedule;
  tree.model = race::memory::weak;
  for (const race::options& how : {race::options{}, tree}) {
    const report found = explore(how, lost_update);
    ASSERT_TRUE(found.failed);
    const replayed_seed seed(found.seed);
    for (int i = 0; i < 3; ++i) {
      const report again = explore(how, lost_update);
      EXPECT_EQ(again.schedules, 1U);
      EXPECT_EQ(again.seed, found.seed);
      EXPECT_EQ(again.message, found.message);
      EXPECT_EQ(again.trace, found.trace);
    }
  }
}

TEST(RaceHarness, AReportSaysHowToReplay) {
  std::ostringstream text;
  const report found = explore({}, lost_update);
  text << found;
  EXPECT_NE(text.str().find("SLUICE_RACE_SEED=" + found.seed), std::string::npos);
}

TEST(RaceHarnessDeathTest, AnAbortedScheduleSaysItsSeed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(static_cast<void>(explore({}, [](race::run& run) { run.thread([] { std::abort(); }); })),
               "SLUICE_RACE_SEED=");
}

}  // namespace
}  // namespace harness_test
