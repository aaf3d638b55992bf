// task: somebody who issues I/O: a thread, a connection, a client's session. Owns at most one io_context.
//
//   task server;                                                  // no context yet
//   auto mine = server.get_task_io_context(task_side::current);   // made at first use; a ref, counted
//   task child;
//   child.copy_io(server, clone_io::share);                       // the same context: one priority, one share
//   child.exit_io_context();                                      // also in the destructor
//
// | state   | create, get by current | create, get by remote | copy_io into it | exit_io_context |
// |---------|------------------------|-----------------------|-----------------|-----------------|
// | live    | makes or finds one     | makes or finds one    | as its rules    | → gone          |
// | exiting | makes or finds one     | finds one, or EBUSY   | EBUSY           | → gone          |
// | gone    | EBUSY                  | EBUSY                 | EBUSY           | nothing         |
//
// "exiting" lets the task itself go on: its last steps may still issue I/O (the kernel's reason for asking whether the
// task is the current one). "gone" lets nobody: the kernel leaves that to the discipline of the exit path.
//
// Context is a template parameter for the race tests; it has `static result<Context*> create()`, kref's get and put,
// task_link, exit_task, set_ioprio and get_ioprio.
//
// Ownership:      the task holds one refcount, one active_ref and one of nr_tasks of its context until it exits.
// Thread safety:  any thread; `task_side` says whether the caller acts for the task itself.
// Blocking:       takes the task's lock; exit_io_context may end io_cqs (io_context.h): no queue lock may be held.
// Errors:         EBUSY (see the table), ENOMEM, EEXIST (copy_io into a task that has a context); EINVAL and EPERM of a
//                 priority.
// Source:         the kernel's create_task_io_context, get_task_io_context, copy_io, exit_io_context and
//                 set_task_ioprio (5.10).
// Invariants:     O3 O7 O9
#pragma once

#include <cstdint>
#include <span>

#include "sluice/base/check.h"
#include "sluice/base/error.h"
#include "sluice/base/ioprio.h"
#include "sluice/base/sync.h"
#include "sluice/ioc/io_context.h"
#include "sluice/ref/ref.h"

namespace sluice {

// Who calls: the task itself, or somebody else about it.
enum class task_side : std::uint8_t { current, remote };

// What a child gets: the parent's context (CLONE_IO), or at most a copy of its priority.
enum class clone_io : std::uint8_t { share, separate };

template <class Context, class Sync>
class basic_task {
 public:
  basic_task() = default;
  basic_task(const basic_task&) = delete;
  basic_task& operator=(const basic_task&) = delete;
  ~basic_task() { exit_io_context(); }

  // Sees to it that the task has a context. Succeeds also if another call installed one first; the loser's is freed.
  // Errors: ENOMEM; EBUSY.
  [[nodiscard]] result<void> create_task_io_context(task_side side) noexcept {
    result<Context*> made = Context::create();
    if (!made) {
      return std::unexpected(made.error());
    }
    Context* surplus = *made;
    bool has_one = false;
    {
      scoped_lock hold(lock_);
      if (context_ == nullptr && may_install_locked(side)) {
        context_ = surplus;
        surplus = nullptr;
      }
      has_one = context_ != nullptr;
    }
    if (surplus != nullptr) {
      surplus->exit_task();  // nobody else has seen it: this frees it
    }
    return has_one ? result<void>{} : fail(EBUSY);
  }

  // The task's context, made if there is none, with a refcount for the caller. Errors: ENOMEM; EBUSY.
  [[nodiscard]] result<ref<Context>> get_task_io_context(task_side side) noexcept {
    for (;;) {
      if (ref<Context> found = peek_io_context()) {
        return found;
      }
      // Between a successful create and the next look the task may exit: then the next create says EBUSY.
      if (result<void> made = create_task_io_context(side); !made) {
        return std::unexpected(made.error());
      }
    }
  }

  // The same, or null if there is none.
  [[nodiscard]] ref<Context> peek_io_context() noexcept {
    scoped_lock hold(lock_);
    // Counted under the lock: the task's own count keeps the context alive until exit takes the pointer.
    return context_ == nullptr ? ref<Context>{} : ref<Context>::retain(context_);
  }

