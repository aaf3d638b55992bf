// interrupts: gets a running work to stop. It is asked by its token, and its system call is interrupted by a signal, which is
// repeated until the work has left the worker.
//
// The first signal is sent at once; each further one after twice as long, from 1 ms to 1 s. While a signal is on its way none is
// sent: a thread that cannot take it (a dead disk) would fill the queue of real-time signals, which all processes of the user share.
// A signal is sent under the worker's lock alone: it keeps the work running, and no submitter waits for it.
//
// Thread safety:  ask_locked(), send_locked(): under the worker's lock. work_left(): the worker's thread. repeat(): the manager's.
//                 request_stops(): any thread that holds no locks.
// Invariants:     C4 C5
#pragma once

#include <algorithm>
#include <chrono>
#include <optional>
#include <stop_token>

#include "wq/crew/roster.h"
#include "wq/stop/callback_scope.h"

namespace sluice::detail {

template <class Sync>
class basic_interrupts {
 public:
  using traits = pool_traits<Sync>;
  using worker = basic_worker<Sync>;

  explicit basic_interrupts(basic_pool<Sync>& owner) noexcept : pool_(owner) {}

  // Under the lock that a worker needs to end its run: the work that runs now is asked, and no other (C5). It sends no signal: a
  // scan holds `moves` here. A stop_source is still to be asked: by request_stops().
  void ask_locked(worker& one) noexcept SLUICE_REQUIRES(one.lock) {
    one.interrupt.ask_due |= one.token.ask_stop().has_value();
    if (!std::exchange(one.interrupt.wanted, true)) {
      wanted_.fetch_add(1, std::memory_order_relaxed);  // relaxed: the manager is woken, and looks
      one.interrupt.send_at = steady_time::min();
      one.interrupt.pause = std::chrono::milliseconds{1};
    }
  }
  // Interrupts the worker's work now, and says when to do it again. Requires: it was asked.
  void send_locked(worker& one, steady_time now) noexcept SLUICE_REQUIRES(one.lock);
  // Asks the stop_sources of the worker that ask_locked() has left: runs stop callbacks.
  void request_stop(worker& one) noexcept {
    std::optional<std::stop_source> source;
    {
      const scoped_lock held(one.lock);
      if (std::exchange(one.interrupt.ask_due, false) && one.current != nullptr) {
        source = one.token.ask_stop();
      }
    }
    if (source) {
      const callback_scope scope(traits::callbacks(), &pool_);
      source->request_stop();
    }
  }
  // The same for all workers.
  void request_stops() noexcept {
    pool_.roster.for_each([this](worker& one) { request_stop(one); });
  }

  // The work that was asked has left the worker: what was sent to the thread is taken, so that the next work never sees it.
  void work_left(worker& self) noexcept {
    pool_.env.signals.consume();
    self.sent.store(false, std::memory_order_relaxed);  // relaxed: no other thread sends until the next cancel
    wanted_.fetch_sub(1, std::memory_order_relaxed);    // relaxed: the manager looks again each tick
  }

  // Sends the signals that are due. Returns when to look again.
  [[nodiscard]] steady_time repeat(steady_time now) noexcept;

 private:
  basic_pool<Sync>& pool_;
  typename Sync::template atomic<std::uint32_t> wanted_{0};  // works that are to be interrupted
};

template <class Sync>
void basic_interrupts<Sync>::send_locked(worker& one, steady_time now) noexcept {
  constexpr std::chrono::milliseconds longest{1000};
  one.interrupt.send_at = now + one.interrupt.pause;
  one.interrupt.pause = std::min(2 * one.interrupt.pause, longest);
  if (&one == traits::this_worker() || !one.names.valid) {
    return;  // it is not in a system call
  }
  // relaxed, both: the arrival clears it, and only says that the next may be sent.
  if (!one.sent.exchange(true, std::memory_order_relaxed) && !pool_.env.signals.send(one.names.handle)) {
    one.sent.store(false, std::memory_order_relaxed);
  }
}

template <class Sync>
steady_time basic_interrupts<Sync>::repeat(steady_time now) noexcept {
  if (wanted_.load(std::memory_order_relaxed) == 0) {
    return no_deadline;
  }
  steady_time next = no_deadline;
  pool_.roster.for_each([&](worker& one) {
    const scoped_lock held(one.lock);
    if (!one.interrupt.wanted || one.current == nullptr) {
      return;
    }
    if (one.interrupt.send_at <= now) {
      send_locked(one, now);
    }
    next = std::min(next, one.interrupt.send_at);
  });
  return next;
}

}  // namespace sluice::detail
