// Goal: whatever the order of creations, copies and exits, a task has at most one io_context, losers of the install
// race are freed, an exiting task gets none from others, and nr_tasks counts the tasks that point at it. Method:
// basic_task on the deterministic scheduler, with a context whose counters are on it too.
#include "sluice/ioc/task.h"

#include <gtest/gtest.h>

#include "race/harness/race.h"

namespace task_test {
namespace {

using namespace sluice;

struct figures {
  int made = 0;
  int exited = 0;
  int freed = 0;
};

// Contexts of one schedule; all fibers of it run on one thread. create() has no other way to know.
figures* now = nullptr;

struct raced_context : io_context_counts<raced_context, race::sync> {
  static result<raced_context*> create() noexcept {
    ++now->made;
    return new raced_context;
  }
  ~raced_context() { ++now->freed; }
  void exit_io_cqs() noexcept {
    alive.write(false);
    ++now->exited;
  }
  void set_ioprio(ioprio value) noexcept { priority.store(value.raw(), std::memory_order_relaxed); }
  [[nodiscard]] ioprio get_ioprio() const noexcept {
    return ioprio::from_raw(priority.load(std::memory_order_relaxed));
  }

  race::plain<bool> alive{true};
  race::atomic<std::uint16_t> priority{0};
};

using raced_task = basic_task<raced_context, race::sync>;

struct world {
  world() { now = &seen; }
  figures seen;
  raced_task parent;
  raced_task child;
};

void all_gone(const world& state) {
  race::check(state.seen.freed == state.seen.made, "every context is freed");
  race::check(state.seen.exited == state.seen.made, "every context exited, once");
}

// O7: three install at once: one context, the losers' freed, all get the same.
TEST(RaceTask, InstallRaceLeavesOneContext) {
  const race::report found = race::explore({.schedules = 20'000}, [](race::run& run) {
    auto state = std::make_shared<world>();
    auto got = std::make_shared<std::array<ref<raced_context>, 3>>();
    for (std::size_t i = 0; i < 3; ++i) {
      run.thread([=] {
        (*got)[i] = state->parent.get_task_io_context(i == 0 ? task_side::current : task_side::remote).value();
      });
    }
    run.after([=] {
      race::check((*got)[0] == (*got)[1] && (*got)[1] == (*got)[2], "exactly one context");
      race::check(state->seen.freed == state->seen.made - 1, "the losers' are freed");
      race::check((*got)[0]->nr_tasks() == 1 && (*got)[0]->active_ref() == 1, "one task points at it");
      got->fill(nullptr);
      state->parent.exit_io_context();
      all_gone(*state);
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// O7: a remote creator against the task's exit: it gets a context that is freed later, or EBUSY; never one that stays.
TEST(RaceTask, RemoteCreateAgainstExit) {
  const race::report found = race::explore({.schedules = 20'000}, [](race::run& run) {
    auto state = std::make_shared<world>();
    for (int i = 0; i < 2; ++i) {
      run.thread([=] {
        const auto got = state->parent.get_task_io_context(task_side::remote);
        race::check(got || got.error() == error_of(EBUSY), "a context or EBUSY");
      });
    }
    run.thread([=] {
      state->parent.set_exiting();
      state->parent.exit_io_context();
      race::check(!state->parent.peek_io_context(), "gone for good");
    });
    run.after([=] {
      race::check(!state->parent.peek_io_context(), "nobody brought it back");
      all_gone(*state);
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// O3 O9: copy_io against the exit of the parent: the child shares the context, which then is alive, or has none.
TEST(RaceTask, CopyAgainstParentsExit) {
  for (const clone_io how : {clone_io::share, clone_io::separate}) {
    const race::report found = race::explore({.schedules = 20'000}, [how](race::run& run) {
      auto state = std::make_shared<world>();
      state->parent.get_task_io_context(task_side::current).value()->set_ioprio({ioprio_class::be, 1});
      run.thread([=] {
        const auto copied = state->child.copy_io(state->parent, how);
        race::check(copied.has_value() || copied.error() == error_of(EBUSY), "copied, or the child had left");
        if (const ref<raced_context> own = state->child.peek_io_context()) {
          race::check(own->get_ioprio().level() == 1, "the parent's priority");
        }
      });
      run.thread([=] { state->parent.exit_io_context(); });
      run.thread([=] {
        if (const ref<raced_context> other = state->parent.peek_io_context()) {
          race::check(other->nr_tasks() >= 0 && other->nr_tasks() <= 2, "tasks that point at it");
        }
      });
      run.after([=] {
        if (const ref<raced_context> own = state->child.peek_io_context()) {
          race::check(own->nr_tasks() == 1 && own->active_ref() == 1, "one task points at it");
          race::check(own->alive.read(), "and it may issue");
        }
        state->child.exit_io_context();
        all_gone(*state);
      });
    });
    EXPECT_TRUE(found.ok()) << found;
  }
}

// O9: both exits and a copy into a task that leaves at that moment: nothing is counted twice or left behind.
TEST(RaceTask, CopyAgainstBothExits) {
  const race::report found = race::explore({.schedules = 20'000}, [](race::run& run) {
    auto state = std::make_shared<world>();
    static_cast<void>(state->parent.get_task_io_context(task_side::current));
    run.thread([=] { static_cast<void>(state->child.copy_io(state->parent, clone_io::share)); });
    run.thread([=] { state->parent.exit_io_context(); });
    run.thread([=] { state->child.exit_io_context(); });
    run.after([=] { all_gone(*state); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// O7: the exiting task itself still gets a context while others are told EBUSY, and all of them get the same one.
TEST(RaceTask, OwnCreateWhileExitingAgainstRemoteCreate) {
  const race::report found = race::explore({.schedules = 20'000}, [](race::run& run) {
    auto state = std::make_shared<world>();
    auto got = std::make_shared<std::array<ref<raced_context>, 3>>();
    run.thread([=] {
      state->parent.set_exiting();
      (*got)[0] = state->parent.get_task_io_context(task_side::current).value();
    });
    for (std::size_t i = 1; i < 3; ++i) {
      run.thread([=] {
        auto remote = state->parent.get_task_io_context(task_side::remote);
        race::check(remote || remote.error() == error_of(EBUSY), "a context or EBUSY");
        (*got)[i] = remote ? std::move(*remote) : nullptr;
      });
    }
    run.after([=] {
      race::check((*got)[0] == state->parent.peek_io_context(), "the task has its own");
      for (std::size_t i = 1; i < 3; ++i) {
        race::check(!(*got)[i] || (*got)[i] == (*got)[0], "whoever found one found that");
      }
      race::check(state->seen.freed == state->seen.made - 1, "the losers' are freed");
      got->fill(nullptr);
      state->parent.exit_io_context();
      all_gone(*state);
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// O7: once set_exiting has returned, others find what is there or are told EBUSY; none of them installs one.
TEST(RaceTask, NoRemoteInstallOnceItIsExiting) {
  const race::report found = race::explore({.schedules = 20'000}, [](race::run& run) {
    auto state = std::make_shared<world>();
    auto exiting = std::make_shared<race::atomic<int>>(0);
    run.thread([=] {
      state->parent.set_exiting();
      exiting->store(1, std::memory_order_release);
    });
    for (int i = 0; i < 2; ++i) {
      run.thread([=] {
        const bool late = exiting->load(std::memory_order_acquire) == 1;
        const bool had_one = static_cast<bool>(state->parent.peek_io_context());
        const auto got = state->parent.get_task_io_context(task_side::remote);
        race::check(got || got.error() == error_of(EBUSY), "a context or EBUSY");
        race::check(!late || got.has_value() == had_one, "what is there, or EBUSY");
      });
    }
    run.after([=] {
      state->parent.exit_io_context();
      all_gone(*state);
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// O9: tasks join and leave one context at once; the count is what it should be at the end, and never out of range.
TEST(RaceTask, TasksAreCountedExactly) {
  const race::report found = race::explore({.schedules = 20'000}, [](race::run& run) {
    auto state = std::make_shared<world>();
    auto others = std::make_shared<std::array<raced_task, 3>>();
    const ref<raced_context> shared = state->parent.get_task_io_context(task_side::current).value();
    race::check((*others)[2].copy_io(state->parent, clone_io::share).has_value(), "nobody has left");
    run.thread([=, &shared = *shared] {
      static_cast<void>((*others)[0].copy_io(state->parent, clone_io::share));
      const std::int32_t tasks = shared.nr_tasks();
      race::check(tasks >= 0 && tasks <= 4, "tasks that point at it");
    });
    run.thread([=] {
      static_cast<void>((*others)[1].copy_io((*others)[2], clone_io::share));
      (*others)[1].exit_io_context();
    });
    run.thread([=] {
      state->parent.exit_io_context();
      (*others)[2].exit_io_context();
    });
    run.after([=, held = shared]() mutable {
      const std::int32_t pointing = (*others)[0].peek_io_context() ? 1 : 0;
      race::check(held->nr_tasks() == pointing, "each that points at it, once");
      race::check(held->active_ref() == pointing, "and each may issue");
      (*others)[0].exit_io_context();
      race::check(held->nr_tasks() == 0 && held->use_count() == 1, "the last has left");
      held.reset();
      all_gone(*state);
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// O3: two create children of one parent while its priority changes: each child has one of the two, and a context of its
// own.
TEST(RaceTask, SeparateCopiesWhileThePriorityChanges) {
  const race::report found = race::explore({.schedules = 20'000}, [](race::run& run) {
    auto state = std::make_shared<world>();
    auto children = std::make_shared<std::array<raced_task, 2>>();
    race::check(
        state->parent.set_task_ioprio({ioprio_class::be, 1}, ioprio_privilege::none, task_side::current).has_value(),
        "a valid priority");
    for (std::size_t i = 0; i < 2; ++i) {
      run.thread([=] {
        race::check((*children)[i].copy_io(state->parent, clone_io::separate).has_value(), "nobody exits");
        const ioprio got = (*children)[i].get_task_ioprio();
        race::check(got.level() == 1 || got.level() == 2, "what the parent had before or has now");
      });
    }
    run.thread([=] {
      static_cast<void>(
          state->parent.set_task_ioprio({ioprio_class::be, 2}, ioprio_privilege::none, task_side::current));
    });
    run.after([=] {
      race::check((*children)[0].peek_io_context() != (*children)[1].peek_io_context(), "each its own");
      race::check(state->seen.made == 3 && state->seen.freed == 0, "one for each task");
      for (raced_task& each : *children) {
        race::check(each.peek_io_context()->nr_tasks() == 1, "one task points at it");
        each.exit_io_context();
      }
      state->parent.exit_io_context();
      all_gone(*state);
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

}  // namespace
}  // namespace task_test
