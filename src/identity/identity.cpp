#include "sluice/identity/identity.h"

#include <algorithm>
#include <functional>

#include "sluice/base/immortal.h"

#include "identity_table.h"

namespace sluice {
namespace {

class hasher {
 public:
  template <class Value>
  hasher& add(const Value& value) noexcept {
    constexpr std::size_t odd = 0x9E3779B97F4A7C15U;  // spreads neighbours
    sum_ = (sum_ ^ std::hash<Value>{}(value)) * odd;
    return *this;
  }
  [[nodiscard]] std::size_t sum() const noexcept { return sum_; }

 private:
  std::size_t sum_ = 0;
};

std::size_t hash_of(const identity_fields& fields) noexcept {
  hasher all;
  if (fields.who) {
    all.add(fields.who->uid).add(fields.who->gid).add(fields.who->effective.bits());
    for (const gid_t group : fields.who->groups) {
      all.add(group);
    }
  }
  if (fields.working_directory) {
    const directory_key& key = fields.working_directory->key();
    all.add(key.mount).add(key.device).add(key.inode);
  }
  if (fields.group) {
    all.add(fields.group->hierarchy().controllers).add(fields.group->name());
  }
  all.add(fields.umask.has_value()).add(fields.umask.value_or(0));
  all.add(fields.file_size_limit.has_value()).add(fields.file_size_limit.value_or(0));
  all.add(fields.priority.has_value()).add(fields.priority.value_or(ioprio{}).raw());
  all.add(fields.file_table.get()).add(fields.audit);
  return all.sum();
}

}  // namespace

constinit thread_local const identity* detail::worn_by_this_thread = nullptr;
constinit thread_local const thread_credentials* detail::original_of_this_thread = nullptr;

const identity* current_identity() noexcept {
  return detail::worn_by_this_thread;
}

bool operator==(const identity_fields& a, const identity_fields& b) noexcept {
  return a.who == b.who && a.umask == b.umask && a.file_size_limit == b.file_size_limit && a.priority == b.priority &&
         a.audit == b.audit && a.file_table == b.file_table && same(a.working_directory, b.working_directory) &&
         same(a.group, b.group);
}

identity_table& identity_table::instance() noexcept {
  static immortal<identity_table> table;
  return *table;
}

const identity& identity_table::neutral() noexcept {
  // Its first count is never put. Not in the table: nobody looks for it there.
  static immortal<identity> value{identity_fields{}};
  return *value;
}

ref<const identity> identity_table::find_locked(std::size_t hash, const identity_fields& fields) const {
  const auto [first, last] = entries_.equal_range(hash);
  for (auto entry = first; entry != last; ++entry) {
    // Fields stay readable while it is listed, even after the last put; the count decides whether it may be taken.
    if (entry->second->fields_ == fields) {
      if (auto found = ref<const identity>::try_get(entry->second)) {
        return found;
      }
    }
  }
  return nullptr;
}

ref<const identity> identity_table::find_or_add(identity_fields fields) {
  const std::size_t hash = hash_of(fields);
  {
    mutex_lock hold(lock_);
    if (auto found = find_locked(hash, fields)) {
      return found;
    }
  }
  // Made before the lock is taken and, if somebody was faster, dropped after it is let go: its release takes the lock.
  auto made = ref<const identity>::adopt(new identity(std::move(fields)));
  mutex_lock hold(lock_);
  if (auto found = find_locked(hash, made->fields_)) {
    return found;
  }
  entries_.emplace(hash, made.get());
  return made;
}

void identity_table::remove(const identity* gone) noexcept {
  const std::size_t hash = hash_of(gone->fields_);
  mutex_lock hold(lock_);
  const auto [first, last] = entries_.equal_range(hash);
  const auto entry = std::find_if(first, last, [gone](const auto& each) { return each.second == gone; });
  if (entry != last) {  // not listed: made and never added
    entries_.erase(entry);
  }
}

std::size_t identity_table::size() noexcept {
  mutex_lock hold(lock_);
  return entries_.size();
}

void identity_release::operator()(identity* last) const noexcept {
  identity_table::instance().remove(last);
  delete last;
}

ref<const identity> identity::neutral() {
  return ref<const identity>::retain(&identity_table::neutral());
}

std::size_t identity::live() noexcept {
  return identity_table::instance().size();
}

result<std::size_t> fsize_allows(const identity* who, std::uint64_t offset, std::size_t length) noexcept {
  const auto limit = who != nullptr ? who->fields().file_size_limit : std::nullopt;
  if (!limit || length == 0) {
    return length;
  }
  if (offset >= *limit) {
    return fail(EFBIG);
  }
  return static_cast<std::size_t>(std::min<std::uint64_t>(length, *limit - offset));
}

result<void> fsize_allows_growth(const identity* who, std::uint64_t size) noexcept {
  const auto limit = who != nullptr ? who->fields().file_size_limit : std::nullopt;
  if (limit && size > *limit) {
    return fail(EFBIG);
  }
  return {};
}

}  // namespace sluice
