// lifecycle: how a pool begins and ends.
//
// | state      | submit    | a worker that takes a work                    | left by                                     |
// |------------|-----------|-----------------------------------------------|---------------------------------------------|
// | open       | accepted  | runs it                                       | stop(): the gate closes                     |
// | draining   | refused   | runs it                                       | the last pass of the gate                   |
// | cancelling | refused   | gives it up, unless it is no_cancel           | the same                                    |
// | exiting    | refused   | there is none: workers and the loops end      | all threads are joined                      |
//
// Each accepted work holds a pass of the gate until it has been released. Cancelling is a state and not one pass over the works: a
// submit that has passed the gate may queue its work after that pass, and the worker that takes it looks at the state (X6).
//
// Lock order:     stop_lock_ is held while threads are joined; nothing else is held then.
// Thread safety:  any thread.
// Blocking:       stop().
// Errors:         start(): as io_wq::create. Creation that fails half way leaves through the pool's destructor.
// Invariants:     X1 X2 X3 X4 X5 X6 P9
#pragma once

#include <atomic>
#include <new>

#include "sluice/base/mutex.h"
#include "sluice/base/thread.h"
#include "sluice/wq/io_wq.h"

#include "wq/watch/canceller.h"
#include "wq/watch/manager.h"

namespace sluice::detail {

template <class Sync>
class basic_lifecycle {
 public:
  using traits = pool_traits<Sync>;
  using account = basic_account<Sync>;

  explicit basic_lifecycle(basic_pool<Sync>& owner) : pool_(owner) {}

  // A pass for each accepted work. Self-synchronised.
  typename traits::door gate;

  [[nodiscard]] result<void> start();
  stop_report stop(stop_policy policy, steady_time deadline) noexcept;

  // Requires: the lock of the worker that the work is current on, or will be.
  [[nodiscard]] bool must_give_up(const work& w) const noexcept {
    // relaxed: stop() sets it before it takes that lock to look at the worker.
    return cancelling_.load(std::memory_order_relaxed) && !has(w.flags(), work_flags::no_cancel);
  }
  // Every accepted work has been released. seq_cst: before the last look at each free list.
  [[nodiscard]] bool exiting() const noexcept { return exiting_.load(std::memory_order_seq_cst); }
  // Works that were given up because the pool cancels, by other threads than stop()'s; for its report.
  void count_given_up(std::size_t n) noexcept {
    if (n != 0 && cancelling_.load(std::memory_order_relaxed)) {  // relaxed, both: a statistic
      given_up_.fetch_add(n, std::memory_order_relaxed);
    }
  }

  // One of the loops will run, so that stop waits for it; the loop calls loop_ends() last.
  void expect_loop() noexcept { loops_.fetch_add(1, std::memory_order_relaxed); }  // relaxed: before the loop
  void expect_manager() noexcept SLUICE_EXCLUDES(stop_lock_) {
    expect_loop();
    const scoped_lock held(stop_lock_);
    managed_ = true;
  }
  void loop_ends() noexcept {
    // release: what this loop did is visible to the stop that waits for it.
    loops_.fetch_sub(1, std::memory_order_release);
    Sync::wake(loops_, wake_all);
  }
  // I6: the rescuer broke, and is replaced. Returns false if its thread has not ended, or no thread can be created: the manager tries
  // again.
  [[nodiscard]] bool replace_rescuer() noexcept;

 private:
  template <class Value>
  using atomic = typename Sync::template atomic<Value>;

  // Of the canceller, which runs no works: so a small pool's stacks are kept by the C library (40 MB of them), and a new worker need
  // not wait for the kernel to map one.
  static constexpr std::size_t canceller_stack = std::size_t{1} << 20;

  template <class Loop>
  [[nodiscard]] result<named_thread> start_thread(const char* suffix, Loop& loop, std::size_t stack = 0) noexcept;
  [[nodiscard]] result<void> start_fixed_workers() noexcept;
  void end_threads() noexcept;

  basic_pool<Sync>& pool_;
  atomic<bool> cancelling_{false};
  atomic<std::size_t> given_up_{0};
  atomic<bool> exiting_{false};
  atomic<std::uint32_t> loops_{0};  // manager, rescuer, canceller

