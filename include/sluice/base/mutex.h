// mutex: std::mutex with the annotations that clang's analysis reads, its scoped lock, and a condition variable.
//
// Thread safety:  that is what it is for. Not recursive.
// Blocking:       lock() may wait for ever; never hold one across a callback or a system call that may wait (W2).
// Cost:           40 bytes; uncontended lock + unlock about 15 ns.
#pragma once

#include <condition_variable>
#include <mutex>

#include "sluice/base/annotations.h"
#include "sluice/base/clock.h"

namespace sluice {

class SLUICE_CAPABILITY("mutex") mutex {
 public:
  mutex() = default;
  mutex(const mutex&) = delete;
  mutex& operator=(const mutex&) = delete;

  void lock() SLUICE_ACQUIRE() { inner_.lock(); }
  void unlock() SLUICE_RELEASE() { inner_.unlock(); }
  [[nodiscard]] bool try_lock() SLUICE_TRY_ACQUIRE(true) { return inner_.try_lock(); }

 private:
  friend class cond_var;
  std::mutex inner_;
};

// Holds a lock for a scope. Mutex is anything with lock() and unlock() that carries the capability annotation, so that
// the same code runs on the race harness's lock.
template <class Mutex>
class SLUICE_SCOPED_CAPABILITY scoped_lock {
 public:
  explicit scoped_lock(Mutex& lock) SLUICE_ACQUIRE(lock) : lock_(lock) { lock_.lock(); }
  ~scoped_lock() SLUICE_RELEASE() { lock_.unlock(); }
  scoped_lock(const scoped_lock&) = delete;
  scoped_lock& operator=(const scoped_lock&) = delete;

 private:
  Mutex& lock_;
};
using mutex_lock = scoped_lock<mutex>;

// Waits under a mutex. Wakes may be spurious: always wait in a loop on the guarded state.
class cond_var {
 public:
  void wait(mutex& lock) SLUICE_REQUIRES(lock);
  // Returns false once the deadline has passed. no_deadline waits for ever.
  bool wait_until(mutex& lock, steady_time deadline) SLUICE_REQUIRES(lock);
  void notify_one() noexcept { inner_.notify_one(); }
  void notify_all() noexcept { inner_.notify_all(); }

 private:
  std::condition_variable inner_;
};

}  // namespace sluice
