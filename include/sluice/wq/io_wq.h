// io_wq: the worker pool: two classes of workers, keyed order, blocked workers replaced, work that can be cancelled.
//
//   auto wq = io_wq::create({.max_bound = 4, .name = "files"});
//   if (auto r = (*wq)->submit(*job); !r) { … r.error(): the job is still ours … }
//   (*wq)->stop(stop_policy::run_queued);
//
// Ownership:      kref, for all who share the pool. The last put stops it (cancel_queued, without deadline) and joins its
//                 threads. On one of its own threads, or in a cancelled run, a release, a stop callback or a timer function,
//                 the last put returns at once and a thread named "wq-end" ends the pool.
// Thread safety:  any thread that holds a count may call anything, workers included; stop() in one of those places is
//                 refused (EDEADLK), and when_full::wait does not wait there.
// Blocking:       submit does not (unless when_full::wait was chosen). cancel runs the cancelled works on the caller's
//                 thread. stop waits.
// Ordering:       works of a key start in submit order, overtaking others if need be. Works without a key, of one class,
//                 node and priority, are taken in submit order, a batch at a time; of works so quick that a hundred are over
//                 in 20 us those of one core are, unless the class may have one worker only. submit happens before run, run
//                 before release, release before stop's return.
// Errors:         submit: ESHUTDOWN after stop began; EAGAIN queue full; ENOMEM no room for a key, handle or deadline;
//                 ETIMEDOUT full until the wait's end; EDEADLK the calling thread would wait for room in a wq that it
//                 belongs to, or whose callback it runs. A refused work is untouched (W6).
// Limits:         queue_limit works queued per class; max_bound and max_unbound workers over all nodes; a name of 8 bytes.
// Invariants:     W1 W2 W3 W4 W5 W6 W7 P1 … P10 C1 … C8 X1 … X6
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "sluice/base/clock.h"
#include "sluice/base/error.h"
#include "sluice/base/thread.h"
#include "sluice/identity/identity_calls.h"
#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"
#include "sluice/wq/interrupt_seam.h"
#include "sluice/wq/stats.h"
#include "sluice/wq/work.h"

namespace sluice {

namespace detail {
class wq_core;
struct wq_ending;

// A callable that was submitted by value, in a node that the wq keeps for the next one. A large one lives on the heap.
struct call_node : work {
  static constexpr std::size_t room = 64;

  template <class Callable>
  static constexpr bool fits = sizeof(Callable) <= room && alignof(Callable) <= alignof(std::max_align_t) &&
                               std::is_nothrow_move_constructible_v<Callable>;

  void (*invoke)(void* callable, work_context&) noexcept = nullptr;
  void (*destroy)(void* callable) noexcept = nullptr;
  void* callable = nullptr;
  call_node* next_free = nullptr;
  wq_core* home = nullptr;
  alignas(std::max_align_t) std::byte storage[room];
};
}  // namespace detail

// What a submit does when queue_limit works of the class are queued.
enum class when_full : std::uint8_t {
  refuse,  // EAGAIN
  wait,    // until there is room, at most full_wait; a thread or callback of the same wq gets EDEADLK instead
};

struct io_wq_options {
  unsigned max_bound = 0;    // workers; 0: four per CPU that the creator may use
  unsigned max_unbound = 0;  // workers; 0: 512
  std::chrono::milliseconds idle_timeout{5000};
  std::string_view name = "sluice";  // of the threads: at most 8 bytes
  std::size_t queue_limit = std::size_t{1} << 20;
  when_full full = when_full::refuse;
  std::chrono::milliseconds full_wait{1000};
  // The real-time signal that interrupts a running work's system call when it is cancelled. 0: SIGRTMIN + 3. Its
  // disposition is the wq's from create to the end of the last wq that uses it, and then restored.
  int interrupt_signal = 0;
  // NUMA nodes in hwloc's synthetic syntax ("node:4 pu:4"), for tests: threads are dealt out to them in turn and nothing
  // is bound. Empty: the machine's.
  std::string_view topology = {};
  // Seams. Null: the machine's. They outlive the wq.
  thread_seam* threads = nullptr;
  clock_seam* clock = nullptr;
  interrupt_seam* interrupts = nullptr;
  identity_calls* identities = nullptr;
};

// Names one accepted submit of one wq, forever: no other submit is ever found by it, whatever memory is used again.
class work_handle {
 public:
  // Names nothing.
  constexpr work_handle() = default;
  constexpr work_handle(std::uint32_t slot, std::uint32_t generation, std::uint32_t pool) noexcept
      : slot_(slot), generation_(generation), pool_(pool) {}

