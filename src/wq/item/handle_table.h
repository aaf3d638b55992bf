// handle_table: what the handles of tracked works name. A slot says where the work is, under a lock of its own.
//
// Only a work with a handle or a deadline has a slot, and a work that cancel_if looks at. A slot names a chain, at the member
// whose turn it is. Whoever moves such a work updates the slot while it holds the lock of the place that the work is in. So a
// canceller reads the slot, locks that place and compares: if the slot still says the same, the canceller holds the work; if
// not, the work has moved, and the canceller looks again. A work leaves one place and enters the next in one hold of a lock,
// so no look finds it in neither (C3).
//
// A slot's generation goes up when its work has completed: an old handle finds nothing, whatever the slot is used for (C1).
//
// Ownership:      slots stay allocated until the table is destroyed.
// Thread safety:  any thread. Lock order: the lock of a place, then the slot's; nothing is locked inside.
// Errors:         take: 0 if there is no memory.
// Limits:         2^29 slots; 56 bytes each.
// Invariants:     C1 C3
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <new>

#include "sluice/base/mutex.h"
#include "sluice/ref/spin_lock.h"
#include "sluice/wq/io_wq.h"

namespace sluice::detail {

enum class place : std::uint8_t {
  none,
  account,  // in an account's inbox or queue; holder: the account
  key,      // in a key table's inbox (holder: null), or waiting for its key (holder: the key's entry)
  worker,   // in a worker's batch, or its current work; holder: the worker
  between,  // between two members of a chain; item: the next one; holder: the worker that ran the last one
  ending,   // is given up: no cancel takes it any more, and it has not completed
};

template <class Sync>
class basic_handle_table {
 public:
  struct slot {
    basic_spin_lock<Sync> lock;
    std::uint32_t generation = 1;
    work* item = nullptr;
    void* holder = nullptr;
    hash_domain* domain = nullptr;
    std::uint64_t key = 0;
    std::uint32_t next_free = 0;
    place where = place::none;
  };

  basic_handle_table() = default;
  basic_handle_table(const basic_handle_table&) = delete;
  basic_handle_table& operator=(const basic_handle_table&) = delete;
  ~basic_handle_table() {
    for (auto& chunk : chunks_) {
      delete[] chunk.load(std::memory_order_relaxed);  // relaxed: the table is no longer shared
    }
  }

  // Returns a slot for the caller alone, its place `none`; 0 if there is no memory.
  [[nodiscard]] std::uint32_t take() noexcept SLUICE_EXCLUDES(lock_) {
    for (;;) {
      if (const std::uint32_t index = try_take(); index != 0) {
        return index;
      }
      if (!grow()) {
        return 0;
      }
    }
  }

  // The same without an allocation. Returns 0 if no slot is free.
  [[nodiscard]] std::uint32_t try_take() noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    const std::uint32_t index = free_;
    if (index != 0) {
      free_ = at(index).next_free;
      --free_count_;
    }
    return index;
  }

  // Makes sure that `count` calls of take() need no memory, if no other thread takes any. Returns false if there is none.
  [[nodiscard]] bool reserve(std::size_t count) noexcept SLUICE_EXCLUDES(lock_) {
    for (;;) {
      {
        const scoped_lock held(lock_);
        if (free_count_ >= count) {
          return true;
        }
      }
      if (!grow()) {
        return false;
      }
    }
  }

  // Ends the handle. Requires: the calling thread does not hold the slot's lock.
  void give_back(std::uint32_t index) noexcept SLUICE_EXCLUDES(lock_) {
    clear(index);
    recycle(index);
  }

  // Says where a work is now. An index of 0: the work has no handle. Requires: the lock of that place.
  void move(std::uint32_t index, work& item, place where, void* holder, hash_domain* domain = nullptr,
            std::uint64_t key = 0) noexcept {
    if (index == 0) {
      return;
    }
    slot& named = at(index);
    const scoped_lock held(named.lock);
    named.item = &item;
    named.where = where;
    named.holder = holder;
    named.domain = domain;
    named.key = key;
  }

  // The two halves of give_back(): clear() under the lock of the place that the work leaves, recycle() without.
  void clear(std::uint32_t index) noexcept {
    slot& one = at(index);
    const scoped_lock held(one.lock);
    clear_locked(one);
  }
  void recycle(std::uint32_t index) noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    at(index).next_free = free_;
    free_ = index;
    ++free_count_;
  }

  // Requires: index came from take().
  [[nodiscard]] std::uint32_t generation(std::uint32_t index) noexcept { return at(index).generation; }
  [[nodiscard]] slot& at(std::uint32_t index) noexcept {
    const auto [chunk, offset] = split(index);
    return chunks_[chunk].load(std::memory_order_acquire)[offset];  // acquire: pairs with grow()
  }
  // The slot of a handle that may be invented, or null.
  [[nodiscard]] slot* find(std::uint32_t index) noexcept {
    if (index == 0 || index >= limit) {
      return nullptr;
    }
    const auto [chunk, offset] = split(index);
    slot* const base = chunks_[chunk].load(std::memory_order_acquire);  // acquire: pairs with grow()
    return base != nullptr ? base + offset : nullptr;
  }

 private:
  static void clear_locked(slot& one) noexcept {
    ++one.generation;
    one.item = nullptr;
    one.holder = nullptr;
    one.domain = nullptr;
    one.where = place::none;
  }

  static constexpr std::uint32_t first_chunk = 64;
  static constexpr unsigned chunks = 24;
  static constexpr std::uint32_t limit = (first_chunk << (chunks - 1)) - first_chunk;

  struct position {
    unsigned chunk;
    std::uint32_t offset;
  };
  // Chunk c holds first_chunk << c slots, so that slots never move and the table grows by doubling.
  [[nodiscard]] static position split(std::uint32_t index) noexcept {
    const std::uint32_t shifted = index + first_chunk;
    const auto chunk = static_cast<unsigned>(std::bit_width(shifted / first_chunk)) - 1;
    return {chunk, shifted - (first_chunk << chunk)};
  }

  [[nodiscard]] bool grow() noexcept SLUICE_EXCLUDES(lock_) {
    unsigned chunk = 0;
    {
      const scoped_lock held(lock_);
      chunk = used_;
    }
    if (chunk == chunks) {
      return false;
    }
    const std::uint32_t size = first_chunk << chunk;
    std::unique_ptr<slot[]> fresh(new (std::nothrow) slot[size]);
    if (fresh == nullptr) {
      return false;
    }
    const scoped_lock held(lock_);
    if (used_ != chunk) {
      return true;  // another thread has grown it
    }
    slot* const base = fresh.release();
    chunks_[chunk].store(base, std::memory_order_release);  // release: pairs with at() and find()
    ++used_;
    const std::uint32_t first = size - first_chunk;
    for (std::uint32_t i = size; i-- > 0;) {
      if (first + i != 0) {  // 0 names nothing
        base[i].next_free = free_;
        free_ = first + i;
        ++free_count_;
      }
    }
    return true;
  }

  basic_spin_lock<Sync> lock_;
  std::uint32_t free_ SLUICE_GUARDED_BY(lock_) = 0;
  std::size_t free_count_ SLUICE_GUARDED_BY(lock_) = 0;
  unsigned used_ SLUICE_GUARDED_BY(lock_) = 0;
  std::array<typename Sync::template atomic<slot*>, chunks> chunks_{};
};

}  // namespace sluice::detail
