// pool: the engine behind io_wq: one account per class and NUMA node, their workers, a manager, a rescuer.
//
// The whole of it is a template over Sync, so that the race tests run this code and no other: a test makes a pool, adds
// workers and calls the loops on its own fibers. Programs use the instance over os_sync (core.h).
//
// | file           | what                                                                    |
// |----------------|-------------------------------------------------------------------------|
// | pool_submit.h  | admission, publication, choosing a worker                               |
// | pool_worker.h  | the worker's loop: batches, chains, idling, blocking regions            |
// | pool_cancel.h  | cancel by handle, by a scan of everything, by a predicate               |
// | pool_manager.h | creation, sampler, deadlines, repeated interrupts, the rescuer          |
// | pool_stop.h    | start, stop, report, statistics                                         |
//
// Lock order: moves_ → domain_lock_ → a key table's order → a shard's → an account's → a worker's → a slot's. timer_lock_,
// that of alarms_, records_lock_ and orphans_lock_ are leaves. No callback, no thread creation and no wait under any of them; stop_lock_ alone is held while threads are
// joined.
//
// Where a work may be, and what a canceller locks to take it from there:
//
// | place                         | lock              | leaves it for                                              |
// |-------------------------------|-------------------|------------------------------------------------------------|
// | an account's inbox            | account's         | the account's list                                         |
// | an account's list             | account's         | a worker's batch (same hold)                               |
// | a key table's inbox, arrived  | table's order     | its key (same hold)                                        |
// | waiting for its key           | shard's           | a worker's batch (same hold)                               |
// | a worker's batch              | worker's          | its current work (same hold); back to a list (moves_ held) |
// | a worker's current work       | worker's          | its end                                                    |
// | between two members of a chain | worker's         | current (same hold); an account or a key (moves_ held)     |
//
// A scan holds moves_ and looks at keys, then lists, then workers: works move down this table on their own, and up only
// with moves_, so it meets each work that was there when it began (C6).
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "sluice/base/mutex.h"
#include "sluice/base/park.h"
#include "sluice/ref/gate.h"
#include "sluice/ref/spin_lock.h"
#include "sluice/wq/io_wq.h"

#include "account.h"
#include "callback_scope.h"
#include "key_table.h"
#include "slots.h"
#include "timer_heap.h"
#include "topology.h"
#include "worker.h"

namespace sluice::detail {

// What a pool needs besides Sync: its gate, the table of a hash domain, and who the calling thread is.
//   door                                    a basic_gate over Sync
//   table(domain) → basic_key_table<Sync>&  hold(domain), drop(domain): a count of it
//   this_worker() → basic_worker<Sync>*&    of the calling thread
//   callbacks() → const callback_scope*&    the innermost callback that the calling thread is in
//   linger_turns                            how often a worker looks out for more before it sleeps
//   core(), yield()                         the core it runs on; lets whoever waits for that core have it
//   lanes()                                how many lanes an account's single works have: a power of two, at most
//                                           graded_list::most_lanes; of core c it is lane c modulo that
//   dense, stream                           works that come less than `dense` apart are worth waiting for; so many at once
//                                           are worth a worker on another core
//   roomy_from                              below this share of the queue's limit an account is never taken for roomy
template <class Sync>
struct pool_traits;

template <class Sync>
class basic_pool {
 public:
  using traits = pool_traits<Sync>;
  using account = basic_account<Sync>;
  using worker = basic_worker<Sync>;
  using key_entry = basic_key_entry<Sync>;
  using key_shard = basic_key_shard<Sync>;
  using key_table = basic_key_table<Sync>;
  using slot_table = basic_slot_table<Sync>;
  using numbers = engine_numbers<Sync>;

  // The seams and the topology outlive the pool. Throws std::bad_alloc.
  basic_pool(const io_wq_options& options, const topology& nodes, interrupt_seam& signals);
  basic_pool(const basic_pool&) = delete;
  basic_pool& operator=(const basic_pool&) = delete;
  // Stops (cancel_queued) if nobody has. Requires: not on a worker of its own (X5).
  ~basic_pool();

