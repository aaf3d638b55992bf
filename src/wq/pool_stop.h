// pool_stop: how a pool begins and ends, and what it tells about itself.
#pragma once

#include <algorithm>
#include <new>

#include "pool.h"

namespace sluice::detail {

template <class Sync>
basic_pool<Sync>::basic_pool(const io_wq_options& options, const topology& nodes, interrupt_seam& signals)
    : options_(options),
      name_(options.name),
      nodes_(nodes),
      threads_(options.threads != nullptr ? *options.threads : thread_seam::real()),
      clock_(options.clock != nullptr ? *options.clock : clock_seam::real()),
      signals_(signals),
      identities_(options.identities != nullptr ? *options.identities : identity_calls::real()),
      rescuer_(*this) {
  limits(work_class::bound).max.store(options.max_bound, std::memory_order_relaxed);  // relaxed: nobody else yet
  limits(work_class::unbound).max.store(options.max_unbound, std::memory_order_relaxed);
  // A quarter of what is allowed, divided among the nodes: what lies in inboxes, uncounted, is not much beside the rest.
  const std::size_t share = options.queue_limit / 4 / nodes.nodes();
  const std::size_t plenty = share >= traits::roomy_from ? share : 0;
  for (unsigned node = 0; node < nodes.nodes(); ++node) {
    auto& both = accounts_.emplace_back();
    both[0] = std::make_unique<account>(*this, work_class::bound, node, plenty);
    both[1] = std::make_unique<account>(*this, work_class::unbound, node, plenty);
    const std::uint16_t number = numbers::take({both[0].get(), both[1].get()});
    if (number == 0) {
      throw std::bad_alloc();  // 65 535 engines live
    }
    both[0]->home = both[1]->home = number;
  }
  stuck_.reserve(64);
  due_.reserve(64);
  rescuer_.home = accounts_[0][0].get();
  rescuer_.rescuer = true;
}

template <class Sync>
basic_pool<Sync>::~basic_pool() {
  SLUICE_CHECK(!inside(), "a wq is ended by another thread than its own, and not in one of its callbacks");
  const stop_report report = stop(stop_policy::cancel_queued, no_deadline);
  SLUICE_CHECK(report.finished, "a wq ends with all its threads joined");
  for (auto& both : accounts_) {
    numbers::give_back(both[0]->home);
  }
  const scoped_lock held(domain_lock_);
  for (hash_domain* const domain : domains_) {
    disown(traits::table(*domain));
    traits::drop(*domain);
  }
}

// The table is anybody's again. Nothing of this pool is in it any more.
template <class Sync>
void basic_pool<Sync>::disown(key_table& table) noexcept {
  for_each_account([&](account& at) {
    {
      // Before it is given up: whoever owns it next lists it in a list of his own.
      const scoped_lock held(at.lock);
      if (table.owner.load(std::memory_order_relaxed) == &at) {  // relaxed: this pool's own doing
        SLUICE_CHECK(table.inbox.empty(), "a pool ends with works of it still queued");
        at.unlist_table(table);
      }
    }
    account* mine = &at;
    // release: what this pool did to the table's hooks comes before what the next owner does.
    table.owner.compare_exchange_strong(mine, nullptr, std::memory_order_release, std::memory_order_relaxed);
  });
}

// Starts a thread of one of the loops. Out of memory is an error like any other: the caller undoes what it expected.
template <class Sync>
result<named_thread> basic_pool<Sync>::start_thread(const char* suffix, void (basic_pool::*loop)() noexcept) noexcept {
  try {
    return threads_.start(name_ + suffix, [this, loop] { (this->*loop)(); });
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
}

// Creation that fails half way leaves through the destructor, whose stop joins what there is.
template <class Sync>
result<void> basic_pool<Sync>::start() {
  expect_rescuer();
  result<named_thread> rescue = start_thread("-rsc", &basic_pool::rescuer_loop);
  if (!rescue) {
    loops_.fetch_sub(1, std::memory_order_relaxed);  // relaxed: it never ran
    return std::unexpected(rescue.error());
  }
  rescuer_thread_ = std::move(*rescue);
  for (auto& both : accounts_) {
    account& at = *both[0];
    if (!reserve_worker(work_class::bound)) {
      break;  // fewer workers than nodes
    }
    {
      const scoped_lock held(at.lock);
      at.running.fetch_add(1, std::memory_order_seq_cst);
      ++at.spawns;
    }
    if (result<void> first = spawn(at, true); !first) {
      return first;
    }
  }
  expect_manager();
  result<named_thread> manager = start_thread("-mgr", &basic_pool::manager_loop);
  if (!manager) {
    loops_.fetch_sub(1, std::memory_order_relaxed);
    const scoped_lock held(stop_lock_);
    managed_ = false;
    return std::unexpected(manager.error());
  }
  manager_ = std::move(*manager);
  return {};
}

template <class Sync>
bool basic_pool<Sync>::on_worker() const noexcept {
  const worker* const self = traits::this_worker();
  return self != nullptr && &self->pool == this;
}

template <class Sync>
stop_report basic_pool<Sync>::stop(stop_policy policy, steady_time deadline) noexcept {
  stop_report report;
  if (inside()) {
    report.error = error_of(EDEADLK);  // X5
    return report;
  }
  door_.close();
  for (class_limits& of : limits_) {
    of.room_word.fetch_add(1, std::memory_order_release);
    Sync::wake(of.room_word, wake_all);
  }
  if (policy == stop_policy::cancel_queued) {
    // It lasts until the pool has drained: a submit that has passed the gate may queue its work after the scan. A worker that
    // takes a work reads it under the lock under which the scan looks at that worker.
    cancelling_.store(true, std::memory_order_seq_cst);
    report.cancelled = cancel_all().cancelled;
  }
  const bool drained = door_.wait_until(deadline);
  report.cancelled += given_up_at_stop_.exchange(0, std::memory_order_relaxed);  // relaxed: a statistic
  if (!drained) {
    report_rest(report);
    return report;
  }
  end_threads();
  report.finished = true;
  return report;
}

// Every accepted work is released. A second stop waits here for the first.
template <class Sync>
void basic_pool<Sync>::end_threads() noexcept {
  const scoped_lock held(stop_lock_);
  if (joined_) {
    return;
  }
  exiting_.store(true, std::memory_order_seq_cst);  // seq_cst: before the last look at each free list
  wake_all_free();
  manager_word_.wake();
  rescuer_.word.wake();
  if (!managed_) {
    loops_.fetch_add(1, std::memory_order_relaxed);
    manager_loop();  // creation failed before there was one: its work is done here
  }
  for (;;) {
    const std::uint32_t left = loops_.load(std::memory_order_acquire);  // acquire: pairs with loop_ends()
    if (left == 0) {
      break;
    }
    Sync::wait(loops_, left);
  }
  manager_.join();
  rescuer_thread_.join();
  joined_ = true;
}

template <class Sync>
void basic_pool<Sync>::wake_all_free() noexcept {
  for_each_account([&](account& at) {
    for (;;) {
      worker* chosen = nullptr;
      {
        const scoped_lock held(at.lock);
        chosen = wake_free_locked(at);
      }
      if (chosen == nullptr) {
        return;
      }
      chosen->word.wake();
    }
  });
}

template <class Sync>
void basic_pool<Sync>::report_rest(stop_report& report) noexcept {
  const steady_time now = clock_.now();
  const auto look = [&](worker& one) {
    const scoped_lock held(one.lock);
    report.still_queued += one.batch.size();
    if (one.current == nullptr) {
      return;
    }
    const work& w = *one.current;
    const steady_time since{steady_time::duration(one.since.load(std::memory_order_relaxed))};
    try {
      report.still_running.push_back({view_of(w, true, w.domain(), w.key()), now - since});
    } catch (const std::bad_alloc&) {
      report.error = error_of(ENOMEM);  // the list is cut short
    }
  };
  for_each_account([&](account& at) {
    look_into_tables(at);
    const scoped_lock held(at.lock);
    report.still_queued += at.pending();
    for (worker* one = at.workers.front(); one != nullptr; one = one->next_all) {
      look(*one);
    }
  });
  look(rescuer_);
}

template <class Sync>
unsigned basic_pool<Sync>::set_max(work_class cls, unsigned max) noexcept {
  class_limits& of = limits(cls);
  // seq_cst: as in saturated(); start_worker() below looks for work after it.
  const unsigned before = of.max.exchange(std::max(1U, max), std::memory_order_seq_cst);
  for (auto& both : accounts_) {
    account& at = *both[std::to_underlying(cls)];
    start_worker(at, false);
    // Surplus workers that are idle look at the limit when they wake.
    for (;;) {
      worker* chosen = nullptr;
      {
        const scoped_lock held(at.lock);
        if (staying(of.workers.load(std::memory_order_relaxed)) > of.max.load(std::memory_order_relaxed)) {
          chosen = wake_free_locked(at);
        }
      }
      if (chosen == nullptr) {
        break;
      }
      chosen->word.wake();
    }
  }
  return before;
}

template <class Sync>
unsigned basic_pool<Sync>::get_max(work_class cls) const noexcept {
  return limits_[std::to_underlying(cls)].max.load(std::memory_order_relaxed);  // relaxed: a limit
}

inline void add_counts(class_stats& to, const class_stats& more) noexcept {
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
class_stats basic_pool<Sync>::stats_of(work_class cls) noexcept {
  class_stats out;
  for (auto& both : accounts_) {
    account& at = *both[std::to_underlying(cls)];
    look_into_tables(at);
    const scoped_lock held(at.lock);
    at.take_inboxes();
    add_counts(out, at.counts);
    out.accepted += at.taken_in + at.accepted_aside.load(std::memory_order_relaxed);  // relaxed: statistics
    out.released += at.released_aside.load(std::memory_order_relaxed);
    out.cancelled += at.cancelled.load(std::memory_order_relaxed);
    out.refused += at.refused.load(std::memory_order_relaxed);
    out.rescued += at.rescued.load(std::memory_order_relaxed);
    const std::size_t keyed = at.keyed.load(std::memory_order_relaxed);
    out.queued += at.singles.size() + std::min(keyed, at.keys.size());
    out.waiting_on_key += keyed - std::min(keyed, at.keys.size());
    out.workers += at.workers.size() + at.spawns;
    out.running += static_cast<std::size_t>(std::max(0, at.running.load(std::memory_order_relaxed)));
    out.idle += at.free_workers.size();
    for (const worker* one = at.workers.front(); one != nullptr; one = one->next_all) {
      out.released += one->all_released.load(std::memory_order_relaxed);
      out.queued += one->in_batch.load(std::memory_order_relaxed);
    }
  }
  out.max_workers = get_max(cls);
  out.blocked = out.workers - out.running - out.idle;
  return out;
}

template <class Sync>
wq_stats basic_pool<Sync>::stats() noexcept {
  return {stats_of(work_class::bound), stats_of(work_class::unbound)};
}

// On a worker's thread: what set_affinity() said for all, if it did.
template <class Sync>
void basic_pool<Sync>::keep_affinity() noexcept {
  const scoped_lock held(records_lock_);
  if (has_affinity_) {
    static_cast<void>(::sched_setaffinity(0, sizeof affinity_, &affinity_));
  }
}

template <class Sync>
result<void> basic_pool<Sync>::set_affinity(const cpu_set_t& cpus) noexcept {
  {
    const scoped_lock held(records_lock_);
    affinity_ = cpus;
    has_affinity_ = true;
  }
  int err = 0;
  for_each_account([&](account& at) {
    const scoped_lock held(at.lock);
    for (worker* one = at.workers.front(); one != nullptr; one = one->next_all) {
      const scoped_lock one_held(one->lock);
      if (one->started) {
        const int failed = ::pthread_setaffinity_np(one->self, sizeof cpus, &cpus);
        err = failed != 0 ? failed : err;
      }
    }
  });
  return err == 0 ? result<void>() : fail(err);
}

}  // namespace sluice::detail
