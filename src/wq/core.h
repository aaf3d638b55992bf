// core: the wq behind io_wq: one lock, two accounts, their workers, a manager and a rescuer.
//
// Rule of growth: an account with queued work has a worker that is not blocked, or one on its way, or it is at its
// limit. `running` counts a woken or reserved worker from the moment it is chosen, so there is at most one wake per
// need and no window in which queued work has nobody (P5).
//
// Lock order: core::lock_ → key_table's lock; core::lock_ → runner's lock. No callback and no thread creation under
// any.
#pragma once

#include <array>
#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sluice/base/mutex.h"
#include "sluice/base/park.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"

#include "interrupt.h"
#include "key_table.h"
#include "runner.h"

namespace sluice::detail {

class wq_core;

// A first-in-first-out list through the works' own links.
struct work_list {
  work* head = nullptr;
  work* tail = nullptr;
  std::size_t size = 0;

  void push_back(work& w) noexcept;
  void push_front(work& w) noexcept;
  [[nodiscard]] work* pop_front() noexcept;
  [[nodiscard]] bool remove(work& w) noexcept;
};

struct worker {
  worker(wq_core& home_core, work_class home_class, bool stays) noexcept
      : core(home_core), cls(home_class), fixed(stays) {}

  wq_core& core;
  const work_class cls;
  const bool fixed;  // of the account; never times out (P3)
  named_thread thread;
  parker word;
  runner running;
  unsigned region_depth = 0;  // the worker's own

  // Guarded by the core's lock.
  pthread_t self{};
  bool started = false;
  bool counted = true;  // in the account's running
  bool sampled = false;
  bool on_free_list = false;
  bool rescuer = false;
  bool interrupting = false;
  steady_time since;
  work* current = nullptr;
  work_view view{};
};

struct account {
  work_list queue;
  std::vector<worker*> free;  // LIFO; capacity is reserved with each worker
  unsigned workers = 0;
  unsigned running = 0;
  unsigned max = 0;
  unsigned spawns = 0;  // reserved, for the manager to create
  std::size_t waiting = 0;
  std::uint64_t taken = 0;
  std::uint64_t taken_at_tick = 0;
  steady_time retry_at;  // no creation before: the last one failed
  std::chrono::milliseconds back_off{0};
  class_stats counts;
};

class wq_core {
 public:
  explicit wq_core(const io_wq_options& options, interrupt_signal signal);
  ~wq_core();
  wq_core(const wq_core&) = delete;
  wq_core& operator=(const wq_core&) = delete;

  [[nodiscard]] result<void> start();

  [[nodiscard]] result<void> submit(work& head, work_handle* handle) noexcept SLUICE_EXCLUDES(lock_);
  [[nodiscard]] cancel_result cancel(work_handle handle) noexcept SLUICE_EXCLUDES(lock_);
  [[nodiscard]] result<cancel_counts> cancel_chosen(bool (*choose)(void*, const work_view&), void* chooser) noexcept
      SLUICE_EXCLUDES(lock_);
  stop_report stop(stop_policy policy, steady_time deadline) noexcept SLUICE_EXCLUDES(lock_);
  unsigned set_max(work_class cls, unsigned max) noexcept SLUICE_EXCLUDES(lock_);
  [[nodiscard]] unsigned get_max(work_class cls) const noexcept SLUICE_EXCLUDES(lock_);
  [[nodiscard]] wq_stats stats() const noexcept SLUICE_EXCLUDES(lock_);

  // Called by a key's former owner, of this wq or another.
  void receive(work& w) noexcept SLUICE_EXCLUDES(lock_);
  void enter_region(worker& self) noexcept SLUICE_EXCLUDES(lock_);
  void leave_region(worker& self) noexcept SLUICE_EXCLUDES(lock_);

  // The worker of the calling thread, or null.
  [[nodiscard]] static worker* current_worker() noexcept;
  [[nodiscard]] bool on_worker() const noexcept;

 private:
  using key_registry = std::map<hash_domain*, ref<hash_domain>>;
  struct slot {
    std::uint32_t generation = 1;
    work* item = nullptr;
    worker* runs_on = nullptr;
    bool cut = false;  // cancelled while between two members of its chain
    bool timed = false;
    std::multimap<steady_time, std::uint32_t>::iterator timer;
  };

  [[nodiscard]] account& of(work_class cls) noexcept SLUICE_REQUIRES(lock_) {
    return accounts_[std::to_underlying(cls)];
  }
  [[nodiscard]] const account& of(work_class cls) const noexcept SLUICE_REQUIRES(lock_) {
    return accounts_[std::to_underlying(cls)];
  }

  // Submit.
  [[nodiscard]] result<void> admit_locked(work& head, work_handle* handle) SLUICE_REQUIRES(lock_);
  [[nodiscard]] result<void> make_room(work& head) noexcept SLUICE_REQUIRES(lock_);
  [[nodiscard]] result<void> submit_inline(work& head) noexcept SLUICE_EXCLUDES(lock_);
  void place_locked(work& w, key_turn turn) noexcept SLUICE_REQUIRES(lock_);
  std::uint32_t take_slot_locked(work& w, steady_time deadline) SLUICE_REQUIRES(lock_);
  void free_slot_locked(std::uint32_t index) noexcept SLUICE_REQUIRES(lock_);
  void untimer_locked(slot& one) noexcept SLUICE_REQUIRES(lock_);
  void ensure_worker_locked(work_class cls, bool another = false) noexcept SLUICE_REQUIRES(lock_);

