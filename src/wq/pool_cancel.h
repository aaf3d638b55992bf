// pool_cancel: taking works back: one by its handle, all that match, or those that a predicate chooses.
#pragma once

#include <algorithm>
#include <new>

#include "pool.h"

namespace sluice::detail {

template <class Sync>
bool basic_pool<Sync>::unlist_locked(account& at, work& w) noexcept {
  at.singles.remove(w);
  if (at.marked == &w) {
    at.marked = nullptr;
  }
  at.publish_size();
  return true;
}

template <class Sync>
cancel_result basic_pool<Sync>::cancel(work_handle handle) noexcept {
  std::size_t cancelled = 0;
  return cancel_counted({handle.slot(), handle.generation()}, cancelled);
}

// Reads where the work is, locks that place, and has it if the slot says the same as before; otherwise looks again. Each
// further look means that the work moved: a work moves a bounded number of times. A work leaves one place and reaches the
// next in one hold of a lock, so no look finds it in neither.
template <class Sync>
cancel_result basic_pool<Sync>::cancel_counted(cancel_target target, std::size_t& cancelled) noexcept {
  auto* const named = slots_.find(target.index);
  work* pending = nullptr;
  std::optional<cancel_result> found;
  while (named != nullptr && !found) {
    slot_place place{};
    void* holder = nullptr;
    hash_domain* domain = nullptr;
    std::uint64_t key = 0;
    {
      const scoped_lock held(named->lock);
      if (!target.named_by(*named)) {
        return cancel_result::not_found;
      }
      place = named->place;
      holder = named->holder;
      domain = named->domain;
      key = named->key;
    }
    switch (place) {
      case slot_place::free:
        return cancel_result::not_found;
      case slot_place::ending:
        return cancel_result::running;  // another thread gives it up, and it has not completed yet
      case slot_place::account:
        found = cancel_in_account(*static_cast<account*>(holder), target, pending);
        break;
      case slot_place::key:
        found = cancel_in_key(*domain, key, target, pending);
        break;
      case slot_place::worker:
      case slot_place::between:
        found = cancel_in_worker(*static_cast<worker*>(holder), target, place, pending);
        break;
    }
  }
  if (pending != nullptr) {
    const std::size_t over = give_up(*pending);
    cancelled += over;
    door_.leave(static_cast<std::int64_t>(over));
  }
  return found.value_or(cancel_result::not_found);
}

// A pending work was taken out of its place, by a thread that still holds that place's lock: no other cancel takes it, and
// its handle is good until it has been given up.
template <class Sync>
void basic_pool<Sync>::mark_ending(work& w) noexcept {
  set_slot(work_access::slot(w), w, slot_place::ending, nullptr);
}

template <class Sync>
std::optional<cancel_result> basic_pool<Sync>::cancel_in_account(account& at, cancel_target target,
                                                                 work*& pending) noexcept {
  {
    const scoped_lock held(at.lock);
    at.take_inboxes();
    auto& named = slots_.at(target.index);
    work* item = nullptr;
    {
      const scoped_lock slot_held(named.lock);
      if (!target.named_by(named) || named.place != slot_place::account || named.holder != &at) {
        return std::nullopt;
      }
      item = named.item;
    }
    if (has(item->flags(), work_flags::no_cancel)) {
      return cancel_result::not_found;  // C4
    }
    static_cast<void>(unlist_locked(at, *item));
    mark_ending(*item);
    pending = item;
  }
  made_room(at.cls);
  return cancel_result::cancelled;
}

// A waiting work of the key was taken out. Whoever owns the key does not mind; a queued key may have to move, or go.
template <class Sync>
auto basic_pool<Sync>::key_lost_work_locked(key_shard& shard, key_entry& entry) noexcept -> plan {
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
    was_on.unlist_key(entry);
  }
  entry.state = key_state::busy;  // ours, for a moment
  if (empty) {
    key_table::erase(shard, entry);
    return {};
  }
  return queue_key_locked(shard, entry);
}