  // What fork does for a new task. share: the parent's context, if it has one. separate: a context of its own with the
  // parent's priority, if that is valid; else nothing. io_cqs are never copied. Errors: EEXIST; EBUSY; ENOMEM.
  [[nodiscard]] result<void> copy_io(basic_task& parent, clone_io how) noexcept {
    SLUICE_CHECK(&parent != this, "a task cannot be its own child");
    ref<Context> source = parent.peek_io_context();
    if (!source) {
      return {};
    }
    if (how == clone_io::share) {
      return link_from(parent);
    }
    const ioprio priority = source->get_ioprio();
    if (!priority.valid()) {
      return {};
    }
    result<Context*> own = Context::create();
    if (!own) {
      return std::unexpected(own.error());
    }
    (*own)->set_ioprio(priority);  // before anybody can see it
    return install(**own);
  }

  // Marks the task as leaving: others may no longer give it a context.
  void set_exiting() noexcept {
    scoped_lock hold(lock_);
    if (life_ == life::live) {
      life_ = life::exiting;
    }
  }

  // Lets go of the context for good. Idempotent.
  void exit_io_context() noexcept {
    Context* last = nullptr;
    {
      scoped_lock hold(lock_);
      life_ = life::gone;
      last = context_;
      context_ = nullptr;
    }
    if (last != nullptr) {
      last->exit_task();
    }
  }

  // Sets the priority of the task's context, which all that share it get. Requires: ioprio_may_set, or an owner who
  // allows it, if the caller acts for somebody else. For a group or a user (IOPRIO_WHO_PGRP, IOPRIO_WHO_USER) call it
  // for each of the tasks, and stop at the first error, as ioprio_set(2) does. Errors: EINVAL, EPERM; ENOMEM, EBUSY.
  [[nodiscard]] result<void> set_task_ioprio(ioprio wanted, ioprio_privilege privilege, task_side side) noexcept {
    if (result<void> allowed = ioprio_check(wanted, privilege); !allowed) {
      return allowed;
    }
    result<ref<Context>> own = get_task_io_context(side);
    if (!own) {
      return std::unexpected(own.error());
    }
    (*own)->set_ioprio(wanted);
    return {};
  }
  // NONE if there is no context or nobody chose.
  [[nodiscard]] ioprio get_task_ioprio() noexcept {
    ref<Context> own = peek_io_context();
    return own ? own->get_ioprio() : ioprio{};
  }
  // The best priority in a group: what ioprio_get(2) answers for IOPRIO_WHO_PGRP and IOPRIO_WHO_USER. NONE counts as
  // BE/4, and is the answer if nobody chose better. Errors: ESRCH no task in it.
  [[nodiscard]] static result<ioprio> best_ioprio(std::span<basic_task* const> group) noexcept {
    if (group.empty()) {
      return fail(ESRCH);
    }
    ioprio best = group.front()->get_task_ioprio();
    for (basic_task* each : group.subspan(1)) {
      best = ioprio_best(best, each->get_task_ioprio());
    }
    return best;
  }

 private:
  enum class life : std::uint8_t { live, exiting, gone };

  [[nodiscard]] bool may_install_locked(task_side side) const noexcept SLUICE_REQUIRES(lock_) {
    return life_ == life::live || (life_ == life::exiting && side == task_side::current);
  }

  // Points this task at the parent's context. Never holds both tasks' locks: they have no order.
  [[nodiscard]] result<void> link_from(basic_task& parent) noexcept {
    Context* shared = nullptr;
    {
      scoped_lock hold(parent.lock_);
      if (parent.context_ == nullptr) {
        return {};  // the parent left meanwhile: as if it had had none
      }
      shared = parent.context_;
      shared->task_link();  // under the parent's lock: its count makes this one legal
    }
    return install(*shared);
  }

  // Makes it the context of this task, which has none; takes over the caller's count of tasks. Errors: EEXIST; EBUSY: it is let go.
  [[nodiscard]] result<void> install(Context& given) noexcept {
    int refused = 0;
    {
      scoped_lock hold(lock_);
      if (context_ != nullptr) {
        refused = EEXIST;
      } else if (!may_install_locked(task_side::remote)) {
        refused = EBUSY;
      } else {
        context_ = &given;
      }
    }
    if (refused != 0) {
      given.exit_task();
      return fail(refused);
    }
    return {};
  }

  typename Sync::mutex lock_;
  Context* context_ SLUICE_GUARDED_BY(lock_) = nullptr;
  life life_ SLUICE_GUARDED_BY(lock_) = life::live;
};

using task = basic_task<io_context, os_sync>;

}  // namespace sluice