  mutex stop_lock_;
  bool joined_ SLUICE_GUARDED_BY(stop_lock_) = false;
  bool managed_ SLUICE_GUARDED_BY(stop_lock_) = false;  // a manager's loop runs
  // The manager's is written by start() alone, the rescuer's by start() and then the manager.
  named_thread manager_;
  named_thread rescuer_;
  named_thread canceller_;
};

// Starts a thread that runs one of the loops. Out of memory is an error like any other.
template <class Sync>
template <class Loop>
result<named_thread> basic_lifecycle<Sync>::start_thread(const char* suffix, Loop& loop, std::size_t stack) noexcept {
  expect_loop();
  result<named_thread> thread = fail(ENOMEM);
  try {
    thread = pool_.env.threads.start(pool_.env.name + suffix, [&loop] { loop.run(); }, stack);
  } catch (const std::bad_alloc&) {
    thread = fail(ENOMEM);
  }
  if (!thread) {
    loops_.fetch_sub(1, std::memory_order_relaxed);  // relaxed: it never ran
  }
  return thread;
}

template <class Sync>
result<void> basic_lifecycle<Sync>::start() {
  result<named_thread> rescue = start_thread("-rsc", pool_.rescuer);
  if (!rescue) {
    return std::unexpected(rescue.error());
  }
  rescuer_ = std::move(*rescue);
  result<named_thread> cancel = start_thread("-can", pool_.canceller, canceller_stack);
  if (!cancel) {
    return std::unexpected(cancel.error());
  }
  canceller_ = std::move(*cancel);
  if (result<void> first = start_fixed_workers(); !first) {
    return first;
  }
  {
    const scoped_lock held(stop_lock_);
    managed_ = true;
  }
  result<named_thread> manage = start_thread("-mgr", pool_.manager);
  if (!manage) {
    const scoped_lock held(stop_lock_);
    managed_ = false;
    return std::unexpected(manage.error());
  }
  manager_ = std::move(*manage);
  return {};
}

template <class Sync>
result<void> basic_lifecycle<Sync>::start_fixed_workers() noexcept {
  for (unsigned node = 0; node < pool_.engines.nodes(); ++node) {
    account& at = pool_.engines.at(node, work_class::bound);
    {
      const scoped_lock held(at.lock);
      if (!pool_.growth.reserve_locked(at)) {
        break;  // fewer workers than nodes
      }
      at.want_fixed_locked();
    }
    if (result<void> first = pool_.manager.spawn(at); !first) {
      return first;
    }
  }
  return {};
}

template <class Sync>
bool basic_lifecycle<Sync>::replace_rescuer() noexcept {
  if (!rescuer_.try_join()) {
    return false;
  }
  pool_.rescuer.set_gone(false);  // before the next one starts, which may break at once
  result<named_thread> next = start_thread("-rsc", pool_.rescuer);
  if (!next) {
    pool_.rescuer.set_gone(true);
    return false;
  }
  rescuer_ = std::move(*next);
  return true;
}

template <class Sync>
stop_report basic_lifecycle<Sync>::stop(stop_policy policy, steady_time deadline) noexcept {
  stop_report report;
  if (pool_.inside()) {
    report.error = error_of(EDEADLK);  // X5
    return report;
  }
  gate.close();
  pool_.admission.end_waits();
  if (policy == stop_policy::cancel_queued) {
    // A worker that takes a work reads this under the lock under which the scan looks at that worker.
    cancelling_.store(true, std::memory_order_seq_cst);
    report.cancelled = pool_.cancels.cancel_all().cancelled;
  }
  const bool drained = gate.wait_until(deadline);
  report.cancelled += given_up_.exchange(0, std::memory_order_relaxed);  // relaxed: a statistic
  if (!drained) {
    pool_.reports.report_rest(report);
    return report;
  }
  end_threads();
  report.finished = true;
  return report;
}

// Every accepted work has been released. A second stop waits here for the first.
template <class Sync>
void basic_lifecycle<Sync>::end_threads() noexcept {
  const scoped_lock held(stop_lock_);
  if (joined_) {
    return;
  }
  exiting_.store(true, std::memory_order_seq_cst);
  pool_.growth.wake_all_free();
  pool_.manager.wake();
  pool_.rescuer.wake();
  pool_.canceller.wake();
  if (!managed_) {
    expect_loop();
    pool_.manager.run();  // creation failed before there was one: its work is done here
  }
  for (;;) {
    const std::uint32_t left = loops_.load(std::memory_order_acquire);  // acquire: pairs with loop_ends()
    if (left == 0) {
      break;
    }
    Sync::wait(loops_, left);
  }
  manager_.join();
  rescuer_.join();
  canceller_.join();
  joined_ = true;
}

}  // namespace sluice::detail
