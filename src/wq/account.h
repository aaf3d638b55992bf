// account: the queue of one class of work on one engine, and how many of its workers are not known to be blocked.
//
// Two queues stand side by side: single works (graded_list.h), and keys whose turn it is (key_table.h). Workers take from
// them in turn, so that neither keeps the other waiting.
//
// Submitters leave single works in the inbox of lane 0 (inboxes.h), and so in submit order; while works are quick, in that of
// their core's lane. A worker takes what its own core's lane has, which is in that core's caches, while there is some; a
// lane that has waited for long goes first (graded_list.h).
//
// Rule of growth: an account with something to do has a worker that runs, or one on its way, or cannot have one.
// `running` counts a woken or reserved worker from the moment it is chosen, so there is at most one wake per need (no
// storm) and no window in which work has nobody (P5):
//
//   a submitter                           a worker that goes idle, or blocks
//   puts its work        (seq_cst)        idle: is listed as free (seq_cst)
//   running == 0?        (seq_cst)        running - 1           (seq_cst)
//     yes: chooses a worker, unless       nothing to do?        (seq_cst)
//     all are there and none is free        no: goes on, or chooses another
//
// One of the two sees the other.
//
// Thread safety:  the atomics and the inbox: any thread. The rest: under `lock`.
// Invariants:     P1 P2 P5
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "sluice/base/mutex.h"
#include "sluice/ref/spin_lock.h"
#include "sluice/wq/stats.h"

#include "graded_list.h"
#include "hook_list.h"
#include "inboxes.h"
#include "key_table.h"
#include "worker.h"

namespace sluice::detail {

template <class Sync>
class basic_pool;

template <class Sync>
struct basic_account {
  using worker = basic_worker<Sync>;

  // plenty: with at most so many works waiting there is room for more, whatever the other accounts have; 0: never.
  basic_account(basic_pool<Sync>& owner, work_class of, unsigned on_node, std::size_t plenty) noexcept
      : pool(owner), cls(of), node(on_node), roomy_up_to(plenty), crowded(plenty == 0) {}

  // Nothing that a worker could run. seq_cst: partner of `running`.
  [[nodiscard]] bool nothing_to_run() const noexcept {
    return inboxes.empty() && listed.load(std::memory_order_seq_cst) == 0 &&
           keys_listed.load(std::memory_order_seq_cst) == 0;
  }
  // Nor anything to look into: a table's inbox may hold works that can run, or none.
  [[nodiscard]] bool nothing_to_do() const noexcept {
    return nothing_to_run() && tables_listed.load(std::memory_order_seq_cst) == 0;
  }
  // Works that wait; a hint.
  [[nodiscard]] std::size_t pending() const noexcept {
    return inboxes.size() + listed.load(std::memory_order_relaxed) + keyed.load(std::memory_order_relaxed);
  }

