// task: who gets which io_context, and when nobody does. Two real tasks, one thread; the races are in tests/race.
#include "sluice/ioc/task.h"

#include <gtest/gtest.h>

namespace task_test {
namespace {

using namespace sluice;

ref<io_context> context_of(task& whose) {
  return whose.get_task_io_context(task_side::current).value();
}

TEST(Task, StartsWithoutAContext) {
  task fresh;
  EXPECT_FALSE(fresh.peek_io_context());
  EXPECT_EQ(fresh.get_task_ioprio(), ioprio{});
}

TEST(Task, MakesItsContextOnce) {
  task self;
  ref<io_context> first = context_of(self);
  ref<io_context> second = context_of(self);
  EXPECT_EQ(first.get(), second.get());
  EXPECT_EQ(first->use_count(), 3U) << "the task's and two of ours";
  EXPECT_EQ(first->active_ref(), 1);
  EXPECT_EQ(first->nr_tasks(), 1);
}

TEST(Task, CreateOnATaskThatHasOneSucceedsAndKeepsIt) {
  task self;
  ref<io_context> first = context_of(self);
  EXPECT_TRUE(self.create_task_io_context(task_side::current).has_value());
  EXPECT_EQ(context_of(self).get(), first.get());
}

// O7: a remote exiting task is EBUSY; an exiting task itself may still get one; a task that is gone never.
TEST(Task, ExitingTaskIsBusyForOthersOnly) {
  task leaving;
  leaving.set_exiting();
  EXPECT_EQ(leaving.get_task_io_context(task_side::remote).error(), error_of(EBUSY));
  EXPECT_FALSE(leaving.peek_io_context());
  EXPECT_TRUE(leaving.get_task_io_context(task_side::current).has_value());
  EXPECT_TRUE(leaving.get_task_io_context(task_side::remote).has_value()) << "there is one: others may find it";
  leaving.exit_io_context();
  EXPECT_EQ(leaving.get_task_io_context(task_side::current).error(), error_of(EBUSY));
  EXPECT_EQ(leaving.create_task_io_context(task_side::remote).error(), error_of(EBUSY));
}

TEST(Task, ExitIsIdempotentAndLeavesTheMemoryToWhoHoldsIt) {
  task self;
  ref<io_context> held = context_of(self);
  self.exit_io_context();
  self.exit_io_context();
  EXPECT_EQ(held->use_count(), 1U);
  EXPECT_EQ(held->active_ref(), 0);
  EXPECT_EQ(held->nr_tasks(), 0);
}

// O3 O9: CLONE_IO gives the same context, and nr_tasks counts the tasks that point at it.
TEST(Task, CloneShareGivesTheSameContext) {
  task parent;
  ref<io_context> shared = context_of(parent);
  {
    task child;
    ASSERT_TRUE(child.copy_io(parent, clone_io::share).has_value());
    EXPECT_EQ(child.peek_io_context().get(), shared.get());
    EXPECT_EQ(shared->nr_tasks(), 2);
    EXPECT_EQ(shared->active_ref(), 2);
    parent.exit_io_context();
    EXPECT_EQ(shared->nr_tasks(), 1);
    EXPECT_EQ(shared->active_ref(), 1) << "the child may still issue";
  }
  EXPECT_EQ(shared->nr_tasks(), 0);
  EXPECT_EQ(shared->active_ref(), 0);
}

// O3: without CLONE_IO a new context with the priority, if that was chosen; else nothing.
TEST(Task, CloneSeparateCopiesAValidPriorityOnly) {
  task parent;
  ref<io_context> source = context_of(parent);
  task plain;
  ASSERT_TRUE(plain.copy_io(parent, clone_io::separate).has_value());
  EXPECT_FALSE(plain.peek_io_context()) << "nobody chose a priority: nothing to copy";

  const ioprio chosen{ioprio_class::be, 6};
  ASSERT_TRUE(parent.set_task_ioprio(chosen, ioprio_privilege::none, task_side::current).has_value());
  task child;
  ASSERT_TRUE(child.copy_io(parent, clone_io::separate).has_value());
  ref<io_context> own = child.peek_io_context();
  ASSERT_TRUE(own);
  EXPECT_NE(own.get(), source.get());
  EXPECT_EQ(own->get_ioprio(), chosen);
  EXPECT_EQ(own->nr_io_cqs(), 0U);
  EXPECT_EQ(own->nr_tasks(), 1);
  EXPECT_EQ(source->nr_tasks(), 1);
}

TEST(Task, CopyFromATaskWithoutContextDoesNothing) {
  task parent;
  task child;
  EXPECT_TRUE(child.copy_io(parent, clone_io::share).has_value());
  EXPECT_TRUE(child.copy_io(parent, clone_io::separate).has_value());
  EXPECT_FALSE(child.peek_io_context());
}

TEST(Task, CopyIntoATaskThatHasOneOrIsLeavingIsRefusedAndUndone) {
  task parent;
  ref<io_context> shared = context_of(parent);
  task other;
  ref<io_context> own = context_of(other);
  EXPECT_EQ(other.copy_io(parent, clone_io::share).error(), error_of(EEXIST));
  EXPECT_EQ(other.peek_io_context().get(), own.get());
  task leaving;
  leaving.set_exiting();
  EXPECT_EQ(leaving.copy_io(parent, clone_io::share).error(), error_of(EBUSY));
  EXPECT_EQ(shared->nr_tasks(), 1);
  EXPECT_EQ(shared->active_ref(), 1);
  EXPECT_EQ(shared->use_count(), 2U);
}

// The context of the child is shared: its priority is not the copy's to change.
TEST(Task, CopySeparateIntoATaskThatHasOneOrIsLeavingChangesNothing) {
  task parent;
  ASSERT_TRUE(parent.set_task_ioprio({ioprio_class::be, 1}, ioprio_privilege::none, task_side::current).has_value());
  task other;
  const ref<io_context> own = context_of(other);
  own->set_ioprio({ioprio_class::be, 6});
  EXPECT_EQ(other.copy_io(parent, clone_io::separate).error(), error_of(EEXIST));
  EXPECT_EQ(other.peek_io_context().get(), own.get());
  EXPECT_EQ(own->get_ioprio(), (ioprio{ioprio_class::be, 6}));
  EXPECT_EQ(own->nr_tasks(), 1);
  task leaving;
  leaving.set_exiting();
  EXPECT_EQ(leaving.copy_io(parent, clone_io::separate).error(), error_of(EBUSY));
  EXPECT_FALSE(leaving.peek_io_context());
}

TEST(Task, PriorityIsTheContextsAndNeedsPrivilegeForRealTime) {
  task parent;
  task child;
  ASSERT_TRUE(parent.create_task_io_context(task_side::current).has_value());
  ASSERT_TRUE(child.copy_io(parent, clone_io::share).has_value());
  const ioprio real_time{ioprio_class::rt, 0};
  EXPECT_EQ(child.set_task_ioprio(real_time, ioprio_privilege::none, task_side::current).error(), error_of(EPERM));
  EXPECT_EQ(parent.get_task_ioprio(), ioprio{});
  EXPECT_TRUE(child.set_task_ioprio(real_time, ioprio_privilege::sys_nice, task_side::current).has_value());
  EXPECT_EQ(parent.get_task_ioprio(), real_time) << "who shares a context shares its priority";
}

// The rule of IOPRIO_WHO_PGRP: the best of all; NONE counts as BE/4.
TEST(Task, BestPriorityOfAGroup) {
  task silent;
  task slow;
  task quick;
  ASSERT_TRUE(slow.set_task_ioprio({ioprio_class::be, 6}, ioprio_privilege::none, task_side::current).has_value());
  ASSERT_TRUE(quick.set_task_ioprio({ioprio_class::be, 1}, ioprio_privilege::none, task_side::current).has_value());
  const auto best = [](std::vector<task*> group) { return task::best_ioprio(group); };
  EXPECT_EQ(best({}).error(), error_of(ESRCH));
  EXPECT_EQ(best({&slow}).value(), (ioprio{ioprio_class::be, 6}));
  EXPECT_EQ(best({&slow, &silent}).value(), ioprio{}) << "nobody asked, so BE/4: before BE/6";
  EXPECT_EQ(best({&silent, &quick, &slow}).value(), (ioprio{ioprio_class::be, 1}));
  EXPECT_EQ(best({&quick, &silent}).value(), best({&silent, &quick}).value()) << "in any order";
  ASSERT_TRUE(slow.set_task_ioprio({ioprio_class::rt, 7}, ioprio_privilege::sys_nice, task_side::remote).has_value());
  EXPECT_EQ(best({&silent, &quick, &slow}).value(), (ioprio{ioprio_class::rt, 7}));
}

// O3: what is no priority is not copied.
TEST(Task, CloneSeparateDoesNotCopyAnInvalidPriority) {
  task parent;
  context_of(parent)->set_ioprio({ioprio_class::be, 9});
  task child;
  ASSERT_TRUE(child.copy_io(parent, clone_io::separate).has_value());
  EXPECT_FALSE(child.peek_io_context());
}

// O3: a copy is the priority, at the moment of the copy; weight and limits are whose group it is, not who issues.
TEST(Task, CloneSeparateStandsAlone) {
  task parent;
  const ref<io_context> source = context_of(parent);
  source->set_ioprio({ioprio_class::be, 2});
  ASSERT_TRUE(source->set_weight(700).has_value());
  source->set_limits({.iops = 5});
  task child;
  ASSERT_TRUE(child.copy_io(parent, clone_io::separate).has_value());
  source->set_ioprio({ioprio_class::idle, 0});
  EXPECT_EQ(child.get_task_ioprio(), (ioprio{ioprio_class::be, 2}));
  EXPECT_EQ(child.peek_io_context()->weight(), io_context::default_weight);
  EXPECT_FALSE(child.peek_io_context()->limits().any());
}

// A context whose creation can fail.
struct scarce_context : io_context_counts<scarce_context> {
  static inline int live = 0;
  static inline bool none_left = false;