template <class Sync>
std::optional<cancel_result> basic_pool<Sync>::cancel_in_key(hash_domain& domain, std::uint64_t key,
                                                             cancel_target target, work*& pending) noexcept {
  key_table& table = traits::table(domain);
  key_shard& shard = table.shard_of(key);
  plan next;
  work_class cls{};
  {
    const scoped_lock order_held(table.order);
    move_to_keys(table);
    const scoped_lock held(shard.lock);
    auto& named = slots_.at(target.index);
    work* item = nullptr;
    key_entry* entry = nullptr;
    {
      const scoped_lock slot_held(named.lock);
      if (!target.named_by(named) || named.place != slot_place::key || named.domain != &domain || named.key != key) {
        return std::nullopt;
      }
      item = named.item;
      entry = static_cast<key_entry*>(named.holder);
    }
    if (has(item->flags(), work_flags::no_cancel)) {
      return cancel_result::not_found;
    }
    cls = item->cls();
    if (entry != nullptr) {
      numbers::account_of(*item).sub_keyed(1);
      entry->waiting.remove(*item);
      work_access::set_key(*item, &domain, key);
      next = key_lost_work_locked(shard, *entry);
    } else {  // there is no memory for its key
      table.take_arrived([item](const work& w) { return &w == item; }, [](work&) {});
    }
    mark_ending(*item);
    pending = item;
  }
  key_ended(table);
  perform(next);
  made_room(cls);
  return cancel_result::cancelled;
}

// Under the lock that a worker needs to end its run: the work that runs now is asked, and no other (C5). It sends no
// signal: a scan holds an account's lock here, and a system call has no place under that. The manager sends it.
template <class Sync>
std::optional<std::stop_source> basic_pool<Sync>::ask_locked(worker& at) noexcept {
  std::optional<std::stop_source> source = at.running.ask_stop();
  if (!std::exchange(at.interrupting, true)) {
    interrupting_.fetch_add(1, std::memory_order_relaxed);  // relaxed: the manager was woken, and looks
    at.send_at = steady_time::min();
    at.send_pause = tick;
  }
  return source;
}

template <class Sync>
std::optional<cancel_result> basic_pool<Sync>::cancel_in_worker(worker& at, cancel_target target, slot_place place,
                                                                work*& pending) noexcept {
  std::optional<std::stop_source> source;
  {
    const scoped_lock held(at.lock);
    auto& named = slots_.at(target.index);
    work* item = nullptr;
    {
      const scoped_lock slot_held(named.lock);
      if (!target.named_by(named) || named.place != place || named.holder != &at) {
        return std::nullopt;
      }
      item = named.item;
    }
    if (place == slot_place::between) {
      if (has(item->flags(), work_flags::no_cancel)) {
        return cancel_result::not_found;  // C4
      }
      at.cut = true;
      return cancel_result::running;
    }
    if (has(item->flags(), work_flags::no_cancel)) {
      return cancel_result::not_found;
    }
    if (at.current != item) {
      at.batch.remove(*item);
      at.in_batch.store(static_cast<std::uint32_t>(at.batch.size()), std::memory_order_relaxed);
      if (at.run_of != nullptr) {
        work_access::set_key(*item, at.run_of->shard->domain, at.run_of->key);
      }
      mark_ending(*item);
      pending = item;
      return cancel_result::cancelled;
    }
    source = ask_locked(at);
    interrupt_locked(at, clock_.now());
  }
  manager_word_.wake();  // it repeats the signal until the work has left
  if (source) {
    const callback_scope scope(traits::callbacks(), this);
    source->request_stop();
  }
  return cancel_result::running;
}

template <class Sync>
work_view basic_pool<Sync>::view_of(const work& w, bool running, hash_domain* domain, std::uint64_t key) noexcept {
  return {&w, w.owner(), domain, domain != nullptr ? key : 0, w.cls(), running, w.ops()};
}

// Takes all waiting works that match out of the tables of the domains that this pool has used.
template <class Sync>
template <class Match>
void basic_pool<Sync>::scan_keys(Match match, work_chain& out) noexcept {
  const scoped_lock domains_held(domain_lock_);
  for (hash_domain* const domain : domains_) {
    key_table& table = traits::table(*domain);
    const scoped_lock order_held(table.order);
    move_to_keys(table);
    table.take_arrived([&](const work& w) { return &numbers::account_of(w).pool == this && match(w); },
                       [&](work& w) {
                         mark_ending(w);
                         out.push_back(w);
                       });
    for (key_shard& shard : table.shards()) {
      const scoped_lock held(shard.lock);
      key_table::for_each(shard, [&](key_entry& entry) SLUICE_NO_THREAD_SAFETY_ANALYSIS {  // for_each holds it
        bool lost = false;
        for (work* w = entry.waiting.front(); w != nullptr;) {
          work* const behind = work_list::after(*w);
          account& of = numbers::account_of(*w);
          if (&of.pool == this && match(*w)) {
            entry.waiting.remove(*w);
            of.sub_keyed(1);
            work_access::set_key(*w, domain, entry.key);
            mark_ending(*w);
            out.push_back(*w);
            lost = true;
          }
          w = behind;
        }
        if (lost) {
          perform(key_lost_work_locked(shard, entry));
        }
      });
    }
    move_to_keys(table);  // what waits for memory may find some now
  }
}

