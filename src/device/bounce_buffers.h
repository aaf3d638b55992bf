// bounce_buffers: a few aligned buffers for transfers whose own memory or range is not aligned.
//
// Ownership:      owns the memory; a lease is one buffer, given back at its end.
// Thread safety:  any thread.
// Blocking:       take() waits while all are lent. An interrupt of a wq ends that wait if the probe says so.
// Errors:         of create ENOMEM; of take ECANCELED.
// Limits:         `count` buffers of `bytes` each, aligned to a page. Untouched they cost address space only.
// Cost:           a compare-exchange to take one, an exchange to give it back.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "sluice/base/error.h"
#include "sluice/base/sync.h"
#include "sluice/ioc/cancel_probe.h"

namespace sluice::detail {

class bounce_buffers {
 public:
  static constexpr std::uint32_t count = 4;

  class lease {
   public:
    lease(lease&& other) noexcept : home_(std::exchange(other.home_, nullptr)), index_(other.index_) {}
    lease& operator=(lease&&) = delete;
    ~lease() {
      if (home_ != nullptr) {
        // release: pairs with the acquire in take(): the next one to have it writes after us.
        home_->free_.fetch_or(1U << index_, std::memory_order_release);
        os_sync::wake(home_->free_, 1);
      }
    }
    [[nodiscard]] std::span<std::byte> bytes() const noexcept {
      return {home_->memory_ + index_ * home_->bytes_, home_->bytes_};
    }

   private:
    friend class bounce_buffers;
    lease(bounce_buffers& home, std::uint32_t index) noexcept : home_(&home), index_(index) {}

    bounce_buffers* home_;
    std::uint32_t index_;
  };

  // `bytes` each. Requires: a multiple of the page size.
  explicit bounce_buffers(std::size_t bytes) noexcept
      : bytes_(bytes),
        memory_(static_cast<std::byte*>(::mmap(nullptr, count * bytes, PROT_READ | PROT_WRITE,
                                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {}
  ~bounce_buffers() {
    if (made()) {
      ::munmap(memory_, count * bytes_);
    }
  }
  bounce_buffers(const bounce_buffers&) = delete;
  bounce_buffers& operator=(const bounce_buffers&) = delete;

  // Whether there was memory.
  [[nodiscard]] bool made() const noexcept { return memory_ != MAP_FAILED; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

  [[nodiscard]] result<lease> take(cancel_probe probe) noexcept {
    for (;;) {
      std::uint32_t free = free_.load(std::memory_order_relaxed);  // relaxed: the compare-exchange decides
      while (free != 0) {
        const auto index = static_cast<std::uint32_t>(std::countr_zero(free));
        if (free_.compare_exchange_weak(free, free & ~(1U << index), std::memory_order_acquire,
                                        std::memory_order_relaxed)) {
          return lease(*this, index);
        }
      }
      if (probe.cancelled()) {
        return fail(ECANCELED);
      }
      os_sync::wait(free_, 0);
    }
  }

 private:
  const std::size_t bytes_;
  std::byte* const memory_;
  std::atomic<std::uint32_t> free_{(1U << count) - 1};  // a bit for each
};

}  // namespace sluice::detail
