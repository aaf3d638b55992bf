#include "sluice/ref/ref_tracker.h"

#if SLUICE_REF_TRACKER

#include <execinfo.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>

#include "sluice/base/immortal.h"
#include "sluice/base/mutex.h"

namespace sluice::detail {

constexpr int holder_stack_depth = 12;

struct ref_holder {
  const void* key;
  const char* type;
  ref_tag tag;
  ref_holder* next;
  ref_holder* previous;
  int frames;
  std::array<void*, holder_stack_depth> stack;
};

namespace {

constexpr std::size_t shard_count = 16;

// All holders of the objects that hash here. Its length is the number of live refs.
struct shard {
  mutex lock;
  ref_holder* first SLUICE_GUARDED_BY(lock) = nullptr;
};

shard& shard_of(const void* key) noexcept {
  // Never destroyed: refs in other statics end after us.
  static immortal<std::array<shard, shard_count>> shards;
  return (*shards)[(reinterpret_cast<std::uintptr_t>(key) >> 6U) % shard_count];
}

void print(const ref_holder& holder) noexcept {
  std::array<char, 256> text;
  const int length = std::snprintf(text.data(), text.size(), "sluice: ref_tracker: %s at %p is held as \"%s\" from\n",
                                   holder.type, holder.key, holder.tag.text());
  if (length > 0) {
    static_cast<void>(
        !::write(STDERR_FILENO, text.data(), std::min(text.size() - 1, static_cast<std::size_t>(length))));
  }
  ::backtrace_symbols_fd(holder.stack.data(), holder.frames, STDERR_FILENO);
}

enum class report : std::uint8_t { silent, printed };

std::size_t walk(const void* key, report how) noexcept {
  shard& home = shard_of(key);
  const mutex_lock held(home.lock);
  std::size_t count = 0;
  for (const ref_holder* holder = home.first; holder != nullptr; holder = holder->next) {
    if (holder->key == key) {
      ++count;
      if (how == report::printed) {
        print(*holder);
      }
    }
  }
  return count;
}

}  // namespace

ref_holder* ref_tracker_add(const void* key, const char* type, ref_tag tag) noexcept {
  auto* holder = new (std::nothrow) ref_holder{key, type, tag, nullptr, nullptr, 0, {}};
  if (holder == nullptr) {
    return nullptr;  // a debug aid never fails the program; this holder is just not listed
  }
  holder->frames = ::backtrace(holder->stack.data(), holder_stack_depth);
  shard& home = shard_of(key);
  const mutex_lock held(home.lock);
  holder->next = home.first;
  if (home.first != nullptr) {
    home.first->previous = holder;
  }
  home.first = holder;
  return holder;
}

void ref_tracker_remove(ref_holder* holder) noexcept {
  const std::unique_ptr<ref_holder> owned(holder);
  shard& home = shard_of(holder->key);
  const mutex_lock held(home.lock);
  (holder->previous != nullptr ? holder->previous->next : home.first) = holder->next;
  if (holder->next != nullptr) {
    holder->next->previous = holder->previous;
  }
}

ref_tag ref_tracker_tag(const ref_holder* holder) noexcept {
  return holder->tag;
}

std::size_t ref_tracker_count(const void* key) noexcept {
  return walk(key, report::silent);
}

bool ref_tracker_gone(const void* key) noexcept {
  return walk(key, report::printed) == 0;
}

void ref_tracker_destroyed(const void* key, const char* type) noexcept {
  if (walk(key, report::printed) != 0) {
    std::fprintf(stderr, "sluice: ref_tracker: %s at %p was destroyed while the refs above point at it\n", type, key);
    std::abort();
  }
}

}  // namespace sluice::detail

#endif
