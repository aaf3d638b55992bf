// The default domain on liburcu's memb flavour, and its reclaimer.
//
// Retired nodes go on a push-only list; the reclaimer takes the whole list at once (so no ABA), turns it round, waits
// for one grace period, and runs the deleters in the order of their retires. One runner at a time: that is what lets a
// barrier be a node of its own on the list: when it runs, all that was pushed before it has been deleted.
//
// Who runs (role_, changed only under lock_):
//   none ──start──▶ running ──exit handler──▶ stopping ──joined──▶ none
//   none ──rcu_barrier or exit, thread cannot be made──▶ helping ──list empty──▶ none
// Nothing is lost between a push and a change of role: the pusher publishes its node, then reads role_; the runner
// changes role_, then looks at the list once more (all four seq_cst), so at least one of the two sees the other.
#include "sluice/rcu/rcu.h"

#include <pthread.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <utility>

// liburcu offers its read side inline too, in functions it made short enough for callers of any licence; that spares a
// section two calls into the shared library. Not for ThreadSanitizer: it would see half of liburcu's accesses and take
// them for races, where with the calls it sees none and is told the order below.
#if !defined(SLUICE_TSAN)
#define _LGPL_SOURCE
#endif
#include <urcu/urcu-memb.h>

#include "sluice/base/check.h"
#include "sluice/base/clock.h"
#include "sluice/base/immortal.h"
#include "sluice/base/mutex.h"
#include "sluice/base/park.h"

