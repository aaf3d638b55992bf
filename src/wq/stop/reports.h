// reports: what a pool tells about itself: statistics, and what still runs when a stop has not finished.
//
// Thread safety:  any thread.
// Blocking:       report_rest() allocates, without locks.
// Invariants:     P2 W7
#pragma once

#include <algorithm>
#include <new>

#include "sluice/wq/io_wq.h"

#include "wq/crew/roster.h"
#include "wq/keyed/keys.h"

namespace sluice::detail {

template <class Sync>
class basic_reports {
 public:
  using account = basic_account<Sync>;
  using worker = basic_worker<Sync>;

  explicit basic_reports(basic_pool<Sync>& owner) noexcept : pool_(owner) {}

  [[nodiscard]] wq_stats stats() noexcept { return {stats_of(work_class::bound), stats_of(work_class::unbound)}; }
  void report_rest(stop_report& report) noexcept;

  [[nodiscard]] static work_view view_of(const work& w, bool running, const hash_domain* domain,
                                         std::uint64_t key) noexcept {
    return {&w, w.owner(), domain, domain != nullptr ? key : 0, w.cls(), running, w.ops()};
  }

 private:
  [[nodiscard]] class_stats stats_of(work_class cls) noexcept;
  static void add(class_stats& to, const class_stats& more) noexcept;

  basic_pool<Sync>& pool_;
};

template <class Sync>
void basic_reports<Sync>::report_rest(stop_report& report) noexcept {
  const steady_time now = pool_.env.clock.now();
  report.in_callbacks += pool_.canceller.pending();
  pool_.engines.for_each([&](account& at) {
    pool_.keys.look_into_tables(at);
    report.still_queued += at.pending();
  });
  pool_.roster.for_each([&](worker& one) {
    running_work found;
    {
      const scoped_lock held(one.lock);
      report.still_queued += one.batch.size();
      if (one.current == nullptr) {
        report.in_callbacks += one.in_callback() ? 1U : 0U;
        return;
      }
      const work& w = *one.current;
      const steady_time since{steady_time::duration(one.since.load(std::memory_order_relaxed))};
      found = {view_of(w, true, w.domain(), w.key()), now - since};
    }
    try {
      report.still_running.push_back(found);
    } catch (const std::bad_alloc&) {
      report.error = error_of(ENOMEM);  // the list is cut short
    }
  });
}

template <class Sync>
void basic_reports<Sync>::add(class_stats& to, const class_stats& more) noexcept {
  to.released += more.released;
  to.workers_created += more.workers_created;
  to.workers_died += more.workers_died;
  to.create_failures += more.create_failures;
  to.found_blocked += more.found_blocked;
  for (std::size_t i = 0; i < latency_histogram::buckets; ++i) {
    to.queue_wait.counts[i] += more.queue_wait.counts[i];
    to.run_time.counts[i] += more.run_time.counts[i];
  }
}

// Workers and those of them that run are read under the lock under which workers come and go, so P2 holds in each value.
template <class Sync>
class_stats basic_reports<Sync>::stats_of(work_class cls) noexcept {
  class_stats out;
  pool_.engines.for_each_of(cls, [&](account& at) {
    pool_.keys.look_into_tables(at);
    const scoped_lock held(at.lock);
    at.take_inboxes_locked();
    add(out, at.counts);
    out.accepted += at.taken_in_locked() + at.accepted_aside.load(std::memory_order_relaxed);  // relaxed: statistics
    out.released += at.released_aside.load(std::memory_order_relaxed);
    out.cancelled += at.cancelled.load(std::memory_order_relaxed);
    out.refused += at.refused.load(std::memory_order_relaxed);
    out.rescued += at.rescued.load(std::memory_order_relaxed);
    const std::size_t keyed = at.crowd.keyed();
    const std::size_t keys_ready = std::min(keyed, at.keys_listed_locked());
    out.queued += at.works_listed_locked() + keys_ready;
    out.waiting_on_key += keyed - keys_ready;
    out.workers += at.workers_locked();
    out.running += static_cast<std::size_t>(std::max(0, at.running()));
    out.idle += at.free_workers();
    at.for_each_worker_locked([&](const worker& one) {
      out.released += one.all_released.load(std::memory_order_relaxed);
      out.queued += one.in_batch.load(std::memory_order_relaxed);
    });
  });
  out.max_workers = pool_.growth.max(cls);
  out.blocked = out.workers - out.running - out.idle;
  return out;
}

}  // namespace sluice::detail