  void take_inbox(unsigned lane) noexcept SLUICE_REQUIRES(lock) {
    const bool said = inboxes.filled(lane);
    if (said) {
      // On their way from there to the lists: whoever looks for works without the lock, here after there, must not miss
      // them. seq_cst: as in publish_size().
      listed.store(singles.size() + 1, std::memory_order_seq_cst);
    }
    std::size_t count = 0;
    work* const newest = inboxes.take_newest(lane, count);
    if (newest == nullptr) {
      if (said) {
        publish_size();
      }
      return;
    }
    taken_in += count;
    if (!grades.load(std::memory_order_relaxed)) [[likely]] {  // relaxed: set before the put of the first graded work
      singles.append_reversed(newest, count, lane);
    } else {
      work_chain oldest_first;
      oldest_first.append_reversed(newest);
      while (work* const w = oldest_first.pop_front()) {
        singles.push_back(*w);
      }
    }
    publish_size();
  }
  void take_inboxes() noexcept SLUICE_REQUIRES(lock) {
    // The visitor runs here and now, under the lock.
    inboxes.for_each_filled([this](unsigned lane) SLUICE_NO_THREAD_SAFETY_ANALYSIS { take_inbox(lane); });
  }
  // What has come that may be taken next by somebody on lane `here`: works of priority may be anywhere.
  void take_what_is_due(unsigned here, steady_time now) noexcept SLUICE_REQUIRES(lock) {
    if (grades.load(std::memory_order_relaxed)) {  // relaxed: set before the put of the first graded work
      take_inboxes();
      return;
    }
    inboxes.for_each_filled([&](unsigned lane) SLUICE_NO_THREAD_SAFETY_ANALYSIS {  // here and now, under the lock
      if (singles.lane_empty(lane) && (lane == here || singles.passed_over(lane, now))) {
        take_inbox(lane);
      }
    });
    if (singles.empty()) {
      take_inboxes();
    }
  }
  // Before the put of a work with a class of priority. Written once: submitters read this line.
  void expect_grades() noexcept {
    if (!grades.load(std::memory_order_relaxed)) {  // relaxed, both: the put publishes it
      grades.store(true, std::memory_order_relaxed);
    }
  }
  void publish_size() noexcept SLUICE_REQUIRES(lock) {
    // seq_cst: partner of `running` (recalled works), and of who waits for room.
    listed.store(singles.size(), std::memory_order_seq_cst);
    note_crowd();
  }
  void add_keyed(std::size_t n) noexcept {
    // seq_cst: partner of who waits for room, and of note_crowd().
    if (keyed.fetch_add(n, std::memory_order_seq_cst) + n > roomy_up_to / 2) {
      set_crowded();
    }
  }
  void sub_keyed(std::size_t n) noexcept { keyed.fetch_sub(n, std::memory_order_seq_cst); }  // seq_cst: as above
  // Whether many works are over in a moment: then it matters in whose caches they are, and little which of them is first.
  void set_quick(bool are) noexcept {
    if (quick.load(std::memory_order_relaxed) != are) {  // relaxed, both: a hint, written when it changes
      quick.store(are, std::memory_order_relaxed);
    }
  }
  // Far from full, submitters need not add up what waits: they would read what workers write all the time. `crowded` is
  // false only while each of the two parts is at most half of roomy_up_to: whoever makes one larger sets it after that, and
  // whoever clears it looks at them after that, so one of the two sees the other.
  void note_crowd() noexcept SLUICE_REQUIRES(lock) {
    if (singles.size() > roomy_up_to / 2) {
      set_crowded();
    } else if (roomy_up_to != 0 && crowded.load(std::memory_order_relaxed) &&  // relaxed: a hint to look closer
               singles.size() + keyed.load(std::memory_order_relaxed) < roomy_up_to / 4) {
      crowded.store(false, std::memory_order_seq_cst);
      if (keyed.load(std::memory_order_seq_cst) > roomy_up_to / 2) {
        set_crowded();
      }
    }
  }
  void set_crowded() noexcept {
    if (!crowded.load(std::memory_order_seq_cst)) {
      crowded.store(true, std::memory_order_seq_cst);
    }
  }
  // All of another list, which is empty then.
  void list_keys(key_list<Sync>& some) noexcept SLUICE_REQUIRES(lock) {
    while (basic_key_entry<Sync>* const entry = some.pop_front()) {
      entry->in_list = true;
      keys.push_back(*entry);
    }
    keys_listed.store(keys.size(), std::memory_order_seq_cst);  // seq_cst: partner of `running`
  }
  void unlist_key(basic_key_entry<Sync>& entry) noexcept SLUICE_REQUIRES(lock) {
    entry.in_list = false;
    keys.remove(entry);
    keys_listed.store(keys.size(), std::memory_order_seq_cst);
  }

  void list_free(worker& one) noexcept SLUICE_REQUIRES(lock) {
    one.on_free_list = true;
    free_workers.push_front(one);
    free_listed.store(free_workers.size(), std::memory_order_seq_cst);  // seq_cst: partner of basic_pool::saturated()
  }
  void unlist_free(worker& one) noexcept SLUICE_REQUIRES(lock) {
    one.on_free_list = false;
    free_workers.remove(one);
    free_listed.store(free_workers.size(), std::memory_order_seq_cst);
  }

  void list_table(basic_key_table<Sync>& table) noexcept SLUICE_REQUIRES(lock) {
    if (!table.noticed.load(std::memory_order_relaxed)) {  // relaxed: under the lock
      tables.push_back(table);
      tables_listed.store(tables.size(), std::memory_order_seq_cst);  // seq_cst: partner of `running`
      table.noticed.store(true, std::memory_order_seq_cst);           // listed first: who sees it looks no further
    }
  }
  // A table whose inbox was empty leaves the list, unless something has come meanwhile: whoever puts into the inbox looks
  // at `noticed` after that, so one of the two sees the other.
  void unlist_table(basic_key_table<Sync>& table) noexcept SLUICE_REQUIRES(lock) {
    if (!table.noticed.load(std::memory_order_relaxed)) {  // relaxed: under the lock
      return;
    }
    table.noticed.store(false, std::memory_order_seq_cst);
    if (!table.inbox.empty()) {
      table.noticed.store(true, std::memory_order_seq_cst);
      return;
    }
    tables.remove(table);
    tables_listed.store(tables.size(), std::memory_order_seq_cst);
  }
  // The one that was looked into least lately, or null. It stays listed.
  [[nodiscard]] basic_key_table<Sync>* next_table() noexcept SLUICE_REQUIRES(lock) {
    basic_key_table<Sync>* const first = tables.pop_front();
    if (first != nullptr) {
      tables.push_back(*first);
    }
    return first;
  }
  // Works that came and have not been looked at: of keys, those in the tables whose turn is next. At least so many.
  [[nodiscard]] std::size_t in_inboxes() const noexcept SLUICE_REQUIRES(lock) {
    constexpr unsigned most_tables = 8;
    std::size_t all = inboxes.size();
    const basic_key_table<Sync>* table = tables.front();
    for (unsigned looks = 0; table != nullptr && looks < most_tables; ++looks) {
      all += table->inbox.size();
      table = table->next;
    }
    return all;
  }
  // The tables' inboxes have their turn when each key that was listed has had one: until then works gather there.
  [[nodiscard]] bool tables_are_due() const noexcept SLUICE_REQUIRES(lock) {
    return !tables.empty() && (keys.empty() || runs_to_look == 0);
  }

