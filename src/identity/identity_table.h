// identity_table: the live identities of the process, so that equal ones are one value.
//
// Holds no counts. A lookup takes get_unless_zero under the lock (rule 3 of kref.h); the last put unlinks the value under
// the same lock before it is freed. A value whose last count has gone but which is still listed is passed over.
//
// Thread safety:  any thread.
// Blocking:       the lock, for a lookup; nothing foreign is called under it.
// Invariants:     I4
#pragma once

#include <cstddef>
#include <unordered_map>

#include "sluice/base/mutex.h"
#include "sluice/identity/identity.h"

namespace sluice {

class identity_table {
 public:
  // Never destroyed: late threads may put identities.
  [[nodiscard]] static identity_table& instance() noexcept;

  // The one value of these fields. May throw std::bad_alloc.
  [[nodiscard]] ref<const identity> find_or_add(identity_fields fields);
  void remove(const identity* gone) noexcept;
  [[nodiscard]] std::size_t size() noexcept;

  [[nodiscard]] static const identity& neutral() noexcept;

 private:
  using index = std::unordered_multimap<std::size_t, const identity*>;

  [[nodiscard]] ref<const identity> find_locked(std::size_t hash, const identity_fields& fields) const
      SLUICE_REQUIRES(lock_);

  mutex lock_;
  index entries_ SLUICE_GUARDED_BY(lock_);
};

// Two directories or control groups, compared by value; either may be absent.
template <class Value>
[[nodiscard]] bool same(const ref<const Value>& a, const ref<const Value>& b) noexcept {
  return a == b || (a && b && *a == *b);
}

// What the calling thread wears and what it was before, both set by its wardrobe; null while nothing is worn.
namespace detail {
extern constinit thread_local const identity* worn_by_this_thread;
extern constinit thread_local const thread_credentials* original_of_this_thread;
}  // namespace detail

}  // namespace sluice
