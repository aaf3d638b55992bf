// Goal: the last active count exits the io_cqs once, seeing all that was done under the others; the memory goes once,
// after that, with the last count of any kind. Method: the counters on the deterministic scheduler, with plain memory
// as payload.
#include "sluice/ioc/io_context.h"

#include <gtest/gtest.h>

#include "race/harness/race.h"

namespace io_context_test {
namespace {

using namespace sluice;

struct ends {
  int exits = 0;
  int frees = 0;
};

struct raced_context : io_context_counts<raced_context, race::sync> {
  explicit raced_context(std::shared_ptr<ends> into) : seen(std::move(into)) {}
  ~raced_context() {
    race::check(seen->exits == 1, "exited before it is freed");
    ++seen->frees;
  }
  void exit_io_cqs() noexcept {
    race::check(use_count() > 0, "active > 0 implied a refcount, and still does here");
    for (race::plain<int>& each : work) {
      each.update([](int& value) { value = -1; });  // reported unless ordered after every user's
    }
    ++seen->exits;
  }

  std::shared_ptr<ends> seen;
  std::array<race::plain<int>, 3> work;
};

// O1 O2: a task, one that was linked, one with an active count and one with a plain count leave in any order.
TEST(RaceIoContext, LastActiveExitsOnceAndLastCountFreesOnce) {
  const race::report found = race::explore({.schedules = 30'000}, [](race::run& run) {
    auto seen = std::make_shared<ends>();
    auto* context = new raced_context(seen);
    context->task_link();
    context->get_active();
    context->get();
    run.thread([=] {
      context->work[0].write(1);
      context->exit_task();
    });
    run.thread([=] {
      context->work[1].write(1);
      context->get_active();  // legal: we hold one
      context->exit_task();
      context->put_active();
    });
    run.thread([=] {
      context->work[2].write(1);
      context->put_active();
    });
    run.thread([=] {
      race::check(context->active_ref() >= 0, "readable while a count is held");
      context->put();
    });
    run.after([=] {
      race::check(seen->exits == 1, "exit exactly once");
      race::check(seen->frees == 1, "freed exactly once");
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

}  // namespace
}  // namespace io_context_test
