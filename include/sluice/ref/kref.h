// kref: intrusive reference count with a release that runs once, by whoever puts last.
//
//   class session : public kref<session> { … };                     // deleted by the last put
//   class file : public kref<file, close_release> { … };            // close_release{}(file*) by the last put
//
// The three rules (the kernel's Documentation/core-api/kref.rst):
//   1. get() before handing the object to somebody who will use it on his own.
//   2. put() when done; after it the object is a stranger's.
//   3. Who finds the object without owning a count is serialised against the last put by a lock, or is inside a read
//      section and uses get_unless_zero(), whose answer he looks at.
//
// Naive: `if (--info->users == 0) free(info)` in close. A read that has loaded the pointer but not yet counted itself
// then touches freed memory. No counter inside the object can mend this alone: rule 3 is what does (docs/ref.md).
//
// Ownership:      the object owns itself; each count belongs to somebody, best a ref<T> (ref.h).
// Thread safety:  any thread that owns a count may get() and put(). get_unless_zero() also needs the memory kept.
// Blocking:       never, but put_and_lock takes the lock when it seems to be the last. Release runs on the putting
//                 thread.
// Ordering:       what any thread did before put() is visible to the release (R4).
// Errors:         none. Overflow, underflow, resurrection report with the object's type and address, and saturate: it
//                 leaks.
// Limits:         2^31 counts. 4 bytes.
// Invariants:     R1 R2 R3 R4 R5 R6
#pragma once

#include <cstdint>
#include <mutex>
#include <utility>

#include "sluice/base/check.h"
#include "sluice/ref/ref_tracker.h"
#include "sluice/ref/refcount.h"

namespace sluice {

// The release policy of an object that came from new.
struct delete_release {
  template <class Object>
  void operator()(Object* object) const noexcept {
    delete object;
  }
};

// Derived is the class itself. Release is a stateless function object, called as Release{}(Derived*), noexcept.
template <class Derived, class Release = delete_release, class Sync = os_sync>
class kref {
 public:
  kref(const kref&) = delete;
  kref& operator=(const kref&) = delete;

  // Adds a count. Requires: the caller owns one, or holds the lock under which the last one is put.
  void get() const noexcept { count_.get(owner()); }

  // Adds a count unless the last is gone. Returns false then. Requires: the memory is kept (a lock or a read section).
  [[nodiscard]] bool get_unless_zero() const noexcept { return count_.get_unless_zero(owner()); }

  // Gives up a count. Returns true if it was the last: Release has run, the object may be gone.
  bool put() const noexcept {
    if (count_.put(owner())) [[unlikely]] {
      release();
      return true;
    }
    return false;
  }

  // Gives up a count unless it is the last. Returns false, and changes nothing, if it is.
  [[nodiscard]] bool put_unless_one() const noexcept { return count_.put_unless_one(owner()); }

  // put() whose last drop happens with `lock` held (the kernel's kref_put_mutex), so that a lookup under the same lock
  // needs only get(). The last putter unlinks the object, unlocks, and then releases it: release_last().
  // Returns the owning lock to the last putter, an empty one to the others. Requires: the lock outlives the object.
  template <class Mutex>
  [[nodiscard]] std::unique_lock<Mutex> put_and_lock(Mutex& lock) const noexcept {
    return count_.put_and_lock(lock, owner());
  }

  // The whole of that: for the last putter, unlink(Derived&) with the lock held, then Release without it.
  // Returns true if it was the last. `unlink` must be noexcept, short, and call nothing that takes the lock.
  template <class Mutex, class Unlink>
  bool put_and_lock(Mutex& lock, Unlink&& unlink) const noexcept {
    std::unique_lock<Mutex> held = count_.put_and_lock(lock, owner());
    if (!held.owns_lock()) {
      return false;
    }
    std::forward<Unlink>(unlink)(*self());
    held.unlock();
    release();
    return true;
  }

  // Runs Release after put_and_lock() handed the lock out. Requires: the count is 0, and this is called once.
  void release_last() const noexcept {
    SLUICE_CHECK(use_count() == 0, "release_last() is for whom put_and_lock() gave the lock");
    release();
  }

  // The count now: a hint for logs and tests.
  [[nodiscard]] std::uint32_t use_count() const noexcept { return count_.read(); }

  // What the tracker files holders under: one address per object, whatever base a ref<> sees it through.
  [[nodiscard]] const void* ref_key() const noexcept { return this; }

 protected:
  // Starts at 1: the creator's count, to be adopted by a ref.
  kref() noexcept = default;
  ~kref() {
    // 1: never shared (a constructor that threw, a member of something else). Above: somebody still believes in it.
    SLUICE_DCHECK(use_count() <= 1 || use_count() > basic_refcount<Sync>::max_count,
                  "destroyed while others hold a count: release it by put() only");
    detail::ref_tracker_destroyed(this, detail::type_name<Derived>());
  }

 private:
  [[nodiscard]] Derived* self() const noexcept {
    // get and put are const so that a ref<const T> can own; the release owns the object alone and may change it.
    return const_cast<Derived*>(static_cast<const Derived*>(this));
  }
  [[nodiscard]] refcount_owner owner() const noexcept { return {this, detail::type_name<Derived>()}; }
  void release() const noexcept { Release{}(self()); }

  mutable basic_refcount<Sync> count_;
};

}  // namespace sluice
