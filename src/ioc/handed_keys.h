// handed_keys: how many of the requests that a queue has handed to its io_wq share a worker with another one.
//
// Works of one key run one at a time. Of the requests with one key that are handed at once, all but the first wait in
// the io_wq and occupy no worker. A queue whose share of the workers counted each of them would be stopped by one
// slow write to a hashed file: its reads could not be handed while the writes behind that one wait for their key. So
// a queue counts one request for each key: handed() - sharers() workers at most are occupied.
//
// The table has a slot for each of `slots` hashes. A key whose slot another key has is not counted as shared: its
// requests count one by one, which is too many and never too few.
//
// Ownership:      a member of the queue.
// Thread safety:  none: the queue's lock.
// Blocking:       never; no allocation.
// Cost:           24 bytes per slot.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "sluice/base/check.h"
#include "sluice/wq/hash_domain.h"

namespace sluice::detail {

class handed_keys {
 public:
  static constexpr std::size_t slots = 64;

  // A request with this key is handed. Returns what remove() needs once it is not handed any more; 0: it is not
  // counted here.
  using ticket = std::uint8_t;
  [[nodiscard]] ticket add(const hash_domain* domain, std::uint64_t key) noexcept {
    const std::size_t index = slot_of(domain, key);
    slot& mine = slots_.at(index);
    if (mine.count == 0) {
      mine = {.domain = domain, .key = key, .count = 1};
    } else if (mine.domain == domain && mine.key == key) {
      ++mine.count;
      ++sharers_;
    } else {
      return 0;
    }
    return static_cast<ticket>(index + 1);
  }
  // Requires: a ticket of add(), not 0, for the first time.
  void remove(ticket counted) noexcept {
    SLUICE_CHECK(counted != 0 && slots_.at(counted - 1U).count != 0,
                 "remove(): no request with this ticket is counted");
    if (--slots_.at(counted - 1U).count != 0) {
      --sharers_;
    }
  }

  [[nodiscard]] std::uint32_t sharers() const noexcept { return sharers_; }

 private:
  struct slot {
    const hash_domain* domain = nullptr;
    std::uint64_t key = 0;
    std::uint32_t count = 0;  // 0: free
  };

  [[nodiscard]] static std::size_t slot_of(const hash_domain* domain, std::uint64_t key) noexcept {
    constexpr std::uint64_t golden = 0x9E3779B97F4A7C15;  // spreads what differs over the upper bits
    static_assert(slots == 1U << 6U);
    return static_cast<std::size_t>(((key ^ reinterpret_cast<std::uintptr_t>(domain)) * golden) >> 58U);
  }

  std::array<slot, slots> slots_{};
  std::uint32_t sharers_ = 0;
};

}  // namespace sluice::detail
