// account_crew: the workers of one account: all of them, the free ones, those to come, and how many run.
//
// `running` counts the workers that are not known to be blocked. A woken or reserved worker counts from the moment it is chosen,
// so there is at most one wake per need (no storm) and no window in which a work has no worker (P5, account.h).
//
// Thread safety:  what is not named _locked: any thread. The rest: under `lock`.
// Invariants:     P2 P3 P5
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "sluice/base/clock.h"
#include "sluice/base/mutex.h"

#include "wq/crew/worker.h"
#include "wq/item/hook_list.h"
#include "wq/keyed/account_keys.h"

namespace sluice::detail {

template <class Sync>
class basic_account_crew : public basic_account_keys<Sync> {
 public:
  using basic_account_base<Sync>::lock;
  using basic_account_keys<Sync>::basic_account_keys;
  using worker = basic_worker<Sync>;

  // seq_cst, all: partners of what is put and listed (account.h).
  [[nodiscard]] std::int32_t running() const noexcept { return running_.load(std::memory_order_seq_cst); }
  void add_running() noexcept { running_.fetch_add(1, std::memory_order_seq_cst); }
  void sub_running() noexcept { running_.fetch_sub(1, std::memory_order_seq_cst); }
  // Free workers; seq_cst: partner of growth's saturated().
  [[nodiscard]] std::uint64_t free_workers() const noexcept { return free_listed_.load(std::memory_order_seq_cst); }

  void list_free_locked(worker& one) noexcept SLUICE_REQUIRES(lock) {
    one.on_free_list = true;
    free_.push_front(one);
    free_listed_.store(free_.size(), std::memory_order_seq_cst);
  }
  void unlist_free_locked(worker& one) noexcept SLUICE_REQUIRES(lock) {
    one.on_free_list = false;
    free_.remove(one);
    free_listed_.store(free_.size(), std::memory_order_seq_cst);
  }
  // The one that went idle last: its caches are warm. Null: none is free.
  [[nodiscard]] worker* hottest_free_locked() const noexcept SLUICE_REQUIRES(lock) { return free_.front(); }
  // A free one that slept on another core than `here`, if a short look finds one. The system wakes a thread where it slept,
  // or where its waker is.
  [[nodiscard]] worker* free_on_another_core_locked(std::uint32_t here) const noexcept SLUICE_REQUIRES(lock) {
    constexpr unsigned most_looked_at = 8;
    worker* one = free_.front();
    for (unsigned looks = 1; one != nullptr && one->slept_on == here; ++looks) {
      one = looks < most_looked_at ? free_.after(*one) : nullptr;
    }
    return one;
  }
  [[nodiscard]] bool all_free_locked() const noexcept SLUICE_REQUIRES(lock) { return free_.size() == workers_.size(); }

  void add_worker_locked(worker& one) noexcept SLUICE_REQUIRES(lock) {
    one.fixed = std::exchange(fixed_missing_, false);
    workers_.push_back(one);
    --spawns_;  // in the same hold: it is always one or the other
  }
  void remove_worker_locked(worker& one) noexcept SLUICE_REQUIRES(lock) {
    workers_.remove(one);
    if (std::exchange(one.fixed, false)) {
      if (worker* const heir = workers_.front()) {
        heir->fixed = true;  // if it sleeps with a time-out, it sees that then
      } else {
        fixed_missing_ = true;
      }
    }
  }
  template <class Visit>
  void for_each_worker_locked(Visit visit) const noexcept SLUICE_REQUIRES(lock) {
    for (worker* one = workers_.front(); one != nullptr; one = one->next_all) {
      visit(*one);
    }
  }
  [[nodiscard]] std::size_t workers_locked() const noexcept SLUICE_REQUIRES(lock) { return workers_.size() + spawns_; }

  // The account's fixed worker is still to come: the next one to be added will be it.
  void want_fixed_locked() noexcept SLUICE_REQUIRES(lock) { fixed_missing_ = true; }
  [[nodiscard]] bool fixed_missing_locked() const noexcept SLUICE_REQUIRES(lock) { return fixed_missing_; }

  // Reserved workers, for the manager to create.
  [[nodiscard]] unsigned spawns_locked() const noexcept SLUICE_REQUIRES(lock) { return spawns_; }
  void add_spawn_locked() noexcept SLUICE_REQUIRES(lock) {
    ++spawns_;
    add_running();
  }
  void drop_spawn_locked() noexcept SLUICE_REQUIRES(lock) {
    --spawns_;
    sub_running();
  }

  // Creation failed: no other attempt before a pause, which grows up to 500 ms.
  void back_off_locked(steady_time now) noexcept SLUICE_REQUIRES(lock) {
    constexpr std::chrono::milliseconds first{1};
    constexpr std::chrono::milliseconds last{500};
    back_off_ = std::clamp(back_off_ * 2, first, last);
    retry_at_ = now + back_off_;
  }
  void created_locked() noexcept SLUICE_REQUIRES(lock) { back_off_ = std::chrono::milliseconds{0}; }
  [[nodiscard]] bool creation_fails_locked() const noexcept SLUICE_REQUIRES(lock) { return back_off_.count() != 0; }
  [[nodiscard]] steady_time retry_at_locked() const noexcept SLUICE_REQUIRES(lock) { return retry_at_; }

  // Ticks of the sampler in a row at which works waited.
  unsigned count_busy_tick_locked(bool waits) noexcept SLUICE_REQUIRES(lock) {
    busy_ticks_ = waits ? busy_ticks_ + 1 : 0;
    return busy_ticks_;
  }

 protected:
  ~basic_account_crew() = default;

 private:
  // Read by submitters; written when a worker falls idle, wakes or blocks.
  alignas(64) typename Sync::template atomic<std::int32_t> running_{0};
  typename Sync::template atomic<std::uint64_t> free_listed_{0};  // free_.size()

  alignas(64) hook_list<worker, &worker::prev_free, &worker::next_free> free_ SLUICE_GUARDED_BY(lock);
  hook_list<worker, &worker::prev_all, &worker::next_all> workers_ SLUICE_GUARDED_BY(lock);
  unsigned spawns_ SLUICE_GUARDED_BY(lock) = 0;
  bool fixed_missing_ SLUICE_GUARDED_BY(lock) = false;
  unsigned busy_ticks_ SLUICE_GUARDED_BY(lock) = 0;
  steady_time retry_at_ SLUICE_GUARDED_BY(lock);
  std::chrono::milliseconds back_off_ SLUICE_GUARDED_BY(lock){0};
};

}  // namespace sluice::detail
