// Goal: a work that was put is taken, or its inbox's bit is there for the next look, whoever else puts and takes meanwhile; and
// who stops running does not miss it (P5).
// Method: under the weak memory model, every schedule of two putters of which one takes; random ones of two putters and a
// taker that stops running.
#include "wq/ready/inboxes.h"

#include <array>
#include <functional>
#include <memory>

#include <gtest/gtest.h>

#include "race/harness/race.h"

namespace inboxes_test {
namespace {

using namespace sluice;

struct bare : work {
  ~bare() { detail::work_access::set_state(*this, detail::work_state::idle); }
};

struct shared {
  detail::basic_inboxes<race::sync, 2> inboxes;
  race::sync::atomic<std::uint32_t> running{1};
  std::array<bare, 2> works;
  std::size_t taken = 0;

  void put(std::size_t i, unsigned lane) { race::check(inboxes.put(lane, works[i], works[i], 1), "there is room"); }
  void take_all() {
    inboxes.for_each_filled([this](unsigned lane) {
      std::size_t count = 0;
      static_cast<void>(inboxes.take_newest(lane, count));
      taken += count;
    });
  }
};

void check_all(const race::options& how, const std::function<void(race::run&)>& scenario) {
  const race::report found = race::explore(how, scenario);
  EXPECT_TRUE(found.ok()) << found;
}

// After a put the bit is there, or the work is taken: whoever put first may not have come to the bit.
void put_beside_a_taker(race::options how, unsigned first, unsigned second) {
  check_all(how, [=](race::run& run) {
    auto state = std::make_shared<shared>();
    run.thread([=] { state->put(0, first); });
    run.thread([=] {
      state->put(1, second);
      race::check(!state->inboxes.empty(), "a work whose put is over is seen, if the one before is slow or not");
      state->take_all();
    });
    run.after([=] {
      const bool all = state->taken == 2;
      race::check(all || !state->inboxes.empty(), "what was not taken is seen");
      state->take_all();
      race::check(state->taken == 2, "each is taken once");
    });
  });
}

TEST(RaceInboxes, PutBesideATaker) {
  constexpr race::options all{.schedules = 4'000'000, .how = race::mode::exhaustive};
  put_beside_a_taker(all, 0, 0);
  put_beside_a_taker(all, 0, 1);
}

// A taker that stops running looks once more after that; a putter looks who runs after its put.
TEST(RaceInboxes, NobodyStopsOnAWork) {
  check_all({.schedules = 200'000}, [](race::run& run) {
    auto state = std::make_shared<shared>();
    auto woken = std::make_shared<std::array<bool, 2>>();
    run.thread([=] {
      state->take_all();
      state->running.fetch_sub(1, std::memory_order_seq_cst);
      if (!state->inboxes.empty()) {
        state->take_all();
      }
    });
    for (const unsigned i : {0U, 1U}) {
      run.thread([=] {
        state->put(i, 0);
        (*woken)[i] = state->running.load(std::memory_order_seq_cst) == 0;
      });
    }
    run.after([=] {
      race::check(state->taken == 2 || (*woken)[0] || (*woken)[1], "taken, or somebody is to be woken for it");
      state->take_all();
      race::check(state->taken == 2, "each is taken once");
    });
  });
}

}  // namespace
}  // namespace inboxes_test
