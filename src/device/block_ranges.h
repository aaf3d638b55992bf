// block_ranges: which blocks of which file are being changed, so that changes that exclude each other take turns.
//
//   block_ranges::hold mine(key, first, last, change_kind::part);
//   if (auto got = ranges.acquire(mine, probe); got) { … read, change and write the blocks …; ranges.release(mine); }
//
// A change of part of a block reads it, changes it and writes it all: another change of that block in between would be
// undone. So a change of parts excludes all other changes of its blocks. Changes of whole blocks do not exclude each
// other. Changes of other blocks, or of another file, do not wait.
//
// A hold stands in a list from its arrival to its release. It has its blocks once no earlier one of the list excludes
// it. So none starves, and as each thread holds one range at a time, no circle of waits is possible.
//
// Ownership:      a hold is its caller's, on his stack; it is in the list from acquire to release.
// Thread safety:  any thread.
// Blocking:       acquire waits for those before it. An interrupt of a wq ends that wait if the probe says so.
// Ordering:       what was done before a release is visible after the acquire that it let through.
// Errors:         ECANCELED: the hold is not in the list any more.
// Cost:           two locks per change, one of `shards`; a look at each hold of the shard: at most one per worker.
#pragma once

#include <array>
#include <cstdint>

#include "sluice/base/check.h"
#include "sluice/base/error.h"
#include "sluice/base/mutex.h"
#include "sluice/base/sync.h"
#include "sluice/ioc/cancel_probe.h"

namespace sluice::detail {

enum class change_kind : std::uint8_t { part, whole };

template <class Sync>
class basic_block_ranges {
 public:
  // Blocks first … last of the file with that key.
  class hold {
   public:
    hold(std::uint64_t key, std::uint64_t first, std::uint64_t last, change_kind kind) noexcept
        : key_(key), first_(first), last_(last), kind_(kind) {
      SLUICE_CHECK_OP(first, <=, last);
    }
    hold(const hold&) = delete;
    hold& operator=(const hold&) = delete;

   private:
    friend class basic_block_ranges;

    [[nodiscard]] bool excludes(const hold& other) const noexcept {
      return key_ == other.key_ && first_ <= other.last_ && other.first_ <= last_ &&
             (kind_ == change_kind::part || other.kind_ == change_kind::part);
    }

    const std::uint64_t key_, first_, last_;
    const change_kind kind_;
    hold* next_ = nullptr;                                      // guarded by the shard's lock
    typename Sync::template atomic<std::uint32_t> granted_{0};  // written under the shard's lock, slept on without it
  };

  [[nodiscard]] result<void> acquire(hold& mine, cancel_probe probe) noexcept {
    shard& home = shard_of(mine.key_);
    {
      const scoped_lock held(home.lock);
      hold** end = &home.oldest;
      while (*end != nullptr) {
        end = &(*end)->next_;
      }
      *end = &mine;
      grant_locked(home, mine);
    }
    // acquire: pairs with the release in grant_locked(): what those before us did to the blocks is done.
    while (mine.granted_.load(std::memory_order_acquire) == 0) {
      if (probe.cancelled()) {
        release(mine);
        return fail(ECANCELED);
      }
      Sync::wait(mine.granted_, 0);
    }
    return {};
  }

  void release(hold& mine) noexcept {
    shard& home = shard_of(mine.key_);
    const scoped_lock held(home.lock);
    hold** place = &home.oldest;
    while (*place != &mine) {
      SLUICE_CHECK(*place != nullptr, "released without being held");
      place = &(*place)->next_;
    }
    *place = mine.next_;
    // Only those behind it may have waited for it.
    for (hold* each = mine.next_; each != nullptr; each = each->next_) {
      if (each->excludes(mine)) {
        grant_locked(home, *each);
      }
    }
  }

 private:
  static constexpr std::size_t shards = 16;

  struct alignas(64) shard {
    typename Sync::mutex lock;
    hold* oldest SLUICE_GUARDED_BY(lock) = nullptr;
  };

  // Lets it go if no earlier one excludes it.
  static void grant_locked(shard& home, hold& one) noexcept SLUICE_REQUIRES(home.lock) {
    for (const hold* earlier = home.oldest; earlier != &one; earlier = earlier->next_) {
      if (earlier->excludes(one)) {
        return;
      }
    }
    // release: pairs with acquire(); the lock orders the changes of those before it before this.
    one.granted_.store(1, std::memory_order_release);
    Sync::wake(one.granted_, 1);
  }

  [[nodiscard]] shard& shard_of(std::uint64_t key) noexcept {
    return shards_[static_cast<std::size_t>((key * 0x9E3779B97F4A7C15ULL) >> 60)];
  }
  static_assert(shards == 1U << 4);

  std::array<shard, shards> shards_;
};

using block_ranges = basic_block_ranges<os_sync>;

}  // namespace sluice::detail
