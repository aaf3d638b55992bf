#include "sluice/wq/hash_domain.h"

#include <new>

#include "core.h"

namespace sluice {

hash_domain::hash_domain() : table_(std::make_unique<detail::key_table>(this)) {}
hash_domain::~hash_domain() = default;

result<ref<hash_domain>> hash_domain::create() {
  try {
    return ref<hash_domain>::adopt(new hash_domain);
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
}

std::size_t hash_domain::live_keys() const noexcept {
  return table_->size();
}

bool hash_domain::busy(std::uint64_t key) const noexcept {
  return table_->busy(key);
}

}  // namespace sluice
