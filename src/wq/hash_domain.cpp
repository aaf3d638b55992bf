#include "sluice/wq/hash_domain.h"

#include <algorithm>
#include <new>
#include <utility>

#include "key_table.h"

namespace sluice {
namespace detail {

key_turn key_table::enter(work& w, wq_core& home) {
  const mutex_lock held(lock_);
  const auto [place, fresh] = keys_.try_emplace(w.key());
  if (fresh) {
    return key_turn::now;
  }
  place->second.waiting.push_back({&w, &home});
  return key_turn::later;
}

std::optional<key_waiter> key_table::leave(std::uint64_t key) noexcept {
  const mutex_lock held(lock_);
  const auto place = keys_.find(key);
  SLUICE_CHECK(place != keys_.end(), "a key's turn can end only once");
  entry& one = place->second;
  one.busy = false;
  if (one.waiting.empty()) {
    keys_.erase(place);
    return std::nullopt;
  }
  const key_waiter next = one.waiting.front();
  one.waiting.pop_front();
  return next;
}

void key_table::set_busy(std::uint64_t key) noexcept {
  const mutex_lock held(lock_);
  const auto place = keys_.find(key);
  SLUICE_CHECK(place != keys_.end() && !place->second.busy, "one run per key (H1)");
  place->second.busy = true;
}

bool key_table::remove(work& w) noexcept {
  const mutex_lock held(lock_);
  const auto place = keys_.find(w.key());
  if (place == keys_.end()) {
    return false;
  }
  auto& waiting = place->second.waiting;
  const auto at = std::ranges::find(waiting, &w, &key_waiter::item);
  if (at == waiting.end()) {
    return false;
  }
  waiting.erase(at);
  return true;
}

void key_table::waiting_of(const wq_core& home, std::vector<work*>& out) const {
  const mutex_lock held(lock_);
  for (const auto& [key, one] : keys_) {
    for (const key_waiter& waiter : one.waiting) {
      if (waiter.home == &home) {
        out.push_back(waiter.item);
      }
    }
  }
}

std::size_t key_table::size() const noexcept {
  const mutex_lock held(lock_);
  return keys_.size();
}

bool key_table::busy(std::uint64_t key) const noexcept {
  const mutex_lock held(lock_);
  const auto place = keys_.find(key);
  return place != keys_.end() && place->second.busy;
}

}  // namespace detail

hash_domain::hash_domain(std::unique_ptr<detail::key_table> table) noexcept : table_(std::move(table)) {}
hash_domain::~hash_domain() = default;

result<ref<hash_domain>> hash_domain::create() {
  try {
    return ref<hash_domain>::adopt(new hash_domain(std::make_unique<detail::key_table>()));
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
