// own_new: operator new and delete of a test's program, by a function of the test that counts, or refuses.
//
// Included by one file of the program, which defines test::block_of.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace test {

// Memory from malloc, or null: then new throws, or gives null if it may not. Called by any thread.
void* block_of(std::size_t bytes) noexcept;

// Blocks that were made and not deleted yet.
inline std::atomic<std::int64_t> live_blocks{0};

inline void* counted_block(std::size_t bytes) noexcept {
  void* const made = block_of(bytes);
  // relaxed, here and below: a tally that is read when the other threads have been joined.
  live_blocks.fetch_add(made != nullptr ? 1 : 0, std::memory_order_relaxed);
  return made;
}

inline void delete_block(void* memory) noexcept {
  live_blocks.fetch_sub(memory != nullptr ? 1 : 0, std::memory_order_relaxed);
  std::free(memory);
}

// One that begins at a multiple of `alignment`. The address of the whole block stands before it.
inline void* counted_aligned_block(std::size_t bytes, std::size_t alignment) noexcept {
  void* const whole = counted_block(sizeof(void*) + alignment + bytes);
  if (whole == nullptr) {
    return nullptr;
  }
  void* part = static_cast<void**>(whole) + 1;
  std::size_t room = alignment + bytes;
  std::align(alignment, bytes, part, room);
  static_cast<void**>(part)[-1] = whole;
  return part;
}

inline void delete_aligned_block(void* memory) noexcept {
  delete_block(memory != nullptr ? static_cast<void**>(memory)[-1] : nullptr);
}

inline void* or_throw(void* made) {
  if (made == nullptr) {
    throw std::bad_alloc();
  }
  return made;
}

}  // namespace test

// NOLINTBEGIN(misc-definitions-in-headers): a program replaces them once, in the file that includes this
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  return test::or_throw(test::counted_block(bytes));
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t& /*quiet*/) noexcept {
  return test::counted_block(bytes);
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return test::or_throw(test::counted_aligned_block(bytes, static_cast<std::size_t>(alignment)));
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment,
                                     const std::nothrow_t& /*quiet*/) noexcept {
  return test::counted_aligned_block(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  test::delete_block(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t /*bytes*/) noexcept {
  test::delete_block(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t /*alignment*/) noexcept {
  test::delete_aligned_block(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t /*bytes*/, std::align_val_t /*alignment*/) noexcept {
  test::delete_aligned_block(memory);
}
// The array forms too: a sanitizer's runtime has its own, which would not come here.
[[gnu::noinline]] void* operator new[](std::size_t bytes) {
  return test::or_throw(test::counted_block(bytes));
}
[[gnu::noinline]] void* operator new[](std::size_t bytes, const std::nothrow_t& /*quiet*/) noexcept {
  return test::counted_block(bytes);
}
[[gnu::noinline]] void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return test::or_throw(test::counted_aligned_block(bytes, static_cast<std::size_t>(alignment)));
}
[[gnu::noinline]] void* operator new[](std::size_t bytes, std::align_val_t alignment,
                                       const std::nothrow_t& /*quiet*/) noexcept {
  return test::counted_aligned_block(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete[](void* memory) noexcept {
  test::delete_block(memory);
}
[[gnu::noinline]] void operator delete[](void* memory, std::size_t /*bytes*/) noexcept {
  test::delete_block(memory);
}
[[gnu::noinline]] void operator delete[](void* memory, std::align_val_t /*alignment*/) noexcept {
  test::delete_aligned_block(memory);
}
[[gnu::noinline]] void operator delete[](void* memory, std::size_t /*bytes*/, std::align_val_t /*alignment*/) noexcept {
  test::delete_aligned_block(memory);
}
// NOLINTEND(misc-definitions-in-headers)