  // Errors: as io_wq::create.
  [[nodiscard]] result<void> start();

  [[nodiscard]] result<void> submit(work& head, work_handle* handle) noexcept;
  [[nodiscard]] result<std::size_t> submit(std::span<work* const> works) noexcept;

  [[nodiscard]] cancel_result cancel(work_handle handle) noexcept;
  cancel_counts cancel_owner(std::uint64_t owner) noexcept;
  cancel_counts cancel_all() noexcept;
  [[nodiscard]] result<cancel_counts> cancel_chosen(bool (*choose)(void*, const work_view&), void* chooser) noexcept;

  stop_report stop(stop_policy policy, steady_time deadline) noexcept;
  unsigned set_max(work_class cls, unsigned max) noexcept;
  [[nodiscard]] unsigned get_max(work_class cls) const noexcept;
  [[nodiscard]] result<void> set_affinity(const cpu_set_t& cpus) noexcept;
  [[nodiscard]] wq_stats stats() noexcept;
  [[nodiscard]] bool on_worker() const noexcept;
  // Whether the calling thread would wait for itself if it waited for this pool.
  [[nodiscard]] bool inside() const noexcept { return callback_scope::within(traits::callbacks(), this); }

  void enter_region(worker& self) noexcept;
  void leave_region(worker& self) noexcept;

  // For wq_timer.
  using timer_heap = basic_timer_heap<Sync>;
  void arm(timer_node& one, steady_time at) noexcept {
    if (alarms_.arm(one, at)) {
      manager_word_.wake();
    }
  }
  [[nodiscard]] timer_heap& alarms() noexcept { return alarms_; }

  // For race tests, which bring their own fibers.
  [[nodiscard]] worker* adopt_worker(account& home, bool fixed) noexcept;
  [[nodiscard]] account& account_at(unsigned node, work_class cls) noexcept {
    return *accounts_[node][std::to_underlying(cls)];
  }
  void worker_loop(worker& self) noexcept;
  void manager_loop() noexcept;
  void rescuer_loop() noexcept;
  [[nodiscard]] bool manager_step() noexcept;
  void sample() noexcept;
  // Says that somebody will run these loops, so that stop waits for them.
  void expect_rescuer() noexcept { loops_.fetch_add(1, std::memory_order_relaxed); }  // relaxed: before the loop
  void expect_manager() noexcept SLUICE_EXCLUDES(stop_lock_) {
    loops_.fetch_add(1, std::memory_order_relaxed);
    const scoped_lock held(stop_lock_);
    managed_ = true;
  }

 private:
  template <class Value>
  using atomic = typename Sync::template atomic<Value>;
  using lock_type = basic_spin_lock<Sync>;

  static constexpr std::chrono::milliseconds tick{1};

  // What to do once the locks are gone.
  struct plan {
    account* at = nullptr;
    worker* chosen = nullptr;  // wake it
    bool spawn = false;        // the manager has one to create
    bool rescue = false;       // creation fails: the rescuer may have to run it
    bool elsewhere = false;    // at the limit: somebody on another node may be free
    bool tick = false;         // work waits: the sampler must run
  };
  struct class_limits {
    // Low half: threads that are there or reserved. High half: those of them that are about to leave as surplus.
    atomic<std::uint64_t> workers{0};
    atomic<std::uint32_t> max{0};
    // Who waits for room in the queue.
    atomic<std::uint32_t> room_word{0};
    atomic<std::uint32_t> room_waiters{0};
  };
  struct timer {
    steady_time at;
    work_handle handle;  // of the chain
    const work* member;  // whose deadline it is: for comparing only
  };
  struct chain_facts {
    std::array<std::uint32_t, work_classes> members{};
    std::uint32_t all = 0;
    std::uint32_t timed = 0;  // members that have a deadline
  };
  // What a cancel means: a chain by its handle, whichever member it has come to, or that one member only.
  struct cancel_target {
    std::uint32_t index;
    std::uint32_t generation;
    const work* member = nullptr;

