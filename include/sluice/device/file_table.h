// file_table: numbers for open files: install gives the lowest free one, lookup finds the file, close frees it.
//
// | with    | lookup   | install            | close                       |
// |---------|----------|--------------------|-----------------------------|
// | lookup  | both run | both run           | both run: the file or EBADF |
// | install |          | exclude each other | exclude each other          |
// | close   |          |                    | exclude; one gets the file  |
//
// A lookup takes no lock. It reads the slot inside an RCU read section, takes a count with get_unless_zero (a file
// whose last count is gone stays memory until the section ends) and then reads the slot again: if it changed, the count
// belongs to a file that this number no longer means, and the lookup starts over. So a number that is reused meanwhile
// gives the old file, the new one, or EBADF; never a dead one and never a mix.
//
// Ownership:      one count on each file in it; given back by close or with the table.
// Thread safety:  any thread. Destroy: when no other call can still begin.
// Blocking:       lookup never. install and close take a lock; close closes the file outside it.
// Ordering:       what was done to a file before install is visible after the lookup that found it.
// Errors:         EBADF no such number; EMFILE the table is full.
// Limits:         `capacity` numbers, 8 bytes each.
// Cost:           lookup: a read section, one compare-exchange, two loads.
// Invariants:     D3 D4
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>

#include "sluice/base/error.h"
#include "sluice/base/mutex.h"
#include "sluice/base/sync.h"
#include "sluice/device/open_file.h"
#include "sluice/rcu/rcu.h"
#include "sluice/ref/ref.h"

namespace sluice {

// File is a template parameter for the race tests: counted, retired through `domain` by its last put, with close().
template <class File, class Sync = os_sync>
class basic_file_table {
 public:
  // Throws bad_alloc (set-up).
  explicit basic_file_table(std::size_t capacity, rcu_domain& domain = rcu_default_domain())
      : capacity_(capacity), domain_(domain), slots_(std::make_unique<slot[]>(capacity)) {}
  basic_file_table(const basic_file_table&) = delete;
  basic_file_table& operator=(const basic_file_table&) = delete;
  // Closes what is still in it.
  ~basic_file_table() {
    for (std::size_t number = 0; number < capacity_; ++number) {
      static_cast<void>(close(static_cast<int>(number)));
    }
  }

  // Gives a file the lowest free number, from 0. Errors: EMFILE.
  [[nodiscard]] result<int> install(ref<File> file) noexcept {
    scoped_lock hold(lock_);
    for (std::size_t number = first_free_; number < capacity_; ++number) {
      // relaxed: only holders of the lock write a slot.
      if (slots_[number].load(std::memory_order_relaxed) == nullptr) {
        first_free_ = number + 1;
        // release pairs with lookup's acquire: who finds the file sees it set up.
        slots_[number].store(file.release(), std::memory_order_release);
        return static_cast<int>(number);
      }
    }
    first_free_ = capacity_;
    return fail(EMFILE);
  }

  // The file of a number, counted. Errors: EBADF.
  [[nodiscard]] result<ref<File>> lookup(int number) const noexcept {
    if (!in_range(number)) {
      return fail(EBADF);
    }
    const slot& place = slots_[static_cast<std::size_t>(number)];
    for (;;) {
      // Declared outside the section: a count that turns out to be of no use may be the last, and its put may block.
      ref<File> found;
      const std::scoped_lock section(domain_);
      File* seen = place.load(std::memory_order_acquire);
      if (seen == nullptr) {
        return fail(EBADF);
      }
      found = ref<File>::try_get(seen);
      // Without the second look a number closed and given anew after the first would still lead to the old file,
      // although the count was taken after that close returned. No count: the file left the slot since, look again; the
      // slot may still read as before (a failed try_get orders nothing), so this look decides nothing then.
      if (place.load(std::memory_order_acquire) == seen && found) {
        return found;
      }
    }
  }

  // Frees the number and closes the file. Operations under way go on. Errors: EBADF.
  [[nodiscard]] result<void> close(int number) noexcept {
    if (!in_range(number)) {
      return fail(EBADF);
    }
    const auto index = static_cast<std::size_t>(number);
    ref<File> gone;
    {
      scoped_lock hold(lock_);
      // acq_rel: acquires what install released, and orders the emptied slot before the put below.
      gone = ref<File>::adopt(slots_[index].exchange(nullptr, std::memory_order_acq_rel));
      if (gone && index < first_free_) {
        first_free_ = index;
      }
    }
    if (!gone) {
      return fail(EBADF);
    }
    static_cast<void>(gone->close());
    return {};
  }

  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }

 private:
  using slot = typename Sync::template atomic<File*>;

  [[nodiscard]] bool in_range(int number) const noexcept {
    return number >= 0 && static_cast<std::size_t>(number) < capacity_;
  }

  // Constant after construction: the size, the domain, the pointer.
  const std::size_t capacity_;
  rcu_domain& domain_;
  // Written under the lock, read under RCU. Each non-null slot is one count.
  const std::unique_ptr<slot[]> slots_;
  mutable typename Sync::mutex lock_;
  std::size_t first_free_ SLUICE_GUARDED_BY(lock_) = 0;  // no free slot is below it
};

using file_table = basic_file_table<open_file>;

}  // namespace sluice
