// key_table: who may run next, for every key of a hash domain.
//
// A key is in the table while one of its works is runnable or running (the key's turn); later works of the key wait
// here in submit order and are handed to their own wq one by one, each when the one before has been released. So a
// queue of a wq never holds two works of one key, and skipping a busy key costs nothing: its works are not in the
// queue.
//
// Thread safety:  any thread. Lock order: a core's lock, then the table's.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <unordered_map>
#include <vector>

#include "sluice/base/mutex.h"
#include "sluice/wq/work.h"

namespace sluice::detail {

class wq_core;

struct key_waiter {
  work* item = nullptr;
  wq_core* home = nullptr;
};

enum class key_turn : std::uint8_t { now, later };

class key_table {
 public:
  // now: the work is runnable at once. later: it waits here. Throws std::bad_alloc, and nothing has changed.
  [[nodiscard]] key_turn enter(work& w, wq_core& home) SLUICE_EXCLUDES(lock_);
  // The turn ended. Returns whose it is now, if anybody waits.
  [[nodiscard]] std::optional<key_waiter> leave(std::uint64_t key) noexcept SLUICE_EXCLUDES(lock_);
  // A worker began the run of the key.
  void set_busy(std::uint64_t key) noexcept SLUICE_EXCLUDES(lock_);

  // Takes a waiting work out. Returns false if it does not wait here (any more).
  [[nodiscard]] bool remove(work& w) noexcept SLUICE_EXCLUDES(lock_);
  // The waiting works of one wq, in no order between keys. Throws std::bad_alloc.
  void waiting_of(const wq_core& home, std::vector<work*>& out) const SLUICE_EXCLUDES(lock_);

  [[nodiscard]] std::size_t size() const noexcept SLUICE_EXCLUDES(lock_);
  [[nodiscard]] bool busy(std::uint64_t key) const noexcept SLUICE_EXCLUDES(lock_);

 private:
  struct entry {
    bool busy = false;
    std::list<key_waiter> waiting;
  };

  mutable mutex lock_;
  std::unordered_map<std::uint64_t, entry> keys_ SLUICE_GUARDED_BY(lock_);
};

}  // namespace sluice::detail
