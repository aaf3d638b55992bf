#include "sluice/wq/hash_domain.h"

#include <sys/random.h>

#include <chrono>
#include <new>

#include "sluice/base/mutex.h"

#include "wq/os/os_pool.h"

namespace sluice {

namespace {

// Secret, so that no client can choose keys that fall into one bucket.
std::uint64_t random_salt() noexcept {
  std::uint64_t salt = 0;
  if (::getrandom(&salt, sizeof salt, GRND_NONBLOCK) != static_cast<ssize_t>(sizeof salt)) {
    salt = static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  }
  return salt;
}

// Pools take and drop their counts under it, so that how many there are holds still while one looks.
constinit mutex pools_lock;

}  // namespace

hash_domain::hash_domain() : table_(std::make_unique<detail::key_table>(this, random_salt())) {}
hash_domain::~hash_domain() = default;

result<ref<hash_domain>> hash_domain::create() {
  try {
    return ref<hash_domain>::adopt(new hash_domain);
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
}

void hash_domain::hold_by_pool() noexcept {
  const mutex_lock held(pools_lock);
  get();
  ++pools_;
}

void hash_domain::drop_by_pool() noexcept {
  {
    const mutex_lock held(pools_lock);
    --pools_;
  }
  put();
}

bool hash_domain::held_by_pools_only() const noexcept {
  const mutex_lock held(pools_lock);
  return use_count() == pools_;
}

std::size_t hash_domain::live_keys() const noexcept {
  return table_->size();
}

bool hash_domain::busy(std::uint64_t key) const noexcept {
  return table_->busy(key);
}

}  // namespace sluice
