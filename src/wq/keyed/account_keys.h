// account_keys: the keys of one account whose turn it is, and the key tables of the account that are to be looked into.
//
// Thread safety:  what is not named _locked: any thread. The rest: under `lock`.
// Ordering:       the listed counts are sequentially consistent partners of the running count (account.h).
// Invariants:     H3 H4 P5
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "sluice/base/mutex.h"

#include "wq/keyed/key_table.h"
#include "wq/ready/account_works.h"

namespace sluice::detail {

template <class Sync>
class basic_account_keys : public basic_account_works<Sync> {
 public:
  using basic_account_base<Sync>::lock;
  using basic_account_works<Sync>::basic_account_works;
  using key_entry = basic_key_entry<Sync>;
  using key_table = basic_key_table<Sync>;

  [[nodiscard]] bool no_key_listed() const noexcept { return keys_listed_.load(std::memory_order_seq_cst) == 0; }
  // Tables whose inboxes may hold works.
  [[nodiscard]] std::uint64_t tables_listed() const noexcept { return tables_listed_.load(std::memory_order_seq_cst); }

  // Lists all of `some`, which is empty then.
  void list_keys_locked(key_list<Sync>& some) noexcept SLUICE_REQUIRES(lock) {
    while (key_entry* const entry = some.pop_front()) {
      entry->in_list = true;
      keys_.push_back(*entry);
    }
    keys_listed_.store(keys_.size(), std::memory_order_seq_cst);
  }
  void unlist_key_locked(key_entry& entry) noexcept SLUICE_REQUIRES(lock) {
    entry.in_list = false;
    keys_.remove(entry);
    keys_listed_.store(keys_.size(), std::memory_order_seq_cst);
  }
  [[nodiscard]] bool keys_empty_locked() const noexcept SLUICE_REQUIRES(lock) { return keys_.empty(); }
  [[nodiscard]] std::size_t keys_listed_locked() const noexcept SLUICE_REQUIRES(lock) { return keys_.size(); }
  // Claims the first key: it is in no list, and the caller decides what becomes of it. Requires: not empty.
  [[nodiscard]] key_entry& claim_key_locked() noexcept SLUICE_REQUIRES(lock) {
    key_entry& first = *keys_.front();
    unlist_key_locked(first);
    runs_to_look_ -= runs_to_look_ != 0 ? 1 : 0;
    return first;
  }

  void list_table_locked(key_table& table) noexcept SLUICE_REQUIRES(lock) {
    if (!table.noticed.load(std::memory_order_relaxed)) {  // relaxed: under the lock
      tables_.push_back(table);
      tables_listed_.store(tables_.size(), std::memory_order_seq_cst);
      table.noticed.store(true, std::memory_order_seq_cst);  // listed first: a thread that sees it looks no further
    }
  }
  // A table whose inbox was empty leaves the list, unless something has come meanwhile: a thread that puts into the inbox looks
  // at `noticed` after that, so one of the two sees the other.
  void unlist_table_locked(key_table& table) noexcept SLUICE_REQUIRES(lock) {
    if (!table.noticed.load(std::memory_order_relaxed)) {  // relaxed: under the lock
      return;
    }
    table.noticed.store(false, std::memory_order_seq_cst);
    if (!table.inbox.empty()) {
      table.noticed.store(true, std::memory_order_seq_cst);
      return;
    }
    tables_.remove(table);
    tables_listed_.store(tables_.size(), std::memory_order_seq_cst);
  }
  // The table that was looked into longest ago, or null. It stays listed.
  [[nodiscard]] key_table* next_table_locked() noexcept SLUICE_REQUIRES(lock) {
    key_table* const first = tables_.pop_front();
    if (first != nullptr) {
      tables_.push_back(*first);
    }
    return first;
  }
  // Works that came and have not been looked at; of keys, those in the tables whose turn is next. At least so many.
  [[nodiscard]] std::size_t in_inboxes_locked() const noexcept SLUICE_REQUIRES(lock) {
    constexpr unsigned most_tables = 8;
    std::size_t all = this->in_works_inboxes();
    const key_table* table = tables_.front();
    for (unsigned looks = 0; table != nullptr && looks < most_tables; ++looks) {
      all += table->inbox.size();
      table = tables_.after(*table);
    }
    return all;
  }
  // The tables' inboxes have their turn when each key that was listed has had one: until then works gather there.
  [[nodiscard]] bool tables_are_due_locked() const noexcept SLUICE_REQUIRES(lock) {
    return !tables_.empty() && (keys_.empty() || runs_to_look_ == 0);
  }
  void tables_had_their_turn_locked() noexcept SLUICE_REQUIRES(lock) { runs_to_look_ = keys_.size(); }

 protected:
  ~basic_account_keys() = default;

 private:
  // Sizes of what the lock guards, for threads that do not hold it.
  alignas(64) typename Sync::template atomic<std::uint64_t> keys_listed_{0};
  typename Sync::template atomic<std::uint64_t> tables_listed_{0};

  alignas(64) key_list<Sync> keys_ SLUICE_GUARDED_BY(lock);
  table_list<Sync> tables_ SLUICE_GUARDED_BY(lock);       // owned ones whose inbox is to be looked into
  std::size_t runs_to_look_ SLUICE_GUARDED_BY(lock) = 0;  // runs of keys until the tables' turn
};

}  // namespace sluice::detail