    [[nodiscard]] bool named_by(const typename slot_table::slot& slot) const noexcept {
      return slot.generation == generation && (member == nullptr || slot.item == member);
    }
  };
  static constexpr std::uint64_t one_leaving = std::uint64_t{1} << 32;
  [[nodiscard]] static std::uint32_t there(std::uint64_t workers) noexcept {
    return static_cast<std::uint32_t>(workers);
  }
  [[nodiscard]] static std::uint32_t staying(std::uint64_t workers) noexcept {
    return there(workers) - static_cast<std::uint32_t>(workers >> 32);
  }

  enum class scan_take : std::uint8_t { all, owner };

  // pool_submit.h
  [[nodiscard]] account& local(work_class cls) noexcept { return account_at(nodes_.here(), cls); }
  [[nodiscard]] class_limits& limits(work_class cls) noexcept { return limits_[std::to_underlying(cls)]; }
  [[nodiscard, gnu::always_inline]] inline std::size_t room(work_class cls) noexcept;
  [[nodiscard, gnu::always_inline]] inline int try_submit(work& head, work_handle* handle) noexcept;
  [[nodiscard, gnu::noinline]] result<void> not_at_once(work& head, work_handle* handle, int err) noexcept;
  [[nodiscard, gnu::noinline]] std::size_t exact_room(work_class cls) noexcept;
  template <std::size_t Extent>
  [[nodiscard, gnu::always_inline]] inline int submit_singles(account& to,
                                                              std::span<work* const, Extent> works) noexcept;
  template <std::size_t Extent>
  [[nodiscard, gnu::always_inline]] inline std::size_t submit_keyed(account& to,
                                                                    std::span<work* const, Extent> works) noexcept;
  [[nodiscard, gnu::always_inline]] inline work* link_newest_first(account& to, unsigned lane,
                                                                   std::span<work* const> works) noexcept;
  [[nodiscard]] int submit_chain(account& to, work& head, work_handle* handle) noexcept;
  [[nodiscard]] int admit_chain(account& to, const work& head, bool tracked, std::uint32_t timed,
                                std::uint32_t& index) noexcept;
  [[nodiscard]] static chain_facts facts_of(const work& head) noexcept;
  static void mark_chain(work& head, work_state state) noexcept;
  [[nodiscard]] int publish_keyed(account& to, work& head, std::uint32_t index) noexcept;
  [[nodiscard, gnu::always_inline]] inline static bool goes_through_inbox(account& to, key_table& table,
                                                                          work_flags flags) noexcept;
  [[nodiscard]] plan choose_for_tables(account& at, std::size_t came) noexcept;
  [[gnu::always_inline]] inline void put_keyed(account& to, key_table& table, work& newest, work& oldest,
                                               std::size_t n) noexcept;
  [[gnu::noinline]] void make_place(key_table& table) noexcept;
  [[gnu::noinline]] void notice(account& to, key_table& table) noexcept;
  [[gnu::noinline]] void start_for_tables(account& to, std::size_t n) noexcept;
  [[nodiscard]] bool enter_key(key_table& table, account& to, work& w, std::uint32_t index, plan& then) noexcept
      SLUICE_REQUIRES(table.order);
  void wait_for_key_locked(key_shard& shard, key_entry& entry, account& to, work& w) noexcept
      SLUICE_REQUIRES(shard.lock);
  [[nodiscard]] bool enter_arrived(key_shard& shard, work_chain& some, plan& then) noexcept;
  void move_to_keys(key_table& table) noexcept SLUICE_REQUIRES(table.order);
  void key_ended(key_table& table) noexcept;
  void look_into_tables(account& at) noexcept;
  [[nodiscard]] int wait_for_room(work& head, work_handle* handle) noexcept;
  [[nodiscard]] bool hold_domains(const work& head) noexcept;
  [[nodiscard, gnu::always_inline]] inline bool hold_domain(hash_domain& domain) noexcept;
  [[nodiscard, gnu::noinline]] bool hold_another(hash_domain& domain, atomic<hash_domain*>& cached) noexcept;
  void count_accepted(unsigned node, const chain_facts& chain, int sign) noexcept;
  void put_single(account& to, work& w) noexcept;
  [[nodiscard, gnu::always_inline]] inline unsigned lane_here(const account& to) noexcept;
  [[gnu::always_inline]] inline void after_put(account& to, bool another, std::size_t came) noexcept;
  [[nodiscard]] bool saturated(work_class cls) noexcept;
  void made_room(work_class cls) noexcept;
  [[nodiscard]] plan choose_locked(account& at, bool another, std::size_t came = 1) noexcept SLUICE_REQUIRES(at.lock);
  [[nodiscard]] plan queue_keys_locked(key_shard& shard, key_list<Sync>& some) noexcept SLUICE_REQUIRES(shard.lock);
  [[nodiscard]] plan queue_key_locked(key_shard& shard, key_entry& entry) noexcept SLUICE_REQUIRES(shard.lock);
  [[nodiscard]] worker* wake_free_locked(account& at, std::size_t came = 1) noexcept SLUICE_REQUIRES(at.lock);
  static constexpr unsigned most_looked_at = 8;
  [[nodiscard]] static worker* free_elsewhere_locked(account& at) noexcept SLUICE_REQUIRES(at.lock);
  void choose_free_locked(account& at, worker& one) noexcept SLUICE_REQUIRES(at.lock);
  [[nodiscard]] bool reserve_worker(work_class cls) noexcept;
  void start_worker(account& at, bool another, std::size_t came = 1) noexcept;
  void perform(const plan& what) noexcept;
  void wake_elsewhere(account& at) noexcept;
  void ensure_ticking() noexcept;

