// hash_domain: the space in which the keys of keyed works are compared.
//
// At most one work of a key runs at a time, and works of a key start in the order of their submits, over all engines
// and all wqs that use the domain. Keys are exact: two different keys never wait for each other. A key has an entry only
// while a work of it is queued or running; some entries are kept for the next keys.
//
// Ownership:      kref; a wq holds a count of each domain that it was given a work of. It drops the count when it ends, or, some time
//                 later, when only wqs hold the domain and no work of it is queued or running.
//                 A submitter holds a count until submit has returned: a work whose release drops the last count is not enough.
// Thread safety:  any thread.
// Blocking:       never.
// Errors:         create: ENOMEM. A submit that needs room for a new key may be refused with ENOMEM.
// Limits:         as many live keys as memory has: at most 128 bytes each.
// Invariants:     H1 H2 H3 H4 H5
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "sluice/base/error.h"
#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"

namespace sluice {

namespace detail {
class key_table;
}  // namespace detail

class hash_domain : public kref<hash_domain> {
 public:
  [[nodiscard]] static result<ref<hash_domain>> create();

  // Keys that have a work queued or running. A snapshot; works that came last may not be with their keys yet, until a
  // worker looks, or io_wq::stats().
  [[nodiscard]] std::size_t live_keys() const noexcept;
  // Whether a worker owns a run of this key. A snapshot.
  [[nodiscard]] bool busy(std::uint64_t key) const noexcept;

  // For the wq floor.
  [[nodiscard]] detail::key_table& table() noexcept { return *table_; }
  void hold_by_pool() noexcept;
  void drop_by_pool() noexcept;
  // Whether no program holds a count: then no work of the domain can be submitted any more.
  [[nodiscard]] bool held_by_pools_only() const noexcept;

 private:
  friend struct delete_release;

  hash_domain();
  ~hash_domain();

  const std::unique_ptr<detail::key_table> table_;
  std::uint32_t pools_ = 0;  // counts that pools hold; under a lock of the wq floor
};

}  // namespace sluice