  [[nodiscard]] constexpr std::uint32_t slot() const noexcept { return slot_; }
  [[nodiscard]] constexpr std::uint32_t generation() const noexcept { return generation_; }
  // The number of the wq that accepted the work: another one does not find it.
  [[nodiscard]] constexpr std::uint32_t pool() const noexcept { return pool_; }
  [[nodiscard]] constexpr explicit operator bool() const noexcept { return slot_ != 0; }
  friend constexpr bool operator==(const work_handle&, const work_handle&) = default;

 private:
  std::uint32_t slot_ = 0;
  std::uint32_t generation_ = 0;
  std::uint32_t pool_ = 0;
};

enum class cancel_result : std::uint8_t {
  cancelled,  // it was pending; its run (cancelled) and its release have returned, and so have those of the rest of its chain,
              // up to a no_cancel member
  running,  // it has not completed, and the memory is in use: it runs and was asked to stop, its system call interrupted
            // until it leaves; or another thread gives it up; or a later member of its chain will be given up
  not_found,  // it has completed (or is in its release), was never accepted by this wq, or is no_cancel
};

struct cancel_counts {
  std::size_t cancelled = 0;  // works that have completed at return, with the rest of their chains
  // Works that matched and have not completed: asked to stop, or to be given up at their turn. Not those that another thread gives
  // up already.
  std::size_t running = 0;
};

// What cancel_if shows of a candidate. The address is for comparing only: the work may be over by now.
struct work_view {
  const work* address = nullptr;
  std::uint64_t owner = 0;
  const hash_domain* domain = nullptr;  // null: no key
  std::uint64_t key = 0;
  work_class cls = work_class::bound;
  bool running = false;           // false: pending, or a member of a chain whose turn has not come
  const work_ops* ops = nullptr;  // the table it was submitted with, for comparing only
};

enum class stop_policy : std::uint8_t {
  run_queued,  // what was accepted is run
  // What is pending is cancelled, what runs is asked to stop; pending no_cancel works are run. It holds until the pool has
  // drained: a work whose submit was under way is given up by the worker that takes it.
  cancel_queued,
};

struct running_work {
  work_view what;
  std::chrono::nanoseconds since{};  // since its worker took the batch that it came in: it has run at most as long
};

struct stop_report {
  bool finished = false;  // every work released and every thread joined. false: the deadline came first, or EDEADLK
  std::error_code error;  // EDEADLK: called on a thread of the wq or in one of its callbacks; nothing was done
  std::size_t cancelled = 0;
  std::size_t still_queued = 0;
  std::vector<running_work> still_running;
  std::size_t in_callbacks = 0;  // threads in a release or a cancelled run, and chains that are to be given up
};

class io_wq : public kref<io_wq> {
 public:
  // Starts the manager, the rescuer, the canceller and the first worker of each node.
  // Errors: EINVAL a bad option; EAGAIN, ENOMEM, EPERM as thread creation says (nothing is left behind).
  [[nodiscard]] static result<ref<io_wq>> create(const io_wq_options& options = {});

