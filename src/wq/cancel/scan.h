// scan: the one traversal of everything that a pool holds: waiting keys, queues, batches, running works.
//
// Where a work may be, and what a canceller locks to take it from there:
//
// | place                          | lock              | the work leaves it for                                     |
// |--------------------------------|-------------------|------------------------------------------------------------|
// | an account's inbox             | account's         | the account's queue                                        |
// | an account's queue             | account's         | a worker's batch (same hold)                               |
// | a key table's inbox            | table's order     | its key (same hold)                                        |
// | waiting for its key            | shard's           | a worker's batch (same hold)                               |
// | a worker's batch               | worker's          | its current work (same hold); back to a queue (moves held) |
// | a worker's current work        | worker's          | its end                                                    |
// | between two members of a chain | worker's          | current (same hold); an account or a key (moves held)      |
//
// A scan holds `moves` and looks at keys, then queues, then workers: works move down this table on their own, and up only with
// `moves`, so the scan meets each work that was there when it began (C6).
//
// Thread safety:  any thread.
// Blocking:       no wake, no allocation and no callback under `moves`: what is to be done after it is in the accounts' due list and
//                 in the workers' ask_due.
// Invariants:     C6
#pragma once

#include <array>
#include <utility>

#include "wq/item/handle_table.h"
#include "wq/keyed/keys.h"
#include "wq/loop/execution.h"
#include "wq/watch/interrupts.h"

namespace sluice::detail {

template <class Sync>
class basic_scan {
 public:
  using account = basic_account<Sync>;
  using worker = basic_worker<Sync>;
  using key_entry = basic_key_entry<Sync>;
  using key_shard = basic_key_shard<Sync>;
  using key_table = basic_key_table<Sync>;
  using numbers = engine_numbers<Sync>;
  using decision_due = typename basic_growth<Sync>::decision_due;

  // A chain, at the member whose turn it is.
  struct met {
    work& item;
    bool running;
    place where;
    void* holder;
    hash_domain* domain;
    std::uint64_t key;
    unsigned mark;  // for members that this scan cuts (work_access::set_cut)
  };
  enum class verdict : std::uint8_t {
    leave,
    take,     // pending: it is taken out and its slot says `ending`. Running: it is asked to stop. Between: it is cut
    tracked,  // it was given a slot: the thread that takes it out says where it went
  };

  // First in the lock order. A work moves up the table above only while it is held.
  typename Sync::mutex moves;

  explicit basic_scan(basic_pool<Sync>& owner) noexcept : pool_(owner) {}

  // Calls visit(met) → verdict for each chain, and settles what follows from it. The pending works that were taken are appended to
  // `taken`, for the caller to give up.
  template <class Visit>
  void visit_all(Visit visit, forward_fifo& taken) noexcept SLUICE_EXCLUDES(moves) {
    due_list due;
    {
      const scoped_lock held(moves);
      if (++mark_ == work_access::cut_by_handle) {
        forget_marks(due);
        mark_ = 1;
      }
      traverse(visit, taken, due);
    }
    settle(due);
    if (due.asked) {
      // No lock is held from here: a stop callback is code of the program (W2).
      pool_.interrupts.request_stops();
      pool_.manager.wake();  // it sends the signals, until the works have left
    }
    for (const work_class cls : {work_class::bound, work_class::unbound}) {
      pool_.admission.made_room(cls);
    }
  }

 private:
  // Accounts for which a decision is due, linked through next_due. An account that another scan has in its list is that scan's to
  // settle, and it clears the mark before it decides.
  struct due_list {
    account* first = nullptr;
    key_entry* garbage = nullptr;               // entries to give back, linked through chain
    std::array<basic_pool<Sync>*, 8> guests{};  // whose gate has a pass to be given back, each
    std::size_t passes = 0;
    bool asked = false;  // a running work was asked to stop
  };

  template <class Visit>
  void traverse(Visit& visit, forward_fifo& taken, due_list& due) noexcept SLUICE_REQUIRES(moves) {
    visit_keys(visit, taken, due);
    visit_queues(visit, taken);
    visit_workers(visit, taken, due);
  }
  // The marks are used again: what earlier scans have cut is cut by no scan in particular.
  void forget_marks(due_list& due) noexcept SLUICE_REQUIRES(moves) {
    forward_fifo none;
    const auto forget = [](const met& chain) {
      for (work* w = &chain.item; w != nullptr; w = w->link()) {
        if (work_access::cut(*w) != 0) {
          work_access::set_cut(*w, work_access::cut_by_handle);
        }
      }
      return verdict::leave;
    };
    traverse(forget, none, due);
  }

