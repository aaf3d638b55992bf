#include "race/harness/quarantine.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>

#include "race/harness/sanitizers.h"

#if defined(RACE_ASAN)

namespace race::detail {

void quarantine_begin() noexcept {}
bool quarantine_release() noexcept {
  return false;
}
void quarantine_keep() noexcept {}

}  // namespace race::detail

#else

namespace race::detail {
namespace {

// A list beside the blocks, because a late user reads what stands in them.
struct held_blocks {
  void** items = nullptr;
  std::size_t count = 0;
  std::size_t capacity = 0;
  bool on = false;
};

thread_local constinit held_blocks held;

void free_block(void* block) noexcept {
  if (block == nullptr) {
    return;
  }
  if (!held.on) {
    std::free(block);
    return;
  }
  if (held.count == held.capacity) {
    const std::size_t grown = held.capacity == 0 ? 1024 : held.capacity * 2;
    void* items = std::realloc(static_cast<void*>(held.items), grown * sizeof(void*));
    if (items == nullptr) {
      return;
    }
    held.items = static_cast<void**>(items);
    held.capacity = grown;
  }
  held.items[held.count++] = block;
}

void* new_block(std::size_t bytes, std::size_t alignment) {
  bytes = bytes == 0 ? 1 : bytes;
  void* block = nullptr;
  if (alignment <= alignof(std::max_align_t)) {
    block = std::malloc(bytes);
  } else {
    block = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  }
  if (block == nullptr) {
    throw std::bad_alloc();
  }
  return block;
}

}  // namespace

void quarantine_begin() noexcept {
  held.on = true;
}

bool quarantine_release() noexcept {
  held.on = false;
  std::sort(held.items, held.items + held.count);
  void** const last = std::unique(held.items, held.items + held.count);
  std::for_each(held.items, last, [](void* block) { std::free(block); });
  const bool twice = last != held.items + held.count;
  held.count = 0;
  return twice;
}

void quarantine_keep() noexcept {
  held.on = false;
  // The list is let go of with the blocks: a schedule that had to be abandoned is the last of its exploration.
  held = {};
}

}  // namespace race::detail

void* operator new(std::size_t bytes) {
  return race::detail::new_block(bytes, 0);
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return race::detail::new_block(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* block) noexcept {
  race::detail::free_block(block);
}
void operator delete(void* block, std::size_t) noexcept {
  race::detail::free_block(block);
}
void operator delete(void* block, std::align_val_t) noexcept {
  race::detail::free_block(block);
}
void operator delete(void* block, std::size_t, std::align_val_t) noexcept {
  race::detail::free_block(block);
}

#endif
