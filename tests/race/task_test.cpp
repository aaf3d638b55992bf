// Goal: whatever the order of creations, copies and exits, a task has at most one io_context, losers of the install
// race are freed, an exiting task gets none from others, and nr_tasks counts the tasks that point at it. Method:
// basic_task on the deterministic scheduler, with a context whose counters are on it too.
#include "sluice/ioc/task.h"

#include "race/harness/race.h"

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

}  // namespace
