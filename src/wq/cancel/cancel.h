// cancel: takes works back: one by its handle, all that match, or those that a predicate chooses. work.h has the table of what that
// means for the members of a chain.
//
// Thread safety:  any thread, callbacks included.
// Blocking:       runs what was pending as cancelled, on the calling thread; see work.h for the exceptions.
// Errors:         cancel_chosen(): ENOMEM, and what the predicate throws; nothing is cancelled then.
// Invariants:     C1 C2 C3 C4 C5 C6 C7 W5
#pragma once

#include <algorithm>
#include <new>
#include <optional>
#include <vector>

#include "wq/cancel/scan.h"
#include "wq/stop/reports.h"
#include "wq/watch/canceller.h"

namespace sluice::detail {

template <class Sync>
class basic_cancel {
 public:
  using traits = pool_traits<Sync>;
  using account = basic_account<Sync>;
  using worker = basic_worker<Sync>;
  using key_entry = basic_key_entry<Sync>;
  using key_shard = basic_key_shard<Sync>;
  using key_table = basic_key_table<Sync>;
  using slot = typename basic_handle_table<Sync>::slot;
  using scan = basic_scan<Sync>;
  using met = typename scan::met;
  using verdict = typename scan::verdict;
  using given_up = typename basic_execution<Sync>::given_up;

  explicit basic_cancel(basic_pool<Sync>& owner) noexcept : pool_(owner) {}

  [[nodiscard]] cancel_result cancel(work_handle handle) noexcept;
  cancel_counts cancel_owner(std::uint64_t owner) noexcept {
    return cancel_matching([owner](const work& w) { return w.owner() == owner; });
  }
  cancel_counts cancel_all() noexcept {
    return cancel_matching([](const work& /*w*/) { return true; });
  }
  // Every work for which choose(chooser, view) is true.
  [[nodiscard]] result<cancel_counts> cancel_chosen(bool (*choose)(void*, const work_view&), void* chooser);

  // On the canceller's thread: a deadline has passed.
  void cancel_late(const timer& late) noexcept;

 private:
  // What is meant: a chain by its handle, at the member whose turn it is; or that member only, if one is named.
  struct target {
    std::uint32_t index;
    std::uint32_t generation;
    const work* member = nullptr;
  };
  struct candidate {
    work_view view;
    target meant;
    std::size_t order;  // in which it was met
    bool chosen = false;
  };

  [[nodiscard]] cancel_result cancel_target(const target& meant, given_up& pending, reach how) noexcept;
  [[nodiscard]] std::optional<cancel_result> in_account(account& at, const target& meant, work*& pending) noexcept;
  [[nodiscard]] std::optional<cancel_result> in_key(hash_domain& domain, std::uint64_t key, const target& meant,
                                                    work*& pending) noexcept;
  [[nodiscard]] std::optional<cancel_result> in_worker(worker& at, const target& meant, place where,
                                                       work*& pending) noexcept;
  [[nodiscard]] work* locate(slot& named, const target& meant, place where, const void* holder) noexcept;
  [[nodiscard]] static std::optional<cancel_result> without_taking(work& item, const target& meant) noexcept;
  [[nodiscard]] given_up give_up(work& w, reach how) noexcept;
  template <class Match>
  cancel_counts cancel_matching(Match match) noexcept;
  [[nodiscard]] bool snapshot(std::vector<candidate>& out) noexcept;
  [[nodiscard]] bool note(const met& chain, std::vector<candidate>& out, bool& fresh) noexcept;
  [[nodiscard]] std::size_t count_all() noexcept;

