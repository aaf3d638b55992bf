#include <new>
#include <utility>

#include "core.h"
#include "work_access.h"

namespace sluice::detail {

stop_report wq_core::stop(stop_policy policy, steady_time deadline) noexcept {
  stop_report report;
  if (on_worker()) {
    report.error = error_of(EDEADLK);
    return report;
  }
  {
    const mutex_lock held(lock_);
    closed_ = true;
    changed_.notify_all();
  }
  if (policy == stop_policy::cancel_queued) {
    if (const auto counts = cancel_chosen([](void*, const work_view&) { return true; }, nullptr)) {
      report.cancelled = counts->cancelled;
    }
  }
  lock_.lock();
  while (outstanding_ != 0) {
    if (!changed_.wait_until(lock_, deadline) && outstanding_ != 0) {
      break;
    }
  }
  if (outstanding_ != 0) {
    report_rest_locked(report);
    lock_.unlock();
    return report;
  }
  exiting_ = true;
  for (account& acct : accounts_) {
    while (!acct.free.empty()) {
      worker* const one = acct.free.back();
      acct.free.pop_back();
      one->on_free_list = false;
      one->counted = true;
      ++acct.running;
      one->word.wake();
    }
  }
  for_manager_.notify_one();
  for_rescuer_.notify_all();
  while (!workers_.empty() || joining_) {
    changed_.wait(lock_);
  }
  const bool join = !std::exchange(joined_, true);
  joining_ = join;
  lock_.unlock();
  if (join) {
    manager_.join();
    rescuer_.thread.join();
    bury_dead();
    const mutex_lock held(lock_);
    joining_ = false;
    changed_.notify_all();
  }
  report.finished = true;
  return report;
}

void wq_core::report_rest_locked(stop_report& report) noexcept {
  const steady_time now = clock_.now();
  for (const account& acct : accounts_) {
    report.still_queued += acct.queue.size + acct.waiting;
  }
  try {
    for (const std::unique_ptr<worker>& one : workers_) {
      if (one->current != nullptr) {
        report.still_running.push_back({one->view, now - one->since});
      }
    }
    if (rescuer_.current != nullptr) {
      report.still_running.push_back({rescuer_.view, now - rescuer_.since});
    }
  } catch (const std::bad_alloc&) {
    report.error = error_of(ENOMEM);  // the list is cut short
  }
}

wq_core::~wq_core() {
  SLUICE_CHECK(!on_worker(), "the last count of a wq must not be put on one of its own workers");
  const stop_report report = stop(stop_policy::cancel_queued, no_deadline);
  SLUICE_CHECK(report.finished, "a wq ends with all its threads joined");
}

}  // namespace sluice::detail
