#include "wq/os/interrupt.h"

#include <atomic>
#include <csignal>
#include <ctime>
#include <map>
#include <utility>

#include "sluice/base/check.h"
#include "sluice/base/immortal.h"
#include "sluice/base/mutex.h"

namespace sluice::detail {
namespace {

constexpr int default_offset = 3;

struct installed {
  unsigned users = 0;
  struct sigaction before{};
};

struct registry {
  mutex lock;
  std::map<int, installed> signals SLUICE_GUARDED_BY(lock);
};

registry& the_registry() noexcept {
  static immortal<registry> instance;
  return *instance;
}

// Of the calling thread. Read by the handler: it needs no construction and no destruction.
thread_local constinit interrupt_mark* mark_of_thread = nullptr;

void on_interrupt(int) noexcept {
  if (mark_of_thread != nullptr) {
    mark_of_thread->store(false, std::memory_order_relaxed);  // relaxed: only says that the next one may be sent
  }
}

sigset_t only(int number) noexcept {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, number);
  return set;
}

}  // namespace

result<interrupt_signal> interrupt_signal::acquire(int number) {
  if (number == 0) {
    number = SIGRTMIN + default_offset;
  }
  if (number < SIGRTMIN || number > SIGRTMAX) {
    return fail(EINVAL);
  }
  registry& all = the_registry();
  const mutex_lock held(all.lock);
  installed& one = all.signals[number];
  if (one.users == 0) {
    struct sigaction action{};
    action.sa_handler = on_interrupt;  // no SA_RESTART: the interrupted call is to return EINTR
    ::sigemptyset(&action.sa_mask);
    if (::sigaction(number, &action, &one.before) != 0) {
      return fail_errno();
    }
  }
  ++one.users;
  return interrupt_signal(number);
}

interrupt_signal::interrupt_signal(interrupt_signal&& other) noexcept : number_(std::exchange(other.number_, 0)) {}

interrupt_signal::~interrupt_signal() {
  if (number_ == 0) {
    return;
  }
  registry& all = the_registry();
  const mutex_lock held(all.lock);
  installed& one = all.signals[number_];
  SLUICE_CHECK_OP(one.users, >, 0U);
  if (--one.users == 0) {
    ::sigaction(number_, &one.before, nullptr);
  }
}

void interrupt_signal::admit(interrupt_mark& mark) noexcept {
  mark_of_thread = &mark;
  const sigset_t set = only(number_);
  SLUICE_CHECK(::pthread_sigmask(SIG_UNBLOCK, &set, nullptr) == 0);
}

void interrupt_signal::consume() noexcept {
  const sigset_t set = only(number_);
  const timespec at_once{};
  // Blocked first: a signal that is queued but not yet delivered is then taken here, and cannot hit the next work.
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  while (::sigtimedwait(&set, nullptr, &at_once) == number_) {
  }
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

bool interrupt_signal::send(pthread_t thread) noexcept {
  // EAGAIN: the queue of real-time signals is full. The next repetition makes up for it.
  return ::pthread_kill(thread, number_) == 0;
}

}  // namespace sluice::detail
