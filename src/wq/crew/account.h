// account: the queue of one class of work on one NUMA node, and its workers.
//
// Two queues stand side by side: works without a key (account_works.h), and keys whose turn it is (account_keys.h). Workers take
// from them in turn, so that neither keeps the other waiting.
//
// Rule of growth: an account with something to do has a worker that runs, or one on its way, or cannot have one:
//
//   a submitter                           a worker that goes idle, or blocks
//   puts its work        (seq_cst)        idle: is listed as free (seq_cst)
//   running == 0?        (seq_cst)        running - 1           (seq_cst)
//     yes: chooses a worker, unless       nothing to do?        (seq_cst)
//     all are there and none is free        no: takes it, or chooses another worker
//
// One of the two sees the other.
//
// Thread safety:  what is not named _locked: any thread. The rest: under `lock`.
// Invariants:     P1 P2 P5
#pragma once

#include <atomic>
#include <cstdint>

#include "sluice/base/mutex.h"
#include "sluice/wq/stats.h"

#include "wq/crew/account_crew.h"

namespace sluice::detail {

template <class Sync>
class basic_account final : public basic_account_crew<Sync> {
 public:
  using basic_account_base<Sync>::lock;
  using basic_account_crew<Sync>::basic_account_crew;

  // Nothing that a worker could run. seq_cst: partner of the running count.
  [[nodiscard]] bool nothing_to_run() const noexcept { return this->nothing_came() && this->no_key_listed(); }
  // Nor anything to look into: a table's inbox may hold works that can run, or none.
  [[nodiscard]] bool nothing_to_do() const noexcept { return nothing_to_run() && this->tables_listed() == 0; }
  // Works that wait; a hint.
  [[nodiscard]] std::size_t pending() const noexcept { return this->works_waiting() + this->crowd.keyed(); }
  // Whether it is a key's turn. Requires: a key is listed, or a work is in the queue.
  [[nodiscard]] bool key_is_next_locked() noexcept SLUICE_REQUIRES(lock) {
    const bool key = !this->keys_empty_locked() && (keys_next_ || this->works_empty_locked());
    keys_next_ = !key;
    return key;
  }

  class_stats counts SLUICE_GUARDED_BY(lock);

  // In a scan's list of accounts for which a decision is due (cancel/scan.h): the thread that sets `due` owns the link.
  typename Sync::template atomic<bool> due{false};
  basic_account* next_due = nullptr;

  // Statistics that are counted where no lock is held.
  alignas(64) typename Sync::template atomic<std::uint64_t> accepted_aside{0};  // not through the inboxes
  typename Sync::template atomic<std::uint64_t> released_aside{0};              // not by a worker of this account
  typename Sync::template atomic<std::uint64_t> cancelled{0};
  typename Sync::template atomic<std::uint64_t> rescued{0};
  typename Sync::template atomic<std::uint64_t> refused{0};

 private:
  bool keys_next_ SLUICE_GUARDED_BY(lock) = false;
};

}  // namespace sluice::detail