  // pool_worker.h
  [[nodiscard]] bool fetch(worker& self) noexcept;
  [[nodiscard]] bool linger(worker& self) noexcept;
  [[nodiscard]] bool stand_aside(worker& self) noexcept;
  [[nodiscard]] bool fetch_from(worker& self, account& from, steady_time now, bool stolen) noexcept;
  enum class fetched : std::uint8_t { nothing, batch, key, tables_first };
  enum class table_turn : std::uint8_t { may_be, over };
  [[nodiscard]] fetched choose_next(worker& self, account& from, steady_time now, bool stolen, table_turn tables,
                                    key_entry*& entry) noexcept;
  void detach_locked(worker& self, account& from, batch_list& turn, steady_time now, bool stolen) noexcept
      SLUICE_REQUIRES(from.lock);
  [[nodiscard]] bool take_run(worker& self, account& from, key_entry& entry, bool stolen) noexcept;
  void record_locked(worker& self, account& at, steady_time now) noexcept SLUICE_REQUIRES(at.lock);
  static void adapt(worker& self, steady_time now) noexcept;
  void run_batch(worker& self) noexcept;
  [[nodiscard]] work* begin_next(worker& self) noexcept;
  void take_back(worker& self, work& w) noexcept;
  [[nodiscard]] work* run_one(worker& self, work& w) noexcept;
  enum class chain_turn : std::uint8_t { goes_on, ends };  // whether the next member is run, or given up with the rest
  [[nodiscard]] work* promote(worker& self, work& next, chain_turn turn) noexcept;
  [[nodiscard]] bool promote_here(worker& self, work& next) noexcept;
  [[nodiscard]] bool promote_single(worker& self, account& to, work& next, plan& then) noexcept;
  [[nodiscard]] bool promote_keyed(worker& self, account& to, work& next, bool& here, plan& then) noexcept;
  template <class Publish>
  [[nodiscard]] bool leave_between(worker& self, work& next, chain_turn turn, Publish publish) noexcept;
  // Requires: the caller holds the lock of the worker that the work is current on, or will be.
  [[nodiscard]] bool must_give_up(const work& w) const noexcept {
    // relaxed: stop() sets it before it takes that lock to look at the worker.
    return cancelling_.load(std::memory_order_relaxed) && !has(w.flags(), work_flags::no_cancel);
  }
  void put_back(worker& self) noexcept;
  void end_run(worker& self) noexcept;
  std::size_t give_up(work& first) noexcept;
  void give_up_rest(worker& self, work& next) noexcept;
  [[nodiscard]] bool idle(worker& self) noexcept;
  [[nodiscard]] bool leave_surplus(worker& self) noexcept;
  void retire(worker& self, bool surplus) noexcept;
  void come_back(worker& self) noexcept;
  void recall(worker& from) noexcept;
  void set_slot(std::uint32_t index, work& item, slot_place place, void* holder, hash_domain* domain = nullptr,
                std::uint64_t key = 0) noexcept;
  [[nodiscard]] static bool unlist_locked(account& at, work& w) noexcept SLUICE_REQUIRES(at.lock);