  // Accepts one work, or the chain it heads.
  [[nodiscard]] result<void> submit(work& head) noexcept;
  // The same, and says how to cancel it.
  [[nodiscard]] result<work_handle> submit_tracked(work& head) noexcept;
  // Accepts works[0…n) in this order with one wake. Returns n, at least 1, or why works[0] was refused (or 0 for an
  // empty span). The rest stays the caller's.
  [[nodiscard]] result<std::size_t> submit(std::span<work* const> works) noexcept;
  // Links works[0] → works[1] → … and submits the head: all or nothing.
  [[nodiscard]] result<void> submit_chain(std::span<work* const> works) noexcept;
  // Runs f() or f(work_context&) once. f() is dropped without a call if the work is cancelled; f(work_context&) is
  // called in any case. f is destroyed after its run, on that thread. Move-only callables will do; it must not throw.
  // Allocates nothing in the steady state for callables of up to 64 bytes. Throws std::bad_alloc before it is accepted.
  template <class Callable>
    requires(std::invocable<Callable&> || std::invocable<Callable&, work_context&>)
  [[nodiscard]] result<void> submit(Callable callable, work_class cls = work_class::bound) {
    using node = detail::call_node;
    // A large one is allocated first: what may throw comes before the node is taken.
    std::unique_ptr<Callable> large;
    if constexpr (!node::fits<Callable>) {
      large = std::make_unique<Callable>(std::move(callable));
    }
    node& made = take_call(cls);
    if constexpr (node::fits<Callable>) {
      made.callable = ::new (static_cast<void*>(made.storage)) Callable(std::move(callable));
      made.destroy = [](void* f) noexcept { static_cast<Callable*>(f)->~Callable(); };
    } else {
      made.callable = large.release();
      made.destroy = [](void* f) noexcept { delete static_cast<Callable*>(f); };
    }
    made.invoke = [](void* f, work_context& ctx) noexcept {
      if constexpr (std::invocable<Callable&, work_context&>) {
        (*static_cast<Callable*>(f))(ctx);
      } else if (!ctx.cancelled()) {
        (*static_cast<Callable*>(f))();
      }
    };
    return submit_call(made);
  }

  // Blocks for the run of the cancelled work, if it was pending.
  [[nodiscard]] cancel_result cancel(work_handle handle) noexcept;
  // Every work (pending or running) with this owner tag that was accepted before the call.
  cancel_counts cancel_owner(std::uint64_t owner) noexcept;
  // Every work that the predicate chooses. It is called without locks, on a snapshot, for all works before the first is cancelled;
  // what it throws is thrown on, and nothing is cancelled then. A chosen work that began to run or completed meanwhile counts
  // as what it is by then. Errors: ENOMEM for the snapshot.
  template <std::predicate<const work_view&> Predicate>
  [[nodiscard]] result<cancel_counts> cancel_if(Predicate predicate) {
    return cancel_chosen([](void* p, const work_view& view) { return bool{(*static_cast<Predicate*>(p))(view)}; },
                         &predicate);
  }
  cancel_counts cancel_all() noexcept;

  // Refuses further submits, then lets the policy decide about what is queued, waits for what runs, and joins the
  // threads. After an unfinished stop call it again. Blocks until done or the deadline.
  stop_report stop(stop_policy policy, steady_time deadline = no_deadline) noexcept;

  // Sets the limit, at least 1. Returns the old one. Lowered: surplus workers leave once they are done with their work.
  unsigned set_max_workers(work_class cls, unsigned max) noexcept;
  [[nodiscard]] unsigned max_workers(work_class cls) const noexcept;
  [[nodiscard]] when_full full() const noexcept;

  // Moves the workers, those there are and those to come, to these CPUs. By default they inherit the creator's, and keep
  // to their NUMA node's among them. Errors: EINVAL none of them exists or may be used; what sched_setaffinity(2) says.
  [[nodiscard]] result<void> set_affinity(std::span<const unsigned> cpus) noexcept;

  [[nodiscard]] wq_stats stats() const noexcept;

  // Whether the calling thread is one of this wq's workers.
  [[nodiscard]] bool on_worker() const noexcept;

 private:
  friend struct delete_release;
  friend class wq_timer;

  io_wq(std::unique_ptr<detail::wq_core> core, std::unique_ptr<detail::wq_ending> ending) noexcept;
  ~io_wq();

  [[nodiscard]] detail::call_node& take_call(work_class cls);
  [[nodiscard]] result<void> submit_call(detail::call_node& node) noexcept;
  result<cancel_counts> cancel_chosen(bool (*choose)(void*, const work_view&), void* chooser);

  std::unique_ptr<detail::wq_core> core_;
  std::unique_ptr<detail::wq_ending> ending_;
};

}  // namespace sluice