#if defined(SLUICE_TSAN)
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace sluice {
namespace {

// How long the end of the process waits for readers without any progress before it dies rather than hang.
constexpr std::chrono::seconds exit_patience{30};

// What a thread knows about itself. Trivial, so it outlives every thread_local destructor that may still read.
struct thread_state {
  std::uint32_t depth;  // open sections; liburcu sees the outermost only
  bool registered;
  bool reclaiming;  // runs deleters now
};
constinit thread_local thread_state self{};

// ThreadSanitizer cannot see into liburcu: tell it that the end of a section happens before the end of a grace period.
char grace_period_edge;
void section_ends() noexcept {
#if defined(SLUICE_TSAN)
  __tsan_release(&grace_period_edge);
#endif
}
void grace_period_ended() noexcept {
#if defined(SLUICE_TSAN)
  __tsan_acquire(&grace_period_edge);
#endif
  static_cast<void>(grace_period_edge);
}

std::int64_t now_ns() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(clock_seam::real().now().time_since_epoch()).count();
}

struct barrier_node {
  detail::rcu_node node;
  parker reached;

  barrier_node() {
    node.run = &reach;
    node.object = this;
  }
  // The waiter may be gone as soon as the permit is there; parker::wake allows that.
  static void reach(void* self_address) noexcept { static_cast<barrier_node*>(self_address)->reached.wake(); }
};

// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): a cache line for each kind of writer
class reclaimer {
 public:
  static reclaimer& instance() noexcept {
    // Retiring cannot fail, and the first object may be retired when the process has no memory left.
    static immortal<reclaimer> only;
    return *only;
  }

  void retire(detail::rcu_node& node) noexcept {
    // relaxed: a figure. Before the push, so that `deleted` cannot pass it.
    retired_.fetch_add(1, std::memory_order_relaxed);
    push(node);
    if (role_.load(std::memory_order_seq_cst) != role::running && !self.reclaiming) [[unlikely]] {
      attend();
    }
  }

  void barrier() noexcept {
    SLUICE_CHECK(!self.reclaiming, "rcu_barrier() in a deleter waits for that deleter itself");
    check_may_wait();
    barrier_node mine;
    push(mine.node);
    if (role_.load(std::memory_order_seq_cst) != role::running) {
      attend_or_help();
    }
    mine.reached.park();
  }

  static void synchronize() noexcept {
    check_may_wait();
    ::urcu_memb_synchronize_rcu();
    grace_period_ended();
  }

  [[gnu::cold, gnu::noinline]] void register_this_thread() noexcept {
    ::urcu_memb_register_thread();
    self.registered = true;
    registered_threads_.fetch_add(1, std::memory_order_relaxed);  // relaxed: read only in the child of a fork
    const int err = ::pthread_setspecific(thread_end_, &self);
    SLUICE_CHECK_OP(err, ==, 0);
  }

  [[nodiscard]] rcu_statistics statistics() const noexcept {
    rcu_statistics figures;
    // acquire, and deleted first: the retire that a deletion stands for is then counted as well.
    figures.deleted = deleted_.load(std::memory_order_acquire);
    figures.retired = retired_.load(std::memory_order_relaxed);
    figures.grace_periods = grace_periods_.load(std::memory_order_relaxed);
    const std::int64_t batch = batch_since_.load(std::memory_order_relaxed);
    const std::int64_t oldest = batch != 0 ? batch : waiting_since_.load(std::memory_order_relaxed);
    if (figures.pending() != 0 && oldest != 0) {
      figures.oldest_age = std::chrono::nanoseconds(now_ns() - oldest);
    }
    return figures;
  }

  void use_threads(thread_seam& seam) noexcept {
    const mutex_lock held(lock_);
    threads_ = &seam;
  }

 private:
  friend class immortal<reclaimer>;
  enum class role : std::uint8_t { none, running, stopping, helping };

  reclaimer() noexcept {
    // A key and not a thread_local object: it is run after those, and again if one of them opened a section late.
    int err = ::pthread_key_create(&thread_end_, &thread_ended);
    SLUICE_CHECK_OP(err, ==, 0);
    err = ::pthread_atfork(nullptr, nullptr, &forked_child);
    SLUICE_CHECK_OP(err, ==, 0);
    // For objects that no thread could be made for; a thread that is started registers its own.
    err = std::atexit(&process_ends);
    SLUICE_CHECK_OP(err, ==, 0);
  }

  static void thread_ended(void* state_address) noexcept {
    auto& state = *static_cast<thread_state*>(state_address);
    SLUICE_CHECK(state.depth == 0, "a thread ended inside an RCU read section: its lock() has no unlock()");
    reclaimer& owner = instance();
    if (!owner.lost_in_fork_.load(std::memory_order_relaxed)) {
      ::urcu_memb_unregister_thread();
      owner.registered_threads_.fetch_sub(1, std::memory_order_relaxed);
    }
    state.registered = false;
  }

  // Threads do not survive a fork, but liburcu still lists them, and its locks may be held by one of them.
  static void forked_child() noexcept {
    reclaimer& owner = instance();
    const std::uint32_t mine = self.registered ? 1 : 0;
    if (owner.role_.load(std::memory_order_relaxed) != role::none ||
        owner.registered_threads_.load(std::memory_order_relaxed) != mine) {
      owner.lost_in_fork_.store(true, std::memory_order_relaxed);  // relaxed: the child has one thread
    }
  }

  static void check_may_wait() noexcept {
    SLUICE_CHECK(self.depth == 0, "waiting for readers inside a read section waits for itself");
    SLUICE_CHECK(!instance().lost_in_fork_.load(std::memory_order_relaxed),
                 "RCU has lost its threads in a fork: exec, or fork before the first use");
  }

  void push(detail::rcu_node& node) noexcept {
    detail::rcu_node* head = head_.load(std::memory_order_relaxed);  // relaxed: only a guess for the exchange
    do {
      node.next = head;
      // seq_cst: against role_, see the top. It is also the release that the deleter's thread acquires.
    } while (!head_.compare_exchange_weak(head, &node, std::memory_order_seq_cst, std::memory_order_relaxed));
    // The node may be gone from here on.
    if (head == nullptr) {
      waiting_since_.store(now_ns(), std::memory_order_relaxed);
      work_.wake();
    }
  }

  // Takes all that waits, oldest first.
  detail::rcu_node* take() noexcept {
    detail::rcu_node* newest = head_.exchange(nullptr, std::memory_order_seq_cst);
    detail::rcu_node* ordered = nullptr;
    while (newest != nullptr) {
      ordered = std::exchange(newest, std::exchange(newest->next, ordered));
    }
    return ordered;
  }

  void process(detail::rcu_node* batch) noexcept {
    // 0 if the first pusher has not come to its stamp yet: then it is as old as this line.
    const std::int64_t since = waiting_since_.exchange(0, std::memory_order_relaxed);
    batch_since_.store(since != 0 ? since : now_ns(), std::memory_order_relaxed);
    for (const detail::rcu_node* node = batch; node != nullptr; node = node->next) {
      if (node->run != &barrier_node::reach) {
        ::urcu_memb_synchronize_rcu();
        grace_period_ended();
        grace_periods_.fetch_add(1, std::memory_order_relaxed);
        break;  // one grace period serves the whole batch; one of barriers alone needs none
      }
    }
    while (batch != nullptr) {
      detail::rcu_node* node = std::exchange(batch, batch->next);
      const bool counts = node->run != &barrier_node::reach;
      node->run(node->object);
      SLUICE_CHECK(self.depth == 0, "a deleter left a read section open");
      if (counts) {
        deleted_.fetch_add(1, std::memory_order_release);  // release: pairs with statistics()
      }
    }
    batch_since_.store(0, std::memory_order_relaxed);
  }

  void drain() noexcept {
    self.reclaiming = true;
    while (detail::rcu_node* batch = take()) {
      process(batch);
    }
    self.reclaiming = false;
  }

  void run() noexcept {
    for (;;) {
      // Before the look at the list: whoever pushed and still saw us running is in it.
      const bool last_look = role_.load(std::memory_order_seq_cst) == role::stopping;
      drain();
      if (last_look) {
        break;
      }
      work_.park();
    }
    const mutex_lock held(lock_);
    finished_ = true;
    changed_.notify_all();
  }

  // Makes sure that somebody will look at the list. Waits only while the process exits.
  [[gnu::cold, gnu::noinline]] void attend() noexcept {
    if (lost_in_fork_.load(std::memory_order_relaxed)) {
      return;  // leaks, as the contract says
    }
    const mutex_lock held(lock_);
    while (role_.load(std::memory_order_relaxed) == role::stopping) {  // relaxed here and below: lock_ orders it
      changed_.wait(lock_);
    }
    if (role_.load(std::memory_order_relaxed) == role::none) {
      // If it fails the objects wait for the next retire, a barrier, or the end of the process. A helper looks again.
      static_cast<void>(start_locked());
    }
  }

  // The same, and runs the deleters itself if no thread can be made.
  [[gnu::cold, gnu::noinline]] void attend_or_help() noexcept {
    lock_.lock();
    while (role_.load(std::memory_order_relaxed) == role::stopping ||
           role_.load(std::memory_order_relaxed) == role::helping) {
      changed_.wait(lock_);
    }
    if (role_.load(std::memory_order_relaxed) == role::none && !start_locked()) {
      help_locked();
    }
    lock_.unlock();
  }

  void help_locked() noexcept SLUICE_REQUIRES(lock_) {
    role_.store(role::helping, std::memory_order_seq_cst);
    while (head_.load(std::memory_order_seq_cst) != nullptr) {
      lock_.unlock();  // no deleter runs under a lock
      drain();
      lock_.lock();
    }
    role_.store(role::none, std::memory_order_seq_cst);
    changed_.notify_all();
  }

  [[nodiscard]] bool start_locked() noexcept SLUICE_REQUIRES(lock_) {
    finished_ = false;
    try {
      result<named_thread> made = threads_->start("sluice-rcu", [this] { run(); }, 0);
      if (!made) {
        return false;
      }
      thread_ = std::move(*made);
    } catch (const std::exception&) {
      return false;  // no memory for the start
    }
    role_.store(role::running, std::memory_order_seq_cst);
    // Each start has its own handler: a thread started by the destructor of a static is joined by a later one.
    const int err = std::atexit(&process_ends);
    SLUICE_CHECK_OP(err, ==, 0);
    return true;
  }

  static void process_ends() noexcept {
    reclaimer& owner = instance();
    if (owner.lost_in_fork_.load(std::memory_order_relaxed)) {
      return;
    }
    SLUICE_CHECK(!self.reclaiming, "a deleter ends the process: the thread that runs it cannot be joined");
    SLUICE_CHECK(self.depth == 0, "the process ends inside an RCU read section");
    owner.stop();
  }

  // Runs what is pending, joins the thread.
  void stop() noexcept {
    lock_.lock();
    if (role_.load(std::memory_order_relaxed) == role::running) {
      role_.store(role::stopping, std::memory_order_seq_cst);
      work_.wake();
      wait_finished_locked();
      named_thread ended = std::move(thread_);
      lock_.unlock();
      ended.join();
      lock_.lock();
      role_.store(role::none, std::memory_order_seq_cst);
      changed_.notify_all();
    }
    if (role_.load(std::memory_order_relaxed) == role::none) {
      help_locked();
    }
    lock_.unlock();
  }

  void wait_finished_locked() noexcept SLUICE_REQUIRES(lock_) {
    while (!finished_) {
      const std::uint64_t before = deleted_.load(std::memory_order_relaxed);
      if (!changed_.wait_until(lock_, clock_seam::real().now() + exit_patience)) {
        SLUICE_CHECK(finished_ || deleted_.load(std::memory_order_relaxed) != before,
                     "the process cannot end: a thread stays inside an RCU read section, or a deleter hangs");
      }
    }
  }

  // Written by every retire.
  alignas(64) std::atomic<detail::rcu_node*> head_{nullptr};
  std::atomic<std::uint64_t> retired_{0};

  // Written by the runner; role_ read by every retire.
  alignas(64) std::atomic<role> role_{role::none};
  std::atomic<std::uint64_t> deleted_{0};
  std::atomic<std::uint64_t> grace_periods_{0};
  std::atomic<std::int64_t> batch_since_{0};

  alignas(64) std::atomic<std::int64_t> waiting_since_{0};
  parker work_;
  std::atomic<std::uint32_t> registered_threads_{0};
  std::atomic<bool> lost_in_fork_{false};
  pthread_key_t thread_end_{};

  mutex lock_;
  cond_var changed_;
  named_thread thread_ SLUICE_GUARDED_BY(lock_);
  thread_seam* threads_ SLUICE_GUARDED_BY(lock_) = &thread_seam::real();
  bool finished_ SLUICE_GUARDED_BY(lock_) = false;
};

}  // namespace

