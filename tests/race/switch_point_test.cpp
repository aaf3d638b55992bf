// D1: switch_point on the deterministic scheduler: whoever came in has a leg that lives until he leaves, each one who
// comes gets in, and what is on the old leg has ended when its door has been waited for.
#include "device/switch_point.h"

#include <gtest/gtest.h>

#include "sluice/ref/gate.h"

#include "race/harness/race.h"
#include "race/race_rcu.h"
#include "race/stripes.h"

namespace switch_point_test {
namespace {

struct raced_leg;
struct raced_delete {
  void operator()(raced_leg* leg) const noexcept;
};

struct raced_leg : sluice::rcu_obj_base<raced_leg, raced_delete> {
  explicit raced_leg(int number) : name(number) {}

  sluice::basic_gate<race::sync, race::one_stripe> door{sluice::gate_width::narrow};
  race::plain<int> name;
  race::plain<int> info{1};
  race::atomic<int> uses{0};
};

void raced_delete::operator()(raced_leg* leg) const noexcept {
  delete leg;
}

struct world {
  race::rcu dom;
  sluice::detail::basic_switch_point<raced_leg, race::sync> point{new raced_leg(1), dom};
  race::atomic<int> switched{1};

  // One operation.
  void use() {
    const int at_least = switched.load(std::memory_order_acquire);
    raced_leg& mine = point.enter();
    race::check(mine.name.read() >= at_least, "not the old one once the exchange has returned");
    race::check(mine.info.read() == 1, "an operation never sees freed info");
    mine.uses.fetch_add(1, std::memory_order_relaxed);
    mine.door.leave();
    dom.reclaim();
  }
  void replace(int number) {
    raced_leg* old = point.change_to(new raced_leg(number));
    switched.store(number, std::memory_order_release);
    old->door.wait();
    old->info.write(0);
    old->retire({}, dom);
    dom.reclaim();
  }
  void finish() {
    delete point.current();
    dom.finish();
  }
};

TEST(RaceSwitchPoint, OperationsAgainstAnExchange) {
  const race::report found = race::explore({.schedules = 30'000}, [](race::run& run) {
    auto state = std::make_shared<world>();
    for (int i = 0; i < 2; ++i) {
      run.thread([=] { state->use(); });
    }
    run.thread([=] { state->replace(2); });
    run.after([=] { state->finish(); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RaceSwitchPoint, TwoExchangesInARow) {
  const race::report found = race::explore({.schedules = 30'000}, [](race::run& run) {
    auto state = std::make_shared<world>();
    run.thread([=] {
      state->use();
      state->use();
    });
    run.thread([=] {
      state->replace(2);
      state->replace(3);
    });
    run.after([=] { state->finish(); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

}  // namespace
}  // namespace switch_point_test
