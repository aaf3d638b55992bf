// wq_timer: fires once, at its time by the wq's clock, on the manager's thread; re-armed, disarmed, waited for. All
// waiting is for events: the time is the test's own.
#include "sluice/wq/wq_timer.h"

#include <semaphore>

#include <gtest/gtest.h>

#include "sluice/base/mutex.h"

namespace wq_timer_test {
namespace {

using namespace sluice;
using std::chrono::hours;
using std::chrono::milliseconds;

// Time that goes on when the test says so. The manager sleeps by the real clock: whoever moves this one makes it look.
struct test_clock final : clock_seam {
  steady_time now() noexcept override { return steady_time(steady_time::duration(at.load(std::memory_order_seq_cst))); }
  void pass(milliseconds by) { at.fetch_add(steady_time::duration(by).count(), std::memory_order_seq_cst); }
  std::atomic<std::int64_t> at{std::chrono::steady_clock::now().time_since_epoch().count()};
};

struct probe_timer : wq_timer {
  explicit probe_timer(io_wq& wq) : wq_timer(wq, fire) {}
  static void fire(wq_timer& timer) noexcept {
    auto& mine = static_cast<probe_timer&>(timer);
    mine.fired.fetch_add(1, std::memory_order_seq_cst);
    if (mine.act) {
      mine.act(mine);
    }
    mine.over.release();
  }
  std::atomic<int> fired{0};
  std::function<void(probe_timer&)> act;
  std::counting_semaphore<> over{0};
};

struct timer_bench {
  test_clock clock;
  ref<io_wq> wq = io_wq::create({.max_bound = 1, .max_unbound = 1, .name = "test", .clock = &clock}).value();

