// domains: the hash domains that works of a pool have named, each held by a count, so that a cancel can look into its table.
//
// A domain is let go when no program holds it any more and nothing of it is queued or running: the pool looks when it has twice as
// many domains as after the last look. Only the pools hold such a domain, so no submit can name it any more.
//
// Thread safety:  any thread.
// Blocking:       a mutex. hold() of a domain that was named before takes no lock.
// Errors:         hold(): false if there is no memory.
// Invariants:     X4
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <new>
#include <unordered_set>

#include "sluice/base/check.h"
#include "sluice/base/mutex.h"

#include "wq/crew/engines.h"

namespace sluice::detail {

template <class Sync>
class basic_domains {
 public:
  using traits = pool_traits<Sync>;
  using key_table = basic_key_table<Sync>;

  explicit basic_domains(basic_pool<Sync>& owner) noexcept : pool_(owner) {}
  // Requires: nothing of the pool is queued.
  ~basic_domains() {
    const scoped_lock held(lock_);
    for (hash_domain* const domain : all_) {
      SLUICE_CHECK(disown(traits::table(*domain)), "a pool was destroyed while a worker of it looks into a key table");
      traits::drop(*domain);
    }
  }
  basic_domains(const basic_domains&) = delete;
  basic_domains& operator=(const basic_domains&) = delete;

  // Requires: the caller owns a count of the domain.
  [[nodiscard, gnu::always_inline]] inline bool hold(hash_domain& domain) noexcept {
    if (cached(domain).load(std::memory_order_acquire) == &domain) [[likely]] {  // acquire: pairs with the store
      return true;
    }
    return hold_another(domain);
  }
  // Those of a chain.
  [[nodiscard]] bool hold_all(const work& head) noexcept {
    for (const work* w = &head; w != nullptr; w = w->link()) {
      if (w->keyed() && !hold(*w->domain())) {
        return false;
      }
    }
    return true;
  }

  // Calls visit(domain, table) for each; no domain is let go meanwhile.
  template <class Visit>
  void for_each(Visit visit) noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    for (hash_domain* const domain : all_) {
      visit(*domain, traits::table(*domain));
    }
  }
  // Calls visit(table) if the pool holds the domain, which is not let go meanwhile. Returns false if it does not.
  template <class Visit>
  [[nodiscard]] bool with(hash_domain& domain, Visit visit) noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    if (!all_.contains(&domain)) {
      return false;
    }
    visit(traits::table(domain));
    return true;
  }
  [[nodiscard]] std::size_t size() noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    return all_.size();
  }

 private:
  template <class Value>
  using atomic = typename Sync::template atomic<Value>;

  static constexpr std::size_t cache_places = 16;
  static constexpr std::size_t few = 16;

  [[nodiscard]] atomic<hash_domain*>& cached(hash_domain& domain) noexcept {
    return cache_[reinterpret_cast<std::uintptr_t>(&domain) / alignof(std::max_align_t) % cache_places];
  }

  [[nodiscard, gnu::noinline]] bool hold_another(hash_domain& domain) noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    if (!all_.contains(&domain)) {
      let_go_unused_locked();
      try {
        all_.insert(&domain);
      } catch (const std::bad_alloc&) {
        return false;
      }
      traits::hold(domain);
    }
    cached(domain).store(&domain, std::memory_order_release);  // under the lock: one that is let go is never cached
    return true;
  }

  void let_go_unused_locked() noexcept SLUICE_REQUIRES(lock_) {
    if (all_.size() < std::max(few, 2 * kept_)) {
      return;
    }
    std::erase_if(all_, [this](hash_domain* domain) {
      key_table& table = traits::table(*domain);
      if (!traits::unused(*domain) || !table.idle() || !disown(table)) {
        return false;
      }
      if (cached(*domain).load(std::memory_order_relaxed) == domain) {  // relaxed: written under the lock
        cached(*domain).store(nullptr, std::memory_order_relaxed);
      }
      traits::drop(*domain);
      return true;
    });
    kept_ = all_.size();
  }

  // The table may be owned by another pool from here on. Returns false if a worker still looks into it. Requires: nothing of
  // this pool is queued in it.
  [[nodiscard]] bool disown(key_table& table) noexcept {
    basic_account<Sync>* owner = nullptr;
    pool_.engines.for_each([&](basic_account<Sync>& at) {
      owner = table.owner.load(std::memory_order_relaxed) == &at ? &at : owner;  // relaxed: this pool's own doing
    });
    if (owner == nullptr) {
      return true;
    }
    {
      // Before it is given up: the next owner lists it in a list of its own. A worker that looks into the table found it listed.
      const scoped_lock held(owner->lock);
      owner->unlist_table_locked(table);
      // Something came meanwhile, or a worker looks into it. acquire: pairs with the end of a visit
      if (table.noticed.load(std::memory_order_relaxed) || table.visitors.load(std::memory_order_acquire) != 0) {
        return false;
      }
    }
    // release: what this pool did to the table's hooks comes before what the next owner does.
    table.owner.store(nullptr, std::memory_order_release);
    return true;
  }

  basic_pool<Sync>& pool_;
  std::array<atomic<hash_domain*>, cache_places> cache_{};
  typename Sync::mutex lock_;
  std::unordered_set<hash_domain*> all_ SLUICE_GUARDED_BY(lock_);
  std::size_t kept_ SLUICE_GUARDED_BY(lock_) = 0;
};

}  // namespace sluice::detail
