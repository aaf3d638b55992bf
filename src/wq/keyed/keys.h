// keys: the way of a keyed work: into its domain's table, to its key, to a worker, and back out. key_table.h has the states.
//
// Thread safety:  any thread, except where a worker is named: that worker's thread.
// Lock order:     a domain list's lock, a table's order, a shard's lock, an account's, a worker's.
// Errors:         put(), enter(): ENOMEM, and nothing has changed.
// Invariants:     H1 H2 H3 H4 H5 H7
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "wq/crew/growth.h"
#include "wq/item/handle_table.h"
#include "wq/keyed/domains.h"

namespace sluice::detail {

template <class Sync>
class basic_keys {
 public:
  using traits = pool_traits<Sync>;
  using account = basic_account<Sync>;
  using worker = basic_worker<Sync>;
  using key_entry = basic_key_entry<Sync>;
  using key_shard = basic_key_shard<Sync>;
  using key_table = basic_key_table<Sync>;
  using numbers = engine_numbers<Sync>;
  using plan = typename basic_growth<Sync>::plan;
  using decision_due = typename basic_growth<Sync>::decision_due;

  explicit basic_keys(basic_pool<Sync>& owner) noexcept : domains(owner), pool_(owner) {}

  // Self-synchronised.
  basic_domains<Sync> domains;

  // Whether the account's works may wait in the table's inbox. The first account that uses a table owns it. Requires: the pool
  // holds the domain, so that it will give the table up again.
  [[nodiscard, gnu::always_inline]] inline static bool goes_through_inbox(account& to, key_table& table,
                                                                          work_flags flags) noexcept;
  // Puts works into the inbox that are linked newest → … → oldest, all of one domain, which `to` owns. Errors: ENOMEM.
  [[nodiscard, gnu::always_inline]] inline int put(account& to, key_table& table, work& newest, work& oldest,
                                                   std::size_t n) noexcept;
  // Enters a work into its key directly, behind what was submitted before. Errors: ENOMEM.
  [[nodiscard]] int enter(account& to, work& head) noexcept;
  // Moves what the inbox holds to the keys. The caller settles the decision once it has released `order`.
  [[nodiscard]] decision_due move_to_keys(key_table& table) noexcept SLUICE_REQUIRES(table.order);
  // Puts a work behind those that wait for the key.
  void wait_locked(key_shard& shard, key_entry& entry, account& to, work& w) noexcept SLUICE_REQUIRES(shard.lock);
  // Lists keys whose works wait and that no thread owns, all of one account, and decides who runs them.
  [[nodiscard]] plan queue_locked(key_shard& shard, key_list<Sync>& some) noexcept SLUICE_REQUIRES(shard.lock);

  // One turn for each table that is listed; those that stay so have works that came meanwhile.
  void look_into_tables(account& at) noexcept;

  // The worker takes a bounded run of the claimed key (H7). Returns false if there is nothing to run after all: what waited was
  // cancelled, or is another account's to run.
  [[nodiscard]] bool take_run(worker& self, account& from, key_entry& entry, std::size_t most) noexcept;
  // The worker's run is over: the key is for the next work that waits for it.
  void end_run(worker& self) noexcept;
  // What a broken worker holds of its key goes back to the key, which the worker still owns. Requires: moves.
  void put_back_run(worker& self) noexcept;

  // Sets entries aside for the keyed members behind `head`. Errors: ENOMEM, and nothing has changed.
  [[nodiscard]] int promise_rest(work& head) noexcept;
  void take_back_promise(work& w) noexcept {
    if (work_access::entry_promised(w)) {
      work_access::set_entry_promised(w, false);
      traits::table(*w.domain()).take_back_promise();
    }
  }

  // Removes a waiting work from its key.
  void remove_waiting_locked(key_shard& shard, key_entry& entry, work& w) noexcept SLUICE_REQUIRES(shard.lock) {
    numbers::account_of(w).crowd.sub_keyed(1);
    entry.waiting.remove(w);
    work_access::restore_key(w, shard.domain, entry.key);
  }
  // Waiting works of the key were removed: a queued key may have to move to another account's list, or to end.
  [[nodiscard]] decision_due relist_locked(key_shard& shard, key_entry& entry) noexcept SLUICE_REQUIRES(shard.lock);

  // The memory that the table asked for. Requires: no lock of the pool is held.
  static void provide(key_table& table) noexcept {
    if (table.wants_memory()) [[unlikely]] {
      table.provide();
    }
  }

