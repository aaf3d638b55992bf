// worker: the record of one thread of a pool that runs works.
//
// A worker takes a batch of works off its account, so that the account's lock is paid once per batch. The works stay in reach:
// under `lock` a canceller takes works out of the batch, and when the worker blocks, the batch goes back to the head of the queue
// (loop/blocking.h).
//
// | mode    | counted as running | becomes                                                                 |
// |---------|--------------------|-------------------------------------------------------------------------|
// | idle    | no                 | busy, by the thread that chooses it, under the account's lock           |
// | busy    | yes                | region by itself; sampled by the sampler; idle by itself                |
// | region  | no                 | busy by itself                                                          |
// | sampled | no                 | busy by itself, under the account's lock, when the callback has returned|
//
// | phase     | what the thread does                       | seen by the sampler | `current` |
// |-----------|--------------------------------------------|---------------------|-----------|
// | none      | takes works, looks for works, sleeps       | no                  | null      |
// | running   | puts on an identity, runs a work           | yes                 | the work  |
// | releasing | a release                                  | yes                 | null      |
// | giving_up | gives up the rest of a chain               | yes                 | null      |
// | undressing| takes an identity off before it sleeps     | yes                 | null      |
//
// The record has more than 15 members: four parts of the pool share it, and each member belongs to the group that protects it.
//
// Ownership:      the roster (crew/roster.h); a record is used for one thread after the other.
// Thread safety:  as grouped below.
// Limits:         at most batch_most works are taken at once (H7).
// Invariants:     P2 H7 C5
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

#include "wq/item/nap_lock.h"
#include "wq/item/run_token.h"
#include "wq/item/work_fifo.h"
#include "wq/keyed/key_table.h"
#include "wq/pool_traits.h"

namespace sluice::detail {

enum class worker_mode : std::uint8_t { idle, busy, region, sampled };
enum class worker_phase : std::uint8_t { none, running, releasing, giving_up, undressing };

// What a worker knows of its batches, and how much it takes at once.
struct worker_pace {
  unsigned batch_limit = 1;
  unsigned last_batch = 0;  // works that the batch before had
  unsigned released = 0;    // works of this batch
  unsigned passes = 0;      // of the pool's gate that it has to give back
  bool was_woken = false;
  bool worked = false;        // since it last lingered
  bool home_is_next = false;  // of several nodes: the turn of its own one
};

// How soon works came one after the other, for the moment when none is left (loop/linger.h).
struct worker_stream {
  // On average: while it last had to wait for one, or since it was woken.
  std::chrono::nanoseconds apart = std::chrono::nanoseconds::max();
  std::uint64_t released_when_woken = 0;
  bool handed_over = false;  // another worker was woken for what there is to do
};

// That the current work is to be interrupted, and when the manager sends the next signal.
struct interruption {
  bool wanted = false;
  bool ask_due = false;  // a stop_source is still to be asked, by a thread that holds no locks
  steady_time send_at{};
  std::chrono::milliseconds pause{0};  // from that signal to the one after it
};

// The operating system's names of a thread, valid from its start until it leaves.
struct thread_names {
  bool valid = false;
  pthread_t handle{};
  pid_t id = 0;
};

template <class Sync>
struct basic_worker {
  template <class Value>
  using atomic = typename Sync::template atomic<Value>;

  static constexpr unsigned batch_most = key_fifo::batch;

  explicit basic_worker(basic_pool<Sync>& owner) noexcept : pool(owner) {}

  basic_pool<Sync>& pool;
  basic_account<Sync>* home = nullptr;  // constant while its thread lives
  bool rescuer = false;                 // the same
  basic_parker<Sync> word;
  run_token token;

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
  std::uint64_t computed_begun = 0;  // the sampler found it computing; it looks again at probe_at
  steady_time probe_at{};
  std::chrono::milliseconds probe_pause{1};

  // The thread's own.
  std::optional<wardrobe> clothes;  // made and destroyed by the thread
  unsigned region_depth = 0;
  bool gives_up = false;  // its current work is run as cancelled
  worker_pace pace;
  worker_stream stream;

  alignas(64) basic_nap_lock<Sync> lock;
  work_fifo batch SLUICE_GUARDED_BY(lock);
  basic_key_entry<Sync>* run_of SLUICE_GUARDED_BY(lock) = nullptr;  // the key that it owns
  work* current SLUICE_GUARDED_BY(lock) = nullptr;
  work* between SLUICE_GUARDED_BY(lock) = nullptr;  // the next of a chain, while the member before it ends
  interruption interrupt SLUICE_GUARDED_BY(lock);
  thread_names names SLUICE_GUARDED_BY(lock);

  interrupt_mark sent;  // a signal is on its way to the thread

  // Written by the thread, read by any.
  atomic<std::uint8_t> mode{0};
  atomic<std::uint8_t> phase{0};
  atomic<std::uint32_t> in_batch{0};  // batch.size()
  atomic<std::uint64_t> begun{0};     // works, for the sampler: has it moved?
  atomic<std::int64_t> since{0};      // when the batch was taken
  atomic<std::int64_t> woken_at{0};   // by the thread that chose it
  atomic<std::uint64_t> all_released{0};

  // It is not known as whom the thread acts: it must run nothing more (I6).
  [[nodiscard]] bool broken() const noexcept { return clothes->broken(); }
  [[nodiscard]] worker_mode how() const noexcept {
    // relaxed: a hint; a decision is made with an exchange, or under the account's lock.
    return static_cast<worker_mode>(mode.load(std::memory_order_relaxed));
  }
  void set_mode(worker_mode to) noexcept {
    mode.store(static_cast<std::uint8_t>(to),
               std::memory_order_relaxed);  // relaxed: the running count carries the order
  }
  bool change_mode(worker_mode from, worker_mode to) noexcept {
    auto seen = static_cast<std::uint8_t>(from);
    return mode.compare_exchange_strong(seen, static_cast<std::uint8_t>(to), std::memory_order_relaxed,
                                        std::memory_order_relaxed);
  }
  // relaxed, all: the sampler decides under `lock`, which the thread takes after its last work.
  void set_phase(worker_phase to) noexcept { phase.store(static_cast<std::uint8_t>(to), std::memory_order_relaxed); }
  [[nodiscard]] bool in_callback() const noexcept { return phase.load(std::memory_order_relaxed) != 0; }
  // Another work, or member of a chain: only the thread writes it, and the sampler asks only whether it has changed.
  void count_begun() noexcept { begun.store(begun.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); }
  void publish_batch_size() noexcept SLUICE_REQUIRES(lock) {
    in_batch.store(static_cast<std::uint32_t>(batch.size()), std::memory_order_relaxed);
  }
};

}  // namespace sluice::detail