  // pool_cancel.h
  using stop_sources = std::vector<std::stop_source>;
  [[nodiscard]] std::optional<cancel_result> cancel_in_account(account& at, cancel_target target,
                                                               work*& pending) noexcept;
  [[nodiscard]] std::optional<cancel_result> cancel_in_key(hash_domain& domain, std::uint64_t key, cancel_target target,
                                                           work*& pending) noexcept;
  [[nodiscard]] std::optional<cancel_result> cancel_in_worker(worker& at, cancel_target target, slot_place place,
                                                              work*& pending) noexcept;
  [[nodiscard]] cancel_result cancel_counted(cancel_target target, std::size_t& cancelled) noexcept;
  cancel_counts cancel_scan(scan_take which, std::uint64_t owner) noexcept;
  template <class Match>
  void scan_keys(Match match, work_chain& out) noexcept SLUICE_REQUIRES(moves_);
  template <class Match>
  void scan_lists(Match match, work_chain& out) noexcept SLUICE_REQUIRES(moves_);
  template <class Match>
  std::size_t scan_workers(Match match, work_chain& out, stop_sources& sources) noexcept SLUICE_REQUIRES(moves_);
  void mark_ending(work& w) noexcept;
  [[nodiscard]] plan key_lost_work_locked(key_shard& shard, key_entry& entry) noexcept SLUICE_REQUIRES(shard.lock);
  [[nodiscard]] std::optional<std::stop_source> ask_locked(worker& at) noexcept SLUICE_REQUIRES(at.lock);
  [[nodiscard]] static work_view view_of(const work& w, bool running, hash_domain* domain, std::uint64_t key) noexcept;
  struct candidate {
    work_view view;
    work_handle handle;
  };
  static void keep_last_of_each(std::vector<candidate>& all) noexcept;
  [[nodiscard]] bool snapshot(std::vector<candidate>& out) noexcept;
  void note(work& w, const work_view& view, slot_place place, void* holder, std::vector<candidate>& out, bool& full);
  void note_keys(std::vector<candidate>& out, bool& full) noexcept SLUICE_REQUIRES(moves_);
  void note_workers(std::vector<candidate>& out, bool& full) noexcept SLUICE_REQUIRES(moves_);

  // pool_manager.h
  [[nodiscard]] result<void> spawn(account& home, bool fixed) noexcept;
  [[nodiscard]] worker* add_worker(account& home, bool fixed) noexcept;
  [[nodiscard]] worker* take_record() noexcept;
  void recycle_record(worker& gone) noexcept;
  void create_wanted() noexcept;
  void bury_dead() noexcept;
  void sample_account(account& at, std::vector<worker*>& stuck) noexcept;
  void interrupt_locked(worker& one, steady_time now) noexcept SLUICE_REQUIRES(one.lock);
  [[nodiscard]] steady_time repeat_interrupts(steady_time now) noexcept;
  [[nodiscard]] bool anything_queued() noexcept;
  void add_timer(const timer& one) noexcept;
  [[nodiscard]] bool reserve_timers(std::uint32_t count) noexcept;
  void unreserve_timers(std::uint32_t count) noexcept;
  [[nodiscard]] steady_time first_timer() noexcept;
  [[nodiscard]] steady_time fire_due(steady_time now) noexcept;
  [[nodiscard]] bool cancel_one_expired() noexcept;
  [[nodiscard]] bool rescue_one() noexcept;
  [[nodiscard]] bool give_up_orphan() noexcept;
  void rescuer_turns() noexcept;
  void replace_rescuer() noexcept;
  void loop_ends() noexcept;

