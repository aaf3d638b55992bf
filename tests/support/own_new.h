// own_new: operator new and delete of a test's program, by a function of the test that counts, or refuses.
//
// Included by one file of the program, which defines test::block_of.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

namespace test {

// Memory from malloc, or null: then new throws, or gives null if it may not. Called by any thread.
void* block_of(std::size_t bytes) noexcept;

}  // namespace test

// NOLINTBEGIN(misc-definitions-in-headers): a program replaces them once, in the file that includes this
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  if (void* const made = test::block_of(bytes)) {
    return made;
  }
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t& /*quiet*/) noexcept {
  return test::block_of(bytes);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t /*bytes*/) noexcept {
  std::free(memory);
}
// NOLINTEND(misc-definitions-in-headers)
