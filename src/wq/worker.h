// worker: one thread's record: what it runs, what it has taken to run next, and how others may reach into that.
//
// Records are never freed before the wq ends, only used again: whoever read a pointer to one from a slot may lock it, and
// finds out under the lock whether it still has what he came for.
//
// A worker takes a batch of works at a time, so that it needs the account's lock once per batch. What it has taken is not
// out of reach: under `lock` a canceller takes works out of the batch, and when the worker blocks, the batch goes back to
// the head of the queue (recall).
//
// | mode    | counted as running | becomes                                                              |
// |---------|--------------------|----------------------------------------------------------------------|
// | idle    | no                 | busy, by whoever chooses it, under the account's lock                 |
// | busy    | yes                | region by itself; sampled by the sampler; idle by itself              |
// | region  | no                 | busy by itself                                                        |
// | sampled | no                 | busy by itself, under the account's lock, when the work has ended     |
//
// Thread safety:  as grouped below.
// Limits:         at most batch_most works are taken at once (H7).
#pragma once

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

#include "sluice/base/mutex.h"
#include "sluice/base/park.h"
#include "sluice/base/thread.h"
#include "sluice/identity/wardrobe.h"
#include "sluice/wq/interrupt_seam.h"

#include "key_table.h"
#include "nap_lock.h"
#include "runner.h"
#include "work_list.h"

namespace sluice::detail {

enum class worker_mode : std::uint8_t { idle, busy, region, sampled };

template <class Sync>
class basic_pool;

template <class Sync>
struct basic_worker {
  static constexpr unsigned batch_most = run_list::batch;

  explicit basic_worker(basic_pool<Sync>& owner) noexcept : pool(owner) {}

  basic_pool<Sync>& pool;
  basic_account<Sync>* home = nullptr;  // constant while its thread lives
  bool rescuer = false;                 // the same
  basic_parker<Sync> word;
  runner running;

  // Hooks, guarded by the account's lock, as are these four.
  basic_worker* prev_free = nullptr;
  basic_worker* next_free = nullptr;
  basic_worker* prev_all = nullptr;
  basic_worker* next_all = nullptr;
  bool on_free_list = false;
  std::uint32_t slept_on = 0;    // the core
  std::uint32_t woken_from = 0;  // the core; written before the wake, read after it
  bool fixed = false;            // never times out (P3)

  // The manager's.
  named_thread thread;
  std::uint64_t seen_begun = 0;

  // The thread's own.
  std::optional<wardrobe> clothes;  // made and ended by the thread
  unsigned region_depth = 0;
  unsigned batch_limit = 1;
  unsigned released = 0;    // works of this batch
  unsigned passes = 0;      // of the pool's gate that it has to give back
  unsigned last_batch = 0;  // works that the batch before had
  bool was_woken = false;
  bool worked = false;       // since it last lingered
  bool handed_over = false;  // somebody else is at what there is to do
  bool gives_up = false;     // the pool is cancelling: its current work is run as cancelled
  std::uint64_t begun_when_woken = 0;
  // How long apart works came, on average: while it last had to wait for one, or since it was woken.
  std::chrono::nanoseconds apart = std::chrono::nanoseconds::max();

  alignas(64) basic_nap_lock<Sync> lock;
  work_list batch SLUICE_GUARDED_BY(lock);
  basic_key_entry<Sync>* run_of SLUICE_GUARDED_BY(lock) = nullptr;  // the key that it owns
  work* current SLUICE_GUARDED_BY(lock) = nullptr;
  work* between SLUICE_GUARDED_BY(lock) = nullptr;  // the next of a chain, while the member before it ends
  bool cut SLUICE_GUARDED_BY(lock) = false;         // that chain was cancelled
  bool interrupting SLUICE_GUARDED_BY(lock) = false;
  bool ask_due SLUICE_GUARDED_BY(lock) = false;  // its stop_source is still to be asked
  // The manager sends the next signal then, and waits that long for the one after it.
  steady_time send_at SLUICE_GUARDED_BY(lock){};
  std::chrono::milliseconds send_pause SLUICE_GUARDED_BY(lock){0};
  bool started SLUICE_GUARDED_BY(lock) = false;
  pthread_t self SLUICE_GUARDED_BY(lock){};

  interrupt_mark sent;  // a signal is on its way to the thread

  // Written by the thread, read by any.
  typename Sync::template atomic<std::uint8_t> mode{0};
  typename Sync::template atomic<std::uint32_t> in_batch{0};  // batch.size()
  typename Sync::template atomic<std::uint64_t> begun{0};     // works, for the sampler: has it moved?
  typename Sync::template atomic<std::int64_t> since{0};      // when the batch began
  typename Sync::template atomic<std::int64_t> woken_at{0};   // by its chooser
  typename Sync::template atomic<std::uint64_t> all_released{0};
  typename Sync::template atomic<std::uint64_t> all_rescued{0};

  // Nobody knows as whom the thread acts: it must run nothing more (I6).
  [[nodiscard]] bool broken() const noexcept { return clothes->broken(); }
  [[nodiscard]] worker_mode how() const noexcept {
    // relaxed: a hint; who decides by it uses an exchange, or the account's lock.
    return static_cast<worker_mode>(mode.load(std::memory_order_relaxed));
  }
  void set_mode(worker_mode to) noexcept {
    mode.store(static_cast<std::uint8_t>(to), std::memory_order_relaxed);  // relaxed: `running` carries the order
  }
  bool change_mode(worker_mode from, worker_mode to) noexcept {
    auto seen = static_cast<std::uint8_t>(from);
    return mode.compare_exchange_strong(seen, static_cast<std::uint8_t>(to), std::memory_order_relaxed,
                                        std::memory_order_relaxed);
  }
};

}  // namespace sluice::detail
