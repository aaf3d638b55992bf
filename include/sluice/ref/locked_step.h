// locked_step: a step up or down on a word in one locked instruction, and what its flags say about the new value.
//
// A fetch_add whose answer is looked at is `lock xadd`, a move and a comparison; one whose answer is thrown away is a
// plain `lock add`, and so is this. The instruction sets the flags of the processor from the new value anyhow, so a word
// that is laid out such that a flag tells every case apart costs what the bare pair costs. refcount.h is laid out so.
//
// Only where SLUICE_HAS_LOCKED_STEP is 1: x86-64, and not under a sanitizer, which looks at atomics but not into
// assembler: ThreadSanitizer would miss the order, AddressSanitizer a use after free.
//
// Thread safety:  any thread, beside any operation of the same std::atomic.
#pragma once

#include <atomic>
#include <cstdint>

#if !defined(__x86_64__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLUICE_HAS_LOCKED_STEP 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SLUICE_HAS_LOCKED_STEP 0
#endif
#endif
#if !defined(SLUICE_HAS_LOCKED_STEP)
#define SLUICE_HAS_LOCKED_STEP 1
#endif

#if SLUICE_HAS_LOCKED_STEP
namespace sluice::detail {

enum class step : std::uint8_t {
  fine,
  zero,   // up: the new value is 0; down: the old value was 0
  wrong,  // up: the new value is negative, after an overflow too; down: the old value was negative
};

// word + 1. As fetch_add, relaxed.
[[gnu::always_inline]] inline step locked_increment(std::atomic<std::int32_t>& word) noexcept {
  asm goto(
      "lock addl $1, %0\n\t"
      "js %l[wrong]\n\t"
      "je %l[zero]"
      : "+m"(word)
      :
      : "cc"
      : wrong, zero);
  return step::fine;
zero:
  return step::zero;
wrong:
  return step::wrong;
}

// word - 1. As fetch_sub, acq_rel: the locked instruction orders the processor, "memory" the compiler.
[[gnu::always_inline]] inline step locked_decrement(std::atomic<std::int32_t>& word) noexcept {
  bool was_zero = false;
  // c (borrow): 1 was taken from 0. l (the sign differs from the overflow): the exact difference is below 0.
  asm goto(
      "lock subl $1, %0\n\t"
      "setc %1\n\t"
      "jl %l[below]"
      : "+m"(word), "=q"(was_zero)
      :
      : "cc", "memory"
      : below);
  return step::fine;
below:
  return was_zero ? step::zero : step::wrong;
}

}  // namespace sluice::detail
#endif
