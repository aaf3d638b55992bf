#include <algorithm>
#include <new>
#include <utility>

#include "core.h"
#include "work_access.h"

namespace sluice::detail {

wq_core::pending_place wq_core::unlink_pending_locked(work& w) noexcept {
  account& acct = of(w.cls());
  if (acct.queue.remove(w)) {
    return pending_place::queued;
  }
  if (w.keyed() && w.domain()->table().remove(w)) {
    --acct.waiting;
    return pending_place::waiting;
  }
  return pending_place::nowhere;
}

// Under the lock that a worker needs to end its run: the signal cannot be for anybody but the work that runs now (C5).
std::optional<std::stop_source> wq_core::ask_running_locked(worker& runs_on) noexcept {
  std::optional<std::stop_source> source = runs_on.running.ask_stop();
  runs_on.interrupting = true;
  if (&runs_on != current_worker()) {
    signal_.send(runs_on.self);
    for_manager_.notify_one();  // it repeats the signal until the worker has left the system call
  }
  return source;
}

cancel_result wq_core::cancel(work_handle handle) noexcept {
  std::size_t cancelled = 0;
  return cancel_counted(handle, cancelled);
}

cancel_result wq_core::cancel_counted(work_handle handle, std::size_t& cancelled) noexcept {
  work* pending = nullptr;
  hash_domain* domain = nullptr;
  std::optional<std::stop_source> source;
  lock_.lock();
  for (;;) {
    if (handle.slot() == 0 || handle.slot() >= slots_.size() ||
        slots_[handle.slot()].generation != handle.generation()) {
      lock_.unlock();
      return cancel_result::not_found;
    }
    slot& one = slots_[handle.slot()];
    if (one.runs_on != nullptr && one.item == nullptr) {
      one.cut = true;  // between two members of a chain: the rest will not run
      lock_.unlock();
      return cancel_result::running;
    }
    if (has(one.item->flags(), work_flags::no_cancel)) {
      lock_.unlock();
      return cancel_result::not_found;
    }
    if (one.runs_on != nullptr) {
      source = ask_running_locked(*one.runs_on);
      break;
    }
    const pending_place place = unlink_pending_locked(*one.item);
    if (place != pending_place::nowhere) {
      pending = one.item;
      domain = place == pending_place::queued ? pending->domain() : nullptr;  // a queued work has its key's turn
      free_slot_locked(std::exchange(work_access::slot(*pending), 0));
      break;
    }
    // A key's former owner has it in hand, on the way to its queue: a few instructions.
    changed_.wait(lock_);
  }
  lock_.unlock();
  if (pending == nullptr) {
    if (source) {
      source->request_stop();
    }
    return cancel_result::running;
  }
  const std::uint64_t key = pending->key();
  cancelled += give_up(*pending);
  end_turn(domain, key);
  return cancel_result::cancelled;
}

// Gives a pending or running work a handle, so that it can be meant after the lock is gone.
void wq_core::note_candidate_locked(work& w, worker* runs_on, std::vector<candidate>& out) {
  if (has(w.flags(), work_flags::no_cancel)) {
    return;
  }
  if (work_access::slot(w) == 0) {
    slots_[take_slot_locked(w, no_deadline)].runs_on = runs_on;
  }
  const std::uint32_t index = work_access::slot(w);
  out.push_back({{&w, w.owner(), w.domain(), w.key(), w.cls(), runs_on != nullptr},
                 work_handle(index, slots_[index].generation)});
}

std::vector<wq_core::candidate> wq_core::snapshot() {
  std::vector<candidate> out;
  const mutex_lock held(lock_);
  for (const account& acct : accounts_) {
    for (work* w = acct.queue.head; w != nullptr; w = work_access::next(*w)) {
      note_candidate_locked(*w, nullptr, out);
    }
  }
  std::vector<work*> waiting;
  for (const auto& [domain, held_domain] : domains_) {
    domain->table().waiting_of(*this, waiting);
  }
  for (work* w : waiting) {
    note_candidate_locked(*w, nullptr, out);
  }
  for (const std::unique_ptr<worker>& one : workers_) {
    if (one->current != nullptr) {
      note_candidate_locked(*one->current, one.get(), out);
    }
  }
  if (rescuer_.current != nullptr) {
    note_candidate_locked(*rescuer_.current, &rescuer_, out);
  }
  return out;
}

result<cancel_counts> wq_core::cancel_chosen(bool (*choose)(void*, const work_view&), void* chooser) noexcept {
  cancel_counts counts;
  try {
    for (const candidate& one : snapshot()) {
      if (!choose(chooser, one.view)) {
        continue;
      }
      if (cancel_counted(one.handle, counts.cancelled) == cancel_result::running) {
        ++counts.running;
      }
    }
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
  return counts;
}

}  // namespace sluice::detail