template <class Sync>
template <class Match>
void basic_pool<Sync>::scan_lists(Match match, work_chain& out) noexcept {
  for_each_account([&](account& at) {
    const scoped_lock held(at.lock);
    at.take_inboxes();
    at.singles.for_each([&](work& w) SLUICE_NO_THREAD_SAFETY_ANALYSIS {  // held, above
      if (match(w)) {
        static_cast<void>(unlist_locked(at, w));
        mark_ending(w);
        out.push_back(w);
      }
    });
  });
}

// Returns how many running works were asked to stop.
template <class Sync>
template <class Match>
std::size_t basic_pool<Sync>::scan_workers(Match match, work_chain& out, stop_sources& sources) noexcept {
  std::size_t asked = 0;
  const auto look = [&](worker& one) {
    const scoped_lock held(one.lock);
    for (work* w = one.batch.front(); w != nullptr;) {
      work* const behind = work_list::after(*w);
      if (match(*w)) {
        one.batch.remove(*w);
        if (one.run_of != nullptr) {
          work_access::set_key(*w, one.run_of->shard->domain, one.run_of->key);
        }
        mark_ending(*w);
        out.push_back(*w);
      }
      w = behind;
    }
    one.in_batch.store(static_cast<std::uint32_t>(one.batch.size()), std::memory_order_relaxed);
    if (one.current != nullptr && match(*one.current)) {
      ++asked;
      if (auto source = ask_locked(one)) {
        try {
          sources.push_back(std::move(*source));
        } catch (const std::bad_alloc&) {
          one.ask_due = true;  // the manager asks it
        }
      }
    } else if (one.between != nullptr && match(*one.between)) {
      ++asked;
      one.cut = true;
    }
  };
  for_each_account([&](account& at) {
    const scoped_lock held(at.lock);
    for (worker* one = at.workers.front(); one != nullptr; one = one->next_all) {
      look(*one);
    }
  });
  look(rescuer_);
  return asked;
}

template <class Sync>
cancel_counts basic_pool<Sync>::cancel_scan(scan_take which, std::uint64_t owner) noexcept {
  const auto match = [which, owner](const work& w) {
    return !has(w.flags(), work_flags::no_cancel) && (which == scan_take::all || w.owner() == owner);
  };
  cancel_counts counts;
  work_chain pending;
  stop_sources sources;
  {
    const scoped_lock held(moves_);
    scan_keys(match, pending);
    scan_lists(match, pending);
    counts.running = scan_workers(match, pending, sources);
  }
  if (counts.running != 0) {
    manager_word_.wake();  // it repeats the signals until the works have left
  }
  for (const work_class cls : {work_class::bound, work_class::unbound}) {
    made_room(cls);
  }
  // No lock is held from here: a stop callback, and a run, are the user's code (W2).
  for (std::stop_source& each : sources) {
    const callback_scope scope(traits::callbacks(), this);
    each.request_stop();
  }
  while (work* const w = pending.pop_front()) {
    const std::size_t over = give_up(*w);
    counts.cancelled += over;
    door_.leave(static_cast<std::int64_t>(over));
  }
  return counts;
}

template <class Sync>
cancel_counts basic_pool<Sync>::cancel_owner(std::uint64_t owner) noexcept {
  return cancel_scan(scan_take::owner, owner);
}

template <class Sync>
cancel_counts basic_pool<Sync>::cancel_all() noexcept {
  return cancel_scan(scan_take::all, 0);
}

// Gives a pending or running work a handle, so that it can be meant after the locks are gone. Allocates nothing; `full`
// says that there was no room.
template <class Sync>
void basic_pool<Sync>::note(work& w, const work_view& view, slot_place place, void* holder, std::vector<candidate>& out,
                            bool& full) {
  if (full || has(w.flags(), work_flags::no_cancel)) {
    return;
  }
  std::uint32_t& index = work_access::slot(w);
  const bool fresh = index == 0;
  if (out.size() < out.capacity() && fresh) {
    index = slots_.try_take();
  }
  if (out.size() == out.capacity() || index == 0) {
    full = true;
    return;
  }
  if (fresh) {
    set_slot(index, w, place, holder, const_cast<hash_domain*>(view.domain), view.key);
  }
  out.push_back({view, work_handle(index, slots_.at(index).generation)});
}

