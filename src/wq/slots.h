// slots: what the handles of tracked works name: a slot says where the work is, under a lock of its own.
//
// Only works with a handle or a deadline have a slot, and works that a cancel by predicate looks at. Whoever moves such
// a work updates the slot while he holds the lock of the place that the work is in, so that a canceller who reads the
// slot, locks that place and finds the slot unchanged has the work in his hand. If it changed he looks again.
//
// A slot's generation goes up when its work is over: an old handle finds nothing, whatever the slot is used for (no ABA).
//
// Thread safety:  any thread. Lock order: a place's lock, then the slot's; nothing is locked inside.
// Errors:         take: 0 if there is no memory. Slots stay until the table ends.
// Limits:         2^29 slots; 56 bytes each.
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

enum class slot_place : std::uint8_t {
  free,
  account,  // in an account's inbox or list; holder: the account
  key,      // waits for its key in domain
  worker,   // in a worker's batch, or its current work; holder: the worker
  between,  // between two members of a chain; item: the next one; holder: the worker that had the last one
  ending,   // is being given up: nothing takes it back any more, and it has not completed yet
};

template <class Sync>
class basic_slot_table {
 public:
  struct slot {
    basic_spin_lock<Sync> lock;
    std::uint32_t generation = 1;
    work* item = nullptr;
    void* holder = nullptr;
    hash_domain* domain = nullptr;
    std::uint64_t key = 0;
    std::uint32_t next_free = 0;
    slot_place place = slot_place::free;
  };

  basic_slot_table() = default;
  basic_slot_table(const basic_slot_table&) = delete;
  basic_slot_table& operator=(const basic_slot_table&) = delete;
  ~basic_slot_table() {
    for (auto& chunk : chunks_) {
      delete[] chunk.load(std::memory_order_relaxed);  // relaxed: nobody else is left
    }
  }

  // A slot, its place `free`, for nobody else. Returns 0 if there is no memory.
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

  // The same without growing. Returns 0 if none is free.
  [[nodiscard]] std::uint32_t try_take() noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    const std::uint32_t index = free_;
    if (index != 0) {
      free_ = at(index).next_free;
      --free_count_;
    }
    return index;
  }

  // Makes sure that `count` calls of take() need no memory, if nobody else takes any. Returns false if there is none.
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

  // Ends what the slot names. Requires: nobody holds the slot's lock on this thread.
  void give_back(std::uint32_t index) noexcept SLUICE_EXCLUDES(lock_) {
    slot& one = at(index);
    {
      const scoped_lock held(one.lock);
      clear_locked(one);
    }
    recycle(index);
  }

  // The two halves of give_back, for whoever holds the slot's lock already.
  static void clear_locked(slot& one) noexcept {
    ++one.generation;
    one.item = nullptr;
    one.holder = nullptr;
    one.domain = nullptr;
    one.place = slot_place::free;
  }
  void recycle(std::uint32_t index) noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    at(index).next_free = free_;
    free_ = index;
    ++free_count_;
  }

  // Requires: index came from take().
  [[nodiscard]] slot& at(std::uint32_t index) noexcept {
    const auto [chunk, offset] = split(index);
    return chunks_[chunk].load(std::memory_order_acquire)[offset];  // acquire: pairs with grow()
  }
  // The slot of a handle that may be anybody's invention, or null.
  [[nodiscard]] slot* find(std::uint32_t index) noexcept {
    if (index == 0 || index >= limit) {
      return nullptr;
    }
    const auto [chunk, offset] = split(index);
    slot* const base = chunks_[chunk].load(std::memory_order_acquire);  // acquire: pairs with grow()
    return base != nullptr ? base + offset : nullptr;
  }

 private:
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
      return true;  // somebody else grew it meanwhile
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