 private:
  [[gnu::noinline]] int make_room(key_table& table, std::size_t n) noexcept;
  [[gnu::noinline]] void notice(account& to, key_table& table) noexcept;
  [[gnu::noinline]] void start_for_tables(account& to, std::size_t n) noexcept;
  [[nodiscard]] bool enter_locked(key_table& table, account& to, work& w, plan& then) noexcept
      SLUICE_REQUIRES(table.order);
  void enter_arrived(key_table& table, key_shard& shard, forward_fifo& some, decision_due& due) noexcept
      SLUICE_REQUIRES(table.order);
  // An account that may be another pool's. Requires: a lock under which a work of it is listed, or is about to be.
  [[nodiscard]] decision_due due_for(account& to) noexcept;

  basic_pool<Sync>& pool_;
};

template <class Sync>
bool basic_keys<Sync>::goes_through_inbox(account& to, key_table& table, work_flags flags) noexcept {
  account* owner = table.owner.load(std::memory_order_relaxed);  // relaxed: compared, not looked into
  if (owner == nullptr) [[unlikely]] {
    // acquire: pairs with disown(), the table's hooks are this pool's from here.
    table.owner.compare_exchange_strong(owner, &to, std::memory_order_acquire, std::memory_order_relaxed);
    owner = table.owner.load(std::memory_order_relaxed);
  }
  return owner == &to && !has(flags, work_flags::concurrent);
}

template <class Sync>
int basic_keys<Sync>::put(account& to, key_table& table, work& newest, work& oldest, std::size_t n) noexcept {
  while (!table.inbox.put(newest, oldest, n)) [[unlikely]] {
    if (const int err = make_room(table, n); err != 0) {
      return err;
    }
  }
  if (!table.noticed.load(std::memory_order_seq_cst)) [[unlikely]] {  // seq_cst: partner of unlist_table_locked()
    notice(to, table);
  }
  // seq_cst: listed first; a worker that stops running looks for tables after that.
  if (to.running() != 0) [[likely]] {
    pool_.sampler.ensure_ticking();
  } else {
    start_for_tables(to, n);
  }
  return 0;
}

// Returns ENOMEM if there is no memory for n works at once.
template <class Sync>
int basic_keys<Sync>::make_room(key_table& table, std::size_t n) noexcept {
  {
    const scoped_lock held(table.order);
    table.widen(n);
  }
  const bool memory = table.provide();
  decision_due due;
  bool room = false;
  {
    const scoped_lock held(table.order);
    due = move_to_keys(table);
    room = table.has_room(n);
  }
  pool_.growth.settle(due);
  return room || memory ? 0 : ENOMEM;
}

template <class Sync>
void basic_keys<Sync>::notice(account& to, key_table& table) noexcept {
  const scoped_lock held(to.lock);
  to.list_table_locked(table);
}

template <class Sync>
void basic_keys<Sync>::start_for_tables(account& to, std::size_t n) noexcept {
  if (pool_.growth.saturated(to.cls)) {
    pool_.sampler.ensure_ticking();
  } else if (const plan next = pool_.growth.wake_for_tables(to, n); next.chosen != nullptr) {
    pool_.growth.perform(next);
  } else {
    pool_.growth.start_worker(to, need::any, n);
  }
}

template <class Sync>
int basic_keys<Sync>::enter(account& to, work& head) noexcept {
  key_table& table = traits::table(*head.domain());
  for (bool memory = true;;) {
    plan next;
    decision_due due;
    bool entered = false;
    {
      const scoped_lock held(table.order);
      due = move_to_keys(table);
      entered = enter_locked(table, to, head, next);
    }
    pool_.growth.settle(due);
    if (entered) {
      pool_.growth.perform(next);
      return 0;
    }
    if (!memory) {
      return ENOMEM;
    }
    memory = table.provide();
  }
}

// Enters the key's waiting works, in the order of the calls (H2). Returns false if there is no entry for a new key.
template <class Sync>
bool basic_keys<Sync>::enter_locked(key_table& table, account& to, work& w, plan& then) noexcept {
  key_shard& shard = table.shard_of(w.key());
  const scoped_lock held(shard.lock);
  key_entry* entry = table.find(shard, w.key());
  const bool is_new = entry == nullptr;
  if (is_new) {
    if (!table.may_add(shard)) {
      return false;
    }
    entry = &table.add(shard, w.key());
  }
  to.accepted_aside.fetch_add(1, std::memory_order_relaxed);  // relaxed: a statistic; before it can be released
  wait_locked(shard, *entry, to, w);
  if (is_new) {
    key_list<Sync> fresh;
    fresh.push_back(*entry);
    then = queue_locked(shard, fresh);
  }
  return true;
}

template <class Sync>
void basic_keys<Sync>::wait_locked(key_shard& shard, key_entry& entry, account& to, work& w) noexcept {
  to.pool.handles.move(work_access::slot(w), w, place::key, &entry, shard.domain, w.key());
  work_access::set_entry(w, &entry);
  entry.waiting.push_back(w, false);  // looked at when it is taken: it may have a handle, or be another account's
  to.crowd.add_keyed(1);
}

template <class Sync>
auto basic_keys<Sync>::move_to_keys(key_table& table) noexcept -> decision_due {
  decision_due due;
  if (table.take_inbox() != 0) {
    table.for_each_arrived([&](key_shard& shard, forward_fifo& some) SLUICE_NO_THREAD_SAFETY_ANALYSIS {  // holds order
      enter_arrived(table, shard, some, due);
    });
  }
  return due;
}

// Works of one shard that came through the inbox, so all of one account, the table's owner, which may be another pool's.
template <class Sync>
void basic_keys<Sync>::enter_arrived(key_table& table, key_shard& shard, forward_fifo& some,
                                     decision_due& due) noexcept {
  account& to = numbers::account_of(*some.front());
  key_list<Sync> fresh;
  std::uint64_t count = 0;
  const scoped_lock held(shard.lock);
  while (work* const w = some.pop_front()) {
    const std::uint64_t key = w->key();
    key_entry* entry = table.find(shard, key);
    if (entry == nullptr) {
      entry = &table.add(shard, key);
      fresh.push_back(*entry);
    }
    const std::uint32_t index = work_access::slot(*w);
    to.pool.handles.move(index, *w, place::key, entry, shard.domain, key);
    work_access::set_entry(*w, entry);
    entry->waiting.push_back(*w, index == 0 && w->link() == nullptr);
    ++count;
  }
  to.crowd.add_keyed(count);
  // relaxed: a statistic. Here and not for each submit, of which there are more; before the works can be released.
  to.accepted_aside.fetch_add(count, std::memory_order_relaxed);
  if (fresh.empty()) {
    return;
  }
  for (key_entry* entry = fresh.front(); entry != nullptr; entry = key_list<Sync>::after(*entry)) {
    entry->state = key_state::queued;
    entry->queued_on = &to;
  }
  if (due.at == nullptr) {
    due = due_for(to);
  }
  const scoped_lock to_held(to.lock);
  to.list_keys_locked(fresh);
}

template <class Sync>
auto basic_keys<Sync>::queue_locked(key_shard& shard, key_list<Sync>& some) noexcept -> plan {
  account& to = numbers::account_of(*some.front()->waiting.front());
  need why = need::any;
  for (key_entry* entry = some.front(); entry != nullptr; entry = key_list<Sync>::after(*entry)) {
    SLUICE_DCHECK(entry->shard == &shard && entry->state == key_state::busy, "a key is queued by its owner");
    entry->state = key_state::queued;
    entry->queued_on = &to;
    why = has(entry->waiting.front()->flags(), work_flags::concurrent) ? need::another : why;
  }
  const decision_due due = due_for(to);
  plan next;
  {
    const scoped_lock held(to.lock);
    to.list_keys_locked(some);
    next = to.pool.growth.decide_locked(to, why);
  }
  next.guest = due.guest;
  return next;
}

// The work that is listed has a pass of its pool's gate, and cannot leave while the caller's lock is held.
template <class Sync>
auto basic_keys<Sync>::due_for(account& to) noexcept -> decision_due {
  const bool guest = &to.pool != &pool_;
  if (guest) {
    to.pool.life.gate.enter_beside();
  }
  return {.at = &to, .guest = guest};
}

template <class Sync>
auto basic_keys<Sync>::relist_locked(key_shard& shard, key_entry& entry) noexcept -> decision_due {
  if (entry.state == key_state::busy) {
    return {};
  }
  account& was_on = *entry.queued_on;
  const bool empty = entry.waiting.empty();
  if (!empty && &numbers::account_of(*entry.waiting.front()) == &was_on) {
    return {};
  }
  {
    const scoped_lock held(was_on.lock);
    if (!entry.in_list) {
      return {};  // claimed: the worker that has it will see what is left
    }
    was_on.unlist_key_locked(entry);
  }
  if (empty) {
    return {.garbage = shard.table->erase(shard, entry)};
  }
  account& to = numbers::account_of(*entry.waiting.front());
  entry.queued_on = &to;
  key_list<Sync> one;
  one.push_back(entry);
  const decision_due due = due_for(to);
  const scoped_lock held(to.lock);
  to.list_keys_locked(one);
  return due;
}

template <class Sync>
void basic_keys<Sync>::look_into_tables(account& at) noexcept {
  for (std::uint64_t turns = at.tables_listed(); turns != 0; --turns) {
    key_table* table = nullptr;
    {
      const scoped_lock held(at.lock);
      table = at.next_table_locked();
      if (table == nullptr) {
        return;
      }
      table->visitors.fetch_add(1, std::memory_order_relaxed);  // relaxed: under the owner's lock
    }
    bool was_empty = false;
    decision_due due;
    {
      const scoped_lock held(table->order);
      was_empty = table->inbox.empty();
      due = move_to_keys(*table);
    }
    pool_.growth.settle(due);
    provide(*table);
    if (was_empty) {
      const scoped_lock held(at.lock);
      at.unlist_table_locked(*table);
    }
    table->visitors.fetch_sub(1, std::memory_order_release);  // release: pairs with disown()
  }
}

template <class Sync>
bool basic_keys<Sync>::take_run(worker& self, account& from, key_entry& entry, std::size_t most) noexcept {
  plan next;
  key_entry* garbage = nullptr;
  key_shard& shard = *entry.shard;
  {
    const scoped_lock held(shard.lock);
    if (entry.waiting.empty()) {
      garbage = shard.table->erase(shard, entry);
    } else if (&numbers::account_of(*entry.waiting.front()) == &from) {
      entry.state = key_state::busy;  // H5: from here to end_run()
      entry.queued_on = nullptr;
      // Held from the first slot on: a thread that reads there that this worker has the work must find it here.
      const scoped_lock self_held(self.lock);
      work* last = nullptr;
      std::size_t n = most == key_fifo::batch ? entry.waiting.take_batch(self.batch) : 0;
      for (work* w = n == 0 ? entry.waiting.front() : nullptr; w != nullptr && &numbers::account_of(*w) == &from;) {
        from.pool.handles.move(work_access::slot(*w), *w, place::worker, &self);
        last = w;
        w = work_fifo::after(*w);
        // What is linked runs right after its head, and the key is not to wait for it.
        if (++n == most || last->link() != nullptr) {
          break;
        }
      }
      if (last != nullptr) {
        entry.waiting.split(n, *last, self.batch);
      }
      self.run_of = &entry;
      // seq_cst: partner of the sampler, which clears its flag and then looks into batches.
      self.in_batch.store(static_cast<std::uint32_t>(n), std::memory_order_seq_cst);
      from.crowd.sub_keyed(n);
      return true;
    } else {
      entry.state = key_state::busy;  // claimed, so it is this thread's to move
      key_list<Sync> one;
      one.push_back(entry);
      next = queue_locked(shard, one);
    }
  }
  key_table::give_back(garbage);
  pool_.growth.perform(next);
  return false;
}

template <class Sync>
void basic_keys<Sync>::end_run(worker& self) noexcept {
  key_entry* entry = nullptr;
  {
    const scoped_lock held(self.lock);
    entry = std::exchange(self.run_of, nullptr);
  }
  if (entry == nullptr) {
    return;
  }
  plan next;
  key_entry* garbage = nullptr;
  {
    key_shard& shard = *entry->shard;
    const scoped_lock held(shard.lock);
    if (entry->waiting.empty()) {
      garbage = shard.table->erase(shard, *entry);
    } else {
      key_list<Sync> one;
      one.push_back(*entry);
      next = queue_locked(shard, one);
    }
  }
  key_table::give_back(garbage);
  pool_.growth.perform(next);
}

template <class Sync>
void basic_keys<Sync>::put_back_run(worker& self) noexcept {
  key_entry* entry = nullptr;
  {
    const scoped_lock held(self.lock);
    entry = self.run_of;
  }
  if (entry == nullptr) {
    return;
  }
  const scoped_lock held(entry->shard->lock);
  const scoped_lock self_held(self.lock);
  for (work* w = self.batch.front(); w != nullptr; w = work_fifo::after(*w)) {
    pool_.handles.move(work_access::slot(*w), *w, place::key, entry, entry->shard->domain, entry->key);
    numbers::account_of(*w).crowd.add_keyed(1);
  }
  entry->waiting.prepend(self.batch);
  self.publish_batch_size();
}

template <class Sync>
int basic_keys<Sync>::promise_rest(work& head) noexcept {
  for (work* w = head.link(); w != nullptr; w = w->link()) {
    if (!w->keyed()) {
      continue;
    }
    if (!traits::table(*w->domain()).promise()) {
      for (work* done = head.link(); done != w; done = done->link()) {
        take_back_promise(*done);
      }
      return ENOMEM;
    }
    work_access::set_entry_promised(*w, true);
  }
  return 0;
}

}  // namespace sluice::detail