void rcu_domain::lock() noexcept {
  if (backend_ != nullptr) [[unlikely]] {
    backend_->lock();
    return;
  }
  if (self.depth++ == 0) {
    if (!self.registered) [[unlikely]] {
      reclaimer::instance().register_this_thread();
    }
    ::urcu_memb_read_lock();
  }
}

void rcu_domain::unlock() noexcept {
  if (backend_ != nullptr) [[unlikely]] {
    backend_->unlock();
    return;
  }
  SLUICE_CHECK(self.depth != 0, "unlock() of a read section that is not open");
  if (--self.depth == 0) {
    section_ends();
    ::urcu_memb_read_unlock();
  }
}

rcu_domain& rcu_default_domain() noexcept {
  static constinit rcu_domain domain;
  return domain;
}

void rcu_synchronize(rcu_domain& dom) noexcept {
  dom.backend_ != nullptr ? dom.backend_->synchronize() : reclaimer::synchronize();
}

void rcu_barrier(rcu_domain& dom) noexcept {
  dom.backend_ != nullptr ? dom.backend_->barrier() : reclaimer::instance().barrier();
}

void detail::rcu_schedule(rcu_domain& dom, rcu_node& node) noexcept {
  dom.backend_ != nullptr ? dom.backend_->retire(node) : reclaimer::instance().retire(node);
}

void detail::rcu_retired_twice(const void* object, const char* type) noexcept {
  std::fprintf(stderr, "sluice: rcu: %s at %p was retired twice\n", type, object);
  std::abort();
}

rcu_statistics rcu_get_statistics() noexcept {
  return reclaimer::instance().statistics();
}

void rcu_use_threads(thread_seam& seam) noexcept {
  reclaimer::instance().use_threads(seam);
}

}  // namespace sluice
