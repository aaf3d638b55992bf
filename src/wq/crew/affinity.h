// affinity: the CPUs that a program has chosen for the workers of a pool: those there are and those to come.
//
// A worker publishes its thread's name first and then calls keep(); choose() stores the mask first and then looks for workers with
// a name. Both apply a mask under one lock, so a worker cannot end up with an older one, and a name is not used after its thread
// has ended.
//
// Thread safety:  any thread.
// Blocking:       a mutex, held for system calls.
// Errors:         choose(): EINVAL if no CPU of the mask exists or may be used, and nothing has changed then. What a worker's
//                 sched_setaffinity(2) says: the mask holds for the others, and for those to come.
#pragma once

#include <sched.h>

#include <cerrno>
#include <optional>

#include "sluice/base/error.h"
#include "sluice/base/mutex.h"

#include "wq/crew/roster.h"

namespace sluice::detail {

template <class Sync>
class basic_affinity {
 public:
  // On a worker's thread.
  void keep() noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    if (chosen_) {
      static_cast<void>(::sched_setaffinity(0, sizeof *chosen_, &*chosen_));
    }
  }

  // On a worker's thread, before it leaves: from here on its name is not used.
  void leave(basic_worker<Sync>& self) noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);  // waits for a choose() that has seen the name
    const scoped_lock self_held(self.lock);
    self.names.valid = false;
  }

  [[nodiscard]] result<void> choose(const cpu_set_t& cpus, basic_roster<Sync>& roster) noexcept SLUICE_EXCLUDES(lock_) {
    const scoped_lock held(lock_);
    // The kernel alone knows which CPUs the process may use: the calling thread asks it, and then takes its own mask back.
    cpu_set_t own;
    if (::sched_getaffinity(0, sizeof own, &own) != 0 || ::sched_setaffinity(0, sizeof cpus, &cpus) != 0) {
      return fail_errno();
    }
    static_cast<void>(::sched_setaffinity(0, sizeof own, &own));
    chosen_ = cpus;
    int err = 0;
    roster.for_each([&](basic_worker<Sync>& one) {
      thread_names names;
      {
        const scoped_lock one_held(one.lock);
        names = one.names;
      }
      // The thread cannot end meanwhile: leave() waits for this lock.
      if (names.valid && !one.rescuer && ::sched_setaffinity(names.id, sizeof cpus, &cpus) != 0) {
        err = errno;
      }
    });
    return err == 0 ? result<void>() : fail(err);
  }

 private:
  typename Sync::mutex lock_;
  std::optional<cpu_set_t> chosen_ SLUICE_GUARDED_BY(lock_);
};

}  // namespace sluice::detail
