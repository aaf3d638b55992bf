// io_context: on whose behalf requests are issued: one priority and one share of every device for all who share it.
//
// Three counters (the kernel's names):
//   refcount    who refers to it: the memory. kref's get() and put() are get_io_context and put_io_context.
//   active_ref  who may still issue: the tasks, and whoever took get_active(). At 0 the context's io_cqs exit.
//   nr_tasks    tasks that point at it.
// Every active count also holds a refcount, so active > 0 implies refcount > 0.
//
// | event                            | refcount | active_ref | nr_tasks |
// |----------------------------------|----------|------------|----------|
// | created for a task               | 1        | 1          | 1        |
// | task_link (ioc_task_link)        | +1       | +1         | +1       |
// | exit_task (exit_io_context)      | -1       | -1         | -1       |
// | get_active / put_active          | ±1       | ±1         |          |
// | get / put, ref<io_context>       | ±1       |            |          |
//
// Ownership:      its tasks and ref<io_context>s; requests on their way to a worker hold one each.
// Thread safety:  any thread that holds a count of the kind it adds to.
// Blocking:       the last put_active takes the context's lock and that of each queue it has an io_cq on, so no queue
//                 lock may be held at a put_active. The last put takes no queue lock and is legal under one (O8): the
//                 io_cqs left their queues when active_ref became 0.
// Ordering:       what was done under an active count is visible to the exit of the io_cqs; under any count, to the
//                 destructor.
// Errors:         none. Underflow is a check.
// Limits:         2^31 - 1 counts. 96 bytes, and an io_cq of 104 and what its elevator adds per queue that wants one.
// Invariants:     O1 O2 O8 O9
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>

#include "sluice/base/check.h"
#include "sluice/base/error.h"
#include "sluice/base/ioprio.h"
#include "sluice/base/mutex.h"
#include "sluice/base/sync.h"
#include "sluice/ioc/io_cq.h"
#include "sluice/ioc/io_cq_links.h"
#include "sluice/ioc/io_limits.h"
#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"

namespace sluice {

struct credentials;

// The three counters. Derived has `void exit_io_cqs() noexcept`, called once, when active_ref becomes 0.
template <class Derived, class Sync = os_sync>
class io_context_counts : public kref<Derived, delete_release, Sync> {
 public:
  // Takes the right to issue. Requires: the caller holds such a right, or the lock of a task that points here.
  void get_active() noexcept {
    this->get();
    // relaxed: the caller's own active count keeps it above 0, nothing else is read through this one.
    const std::int32_t before = active_.fetch_add(1, std::memory_order_relaxed);
    SLUICE_CHECK(before > 0, "the context has exited: only a holder of an active count may take another");
  }

  // Gives the right back; the last one makes the io_cqs exit. Then drops the refcount.
  void put_active() noexcept {
    // acq_rel: whoever gets to 0 must see what all others did under their counts.
    const std::int32_t before = active_.fetch_sub(1, std::memory_order_acq_rel);
    SLUICE_CHECK(before > 0, "put_active without an active count");
    if (before == 1) {
      static_cast<Derived*>(this)->exit_io_cqs();
    }
    this->put();
  }

  // One more task points here. Requires: as get_active. (ioc_task_link)
  void task_link() noexcept {
    get_active();
    tasks_.fetch_add(1, std::memory_order_relaxed);  // a figure: it protects nothing
  }
  // A task no longer points here. (What exit_io_context does to the context.)
  void exit_task() noexcept {
    const std::int32_t before = tasks_.fetch_sub(1, std::memory_order_relaxed);
    SLUICE_CHECK(before > 0, "more tasks left than were linked");
    put_active();
  }

  // Figures, for tests and reports: stale the moment they are read.
  [[nodiscard]] std::int32_t active_ref() const noexcept { return active_.load(std::memory_order_acquire); }
  [[nodiscard]] std::int32_t nr_tasks() const noexcept { return tasks_.load(std::memory_order_acquire); }

 protected:
  // Starts with one of each, for the task that it is created for.
  io_context_counts() = default;
  ~io_context_counts() = default;

 private:
  typename Sync::template atomic<std::int32_t> active_{1};
  typename Sync::template atomic<std::int32_t> tasks_{1};
};

// May this caller ask for the RT class, and change what is another user's? (CAP_SYS_NICE, or CAP_SYS_ADMIN.)
enum class ioprio_privilege : std::uint8_t { none, sys_nice };

// That of a client whose credentials are known (SO_PEERCRED, a certificate's user).
[[nodiscard]] ioprio_privilege ioprio_privilege_of(const credentials& caller) noexcept;

// The rules of ioprio_set(2) about the value. Returns EPERM for RT without privilege; EINVAL for an unknown class, a
// level out of range, or NONE with a level.
[[nodiscard]] result<void> ioprio_check(ioprio wanted, ioprio_privilege privilege) noexcept;

// The rules of ioprio_set(2) about whose it is: one's own user's tasks, or any with privilege. A task here has no user:
// whoever made it knows for whom. Asked before task::set_task_ioprio. Errors: EPERM.
[[nodiscard]] result<void> ioprio_may_set(const credentials& caller, uid_t owner_of_task) noexcept;

class io_context : public io_context_counts<io_context>,
                   public io_context_links<io_cq, io_context, request_queue, os_sync> {
 public:
  // With one of each count, which belong to the task that installs it. Errors: ENOMEM.
  [[nodiscard]] static result<io_context*> create() noexcept;

  io_context(const io_context&) = delete;
  io_context& operator=(const io_context&) = delete;

  // The priority of all that is issued here. NONE (the start value) counts as BE/4.
  void set_ioprio(ioprio value) noexcept { ioprio_.store(value.raw(), std::memory_order_release); }
  [[nodiscard]] ioprio get_ioprio() const noexcept { return ioprio::from_raw(ioprio_.load(std::memory_order_acquire)); }

  // Its share beside others on a queue whose elevator is fair: 1 to 10000, 100 to begin with (the range and the default
  // of the cgroup's io.weight). Errors: EINVAL out of range.
  static constexpr std::uint32_t min_weight = 1;
  static constexpr std::uint32_t default_weight = 100;
  static constexpr std::uint32_t max_weight = 10'000;
  [[nodiscard]] result<void> set_weight(std::uint32_t value) noexcept;
  // relaxed: an elevator that sees the new weight one request late is as fair as one that was asked a moment before.
  [[nodiscard]] std::uint32_t weight() const noexcept { return weight_.load(std::memory_order_relaxed); }

  // The most it may use of each queue whose elevator keeps to limits; none to begin with.
  void set_limits(io_limits value) noexcept;
  // Two plain loads. While set_limits runs they may be one old and one new figure: each is a cap of its own, so either
  // is right by itself.
  [[nodiscard]] io_limits limits() const noexcept {
    return {.iops = iops_.load(std::memory_order_relaxed),
            .bytes_per_second = bytes_per_second_.load(std::memory_order_relaxed)};
  }

 private:
  friend struct delete_release;
  template <class, class>
  friend class io_context_counts;

  io_context() = default;
  ~io_context();

  void exit_io_cqs() noexcept;

  // Synchronise themselves.
  std::atomic<std::uint16_t> ioprio_{0};
  std::atomic<std::uint16_t> weight_{default_weight};
  std::atomic<std::uint64_t> iops_{0};
  std::atomic<std::uint64_t> bytes_per_second_{0};
};

static_assert(sizeof(io_context) <= 96, "docs/ioc.md states it");

}  // namespace sluice