  // Workers.
  [[nodiscard]] result<void> spawn(work_class cls, bool fixed) noexcept SLUICE_EXCLUDES(lock_);
  void worker_main(worker& self) noexcept SLUICE_EXCLUDES(lock_);
  [[nodiscard]] bool idle_locked(worker& self) noexcept SLUICE_REQUIRES(lock_);
  void retire_locked(worker& self) noexcept SLUICE_REQUIRES(lock_);
  [[nodiscard]] work* take_locked(worker& self) noexcept SLUICE_REQUIRES(lock_);
  void begin_locked(worker& self, work& w) noexcept SLUICE_REQUIRES(lock_);
  void run_chain(worker& self, work& first) noexcept SLUICE_EXCLUDES(lock_);
  [[nodiscard]] work* run_one(worker& self, work& w) noexcept SLUICE_EXCLUDES(lock_);
  [[nodiscard]] work* promote(worker& self, work& next, std::uint32_t index, bool cut) noexcept SLUICE_EXCLUDES(lock_);
  std::size_t give_up(work& first) noexcept SLUICE_EXCLUDES(lock_);
  void account_released_locked(work_class cls, bool cancelled) noexcept SLUICE_REQUIRES(lock_);
  static void end_turn(hash_domain* domain, std::uint64_t key) noexcept;

  static void set_current_worker(worker* self) noexcept;

  // Manager and rescuer.
  void manager_main() noexcept SLUICE_EXCLUDES(lock_);
  void rescuer_main() noexcept SLUICE_EXCLUDES(lock_);
  void create_wanted() noexcept SLUICE_EXCLUDES(lock_);
  void bury_dead() noexcept SLUICE_EXCLUDES(lock_);
  void sample_locked(steady_time now) noexcept SLUICE_REQUIRES(lock_);
  void expire_locked(steady_time now) noexcept SLUICE_REQUIRES(lock_);
  void interrupt_all_locked() noexcept SLUICE_REQUIRES(lock_);
  [[nodiscard]] steady_time next_event_locked(steady_time now) const noexcept SLUICE_REQUIRES(lock_);
  [[nodiscard]] work* rescuable_locked() noexcept SLUICE_REQUIRES(lock_);

  // Cancel.
  enum class pending_place : std::uint8_t { nowhere, queued, waiting };
  struct candidate {
    work_view view;
    work_handle handle;
  };
  [[nodiscard]] pending_place unlink_pending_locked(work& w) noexcept SLUICE_REQUIRES(lock_);
  [[nodiscard]] std::optional<std::stop_source> ask_running_locked(worker& runs_on) noexcept SLUICE_REQUIRES(lock_);
  [[nodiscard]] cancel_result cancel_counted(work_handle handle, std::size_t& cancelled) noexcept
      SLUICE_EXCLUDES(lock_);
  [[nodiscard]] std::vector<candidate> snapshot() SLUICE_EXCLUDES(lock_);
  void report_rest_locked(stop_report& report) noexcept SLUICE_REQUIRES(lock_);
  void note_candidate_locked(work& w, worker* runs_on, std::vector<candidate>& out) SLUICE_REQUIRES(lock_);

  const io_wq_options options_;
  const std::string name_;
  thread_seam& threads_;
  clock_seam& clock_;
  const interrupt_signal signal_;

  mutable mutex lock_;
  cond_var for_manager_;
  cond_var for_rescuer_;
  cond_var changed_;  // room, quiescence, hand-overs: whoever waits looks again

  std::array<account, work_classes> accounts_ SLUICE_GUARDED_BY(lock_);
  std::list<std::unique_ptr<worker>> workers_ SLUICE_GUARDED_BY(lock_);
  std::list<std::unique_ptr<worker>> dead_ SLUICE_GUARDED_BY(lock_);
  std::vector<slot> slots_ SLUICE_GUARDED_BY(lock_);
  std::vector<std::uint32_t> free_slots_ SLUICE_GUARDED_BY(lock_);
  std::multimap<steady_time, std::uint32_t> timers_ SLUICE_GUARDED_BY(lock_);
  key_registry domains_ SLUICE_GUARDED_BY(lock_);
  std::vector<work_handle> expired_ SLUICE_GUARDED_BY(lock_);
  std::size_t outstanding_ SLUICE_GUARDED_BY(lock_) = 0;
  std::size_t sampled_ticks_ SLUICE_GUARDED_BY(lock_) = 0;
  bool closed_ SLUICE_GUARDED_BY(lock_) = false;
  bool exiting_ SLUICE_GUARDED_BY(lock_) = false;
  bool joined_ SLUICE_GUARDED_BY(lock_) = false;
  bool joining_ SLUICE_GUARDED_BY(lock_) = false;

  worker rescuer_;
  named_thread manager_;
};

}  // namespace sluice::detail