template <class Sync>
void basic_pool<Sync>::note_keys(std::vector<candidate>& out, bool& full) noexcept {
  const scoped_lock domains_held(domain_lock_);
  for (hash_domain* const domain : domains_) {
    key_table& table = traits::table(*domain);
    const scoped_lock order_held(table.order);
    move_to_keys(table);
    for (const work_chain& part : table.arrived) {
      for (work* w = part.front(); w != nullptr; w = work_chain::after(*w)) {
        if (&numbers::account_of(*w).pool == this) {
          note(*w, view_of(*w, false, domain, w->key()), slot_place::key, nullptr, out, full);
        }
      }
    }
    for (key_shard& shard : table.shards()) {
      const scoped_lock held(shard.lock);
      key_table::for_each(shard, [&](key_entry& entry) {
        for (work* w = entry.waiting.front(); w != nullptr; w = work_list::after(*w)) {
          if (&numbers::account_of(*w).pool == this) {
            note(*w, view_of(*w, false, domain, entry.key), slot_place::key, &entry, out, full);
            entry.waiting.look_at_each();  // whoever takes it says where it went
          }
        }
      });
    }
  }
}

template <class Sync>
void basic_pool<Sync>::note_workers(std::vector<candidate>& out, bool& full) noexcept {
  const auto look = [&](worker& one) {
    const scoped_lock held(one.lock);
    hash_domain* const domain = one.run_of != nullptr ? one.run_of->shard->domain : nullptr;
    const std::uint64_t key = one.run_of != nullptr ? one.run_of->key : 0;
    for (work* w = one.batch.front(); w != nullptr; w = work_list::after(*w)) {
      note(*w, view_of(*w, false, domain, key), slot_place::worker, &one, out, full);
    }
    if (one.current != nullptr) {
      note(*one.current, view_of(*one.current, true, one.current->domain(), one.current->key()), slot_place::worker,
           &one, out, full);
    }
  };
  for_each_account([&](account& at) {
    const scoped_lock held(at.lock);
    for (worker* one = at.workers.front(); one != nullptr; one = one->next_all) {
      look(*one);
    }
  });
  look(rescuer_);
}

// A work that moved down while the scan went on was met twice.
template <class Sync>
void basic_pool<Sync>::keep_last_of_each(std::vector<candidate>& all) noexcept {
  // Where it ran it was met last: a work goes from pending to running, not back, but for a recall, which waits.
  std::ranges::sort(all, [](const candidate& a, const candidate& b) {
    return a.handle.slot() != b.handle.slot() ? a.handle.slot() < b.handle.slot() : a.view.running && !b.view.running;
  });
  const auto rest = std::ranges::unique(all, {}, [](const candidate& one) { return one.handle.slot(); });
  all.erase(rest.begin(), rest.end());
}

// Returns false if there is no memory.
template <class Sync>
bool basic_pool<Sync>::snapshot(std::vector<candidate>& out) noexcept {
  for (std::size_t wanted = 64;; wanted *= 2) {
    std::size_t seen = wanted;
    for_each_account([&](account& at) {
      const scoped_lock held(at.lock);
      seen += at.pending();
      for (const worker* one = at.workers.front(); one != nullptr; one = one->next_all) {
        seen += 1 + one->in_batch.load(std::memory_order_relaxed);  // relaxed: an estimate
      }
    });
    try {
      out.clear();
      out.reserve(seen);
    } catch (const std::bad_alloc&) {
      return false;
    }
    if (!slots_.reserve(seen)) {
      return false;
    }
    bool full = false;
    const scoped_lock held(moves_);
    note_keys(out, full);
    for_each_account([&](account& at) {
      const scoped_lock at_held(at.lock);
      at.take_inboxes();
      at.singles.for_each([&](work& w) SLUICE_NO_THREAD_SAFETY_ANALYSIS {  // held, above
        note(w, view_of(w, false, nullptr, 0), slot_place::account, &at, out, full);
      });
      at.singles.look_at_each();  // whoever takes them says where they went
    });
    note_workers(out, full);
    if (!full) {
      keep_last_of_each(out);
      return true;
    }
  }
}

template <class Sync>
result<cancel_counts> basic_pool<Sync>::cancel_chosen(bool (*choose)(void*, const work_view&), void* chooser) noexcept {
  std::vector<candidate> candidates;
  if (!snapshot(candidates)) {
    return fail(ENOMEM);
  }
  cancel_counts counts;
  for (const candidate& one : candidates) {
    if (choose(chooser, one.view) &&
        cancel_counted({one.handle.slot(), one.handle.generation()}, counts.cancelled) == cancel_result::running) {
      ++counts.running;
    }
  }
  return counts;
}

}  // namespace sluice::detail