  basic_pool<Sync>& pool;
  const work_class cls;
  const unsigned node;
  const std::size_t roomy_up_to;
  std::uint16_t home = 0;

  // Submitters write these lines, each that of its lane.
  basic_inboxes<Sync, graded_list::most_lanes> inboxes;
  // Read by submitters; written when a worker falls idle, wakes or blocks.
  alignas(64) typename Sync::template atomic<std::int32_t> running{0};
  typename Sync::template atomic<std::uint64_t> free_listed{0};  // free_workers.size()
  typename Sync::template atomic<bool> grades{false};            // a work with a class of priority was submitted
  typename Sync::template atomic<bool> crowded;                  // what waits must be added up
  typename Sync::template atomic<bool> quick{false};             // works have lanes
  // Sizes of what the lock guards, for whoever does not hold it.
  alignas(64) typename Sync::template atomic<std::uint64_t> listed{0};
  typename Sync::template atomic<std::uint64_t> keys_listed{0};
  typename Sync::template atomic<std::uint64_t> tables_listed{0};
  typename Sync::template atomic<std::uint64_t> keyed{0};  // works that wait for their key's turn

  alignas(64) basic_spin_lock<Sync> lock;
  graded_list singles SLUICE_GUARDED_BY(lock);
  key_list<Sync> keys SLUICE_GUARDED_BY(lock);
  table_list<Sync> tables SLUICE_GUARDED_BY(lock);       // owned ones whose inbox is to be looked into
  std::size_t runs_to_look SLUICE_GUARDED_BY(lock) = 0;  // runs of keys until the tables' turn
  bool keys_next SLUICE_GUARDED_BY(lock) = false;        // whose turn it is
  hook_list<worker, &worker::prev_free, &worker::next_free> free_workers SLUICE_GUARDED_BY(lock);
  hook_list<worker, &worker::prev_all, &worker::next_all> workers SLUICE_GUARDED_BY(lock);
  unsigned spawns SLUICE_GUARDED_BY(lock) = 0;  // reserved, for the manager to create
  unsigned busy_ticks SLUICE_GUARDED_BY(lock) = 0;
  steady_time retry_at SLUICE_GUARDED_BY(lock);  // no creation before: the last one failed
  std::chrono::milliseconds back_off SLUICE_GUARDED_BY(lock){0};

  // A work in `singles` whose wait is measured, its list, how many will have been taken from there with it, and since when.
  const work* marked SLUICE_GUARDED_BY(lock) = nullptr;
  const batch_list* marked_in SLUICE_GUARDED_BY(lock) = nullptr;
  std::int64_t marked_taken SLUICE_GUARDED_BY(lock) = 0;
  steady_time marked_at SLUICE_GUARDED_BY(lock);
  std::uint64_t taken_in SLUICE_GUARDED_BY(lock) = 0;  // works that came through the inbox
  class_stats counts SLUICE_GUARDED_BY(lock);

  // Counted where no lock is held.
  alignas(64) typename Sync::template atomic<std::uint64_t> accepted_aside{0};  // not through the inbox
  typename Sync::template atomic<std::uint64_t> released_aside{0};              // not by a worker of this account
  typename Sync::template atomic<std::uint64_t> cancelled{0};
  typename Sync::template atomic<std::uint64_t> rescued{0};
  typename Sync::template atomic<std::uint64_t> refused{0};
};

// From the number that a waiting work carries to its account. A number is an engine's for as long as that lives, and a
// waiting work keeps its engine alive.
template <class Sync>
class engine_numbers {
 public:
  using accounts = std::array<basic_account<Sync>*, work_classes>;

  // Returns 0 if all numbers are taken.
  [[nodiscard]] static std::uint16_t take(accounts both) noexcept {
    const mutex_lock held(lock_);
    for (unsigned tries = 0; tries < most; ++tries) {
      next_ = next_ % most + 1;
      if (all_[next_][0] == nullptr) {
        all_[next_] = both;
        return static_cast<std::uint16_t>(next_);
      }
    }
    return 0;
  }
  static void give_back(std::uint16_t number) noexcept {
    const mutex_lock held(lock_);
    all_[number] = {};
  }
  // Requires: an engine with this number lives; the caller got the number after take() returned it.
  [[nodiscard]] static basic_account<Sync>& account_of(const work& w) noexcept {
    return *all_[work_access::home(const_cast<work&>(w))][std::to_underlying(w.cls())];
  }

 private:
  static constexpr unsigned most = 0xFFFF;

  static inline constinit mutex lock_;
  static inline constinit unsigned next_ = 0;
  static inline constinit std::array<accounts, most + 1> all_{};
};

}  // namespace sluice::detail