  // pool_stop.h
  [[nodiscard]] result<named_thread> start_thread(const char* suffix, void (basic_pool::*loop)() noexcept) noexcept;
  void end_threads() noexcept;
  void wake_all_free() noexcept;
  void report_rest(stop_report& report) noexcept;
  [[nodiscard]] class_stats stats_of(work_class cls) noexcept;
  void keep_affinity() noexcept;
  void disown(key_table& table) noexcept;

  template <class Visit>
  void for_each_account(Visit visit) {
    for (auto& both : accounts_) {
      for (auto& one : both) {
        visit(*one);
      }
    }
  }

  const io_wq_options options_;
  const std::string name_;
  const unsigned lane_mask_ = traits::lanes() - 1;
  const topology& nodes_;
  thread_seam& threads_;
  clock_seam& clock_;
  interrupt_seam& signals_;
  identity_calls& identities_;

  // Constant after construction; each synchronises itself.
  std::vector<std::array<std::unique_ptr<account>, work_classes>> accounts_;
  std::array<class_limits, work_classes> limits_;
  typename traits::door door_;  // a pass for each accepted work
  slot_table slots_;
  lock_type moves_;

  // Domains that works of this wq have named, held until it ends. The cache answers most questions without the lock.
  static constexpr std::size_t cached_domains = 16;
  std::array<atomic<hash_domain*>, cached_domains> domain_cache_{};
  typename Sync::mutex domain_lock_;
  std::unordered_set<hash_domain*> domains_ SLUICE_GUARDED_BY(domain_lock_);

  typename Sync::mutex timer_lock_;
  std::vector<timer> timers_ SLUICE_GUARDED_BY(timer_lock_);  // a heap, the earliest first
  std::size_t timers_reserved_ SLUICE_GUARDED_BY(timer_lock_) = 0;
  std::size_t timers_compacted_ SLUICE_GUARDED_BY(timer_lock_) = 0;

  timer_heap alarms_;

  typename Sync::mutex records_lock_;
  std::deque<worker> records_ SLUICE_GUARDED_BY(records_lock_);
  std::vector<worker*> spare_ SLUICE_GUARDED_BY(records_lock_);
  std::vector<worker*> dead_ SLUICE_GUARDED_BY(records_lock_);
  cpu_set_t affinity_ SLUICE_GUARDED_BY(records_lock_){};
  bool has_affinity_ SLUICE_GUARDED_BY(records_lock_) = false;

  // Works that were asked to stop on a thread that broke before it ran them.
  lock_type orphans_lock_;
  work_chain orphans_ SLUICE_GUARDED_BY(orphans_lock_);

  atomic<std::uint32_t> alive_{0};         // records whose thread has not been joined
  atomic<std::uint32_t> interrupting_{0};  // works that are being interrupted
  atomic<bool> cancelling_{false};         // from stop(cancel_queued) on: what is taken to be run is given up
  atomic<std::size_t> given_up_at_stop_{0};
  atomic<bool> exiting_{false};
  atomic<bool> rescuer_gone_{false};  // it broke; the manager starts another
  atomic<bool> ticking_{false};
  atomic<std::uint32_t> loops_{0};  // manager and rescuer
  basic_parker<Sync> manager_word_;
  steady_time last_sample_;     // the manager's own
  unsigned quiet_ticks_ = 0;    // the same
  std::vector<worker*> stuck_;  // the same
  std::vector<worker*> due_;    // the same: workers to be interrupted

  mutex stop_lock_;
  bool joined_ SLUICE_GUARDED_BY(stop_lock_) = false;
  bool managed_ SLUICE_GUARDED_BY(stop_lock_) = false;  // a manager's loop runs
  named_thread manager_;
  named_thread rescuer_thread_;
  worker rescuer_;
};

}  // namespace sluice::detail