  // Makes the manager look at the time: a timer that is first wakes it.
  void look() {
    probe_timer first(*wq);
    first.arm({});
    first.over.acquire();
    first.disarm_and_wait();
  }
};

TEST(WqTimer, FiresOnceWhenItsTimeComes) {
  timer_bench bench;
  probe_timer timer(*bench.wq);
  timer.arm(bench.clock.now() + hours(1));
  bench.look();
  EXPECT_EQ(timer.fired.load(std::memory_order_seq_cst), 0);
  bench.clock.pass(hours(1));
  bench.look();
  timer.over.acquire();
  bench.look();
  timer.disarm_and_wait();
  EXPECT_EQ(timer.fired.load(std::memory_order_seq_cst), 1);
}

TEST(WqTimer, FiresAtOnceForATimeThatIsPast) {
  timer_bench bench;
  probe_timer timer(*bench.wq);
  for (int i = 1; i <= 3; ++i) {
    timer.arm({});
    timer.over.acquire();
    EXPECT_EQ(timer.fired.load(std::memory_order_seq_cst), i);
  }
  timer.disarm_and_wait();
}

TEST(WqTimer, ArmedAnewFiresAtTheNewTimeOnly) {
  timer_bench bench;
  probe_timer later(*bench.wq), sooner(*bench.wq), never(*bench.wq);
  later.arm(bench.clock.now());
  later.over.acquire();
  sooner.arm(bench.clock.now() + hours(9));
  sooner.arm(bench.clock.now() + hours(1));
  later.arm(bench.clock.now() + hours(1));
  later.arm(bench.clock.now() + hours(3));
  never.arm(bench.clock.now() + hours(1));
  never.arm(no_deadline);
  bench.clock.pass(hours(2));
  bench.look();
  sooner.over.acquire();
  EXPECT_EQ(later.fired.load(std::memory_order_seq_cst), 1);
  bench.clock.pass(hours(2));
  bench.look();
  later.over.acquire();
  for (probe_timer* each : {&later, &sooner, &never}) {
    each->disarm_and_wait();
  }
  EXPECT_EQ(later.fired.load(std::memory_order_seq_cst), 2);
  EXPECT_EQ(sooner.fired.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(never.fired.load(std::memory_order_seq_cst), 0);
}

TEST(WqTimer, DisarmedDoesNotFire) {
  timer_bench bench;
  probe_timer timer(*bench.wq);
  EXPECT_TRUE(timer.disarm()) << "idle";
  timer.arm(bench.clock.now() + hours(1));
  EXPECT_TRUE(timer.disarm());
  bench.clock.pass(hours(2));
  bench.look();
  timer.disarm_and_wait();
  EXPECT_EQ(timer.fired.load(std::memory_order_seq_cst), 0);
}

TEST(WqTimer, DisarmSaysThatItIsFiringAndWaitWaits) {
  timer_bench bench;
  probe_timer timer(*bench.wq);
  std::binary_semaphore inside{0}, go{0};
  timer.act = [&](probe_timer&) {
    inside.release();
    go.acquire();
  };
  timer.arm({});
  inside.acquire();
  EXPECT_FALSE(timer.disarm());
  std::thread waiter([&] {
    timer.disarm_and_wait();
    EXPECT_EQ(timer.fired.load(std::memory_order_seq_cst), 1);
    EXPECT_TRUE(timer.over.try_acquire()) << "its function is over";
  });
  go.release();
  waiter.join();
  EXPECT_TRUE(timer.disarm());
}

TEST(WqTimer, MayArmItselfAndMayGoAsItsLastAct) {
  timer_bench bench;
  probe_timer again(*bench.wq);
  again.act = [&](probe_timer& self) {
    if (self.fired.load(std::memory_order_seq_cst) < 3) {
      self.arm({});
    }
  };
  again.arm({});
  for (int i = 0; i < 3; ++i) {
    again.over.acquire();
  }
  again.disarm_and_wait();
  EXPECT_EQ(again.fired.load(std::memory_order_seq_cst), 3);

  struct short_lived : wq_timer {
    short_lived(io_wq& wq, std::binary_semaphore& tells) : wq_timer(wq, fire), gone(tells) {}
    static void fire(wq_timer& timer) noexcept {
      auto& mine = static_cast<short_lived&>(timer);
      std::binary_semaphore& gone = mine.gone;
      mine.disarm_and_wait();  // does not wait for itself
      delete &mine;
      gone.release();
    }
    std::binary_semaphore& gone;
  };
  std::binary_semaphore gone{0};
  auto* timer = new short_lived(*bench.wq, gone);
  timer->arm({});
  gone.acquire();
  bench.look();
}

// Many at once come in the order of their times, whatever order they were armed and disarmed in.
TEST(WqTimer, FireInTheOrderOfTheirTimes) {
  timer_bench bench;
  constexpr int count = 200;
  std::vector<std::unique_ptr<probe_timer>> all;
  std::vector<int> order;  // the manager's
  for (int i = 0; i < count; ++i) {
    all.push_back(std::make_unique<probe_timer>(*bench.wq));
    all.back()->act = [&order, i](probe_timer&) { order.push_back(i); };
  }
  for (int i = 0; i < count; ++i) {
    const int which = i * 77 % count;
    all[static_cast<std::size_t>(which)]->arm(bench.clock.now() + hours(1) + milliseconds(which));
  }
  for (int i = 0; i < count; i += 3) {
    EXPECT_TRUE(all[static_cast<std::size_t>(i)]->disarm());
  }
  bench.clock.pass(hours(2));
  bench.look();
  std::vector<int> expected;
  for (int i = 0; i < count; ++i) {
    if (i % 3 != 0) {
      all[static_cast<std::size_t>(i)]->over.acquire();
      expected.push_back(i);
    }
    all[static_cast<std::size_t>(i)]->disarm_and_wait();
  }
  EXPECT_EQ(order, expected);
}

TEST(WqTimer, NothingFiresAfterTheStop) {
  timer_bench bench;
  probe_timer timer(*bench.wq);
  timer.arm(bench.clock.now() + hours(1));
  EXPECT_TRUE(bench.wq->stop(stop_policy::run_queued).finished);
  bench.clock.pass(hours(2));
  EXPECT_TRUE(timer.disarm());
  EXPECT_EQ(timer.fired.load(std::memory_order_seq_cst), 0);
}

TEST(WqTimerDeathTest, AnArmedOneMustNotGo) {
  timer_bench bench;
  EXPECT_DEATH(
      {
        probe_timer timer(*bench.wq);
        timer.arm(bench.clock.now() + hours(1));
      },
      "disarm a timer");
}

}  // namespace
}  // namespace wq_timer_test
