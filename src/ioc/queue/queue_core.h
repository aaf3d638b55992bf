// queue_core: the request queue behind request_queue.h, its state and its parts. What a user must know stands there.
//
// | header         | what                                              | who calls it                                  |
// |----------------|---------------------------------------------------|-----------------------------------------------|
// | queue_core.h   | the state; making and freeing                     | create, the last put                          |
// | queue_submit.h | the way in: try, hand, or wait                    | submit                                        |
// | queue_slots.h  | which goes next; the state as others see it: settle | all the others, with the lock held            |
// | queue_run.h    | the way out: launch, quanta, answers              | the pool, and threads that gave a slot back   |
// | queue_hold.h   | waits: drain, stop, quiesce, freeze               | those                                         |
// | queue_change.h | resize, set_elevator, cancel_owner, remove        | those, and the timer                          |
//
// A template, so that the race tests run this code (tests/race/request_queue_rig.h). Types names what it is made of:
//   sync       the seam of base/sync.h: atomics and the lock; cond: a condition variable for that lock (mutex.h)
//   queue      the base: a kref, and request_queue_links of the pairs; `id()`
//   request    a request_node; with a table of try_run, run and complete (request.h)
//   context    get_ioprio, create, exit_task (io_context.h), and io_context_links;  pair: an io_cq_node with stats_
//   elevator   the functions of elevator.h
//   pool       submit, cancel_if (io_wq.h);  timer: of that pool (wq_timer.h)
//
// How it is held together:
//   slots      A request in flight has a slot. One that the pool has, or is about to get, is also handed. While the slot
//              counter is open, no request waits and no thread holds the queue still: requests come and go by its try_…
//              functions alone. A thread that changes what such a request would have to know takes the lock, freezes the
//              counter, makes the change, and settles: settle_locked opens the counter again if nothing needs the lock, and
//              wakes the threads that wait for the change. So the counter is frozen while a request waits.
//   slots end  A thread that gives a slot back under the lock picks the next request (gave_locked), and launches it
//              without the lock.
//   waiting    A request waits in the elevator (queued_), or is held aside by a freeze (held_, numbered). Only collect_locked
//              takes one out of the elevator to let it go; cancel_owner and remove take it out to answer it.
//   urgent     One word says what a worker must know at the end of a quantum: others wait, quiesced, removed.
//   counts     An accepted request has a count of its queue and of its context, moved out before complete() is called.
//
// Lock order:     the queue's lock, then a context's or that of the pool's timers. No callback, no submit to the pool, no
//                 allocation but a pair's, under it.
// Invariants:     O4 O5 W1 W2 W6
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "sluice/base/check.h"
#include "sluice/base/clock.h"
#include "sluice/base/error.h"
#include "sluice/base/mutex.h"
#include "sluice/ioc/request_node.h"
#include "sluice/ioc/request_queue.h"
#include "sluice/ioc/slot_counter.h"
#include "sluice/ref/ref.h"
#include "sluice/wq/work.h"

#include "ioc/handed_keys.h"

namespace sluice::detail {

template <class Types>
class basic_request_queue final : public Types::queue {
  using sync = typename Types::sync;
  using queue = typename Types::queue;
  using request = typename Types::request;
  using fifo = basic_request_fifo<request>;
  using context = typename Types::context;
  using pair = typename Types::pair;
  using elevator = typename Types::elevator;
  using pool = typename Types::pool;
  template <class Value>
  using atomic = typename sync::template atomic<Value>;
  using queue::lock_;

 public:
  // With options that hold: max_workers is not 0, and an elevator. The id is never used twice.
  basic_request_queue(pool& workers, const request_queue_options& options, std::unique_ptr<elevator> order,
                      std::uint64_t id) noexcept;
  ~basic_request_queue();
  basic_request_queue(const basic_request_queue&) = delete;
  basic_request_queue& operator=(const basic_request_queue&) = delete;

