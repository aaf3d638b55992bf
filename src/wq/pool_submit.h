// pool_submit: admission, publication, and the choice of who is to run it.
#pragma once

#include <algorithm>
#include <bit>
#include <new>

#include "pool.h"

namespace sluice::detail {

template <class Sync>
result<void> basic_pool<Sync>::submit(work& head, work_handle* handle) noexcept {
  const int err = try_submit(head, handle);
  if (err == 0) [[likely]] {
    return {};
  }
  return not_at_once(head, handle, err);
}

// What a submit that met with `err` comes to.
template <class Sync>
result<void> basic_pool<Sync>::not_at_once(work& head, work_handle* handle, int err) noexcept {
  if (err == EAGAIN && options_.full == when_full::wait) {
    err = wait_for_room(head, handle);
  }
  if (err == 0) {
    return {};
  }
  local(head.cls()).refused.fetch_add(1, std::memory_order_relaxed);  // relaxed: a statistic
  return fail(err);
}

// Runs of plain works of one class are published with one exchange and one wake.
template <class Sync>
result<std::size_t> basic_pool<Sync>::submit(std::span<work* const> works) noexcept {
  std::size_t accepted = 0;
  const auto plain = [](const work& w) {
    return !w.keyed() && w.link() == nullptr && !work_access::timed(w) && w.ops() != nullptr;
  };
  while (accepted < works.size()) {
    const work& first = *works[accepted];
    std::size_t n = 0;
    const std::size_t most = std::min(works.size() - accepted, basic_inbox<Sync>::capacity);
    while (n < most && plain(*works[accepted + n]) && works[accepted + n]->cls() == first.cls()) {
      ++n;
    }
    n = std::min(n, room(first.cls()));
    if (n > 1 && submit_singles(local(first.cls()), works.subspan(accepted, n)) == 0) {
      accepted += n;
      continue;
    }
    if (first.keyed()) {
      n = submit_keyed(local(first.cls()), works.subspan(accepted, most));
      if (n != 0) {
        accepted += n;
        continue;
      }
    }
    if (const result<void> one = submit(*works[accepted], nullptr); !one) {
      return accepted != 0 ? result<std::size_t>(accepted) : std::unexpected(one.error());
    }
    ++accepted;
  }
  return accepted;
}

// As many of the first works as go through the inbox of their domain together. Returns 0 if they cannot.
template <class Sync>
template <std::size_t Extent>
std::size_t basic_pool<Sync>::submit_keyed(account& to, std::span<work* const, Extent> works) noexcept {
  const work& first = *works.front();
  // Before its domain is asked for: one that waits may name something else there.
  SLUICE_CHECK(work_access::state(first) == work_state::idle, "submitted twice");
  key_table& table = traits::table(*first.domain());
  std::size_t n = 0;
  while (n < works.size() && works[n]->domain() == first.domain() && works[n]->cls() == first.cls() &&
         works[n]->link() == nullptr && !work_access::timed(*works[n]) && works[n]->ops() != nullptr &&
         goes_through_inbox(to, table, works[n]->flags())) {
    ++n;
  }
  const std::size_t aside = table.inbox.size();
  const std::size_t free = room(to.cls);
  n = std::min(n, free - std::min(free, aside));
  if (n == 0 || !hold_domain(*first.domain()) || !door_.try_enter(static_cast<std::int64_t>(n))) {
    return 0;
  }
  put_keyed(to, table, *link_newest_first(to, 0, std::span<work* const>(works.data(), n)), *works.front(), n);
  return n;
}

// Marks works as accepted and links them as an inbox has them. Returns the newest.
template <class Sync>
work* basic_pool<Sync>::link_newest_first(account& to, unsigned lane, std::span<work* const> works) noexcept {
  work* newest = nullptr;
  for (work* const w : works) {
    SLUICE_CHECK(work_access::state(*w) == work_state::idle, "submitted twice");
    work_access::accept(*w, lane);
    work_access::home(*w) = to.home;
    work_access::next(*w) = newest;
    newest = w;
  }
  return newest;
}

// Returns an errno; the work is untouched unless it is 0 (W6).
template <class Sync>
int basic_pool<Sync>::try_submit(work& head, work_handle* handle) noexcept {
  SLUICE_CHECK(head.ops() != nullptr, "a work needs its functions");
  account& to = local(head.cls());
  work* const one = &head;
  const bool plain = head.link() == nullptr && handle == nullptr && !work_access::timed(head);
  if (plain && !head.keyed()) {
    return submit_singles(to, std::span<work* const, 1>(&one, 1));
  }
  if (plain && submit_keyed(to, std::span<work* const, 1>(&one, 1)) == 1) {
    return 0;
  }
  return submit_chain(to, head, handle);
}

// How many more works of the class may be queued. Works submitted at the same moment may overshoot it by their number.
template <class Sync>
std::size_t basic_pool<Sync>::room(work_class cls) noexcept {
  const bool plenty = std::ranges::none_of(accounts_, [cls](const auto& both) {
    // relaxed: works submitted at the same moment may overshoot.
    return both[std::to_underlying(cls)]->crowded.load(std::memory_order_relaxed);
  });
  if (plenty) [[likely]] {
    return options_.queue_limit / 2;
  }
  return exact_room(cls);
}

template <class Sync>
std::size_t basic_pool<Sync>::exact_room(work_class cls) noexcept {
  std::size_t queued = 0;
  for (auto& both : accounts_) {
    queued += both[std::to_underlying(cls)]->pending();
  }
  return queued < options_.queue_limit ? options_.queue_limit - queued : 0;
}

template <class Sync>
template <std::size_t Extent>
int basic_pool<Sync>::submit_singles(account& to, std::span<work* const, Extent> works) noexcept {
  const std::size_t n = works.size();
  if (!door_.try_enter(static_cast<std::int64_t>(n))) {
    return ESHUTDOWN;  // X3
  }
  if (room(to.cls) < n) {
    door_.leave(static_cast<std::int64_t>(n));
    return EAGAIN;
  }
  bool another = false;
  bool graded = false;
  for (const work* const w : works) {
    another |= has(w->flags(), work_flags::concurrent);
    graded |= graded_list::graded(*w);
  }
  if (graded) [[unlikely]] {
    to.expect_grades();
  }
  const unsigned lane = lane_here(to);
  work* const newest = link_newest_first(to, lane, works);
  while (!to.inboxes.put(lane, *newest, *works.front(), n)) {
    const scoped_lock held(to.lock);
    to.take_inbox(lane);
  }
  after_put(to, another, n);  // W3: the works may be gone
  return 0;
}

// All of one lane, and so in submit order whichever core they come from, unless works are quick and the class may have
// several workers.
template <class Sync>
unsigned basic_pool<Sync>::lane_here(const account& to) noexcept {
  const bool lanes = to.quick.load(std::memory_order_relaxed) &&  // relaxed, both: read by itself
                     limits(to.cls).max.load(std::memory_order_relaxed) != 1;
  return lanes ? traits::core() & lane_mask_ : 0;
}

template <class Sync>
void basic_pool<Sync>::after_put(account& to, bool another, std::size_t came) noexcept {
  // seq_cst: partner of the decrement in idle() and enter_region(), see account.h.
  if ((another || to.running.load(std::memory_order_seq_cst) == 0) && !saturated(to.cls)) {
    start_worker(to, another, came);
  } else {
    ensure_ticking();
  }
}

// All workers that the class may have are there and none is free: they block, and who comes back will look for work. seq_cst
// throughout: a worker is on its free list before it stops running, and off the count before its last look, so whoever
// reads this after a put does not miss the one that missed the put.
template <class Sync>
bool basic_pool<Sync>::saturated(work_class cls) noexcept {
  class_limits& of = limits(cls);
  if (there(of.workers.load(std::memory_order_seq_cst)) < of.max.load(std::memory_order_seq_cst)) {
    return false;
  }
  return std::ranges::all_of(accounts_, [cls](const auto& both) {
    return both[std::to_underlying(cls)]->free_listed.load(std::memory_order_seq_cst) == 0;
  });
}

template <class Sync>
auto basic_pool<Sync>::facts_of(const work& head) noexcept -> chain_facts {
  chain_facts chain;
  for (const work* w = &head; w != nullptr; w = w->link()) {
    SLUICE_CHECK(work_access::state(*w) == work_state::idle, "submitted twice");
    SLUICE_CHECK(w->ops() != nullptr, "a work needs its functions");
    ++chain.members[std::to_underlying(w->cls())];
    ++chain.all;
    chain.timed += work_access::timed(*w) ? 1U : 0U;
  }
  return chain;
}

template <class Sync>
void basic_pool<Sync>::mark_chain(work& head, work_state state) noexcept {
  for (work* w = &head; w != nullptr; w = w->link()) {
    work_access::set_state(*w, state);
  }
}

// What may fail: room, counts of the domains, a slot (its index, or 0), a timer for each deadline. Nothing of the works
// changes.
template <class Sync>
int basic_pool<Sync>::admit_chain(account& to, const work& head, bool tracked, std::uint32_t timed,
                                  std::uint32_t& index) noexcept {
  // Works in a table's inbox are counted in no account yet.
  const std::size_t aside = head.keyed() ? traits::table(*head.domain()).inbox.size() : 0;
  if (room(to.cls) <= aside) {
    return EAGAIN;
  }
  if (!hold_domains(head)) {
    return ENOMEM;
  }
  if (!tracked && timed == 0) {
    return 0;
  }
  index = slots_.take();
  if (index != 0 && timed != 0 && !reserve_timers(timed)) {
    slots_.give_back(std::exchange(index, 0));
  }
  return index != 0 ? 0 : ENOMEM;
}

// Everything that can fail comes before anything that changes the works (W6).
template <class Sync>
int basic_pool<Sync>::submit_chain(account& to, work& head, work_handle* handle) noexcept {
  chain_facts chain = facts_of(head);
  if (!door_.try_enter(chain.all)) {
    return ESHUTDOWN;
  }
  const bool timed = work_access::timed(head);
  const steady_time deadline = timed ? work_access::deadline(head) : no_deadline;
  std::uint32_t index = 0;
  int err = admit_chain(to, head, handle != nullptr, chain.timed, index);
  if (err != 0) {
    door_.leave(chain.all);
    return err;
  }
  const work_handle name(index, index != 0 ? slots_.at(index).generation : 0);
  mark_chain(head, work_state::accepted);
  work_access::slot(head) = index;
  work_access::home(head) = to.home;
  work_access::set_timed(head, false);
  const bool keyed = head.keyed();
  --chain.members[std::to_underlying(to.cls)];  // the head is counted when it is taken out of the inbox
  count_accepted(to.node, chain, 1);
  if (keyed) {
    err = publish_keyed(to, head, index);
  } else {
    set_slot(index, head, slot_place::account, &to);
    put_single(to, head);
  }
  if (err == 0) {  // the works may be gone
    if (handle != nullptr) {
      *handle = name;
    }
    if (timed) {
      add_timer({deadline, name, &head});
    }
    return 0;
  }
  count_accepted(to.node, chain, -1);
  mark_chain(head, work_state::idle);
  work_access::slot(head) = 0;
  if (index != 0) {
    slots_.give_back(index);
  }
  unreserve_timers(chain.timed);
  if (timed) {
    work_access::set_timed(head, true);
    work_access::put_deadline(head, deadline);
  }
  door_.leave(chain.all);
  return err;
}

template <class Sync>
void basic_pool<Sync>::count_accepted(unsigned node, const chain_facts& chain, int sign) noexcept {
  for (std::size_t cls = 0; cls < work_classes; ++cls) {
    if (chain.members[cls] != 0) {
      const std::uint64_t n = sign > 0 ? chain.members[cls] : 0 - std::uint64_t{chain.members[cls]};
      accounts_[node][cls]->accepted_aside.fetch_add(n, std::memory_order_relaxed);  // relaxed: a statistic
    }
  }
}

template <class Sync>
void basic_pool<Sync>::put_single(account& to, work& w) noexcept {
  const bool another = has(w.flags(), work_flags::concurrent);
  if (graded_list::graded(w)) {
    to.expect_grades();
  }
  const unsigned lane = lane_here(to);
  work_access::accept(w, lane);
  while (!to.inboxes.put(lane, w, w, 1)) {
    const scoped_lock held(to.lock);
    to.take_inbox(lane);
  }
  after_put(to, another, 1);
}

// Returns ENOMEM, and nothing has changed.
template <class Sync>
int basic_pool<Sync>::publish_keyed(account& to, work& head, std::uint32_t index) noexcept {
  hash_domain& domain = *head.domain();
  key_table& table = traits::table(domain);
  if (goes_through_inbox(to, table, head.flags())) {
    set_slot(index, head, slot_place::key, nullptr, &domain, head.key());
    put_keyed(to, table, head, head, 1);
    return 0;
  }
  plan next;
  {
    const scoped_lock held(table.order);
    move_to_keys(table);
    to.accepted_aside.fetch_add(1, std::memory_order_relaxed);  // relaxed: a statistic; before it can be released
    if (!enter_key(table, to, head, index, next)) {
      to.accepted_aside.fetch_sub(1, std::memory_order_relaxed);
      return ENOMEM;
    }
  }
  perform(next);
  return 0;
}

// The first to use a table owns it.
template <class Sync>
bool basic_pool<Sync>::goes_through_inbox(account& to, key_table& table, work_flags flags) noexcept {
  account* owner = table.owner.load(std::memory_order_relaxed);  // relaxed: compared, not looked into
  if (owner == nullptr) [[unlikely]] {
    // acquire: pairs with disown(), the table's hooks are ours from here.
    table.owner.compare_exchange_strong(owner, &to, std::memory_order_acquire, std::memory_order_relaxed);
    owner = table.owner.load(std::memory_order_relaxed);
  }
  return owner == &to && !has(flags, work_flags::concurrent);
}

// Works that are linked newest → … → oldest, all of one domain, which `to` owns.
template <class Sync>
void basic_pool<Sync>::put_keyed(account& to, key_table& table, work& newest, work& oldest, std::size_t n) noexcept {
  while (!table.inbox.put(newest, oldest, n)) [[unlikely]] {
    make_place(table);
  }
  if (!table.noticed.load(std::memory_order_seq_cst)) [[unlikely]] {  // seq_cst: partner of unlist_table()
    notice(to, table);
  }
  // seq_cst: listed first; who stops running looks for tables after that.
  if (to.running.load(std::memory_order_seq_cst) != 0) [[likely]] {
    ensure_ticking();
  } else {
    start_for_tables(to, n);
  }
}

template <class Sync>
void basic_pool<Sync>::make_place(key_table& table) noexcept {
  const scoped_lock held(table.order);
  move_to_keys(table);
}

template <class Sync>
void basic_pool<Sync>::notice(account& to, key_table& table) noexcept {
  const scoped_lock held(to.lock);
  to.list_table(table);
}

template <class Sync>
void basic_pool<Sync>::start_for_tables(account& to, std::size_t n) noexcept {
  if (saturated(to.cls)) {
    ensure_ticking();
  } else if (const plan next = choose_for_tables(to, n); next.chosen != nullptr) {
    perform(next);
  } else {
    start_worker(to, false, n);
  }
}

// While no worker is blocked no key of this account waits for one: what came can run, and who is woken finds out himself
// how. Else a look decides whether there is anything to run.
template <class Sync>
auto basic_pool<Sync>::choose_for_tables(account& at, std::size_t came) noexcept -> plan {
  const scoped_lock held(at.lock);
  plan out{.at = &at};
  if (at.running.load(std::memory_order_seq_cst) == 0 && at.free_workers.size() == at.workers.size()) {
    out.chosen = wake_free_locked(at, came);
  }
  return out;
}

// Enters the key's waiting works, in the order of the calls (H2). Returns false if there is no memory. `to` may be
// another pool's, which may end as soon as the shard's lock is gone: queue_keys_locked() of this pool sees to that.
template <class Sync>
bool basic_pool<Sync>::enter_key(key_table& table, account& to, work& w, std::uint32_t index, plan& then) noexcept {
  key_shard& shard = table.shard_of(w.key());
  const scoped_lock held(shard.lock);
  key_entry* entry = key_table::find(shard, w.key());
  key_list<Sync> fresh;
  if (entry == nullptr) {
    if (!key_table::provide(shard)) {
      return false;
    }
    entry = &key_table::add(shard, w.key());  // nobody else adds one meanwhile: that needs the table's order
    fresh.push_back(*entry);
  }
  work_access::slot(w) = index;
  wait_for_key_locked(shard, *entry, to, w);
  if (!fresh.empty()) {
    then = queue_keys_locked(shard, fresh);
  }
  return true;
}

template <class Sync>
void basic_pool<Sync>::wait_for_key_locked(key_shard& shard, key_entry& entry, account& to, work& w) noexcept {
  to.pool.set_slot(work_access::slot(w), w, slot_place::key, &entry, shard.domain, w.key());
  work_access::set_entry(w, &entry);
  entry.waiting.push_back(w, false);
  to.add_keyed(1);
}

// What the table's inbox holds goes to its keys.
template <class Sync>
void basic_pool<Sync>::move_to_keys(key_table& table) noexcept {
  std::size_t count = 0;
  if (work* const newest = table.inbox.take_newest_seen(count); newest != nullptr) {
    // relaxed: a statistic. Here and not for each submit, of which there are more.
    numbers::account_of(*newest).accepted_aside.fetch_add(count, std::memory_order_relaxed);
    table.sort(newest);
  }
  bool starved = false;
  for (std::uint32_t left = table.arrived_in; left != 0; left &= left - 1) {
    const auto in = static_cast<std::size_t>(std::countr_zero(left));
    plan next;
    const bool all = enter_arrived(table.shards()[in], table.arrived[in], next);
    if (all) {
      table.arrived_in &= ~(1U << in);
    }
    starved |= !all;
    perform(next);
  }
  if (starved != table.starved.load(std::memory_order_relaxed)) {  // relaxed: written under `order`
    table.starved.store(starved, std::memory_order_seq_cst);       // seq_cst: partner of key_ended()
  }
}

// Works of one shard that came through the inbox, so all of one account. Returns whether there was memory for all.
template <class Sync>
bool basic_pool<Sync>::enter_arrived(key_shard& shard, work_chain& some, plan& then) noexcept {
  account& to = numbers::account_of(*some.front());
  key_list<Sync> fresh;
  std::uint64_t uncounted = 0;
  const auto count = [&] { to.add_keyed(std::exchange(uncounted, 0)); };
  const scoped_lock held(shard.lock);
  while (work* const w = some.front()) {
    const std::uint64_t key = w->key();
    key_entry* entry = key_table::find(shard, key);
    if (entry == nullptr) {
      if (!key_table::provided(shard)) {
        count();  // the lock is let go for memory: from then on others may take what is here
      }
      if (!key_table::provide_at_any_rate(shard)) {
        break;
      }
      entry = &key_table::add(shard, key);
      fresh.push_back(*entry);
    }
    static_cast<void>(some.pop_front());
    to.pool.set_slot(work_access::slot(*w), *w, slot_place::key, entry, shard.domain, key);
    work_access::set_entry(*w, entry);
    entry->waiting.push_back(*w, work_access::slot(*w) == 0 && w->link() == nullptr);
    ++uncounted;
  }
  count();
  const bool all = some.empty();
  if (!fresh.empty()) {
    then = queue_keys_locked(shard, fresh);
  }
  return all;
}

// A key has ended, and with it somebody may get the memory that he lacked.
template <class Sync>
void basic_pool<Sync>::key_ended(key_table& table) noexcept {
  if (table.starved.load(std::memory_order_seq_cst)) {
    const scoped_lock held(table.order);
    move_to_keys(table);
  }
}

// One turn for each table that is listed; those that stay so have works that came meanwhile.
template <class Sync>
void basic_pool<Sync>::look_into_tables(account& at) noexcept {
  for (std::uint64_t turns = at.tables_listed.load(std::memory_order_seq_cst); turns != 0; --turns) {
    key_table* table = nullptr;
    {
      const scoped_lock held(at.lock);
      table = at.next_table();
    }
    if (table == nullptr) {
      return;
    }
    bool was_empty = false;
    {
      const scoped_lock held(table->order);
      was_empty = table->inbox.empty();
      move_to_keys(*table);
    }
    if (was_empty) {
      const scoped_lock held(at.lock);
      at.unlist_table(*table);
    }
  }
}

template <class Sync>
bool basic_pool<Sync>::hold_domains(const work& head) noexcept {
  for (const work* w = &head; w != nullptr; w = w->link()) {
    if (w->keyed() && !hold_domain(*w->domain())) {
      return false;
    }
  }
  return true;
}

template <class Sync>
bool basic_pool<Sync>::hold_domain(hash_domain& domain) noexcept {
  atomic<hash_domain*>& cached =
      domain_cache_[reinterpret_cast<std::uintptr_t>(&domain) / alignof(std::max_align_t) % cached_domains];
  if (cached.load(std::memory_order_acquire) == &domain) [[likely]] {  // acquire: pairs with the store below
    return true;
  }
  return hold_another(domain, cached);
}

template <class Sync>
bool basic_pool<Sync>::hold_another(hash_domain& domain, atomic<hash_domain*>& cached) noexcept {
  try {
    const scoped_lock held(domain_lock_);
    if (domains_.insert(&domain).second) {
      traits::hold(domain);
    }
  } catch (const std::bad_alloc&) {
    return false;
  }
  cached.store(&domain, std::memory_order_release);
  return true;
}

// A submit that finds the queue full under when_full::wait.
template <class Sync>
int basic_pool<Sync>::wait_for_room(work& head, work_handle* handle) noexcept {
  if (inside()) {
    return EDEADLK;  // the room it would wait for is what this thread alone may be able to make
  }
  class_limits& of = limits(head.cls());
  const steady_time until = deadline_after(clock_.now(), options_.full_wait);
  of.room_waiters.fetch_add(1, std::memory_order_seq_cst);  // seq_cst: partner of made_room()
  int err = EAGAIN;
  for (bool late = false;;) {
    const std::uint32_t seen = of.room_word.load(std::memory_order_acquire);
    err = try_submit(head, handle);
    if (err != EAGAIN) {
      break;
    }
    if (late) {
      err = ETIMEDOUT;
      break;
    }
    late = !Sync::wait(of.room_word, seen, until);
  }
  of.room_waiters.fetch_sub(1, std::memory_order_relaxed);  // relaxed: a wake too many harms nobody
  return err;
}

template <class Sync>
void basic_pool<Sync>::made_room(work_class cls) noexcept {
  if (options_.full != when_full::wait) {
    return;
  }
  class_limits& of = limits(cls);
  // seq_cst: the queue's new size came first; a waiter counts itself first and then looks at the size.
  if (of.room_waiters.load(std::memory_order_seq_cst) != 0) {
    of.room_word.fetch_add(1, std::memory_order_release);
    Sync::wake(of.room_word, wake_all);
  }
}

// One that is free, else one that may be created: if there is something to do and nobody is at it.
template <class Sync>
auto basic_pool<Sync>::choose_locked(account& at, bool another, std::size_t came) noexcept -> plan {
  plan out{.at = &at};
  if (at.nothing_to_run()) {
    return out;
  }
  // seq_cst: see account.h.
  if (!another && at.running.load(std::memory_order_seq_cst) != 0) {
    out.tick = true;
    return out;
  }
  out.chosen = wake_free_locked(at, came);
  if (out.chosen != nullptr) {
    return out;
  }
  if (exiting_.load(std::memory_order_relaxed)) {  // relaxed: set before the last look of every worker
    return out;
  }
  out.tick = true;
  if (at.back_off.count() != 0 && at.retry_at > clock_.now()) {
    out.rescue = true;
  } else if (reserve_worker(at.cls)) {
    at.running.fetch_add(1, std::memory_order_seq_cst);
    ++at.spawns;
    out.spawn = true;
  } else {
    out.elsewhere = accounts_.size() > 1;
  }
  return out;
}

// Chooses the one that went idle last: its caches are warm. When many works came at once, one that will not take the
// submitter's own core from it is worth more. It counts as running from here; the caller wakes it.
template <class Sync>
auto basic_pool<Sync>::wake_free_locked(account& at, std::size_t came) noexcept -> worker* {
  worker* free = came >= traits::stream ? free_elsewhere_locked(at) : nullptr;
  free = free != nullptr ? free : at.free_workers.front();
  if (free != nullptr) {
    choose_free_locked(at, *free);
  }
  return free;
}

template <class Sync>
void basic_pool<Sync>::choose_free_locked(account& at, worker& one) noexcept {
  at.unlist_free(one);
  one.set_mode(worker_mode::busy);
  one.woken_from = traits::core();
  one.woken_at.store(clock_.now().time_since_epoch().count(), std::memory_order_relaxed);  // read after the wake
  at.running.fetch_add(1, std::memory_order_seq_cst);
}

// One that went to sleep on another core than this. The system wakes a thread where it slept, or where its waker is.
template <class Sync>
auto basic_pool<Sync>::free_elsewhere_locked(account& at) noexcept -> worker* {
  const std::uint32_t here = traits::core();
  worker* one = at.free_workers.front();
  for (unsigned looks = 1; one != nullptr && one->slept_on == here; ++looks) {
    one = looks < most_looked_at ? at.free_workers.after(*one) : nullptr;
  }
  return one;
}

// Reserved here, created by the manager, given back there if that fails (P1).
template <class Sync>
bool basic_pool<Sync>::reserve_worker(work_class cls) noexcept {
  class_limits& of = limits(cls);
  std::uint64_t seen = of.workers.load(std::memory_order_relaxed);  // relaxed: only a guess for the exchange
  do {
    if (there(seen) >= of.max.load(std::memory_order_relaxed)) {
      return false;
    }
    // seq_cst: as in saturated().
  } while (!of.workers.compare_exchange_weak(seen, seen + 1, std::memory_order_seq_cst, std::memory_order_relaxed));
  return true;
}

// The keys have works and nobody owns them: into the queue of their first works, which are all of one account.
template <class Sync>
auto basic_pool<Sync>::queue_keys_locked(key_shard& shard, key_list<Sync>& some) noexcept -> plan {
  account* to = nullptr;
  bool another = false;
  for (key_entry* entry = some.front(); entry != nullptr;) {
    key_entry* const behind = key_list<Sync>::after(*entry);
    SLUICE_DCHECK(entry->shard == &shard && entry->state == key_state::busy, "a key is queued by who owns it");
    if (entry->waiting.empty()) {  // cancelled, while the lock was let go for memory
      some.remove(*entry);
      key_table::erase(shard, *entry);
    } else {
      to = &numbers::account_of(*entry->waiting.front());
      entry->state = key_state::queued;
      entry->queued_on = to;
      another |= has(entry->waiting.front()->flags(), work_flags::concurrent);
    }
    entry = behind;
  }
  plan next;
  if (to == nullptr) {
    return next;
  }
  {
    const scoped_lock held(to->lock);
    to->list_keys(some);
    next = to->pool.choose_locked(*to, another);
  }
  if (&to->pool == this) {
    return next;
  }
  // The other pool lives while its work waits, and that cannot be run before we let go of the shard.
  perform(next);
  return {};
}

template <class Sync>
auto basic_pool<Sync>::queue_key_locked(key_shard& shard, key_entry& entry) noexcept -> plan {
  key_list<Sync> one;
  one.push_back(entry);
  return queue_keys_locked(shard, one);
}

template <class Sync>
void basic_pool<Sync>::start_worker(account& at, bool another, std::size_t came) noexcept {
  look_into_tables(at);
  plan next;
  {
    const scoped_lock held(at.lock);
    next = choose_locked(at, another, came);
  }
  perform(next);
}

// `at` may belong to another pool: a key's next work is that pool's to run.
template <class Sync>
void basic_pool<Sync>::perform(const plan& what) noexcept {
  if (what.at == nullptr) {
    return;
  }
  basic_pool& of = what.at->pool;
  if (what.chosen != nullptr) {
    what.chosen->word.wake();
  }
  if (what.spawn) {
    of.manager_word_.wake();
  }
  if (what.rescue) {
    of.rescuer_.word.wake();
  }
  if (what.elsewhere) {
    of.wake_elsewhere(*what.at);
  }
  if (what.tick) {
    of.ensure_ticking();
  }
}

// A worker of another node that is free takes it rather than let it wait.
template <class Sync>
void basic_pool<Sync>::wake_elsewhere(account& at) noexcept {
  for (auto& both : accounts_) {
    account& other = *both[std::to_underlying(at.cls)];
    worker* chosen = nullptr;
    if (&other != &at) {
      const scoped_lock held(other.lock);
      chosen = wake_free_locked(other);
    }
    if (chosen != nullptr) {
      chosen->word.wake();
      return;
    }
  }
}

// The sampler runs while work waits, and not otherwise.
template <class Sync>
void basic_pool<Sync>::ensure_ticking() noexcept {
  // seq_cst: the work was published first; the manager clears the flag first and then looks for work.
  if (!ticking_.load(std::memory_order_seq_cst) && !ticking_.exchange(true, std::memory_order_seq_cst)) {
    manager_word_.wake();
  }
}

}  // namespace sluice::detail
