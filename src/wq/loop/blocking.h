// blocking: what happens when a worker blocks: it does not count as running, its batch goes back to the queue, and another worker
// starts. A worker says that it blocks (blocking_region), or the sampler finds out.
//
// Thread safety:  recall(): any thread. The rest: the worker's thread.
// Invariants:     P2 P5 P6
#pragma once

#include "wq/keyed/keys.h"

namespace sluice::detail {

template <class Sync>
class basic_blocking {
 public:
  using account = basic_account<Sync>;
  using worker = basic_worker<Sync>;
  using numbers = engine_numbers<Sync>;

  explicit basic_blocking(basic_pool<Sync>& owner) noexcept : pool_(owner) {}

  void enter_region(worker& self) noexcept {
    if (self.rescuer || !self.change_mode(worker_mode::busy, worker_mode::region)) {
      return;  // the sampler was faster: the worker does not count already
    }
    account& at = *self.home;
    at.set_quick(false);
    at.sub_running();
    account* const filled = self.in_batch.load(std::memory_order_relaxed) != 0 ? recall(self) : nullptr;
    if (filled != nullptr && filled != &at) {
      pool_.growth.start_worker(*filled);  // works of another node
    }
    if (!at.nothing_to_do()) {
      pool_.growth.start_worker(at);
    }
  }
  void leave_region(worker& self) noexcept {
    if (self.rescuer) {
      return;
    }
    if (self.how() == worker_mode::region) {
      self.home->add_running();
      self.set_mode(worker_mode::busy);
    } else {
      come_back(self);
    }
  }
  // A callback returned and left a region open: it ends here. The region's destructor then does nothing.
  void end_region(worker& self) noexcept {
    self.region_depth = 0;
    leave_region(self);
  }

  // Counts as running again after the sampler took it for blocked.
  void come_back(worker& self) noexcept {
    const scoped_lock held(self.home->lock);
    if (self.change_mode(worker_mode::sampled, worker_mode::busy)) {
      self.home->add_running();
    }
  }

  // The batch of a worker goes back to the head of the queue it came from. A key's run stays: no other worker may run it. Returns the
  // account of that queue, or null if nothing went back.
  account* recall(worker& from) noexcept {
    const scoped_lock moves_held(pool_.scan.moves);
    account* to = nullptr;
    {
      const scoped_lock held(from.lock);
      if (from.run_of == nullptr && !from.batch.empty()) {
        to = &numbers::account_of(*from.batch.front());
      }
    }
    if (to == nullptr) {
      return nullptr;
    }
    const scoped_lock held(to->lock);
    const scoped_lock from_held(from.lock);
    if (from.run_of != nullptr || from.batch.empty() || &numbers::account_of(*from.batch.front()) != to) {
      return nullptr;  // it went on meanwhile
    }
    for (work* w = from.batch.front(); w != nullptr; w = work_fifo::after(*w)) {
      pool_.handles.move(work_access::slot(*w), *w, place::account, to);
    }
    to->prepend_locked(from.batch);
    from.publish_batch_size();  // relaxed: the queue's size is published before it
    return to;
  }

 private:
  basic_pool<Sync>& pool_;
};

}  // namespace sluice::detail