  // As in request_queue.h.
  [[nodiscard]] result<issued> submit(request& issue, context& issuer) noexcept;
  std::size_t cancel_owner(std::uint64_t owner) noexcept;
  [[nodiscard]] result<void> drain(steady_time deadline) noexcept;
  [[nodiscard]] result<void> stop(steady_time deadline) noexcept;
  [[nodiscard]] result<void> quiesce(steady_time deadline) noexcept;
  void unquiesce() noexcept;
  [[nodiscard]] result<void> freeze(steady_time deadline) noexcept;
  void unfreeze() noexcept;
  [[nodiscard]] result<void> resize(std::uint32_t depth) noexcept;
  // Requires: not null.
  [[nodiscard]] result<void> set_elevator(std::unique_ptr<elevator> order, steady_time deadline) noexcept;
  removal_report remove(steady_time deadline) noexcept;
  [[nodiscard]] result<pair*> get_io_cq(context& issuer) noexcept;
  [[nodiscard]] io_cq_stats stats_of(context& issuer) noexcept;
  [[nodiscard]] request_queue_stats stats() const noexcept;
  [[nodiscard]] const elevator& order() const noexcept;
  // relaxed: a limit, it orders nothing.
  [[nodiscard]] std::uint32_t depth() const noexcept { return depth_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint32_t max_workers() const noexcept { return max_workers_; }
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }

  // A pair leaves: calls the elevator.
  void io_cq_exits_locked(pair& left) noexcept SLUICE_REQUIRES(lock_) { order_->exit_io_cq_locked(left); }

 private:
  using fate = request_fate;

  // What a submit comes to, at first.
  enum class entry : std::uint8_t { tried, waits, lacks_pair, refused };
  struct entered {
    entry what = entry::refused;
    int error = 0;        // refused
    steady_time began{};  // tried: when the elevator let it go
  };
  // What a request under way holds.
  enum class slot : std::uint8_t { taken, handed };

  // The io_cq of requests whose context has none any more, and its context. Made when it is needed.
  struct own_pair {
    context* holder = nullptr;
    std::unique_ptr<pair> kept;
  };

  // Asks the elevator again when it said so.
  struct cap_timer : Types::timer {
    explicit cap_timer(basic_request_queue& mine) noexcept : Types::timer(mine.workers_, fire), owner(mine) {}
    static void fire(typename Types::timer& timer) noexcept;
    basic_request_queue& owner;
  };

  // A freeze that has not returned yet. A link of freeze_waits_, on its caller's stack.
  struct freeze_wait {
    std::uint64_t mark = 0;  // it waits for what is held aside with a lower number
    freeze_wait* next = nullptr;
  };

  static void work_run(work& node, work_context& scope) noexcept;
  static void work_release(work& node) noexcept;
  [[nodiscard]] fate run_quanta(request& mine, const work_context& scope) noexcept;

  // Not inlined, as the two below: the short way through submit would pay for the registers that they need.
  [[nodiscard, gnu::noinline]] result<issued> submit_slow(request& issue, context& issuer) noexcept;
  [[nodiscard]] entered enter_locked(request& issue, context& issuer, fifo& go) noexcept SLUICE_REQUIRES(lock_);
  // Tries it, and sends it to the io_wq if it would block. The caller holds a slot for it, which goes with it or is
  // given back.
  [[nodiscard]] result<issued> start(request& issue, context& issuer, steady_time began) noexcept;
  // The same for one that was tried and would block, when it cannot be handed without the lock.
  [[nodiscard, gnu::noinline]] result<issued> hand_or_wait(request& issue, context& issuer) noexcept;
  [[nodiscard]] result<issued> send(request& issue) noexcept;
  [[gnu::noinline]] void end_attempt(request& over, steady_time began) noexcept;
  // The request is on its way: takes the counts that its end needs.
  void accept(request& issue, context& issuer) noexcept;
  static void disown(request& issue) noexcept;

  // Between two quanta.
  void put_back(request& cut) noexcept;
  // The end of an accepted request: complete(), then the requests that wait.
  void finish(request& answered) noexcept;
  void answer(request& over, slot held, fifo& go) noexcept;
  // Ends those that were taken out of the elevator, and hold slots, with an error.
  void answer_all(fifo& taken, int error) noexcept;
  // Sends requests that are handed to the io_wq. One that it refuses for a moment waits again; if the io_wq has
  // stopped, the refusal is its answer, and others take its slot.
  void launch(fifo& go) noexcept;
  [[nodiscard]] bool put_off(request& refused) noexcept;
  void arm_locked(steady_time at) noexcept SLUICE_REQUIRES(lock_);

