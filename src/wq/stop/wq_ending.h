// wq_ending: ends a pool whose last reference was dropped where the thread must not wait for it: on a thread of the pool, or
// in one of its callbacks.
//
// Each such pool is ended by a thread of its own ("wq-end"), so that one that waits for a dead device holds up no other.
// If there is no thread to be had, the next ending tries again, and the exit of the process ends what is left.
//
// Ownership:      the record is made with the wq, so that ending it needs no memory; end_elsewhere() takes it over. Threads
//                 are joined by the next ending after they are done, or at the exit of the process (std::atexit).
// Thread safety:  any thread.
// Blocking:       end_elsewhere joins threads that are done; it waits for no pool.
// Invariants:     X5
#pragma once

#include <atomic>
#include <memory>

#include "sluice/base/thread.h"

namespace sluice::detail {

class wq_core;

struct wq_ending {
  wq_ending() noexcept;
  ~wq_ending();
  wq_ending(const wq_ending&) = delete;
  wq_ending& operator=(const wq_ending&) = delete;

  std::unique_ptr<wq_core> core;
  named_thread thread;
  std::atomic<bool> done{false};
  wq_ending* next = nullptr;
};

// Requires: record->core is the pool to end.
void end_elsewhere(std::unique_ptr<wq_ending> record) noexcept;

}  // namespace sluice::detail
