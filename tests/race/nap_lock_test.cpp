// Goal: one at a time holds a nap_lock, what was done under it is seen by the next, and who naps gets it.
// Method: every schedule of two threads under the weak memory model, and random ones of three.
#include "wq/item/nap_lock.h"

#include <memory>

#include <gtest/gtest.h>

#include "sluice/base/mutex.h"

#include "race/harness/race.h"

namespace nap_lock_test {
namespace {

using sluice::scoped_lock;

struct counted {
  sluice::detail::basic_nap_lock<race::sync, 1> lock;
  race::plain<int> value{0};
};

void explore(int threads, race::options how) {
  const race::report found = race::explore(how, [threads](race::run& run) {
    auto state = std::make_shared<counted>();
    for (int i = 0; i < threads; ++i) {
      run.thread([=] {
        const scoped_lock held(state->lock);
        state->value.update([](int& n) { ++n; });
      });
    }
    run.after([=] { state->value.update([=](int& n) { race::check(n == threads, "each was there alone"); }); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RaceNapLock, TwoThreads) {
  explore(2, {.schedules = 2'000'000, .how = race::mode::exhaustive, .max_spurious = 1});
}

TEST(RaceNapLock, ThreeThreads) {
  explore(3, {.schedules = 20'000});
}

}  // namespace
}  // namespace nap_lock_test