  // Lets go whom slots, workers and the elevator allow; they are handed, but for `mine`. Returns whether that is one.
  bool collect_locked(fifo& go, const request* mine = nullptr) noexcept SLUICE_REQUIRES(lock_);
  // A slot was given back: collects the requests that go now. Returns the io_cqs that end with a removed queue's last
  // request.
  [[nodiscard]] pair* gave_locked(fifo& go) noexcept SLUICE_REQUIRES(lock_);
  [[nodiscard]] bool has_worker_locked() const noexcept SLUICE_REQUIRES(lock_);
  void hand_locked(request& next) noexcept SLUICE_REQUIRES(lock_);
  // key_ticket: the request's, 0 if it has none.
  void give_handed_locked(handed_keys::ticket key_ticket) noexcept SLUICE_REQUIRES(lock_);
  void insert_locked(request& waiting, steady_time now) noexcept SLUICE_REQUIRES(lock_);
  void served_locked(request& over, steady_time now) noexcept SLUICE_REQUIRES(lock_);
  void untouched_locked(request& back, steady_time now) noexcept SLUICE_REQUIRES(lock_);
  [[nodiscard]] bool next_quantum(request& mine) noexcept SLUICE_EXCLUDES(lock_);
  void adopt_order_locked() noexcept SLUICE_REQUIRES(lock_);
  void lift_limits_locked() noexcept SLUICE_REQUIRES(lock_);
  // Lets the lock-free path in again if nothing needs the lock; wakes the threads that wait for what has changed.
  void settle_locked() noexcept SLUICE_REQUIRES(lock_);
  // The elevator's time.
  [[nodiscard]] steady_time now_locked() const noexcept SLUICE_REQUIRES(lock_);
  [[nodiscard]] std::uint32_t waiting_locked() const noexcept SLUICE_REQUIRES(lock_) { return queued_ + held_count_; }
  // Nothing is under way or waits, but for what a freeze holds aside.
  [[nodiscard]] bool idle_locked() const noexcept SLUICE_REQUIRES(lock_);
  // Waits until it is idle and nothing is held aside with a number below `mark`. Returns false if the deadline passed
  // first.
  static constexpr std::uint64_t nothing_held = 0;
  static constexpr std::uint64_t all_held = ~std::uint64_t{0};
  [[nodiscard]] bool wait_idle_locked(steady_time deadline, std::uint64_t mark) noexcept SLUICE_REQUIRES(lock_);
  [[nodiscard]] bool over_locked(std::uint64_t mark) const noexcept SLUICE_REQUIRES(lock_);
  // Whether what is held aside first may go on.
  [[nodiscard]] bool may_let_go_locked() const noexcept SLUICE_REQUIRES(lock_);
  enum class held_before : bool { stays, goes };
  [[nodiscard]] result<void> freeze_for(held_before held, steady_time deadline) noexcept;
  // The elevator may have more to give.
  void look_again() noexcept;
  // What freeze held aside goes on.
  void let_held_go() noexcept;
  [[nodiscard]] ref<context> insert_held_locked(std::uint64_t lacks_pair, fifo& failed) noexcept SLUICE_REQUIRES(lock_);
  [[nodiscard]] pair* own_pair_locked() noexcept SLUICE_REQUIRES(lock_);
  static void free_own_pair(own_pair own) noexcept;

  static void count(atomic<std::uint64_t>& figure, std::uint64_t by = 1) noexcept {
    figure.fetch_add(by, std::memory_order_relaxed);  // a figure: it orders nothing
  }

  // Constant after construction.
  pool& workers_;
  const std::uint32_t max_waiting_;
  const std::uint32_t max_workers_;
  const std::uint64_t quantum_;
  clock_seam& clock_;
  const std::uint64_t id_;
  const work_ops work_operations_{work_run, work_release};  // one per queue: by it a cancel finds the queue's works