  basic_pool<Sync>& pool_;
};

template <class Sync>
cancel_result basic_cancel<Sync>::cancel(work_handle handle) noexcept {
  if (handle.pool() != pool_.number) {
    return cancel_result::not_found;
  }
  given_up pending;
  return cancel_target({handle.slot(), handle.generation()}, pending, reach::cancellable);
}

template <class Sync>
void basic_cancel<Sync>::cancel_late(const timer& late) noexcept {
  given_up pending;
  static_cast<void>(cancel_target({late.handle.slot(), late.handle.generation(), late.member}, pending, reach::chain));
}

// Reads where the chain is, locks that place, and has it if the slot still says the same; otherwise looks again. Each further look
// means that the chain moved, and it moves a bounded number of times.
template <class Sync>
cancel_result basic_cancel<Sync>::cancel_target(const target& meant, given_up& pending, reach how) noexcept {
  slot* const named = pool_.handles.find(meant.index);
  work* taken = nullptr;
  std::optional<cancel_result> found;
  while (named != nullptr && !found) {
    place where{};
    void* holder = nullptr;
    hash_domain* domain = nullptr;
    std::uint64_t key = 0;
    {
      const scoped_lock held(named->lock);
      if (named->generation != meant.generation) {
        return cancel_result::not_found;
      }
      where = named->where;
      holder = named->holder;
      domain = named->domain;
      key = named->key;
    }
    switch (where) {
      case place::none:
        return cancel_result::not_found;
      case place::ending:
        return cancel_result::running;  // another thread gives it up, and it has not completed
      case place::account:
        found = in_account(*static_cast<account*>(holder), meant, taken);
        break;
      case place::key:
        found = in_key(*domain, key, meant, taken);
        break;
      case place::worker:
      case place::between:
        found = in_worker(*static_cast<worker*>(holder), meant, where, taken);
        break;
    }
  }
  if (taken != nullptr) {
    pending = give_up(*taken, how);
  }
  return found.value_or(cancel_result::not_found);
}

// Under the lock of a place: the member of the chain whose turn it is, if the slot says that it is there; null: it has moved.
template <class Sync>
work* basic_cancel<Sync>::locate(slot& named, const target& meant, place where, const void* holder) noexcept {
  const scoped_lock held(named.lock);
  const bool here = named.generation == meant.generation && named.where == where && named.holder == holder;
  return here ? named.item : nullptr;
}

// The result of a cancel that neither takes nor asks the member whose turn it is; nullopt: that member is to be taken or asked.
// Requires: the lock of the place that the chain is in.
template <class Sync>
std::optional<cancel_result> basic_cancel<Sync>::without_taking(work& item, const target& meant) noexcept {
  if (meant.member != nullptr ? meant.member == &item : !has(item.flags(), work_flags::no_cancel)) {
    return has(item.flags(), work_flags::no_cancel) ? std::optional(cancel_result::not_found) : std::nullopt;  // C4
  }
  // A later member: the one that is named, or the first that a cancel matches.
  for (work* w = item.link(); w != nullptr; w = w->link()) {
    if (meant.member != nullptr ? w == meant.member : !has(w->flags(), work_flags::no_cancel)) {
      if (has(w->flags(), work_flags::no_cancel)) {
        return cancel_result::not_found;
      }
      work_access::set_cut(*w, work_access::cut_by_handle);
      return cancel_result::running;
    }
  }
  return cancel_result::not_found;
}

template <class Sync>
std::optional<cancel_result> basic_cancel<Sync>::in_account(account& at, const target& meant, work*& pending) noexcept {
  {
    const scoped_lock held(at.lock);
    at.take_inboxes_locked();
    work* const item = locate(pool_.handles.at(meant.index), meant, place::account, &at);
    if (item == nullptr) {
      return std::nullopt;
    }
    if (const auto other = without_taking(*item, meant)) {
      return other;
    }
    at.remove_locked(*item);
    pool_.execution.mark_ending(*item);
    pending = item;
  }
  pool_.admission.made_room(at.cls);
  return cancel_result::cancelled;
}

template <class Sync>
std::optional<cancel_result> basic_cancel<Sync>::in_key(hash_domain& domain, std::uint64_t key, const target& meant,
                                                        work*& pending) noexcept {
  std::optional<cancel_result> found;
  typename basic_growth<Sync>::decision_due arrived;
  typename basic_growth<Sync>::decision_due relisted;
  work_class cls{};
  // The pool lets a domain go only when nothing of it is queued; then the work has moved.
  static_cast<void>(pool_.keys.domains.with(domain, [&](key_table& table) {
    const scoped_lock order_held(table.order);
    arrived = pool_.keys.move_to_keys(table);
    key_shard& shard = table.shard_of(key);
    const scoped_lock held(shard.lock);
    key_entry* const entry = table.find(shard, key);
    work* const item = entry != nullptr ? locate(pool_.handles.at(meant.index), meant, place::key, entry) : nullptr;
    if (item == nullptr) {
      return;
    }
    found = without_taking(*item, meant);
    if (found) {
      return;
    }
    cls = item->cls();
    pool_.keys.remove_waiting_locked(shard, *entry, *item);
    relisted = pool_.keys.relist_locked(shard, *entry);
    pool_.execution.mark_ending(*item);
    pending = item;
    found = cancel_result::cancelled;
  }));
  pool_.growth.settle(arrived);
  pool_.growth.settle(relisted);
  if (pending != nullptr) {
    pool_.admission.made_room(cls);
  }
  return found;
}

template <class Sync>
std::optional<cancel_result> basic_cancel<Sync>::in_worker(worker& at, const target& meant, place where,
                                                           work*& pending) noexcept {
  {
    const scoped_lock held(at.lock);
    work* const item = locate(pool_.handles.at(meant.index), meant, where, &at);
    if (item == nullptr) {
      return std::nullopt;
    }
    if (const auto other = without_taking(*item, meant)) {
      return other;
    }
    if (where == place::between) {
      work_access::set_cut(*item, work_access::cut_by_handle);
      return cancel_result::running;
    }
    if (at.current != item) {
      at.batch.remove(*item);
      at.publish_batch_size();
      work_access::restore_key(*item, at.run_of != nullptr ? at.run_of->shard->domain : nullptr,
                               at.run_of != nullptr ? at.run_of->key : 0);
      pool_.execution.mark_ending(*item);
      pending = item;
      return cancel_result::cancelled;
    }
    pool_.interrupts.ask_locked(at);
    pool_.interrupts.send_locked(at, pool_.env.clock.now());
  }
  pool_.manager.wake();  // it repeats the signal until the work has left
  pool_.interrupts.request_stop(at);
  return cancel_result::running;
}

// Gives up a pending work that was taken. A thread that wears the identity of the work it runs does not lend it: the pool's canceller
// gives the work up, and this thread waits.
template <class Sync>
auto basic_cancel<Sync>::give_up(work& w, reach how) noexcept -> given_up {
  const worker* const self = traits::this_worker();
  const bool wears = self != nullptr && self->clothes && self->clothes->worn() != nullptr;
  const given_up all = wears ? pool_.canceller.give_up_and_wait(w) : pool_.execution.give_up(w, how);
  pool_.life.gate.leave(static_cast<std::int64_t>(all.over));
  return all;
}

template <class Sync>
template <class Match>
cancel_counts basic_cancel<Sync>::cancel_matching(Match match) noexcept {
  const auto matches = [&](const work& w) { return !has(w.flags(), work_flags::no_cancel) && match(w); };
  cancel_counts counts;
  forward_fifo taken;
  pool_.scan.visit_all(
      [&](const met& chain) {
        work* first = nullptr;
        const bool between = chain.where == place::between;
        const bool hit = matches(chain.item);
        if (hit && !chain.running && !between) {
          return verdict::take;
        }
        // What this scan has cut, when it met the chain in another place, it has counted.
        if (between && work_access::cut(chain.item) == chain.mark) {
          return verdict::leave;
        }
        counts.running += hit ? 1U : 0U;
        bool cut = hit;  // the rest is given up after it
        for (work* w = chain.item.link(); w != nullptr && work_access::cut(*w) != chain.mark; w = w->link()) {
          if (matches(*w)) {
            ++counts.running;
            if (!std::exchange(cut, true)) {
              first = w;
            }
          }
        }
        if (first != nullptr) {
          work_access::set_cut(*first, chain.mark);
        }
        return hit ? verdict::take : verdict::leave;
      },
      taken);
  while (work* const w = taken.pop_front()) {
    const given_up all = give_up(*w, reach::cancellable);
    counts.cancelled += all.over;
    counts.running += all.later;
  }
  return counts;
}

// Notes a chain: each member that a cancel matches. Gives the chain a handle, so that it can be meant after the locks are released.
// Allocates nothing. Returns false if there was no room.
template <class Sync>
bool basic_cancel<Sync>::note(const met& chain, std::vector<candidate>& out, bool& fresh) noexcept {
  std::size_t members = 0;
  for (const work* w = &chain.item; w != nullptr; w = w->link()) {
    members += has(w->flags(), work_flags::no_cancel) ? 0U : 1U;
  }
  if (members == 0) {
    return true;
  }
  if (out.capacity() - out.size() < members) {
    return false;
  }
  std::uint32_t& index = work_access::slot(chain.item);
  if (index == 0) {
    index = pool_.handles.try_take();
    if (index == 0) {
      return false;
    }
    fresh = true;
    pool_.handles.move(index, chain.item, chain.where, chain.holder, chain.domain, chain.key);
  }
  const std::uint32_t generation = pool_.handles.generation(index);
  for (const work* w = &chain.item; w != nullptr; w = w->link()) {
    if (!has(w->flags(), work_flags::no_cancel)) {
      const bool turn = w == &chain.item;
      const work_view view = turn ? basic_reports<Sync>::view_of(*w, chain.running, chain.domain, chain.key)
                                  : basic_reports<Sync>::view_of(*w, false, w->domain(), w->key());
      out.push_back({view, {index, generation, w}, out.size()});
    }
  }
  return true;
}

// An estimate of how many works there are.
template <class Sync>
std::size_t basic_cancel<Sync>::count_all() noexcept {
  std::size_t all = 0;
  pool_.engines.for_each([&](account& at) { all += at.pending(); });
  pool_.roster.for_each([&](const worker& one) {
    all += 1 + one.in_batch.load(std::memory_order_relaxed);  // relaxed: an estimate
  });
  return all;
}

// Returns false if there is no memory.
template <class Sync>
bool basic_cancel<Sync>::snapshot(std::vector<candidate>& out) noexcept {
  for (std::size_t wanted = 64;; wanted *= 2) {
    const std::size_t room = wanted + count_all();
    try {
      out.clear();
      out.reserve(room);
    } catch (const std::bad_alloc&) {
      return false;
    }
    if (!pool_.handles.reserve(room)) {
      return false;
    }
    bool all = true;
    forward_fifo none;
    pool_.scan.visit_all(
        [&](const met& chain) {
          bool fresh = false;
          all = all && note(chain, out, fresh);
          return fresh ? verdict::tracked : verdict::leave;
        },
        none);
    if (all) {
      break;
    }
  }
  // A work that moved down while the scan went on was met twice: what it was last holds. Where it ran it was met last.
  const auto by_work = [](const candidate& one) {
    return std::tuple(one.meant.index, one.meant.generation, one.view.address);
  };
  std::ranges::sort(out, [&](const candidate& a, const candidate& b) {
    return by_work(a) != by_work(b) ? by_work(a) < by_work(b) : a.order > b.order;
  });
  const auto rest = std::ranges::unique(out, {}, by_work);
  out.erase(rest.begin(), rest.end());
  std::ranges::sort(out, {}, &candidate::order);  // a chain's members in its order
  return true;
}

template <class Sync>
result<cancel_counts> basic_cancel<Sync>::cancel_chosen(bool (*choose)(void*, const work_view&), void* chooser) {
  std::vector<candidate> candidates;
  if (!snapshot(candidates)) {
    return fail(ENOMEM);
  }
  // All are chosen before the first is cancelled: a predicate that throws leaves nothing half done.
  for (candidate& one : candidates) {
    one.chosen = choose(chooser, one.view);
  }
  // A chain's later members are given up after the first that was asked to stop, or was cut: they are counted with it.
  cancel_counts counts;
  const target* asked = nullptr;
  for (const candidate& one : candidates) {
    if (!one.chosen) {
      continue;
    }
    if (asked != nullptr && asked->index == one.meant.index && asked->generation == one.meant.generation) {
      ++counts.running;
      continue;
    }
    given_up pending;
    if (cancel_target(one.meant, pending, reach::cancellable) == cancel_result::running) {
      ++counts.running;
      asked = &one.meant;
    }
    counts.cancelled += pending.over;
  }
  return counts;
}

}  // namespace sluice::detail
