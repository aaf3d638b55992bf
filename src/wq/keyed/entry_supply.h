// entry_supply: entries for keys that are still to come, made in blocks.
//
// A reserve must cover every work of an inbox, since each may have a key of its own, and most of it is never used. So the memory of a
// block is not touched before an entry is taken from it, and a block costs one allocation. An entry that has been given back is not
// given out again by its block: a key table keeps some for that. A block is freed when all of its entries have been given back.
//
// Ownership:      the supply owns a block until its last entry has been taken; then its entries do.
// Thread safety:  none, but make() and give_back(): any thread.
// Errors:         make(): fewer entries than were asked for if there is no memory.
// Limits:         a block has at most 256 entries: that many are kept in memory by one key that stays.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "sluice/base/check.h"

namespace sluice::detail {

// Entry has a member `std::uint16_t index`, which the supply writes: its place in its block.
template <class Sync, class Entry>
class basic_entry_supply {
  struct block {
    explicit block(std::uint32_t count) noexcept : left(count), capacity(count) {}

    [[nodiscard]] Entry* first() noexcept { return reinterpret_cast<Entry*>(this + 1); }
    [[nodiscard]] static block& of(Entry& entry) noexcept {
      return *(reinterpret_cast<block*>(&entry - entry.index) - 1);
    }
    static void release(block& one, std::uint32_t entries) noexcept {
      // acq_rel: what other threads did to their entries comes before the block is freed.
      if (one.left.fetch_sub(entries, std::memory_order_acq_rel) == entries) {
        one.~block();
        ::operator delete(static_cast<void*>(&one));
      }
    }

    typename Sync::template atomic<std::uint32_t> left;  // entries that have not been given back
    const std::uint32_t capacity;
    std::uint32_t taken = 0;
    block* next = nullptr;
  };
  static_assert(alignof(Entry) <= alignof(block) && alignof(block) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);

 public:
  static constexpr std::size_t most_in_block = 256;

  basic_entry_supply() = default;
  basic_entry_supply(basic_entry_supply&& other) noexcept
      : first_(std::exchange(other.first_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  basic_entry_supply& operator=(basic_entry_supply&&) = delete;
  ~basic_entry_supply() {
    while (block* const gone = first_) {
      first_ = gone->next;
      block::release(*gone, gone->capacity - gone->taken);
    }
  }

  // A supply of `count` entries.
  [[nodiscard]] static basic_entry_supply make(std::size_t count) noexcept {
    basic_entry_supply out;
    while (out.size_ < count) {
      const auto n = static_cast<std::uint32_t>(std::min(count - out.size_, most_in_block));
      void* const memory = ::operator new(sizeof(block) + n * sizeof(Entry), std::nothrow);
      if (memory == nullptr) {
        break;
      }
      auto* const made = new (memory) block(n);
      made->next = std::exchange(out.first_, made);
      out.size_ += n;
    }
    return out;
  }

  // How many can be taken.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  // All that `other` has.
  void add(basic_entry_supply&& other) noexcept {
    if (other.first_ == nullptr) {
      return;
    }
    block* last = other.first_;
    while (last->next != nullptr) {
      last = last->next;
    }
    last->next = std::exchange(first_, std::exchange(other.first_, nullptr));
    size_ += std::exchange(other.size_, 0);
  }

  // The caller gives it back. Requires: size() != 0.
  [[nodiscard]] Entry& take() noexcept {
    SLUICE_DCHECK(size_ != 0, "an entry is in reserve for each work that was accepted");
    block& from = *first_;
    const std::uint32_t index = from.taken++;
    if (from.taken == from.capacity) {
      first_ = from.next;
    }
    --size_;
    auto* const made = std::construct_at(from.first() + index);
    made->index = static_cast<std::uint16_t>(index);
    return *made;
  }

  static void give_back(Entry& entry) noexcept {
    block& from = block::of(entry);
    std::destroy_at(&entry);
    block::release(from, 1);
  }

 private:
  block* first_ = nullptr;  // none of them has had all of its entries taken
  std::size_t size_ = 0;
};

}  // namespace sluice::detail