  void add(due_list& all, const decision_due& one) noexcept {
    if (one.garbage != nullptr) {
      one.garbage->chain = std::exchange(all.garbage, one.garbage);
    }
    if (one.at == nullptr) {
      return;
    }
    // seq_cst: what was listed comes before the mark; a thread that clears the mark looks after that.
    if (!one.at->due.exchange(true, std::memory_order_seq_cst)) {
      one.at->next_due = std::exchange(all.first, one.at);
    } else if (one.guest) {
      if (all.passes < all.guests.size()) {
        all.guests[all.passes++] = &one.at->pool;
      } else {
        one.at->pool.life.gate.leave();
      }
    }
  }
  void settle(due_list& all) noexcept {
    while (all.garbage != nullptr) {
      key_table::give_back(std::exchange(all.garbage, all.garbage->chain));
    }
    while (account* const at = all.first) {
      all.first = at->next_due;
      at->due.store(false, std::memory_order_seq_cst);
      pool_.growth.settle({.at = at, .guest = &at->pool != &pool_});
    }
    while (all.passes != 0) {
      all.guests[--all.passes]->life.gate.leave();
    }
  }

  template <class Visit>
  void visit_keys(Visit& visit, forward_fifo& taken, due_list& due) noexcept SLUICE_REQUIRES(moves) {
    const unsigned mark = mark_;
    pool_.keys.domains.for_each([&](hash_domain& domain, key_table& table) SLUICE_NO_THREAD_SAFETY_ANALYSIS {
      const scoped_lock order_held(table.order);
      add(due, pool_.keys.move_to_keys(table));
      for (key_shard& shard : table.shards()) {
        const scoped_lock held(shard.lock);
        key_table::for_each(shard, [&](key_entry& entry) SLUICE_NO_THREAD_SAFETY_ANALYSIS {  // for_each holds it
          visit_key(visit, mark, domain, shard, entry, taken, due);
        });
      }
    });
  }
  template <class Visit>
  void visit_key(Visit& visit, unsigned mark, hash_domain& domain, key_shard& shard, key_entry& entry,
                 forward_fifo& taken, due_list& due) noexcept SLUICE_REQUIRES(shard.lock) {
    bool lost = false;
    bool tracked = false;
    for (work* w = entry.waiting.front(); w != nullptr;) {
      work* const behind = work_fifo::after(*w);
      if (&numbers::account_of(*w).pool == &pool_) {
        const verdict what = visit(met{*w, false, place::key, &entry, &domain, entry.key, mark});
        tracked |= what == verdict::tracked;
        if (what == verdict::take) {
          pool_.keys.remove_waiting_locked(shard, entry, *w);
          take(*w, taken);
          lost = true;
        }
      }
      w = behind;
    }
    if (tracked) {
      entry.waiting.look_at_each();
    }
    if (lost) {
      add(due, pool_.keys.relist_locked(shard, entry));
    }
  }

  template <class Visit>
  void visit_queues(Visit& visit, forward_fifo& taken) noexcept SLUICE_REQUIRES(moves) {
    const unsigned mark = mark_;
    pool_.engines.for_each([&](account& at) {
      const scoped_lock held(at.lock);
      bool tracked = false;
      at.take_inboxes_locked();
      at.for_each_work_locked([&](work& w) SLUICE_NO_THREAD_SAFETY_ANALYSIS {  // held, above
        const verdict what = visit(met{w, false, place::account, &at, nullptr, 0, mark});
        tracked |= what == verdict::tracked;
        if (what == verdict::take) {
          at.remove_locked(w);
          take(w, taken);
        }
      });
      if (tracked) {
        at.look_at_each_locked();
      }
    });
  }

  template <class Visit>
  void visit_workers(Visit& visit, forward_fifo& taken, due_list& due) noexcept SLUICE_REQUIRES(moves) {
    const unsigned mark = mark_;
    pool_.roster.for_each([&](worker& one) {
      const scoped_lock held(one.lock);
      hash_domain* const domain = one.run_of != nullptr ? one.run_of->shard->domain : nullptr;
      const std::uint64_t key = one.run_of != nullptr ? one.run_of->key : 0;
      for (work* w = one.batch.front(); w != nullptr;) {
        work* const behind = work_fifo::after(*w);
        if (visit(met{*w, false, place::worker, &one, domain, key, mark}) == verdict::take) {
          one.batch.remove(*w);
          work_access::restore_key(*w, domain, key);
          take(*w, taken);
        }
        w = behind;
      }
      one.publish_batch_size();
      if (work* const w = one.current) {
        if (visit(met{*w, true, place::worker, &one, w->domain(), w->key(), mark}) == verdict::take) {
          pool_.interrupts.ask_locked(one);
          due.asked = true;
        }
      } else if (work* const next = one.between) {
        if (visit(met{*next, false, place::between, &one, next->domain(), next->key(), mark}) == verdict::take) {
          work_access::set_cut(*next, mark);
        }
      }
    });
  }

  void take(work& w, forward_fifo& taken) noexcept {
    pool_.execution.mark_ending(w);
    taken.push_back(w);
  }

  basic_pool<Sync>& pool_;
  unsigned mark_ SLUICE_GUARDED_BY(moves) = 0;  // of the scan: 1 to 14
};

}  // namespace sluice::detail