  static result<scarce_context*> create() noexcept {
    if (none_left) {
      return fail(ENOMEM);
    }
    return new scarce_context;
  }
  scarce_context() { ++live; }
  ~scarce_context() { --live; }
  void exit_io_cqs() noexcept {}
  void set_ioprio(ioprio value) noexcept { priority = value; }
  [[nodiscard]] ioprio get_ioprio() const noexcept { return priority; }

  ioprio priority;
};

TEST(Task, NoMemoryIsReportedAndNothingIsInstalled) {
  using scarce_task = basic_task<scarce_context, os_sync>;
  {
    scarce_task parent;
    ref<scarce_context> source = parent.get_task_io_context(task_side::current).value();
    source->set_ioprio({ioprio_class::idle, 0});
    scarce_context::none_left = true;
    scarce_task child;
    EXPECT_EQ(child.get_task_io_context(task_side::current).error(), error_of(ENOMEM));
    EXPECT_EQ(child.copy_io(parent, clone_io::separate).error(), error_of(ENOMEM))
        << "the priority that could not be copied is an error, not a silent success";
    EXPECT_FALSE(child.peek_io_context());
    EXPECT_TRUE(child.copy_io(parent, clone_io::share).has_value()) << "sharing needs no memory";
    scarce_context::none_left = false;
    EXPECT_EQ(scarce_context::live, 1);
  }
  EXPECT_EQ(scarce_context::live, 0);
}

}  // namespace
}  // namespace task_test
