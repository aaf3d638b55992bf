#include "sluice/ref/this_core.h"

#include <unistd.h>

#include <algorithm>
#include <bit>

#include "sluice/base/check.h"

#if defined(SLUICE_HAS_RSEQ) && defined(__x86_64__) && __has_include(<linux/membarrier.h>) && \
    !defined(__SANITIZE_THREAD__)
#if !defined(__has_feature)
#define SLUICE_RESTARTABLE 1
#elif !__has_feature(thread_sanitizer)
#define SLUICE_RESTARTABLE 1
#endif
#endif

#if defined(SLUICE_RESTARTABLE)
#include <linux/membarrier.h>
#include <sys/syscall.h>

#include <cstddef>
#endif

namespace sluice {
namespace {

constexpr std::uint32_t most = 64;

std::uint32_t configured_cores() noexcept {
  static const auto cores = static_cast<std::uint32_t>(std::max(::sysconf(_SC_NPROCESSORS_CONF), 1L));
  return cores;
}

}  // namespace

std::uint32_t this_core::stripes() noexcept {
  return std::bit_ceil(std::min(configured_cores(), most));
}

#if defined(SLUICE_RESTARTABLE)

namespace {

bool membarrier(int command) noexcept {
  return ::syscall(SYS_membarrier, command, 0, 0) == 0;
}

// The kernel's interface: where in the thread's area what is, and what an address to restart at must be preceded by.
static_assert(offsetof(struct ::rseq, cpu_id) == 4 && offsetof(struct ::rseq, rseq_cs) == 8 && RSEQ_SIG == 0x53053053);
static_assert(sizeof(core_number<>) == 64 && sizeof(std::atomic<std::int64_t>) == 8);

}  // namespace

std::uint32_t restartable_core::numbers() noexcept {
  // Some cores with numbers and some without would be slower than locked stripes for all.
  static const bool there =
      __rseq_size != 0 && configured_cores() <= most && membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ);
  return there ? configured_cores() : 0;
}

bool restartable_core::add(core_number<>* first, std::uint32_t count, const std::atomic<std::uint32_t>& stop,
                           std::int64_t change) noexcept {
  char* const area = static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset;
  // The sequence in progress, for the kernel. Taken back in the end: it must not outlive this code (dlclose).
  const std::atomic_ref<std::uint64_t> in_progress(*reinterpret_cast<std::uint64_t*>(area + 8));
  for (;;) {
    // 1 to 2 is the sequence: nothing in it is seen by others but its last instruction. 4: where the kernel goes on if it
    // did not get that far. A thread that is not registered reads a core number beyond all others.
    asm goto(
        ".pushsection __rseq_cs, \"aw\"\n\t"
        ".balign 32\n"
        "3:\n\t"
        ".long 0, 0\n\t"
        ".quad 1f, 2f - 1f, 4f\n\t"
        ".popsection\n\t"
        "leaq 3b(%%rip), %%rax\n\t"
        "movq %%rax, 8(%[area])\n"
        "1:\n\t"
        "cmpl $0, %[stop]\n\t"
        "jne %l[refused]\n\t"
        "movl 4(%[area]), %%eax\n\t"
        "cmpl %[count], %%eax\n\t"
        "jae %l[refused]\n\t"
        "shlq $6, %%rax\n\t"
        "addq %[change], (%[first], %%rax)\n"
        "2:\n\t"
        ".pushsection .text.sluice_restart, \"ax\"\n\t"
        ".byte 0x0f, 0xb9, 0x3d\n\t"
        ".long 0x53053053\n"
        "4:\n\t"
        "jmp %l[restarted]\n\t"
        ".popsection"
        :
        : [area] "r"(area), [stop] "m"(stop), [count] "r"(count), [first] "r"(first), [change] "r"(change)
        : "rax", "cc", "memory"
        : refused, restarted);
    in_progress.store(0, std::memory_order_relaxed);  // relaxed: the kernel reads it on this core
    return true;
  restarted:;
  }
refused:
  in_progress.store(0, std::memory_order_relaxed);
  return false;
}

void restartable_core::fence() noexcept {
  // The second try is for a child of fork() on a kernel that does not hand the registration on.
  SLUICE_CHECK(membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ) ||
                   (membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ) &&
                    membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ)),
               "membarrier(2) was taken away after it had been there");
}

#else

std::uint32_t restartable_core::numbers() noexcept {
  return 0;
}
bool restartable_core::add(core_number<>* /*first*/, std::uint32_t /*count*/,
                           const std::atomic<std::uint32_t>& /*stop*/, std::int64_t /*change*/) noexcept {
  return false;
}
void restartable_core::fence() noexcept {}

#endif

}  // namespace sluice
