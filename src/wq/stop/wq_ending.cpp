#include "wq/stop/wq_ending.h"

#include <cstdlib>
#include <new>
#include <utility>

#include "sluice/base/error.h"
#include "sluice/base/mutex.h"

#include "wq/os/os_pool.h"

namespace sluice::detail {
namespace {

struct endings {
  mutex lock;
  wq_ending* first SLUICE_GUARDED_BY(lock) = nullptr;
};

// Trivially destroyed: a pool may end as late as the process.
constinit endings the_endings;

// Returns false if no thread could be started: the record keeps its pool.
bool start(wq_ending& record) noexcept {
  try {
    result<named_thread> thread = named_thread::start(
        "wq-end",
        [&record] {
          record.core.reset();
          record.done.store(true, std::memory_order_release);  // pairs with collect(): the pool is gone
        },
        0);
    if (!thread) {
      return false;
    }
    record.thread = std::move(*thread);
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

// Takes the records whose pools have ended off the list, and starts what could not be started before.
wq_ending* collect_locked(endings& all) noexcept SLUICE_REQUIRES(all.lock) {
  wq_ending* over = nullptr;
  for (wq_ending** at = &all.first; *at != nullptr;) {
    wq_ending& one = **at;
    if (one.done.load(std::memory_order_acquire)) {  // acquire: pairs with start()
      *at = one.next;
      one.next = std::exchange(over, &one);
      continue;
    }
    if (!one.thread.joinable()) {
      static_cast<void>(start(one));
    }
    at = &one.next;
  }
  return over;
}

void join_and_delete(wq_ending* first) noexcept {
  while (first != nullptr) {
    const std::unique_ptr<wq_ending> one(std::exchange(first, first->next));
    one->thread.join();
    one->core.reset();  // of one that never had a thread
  }
}

void end_all() noexcept {
  endings& all = the_endings;
  wq_ending* left = nullptr;
  {
    const mutex_lock held(all.lock);
    left = std::exchange(all.first, nullptr);
  }
  join_and_delete(left);
}

}  // namespace

wq_ending::wq_ending() noexcept = default;
wq_ending::~wq_ending() = default;

void end_elsewhere(std::unique_ptr<wq_ending> record) noexcept {
  static const int at_exit = std::atexit([] { end_all(); });
  static_cast<void>(at_exit);  // if it is refused, the threads are left to the end of the process
  endings& all = the_endings;
  wq_ending* over = nullptr;
  {
    const mutex_lock held(all.lock);
    record->next = all.first;
    all.first = record.release();
    over = collect_locked(all);
  }
  join_and_delete(over);
}

}  // namespace sluice::detail