  // Synchronise themselves. A line of their own: every submit writes the slots.
  alignas(64) basic_slot_counter<sync> slots_;
  atomic<std::uint32_t> depth_;  // written under lock_
  // What a worker must know at the end of a quantum; written under lock_.
  static constexpr std::uint32_t others_wait = 1;
  static constexpr std::uint32_t is_quiesced = 2;
  static constexpr std::uint32_t is_removed = 4;
  atomic<std::uint32_t> urgent_{0};
  atomic<std::uint64_t> inline_done_{0};
  atomic<std::uint64_t> bytes_{0};
  atomic<std::uint64_t> punted_{0};
  atomic<std::uint64_t> waited_{0};
  atomic<std::uint64_t> cancelled_{0};

  // lock_, the queue's lock, is the base's.
  typename Types::cond changed_;
  std::unique_ptr<elevator> order_ SLUICE_GUARDED_BY(lock_);
  bool paired_ SLUICE_GUARDED_BY(lock_) = false;  // the elevator wants io_cqs
  bool stopped_ SLUICE_GUARDED_BY(lock_) = false;
  bool removed_ SLUICE_GUARDED_BY(lock_) = false;                 // and stopped
  std::uint32_t queued_ SLUICE_GUARDED_BY(lock_) = 0;             // requests in the elevator
  std::uint32_t held_count_ SLUICE_GUARDED_BY(lock_) = 0;         // in held_
  std::uint32_t idle_waits_ SLUICE_GUARDED_BY(lock_) = 0;         // threads that wait for idle
  std::uint32_t quiesce_waits_ SLUICE_GUARDED_BY(lock_) = 0;      // threads that wait for attempts
  std::uint32_t freezers_ SLUICE_GUARDED_BY(lock_) = 0;           // freezes that have returned, or wait
  std::uint32_t frozen_ SLUICE_GUARDED_BY(lock_) = 0;             // of those, that have returned
  freeze_wait* freeze_waits_ SLUICE_GUARDED_BY(lock_) = nullptr;  // the others, in the order in which they came
  std::uint64_t next_held_ SLUICE_GUARDED_BY(lock_) = 1;          // the number of the next that is held aside
  std::uint32_t quiescers_ SLUICE_GUARDED_BY(lock_) = 0;
  fifo held_ SLUICE_GUARDED_BY(lock_);                          // came while frozen
  steady_time asks_at_ SLUICE_GUARDED_BY(lock_) = no_deadline;  // the timer is armed for
  bool timed_ SLUICE_GUARDED_BY(lock_) = false;                 // the timer was armed once
  bool put_off_ SLUICE_GUARDED_BY(lock_) = false;  // the io_wq was full; until the timer, or a request's end
  std::uint64_t cut_ SLUICE_GUARDED_BY(lock_) = 0;
  removal_report removal_ SLUICE_GUARDED_BY(lock_);
  handed_keys keys_ SLUICE_GUARDED_BY(lock_);  // of the requests that are handed
  own_pair own_ SLUICE_GUARDED_BY(lock_);

  cap_timer timer_;
};

template <class Types>
basic_request_queue<Types>::basic_request_queue(pool& workers, const request_queue_options& options,
                                                std::unique_ptr<elevator> order, std::uint64_t id) noexcept
    : workers_(workers),
      max_waiting_(options.max_waiting),
      max_workers_(options.max_workers),
      quantum_(options.quantum != 0 ? options.quantum : ~std::uint64_t{0}),
      clock_(options.clock != nullptr ? *options.clock : clock_seam::real()),
      id_(id),
      depth_(options.depth),
      order_(std::move(order)),
      timer_(*this) {
  scoped_lock hold(lock_);
  adopt_order_locked();
  settle_locked();
}

template <class Types>
basic_request_queue<Types>::~basic_request_queue() {
  own_pair own;
  bool timed = false;
  {
    scoped_lock hold(lock_);
    timed = timed_;
    SLUICE_CHECK_OP(slots_.count(), ==, 0U);
    SLUICE_CHECK(order_->empty_locked() && held_.empty(), "a request queue is freed while requests wait in it");
    SLUICE_CHECK(!this->has_io_cqs_locked(), "stop() a queue whose elevator keeps io_cqs before its last put");
    own = std::exchange(own_, {});
    if (own.kept != nullptr) {
      order_->exit_io_cq_locked(*own.kept);
    }
  }
  if (timed) {
    timer_.disarm_and_wait();
  }
  free_own_pair(std::move(own));
}

}  // namespace sluice::detail
