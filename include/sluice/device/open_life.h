// open_life: the lifetime of what is opened, used by many threads and closed meanwhile; the core of open_file.
//
// Three ends come in any order from any thread: the last count is put, somebody closes, the last operation leaves. Two
// things follow, each once:
//
//   release_info()   closed, and no operation inside: what the operations used goes
//   free_memory()    after that, and no count left: the object itself goes
//
// Derived has both functions, noexcept; operations are begin_operation() … end_operation().
//
// Ownership:      kref for whoever may begin operations; an operation under way keeps the object without a count.
// Thread safety:  close by any thread that holds a count; end_operation once per begin_operation that returned true.
// Blocking:       never by itself; release_info and free_memory run on the thread that brought the end about.
// Ordering:       what any operation did is visible to release_info; that, and what was done under any count, to
//                 free_memory.
// Errors:         construction throws bad_alloc (set-up).
// Cost:           a narrow gate's: two read-modify-writes per operation; about 200 bytes.
// Invariants:     D1 D2 D3
#pragma once

#include <cstdint>

#include "sluice/base/error.h"
#include "sluice/base/sync.h"
#include "sluice/ref/gate.h"
#include "sluice/ref/kref.h"

namespace sluice {

struct open_life_release {
  template <class Derived>
  void operator()(Derived* object) const noexcept {
    object->last_put();
  }
};

// Stripe is the gate's, for the race tests.
template <class Derived, class Sync = os_sync, class Stripe = this_core>
class open_life : public kref<Derived, open_life_release, Sync> {
 public:
  // From its return on no operation begins. Errors: EBADF if it was closed before.
  result<void> close() noexcept {
    return gate_.kill(&open_life::end_of_operations, this) ? result<void>{} : fail(EBADF);
  }
  [[nodiscard]] bool closed() const noexcept { return gate_.closing(); }

 protected:
  // Narrow: there may be thousands of openings.
  open_life() : gate_(gate_width::narrow) {}
  ~open_life() = default;

  // Returns false if it is closed.
  [[nodiscard]] bool begin_operation() noexcept { return gate_.try_enter(); }
  void end_operation() noexcept { gate_.leave(); }

 private:
  friend struct open_life_release;

  void last_put() noexcept {
    static_cast<void>(close());
    drop_memory();
  }
  // Called once by the gate: closed, and nobody inside.
  static void end_of_operations(void* self) noexcept {
    auto* life = static_cast<open_life*>(self);
    static_cast<Derived*>(life)->release_info();
    life->drop_memory();
  }
  void drop_memory() noexcept {
    // acq_rel: of the two holders the second sees all that the first did.
    if (holders_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      static_cast<Derived*>(this)->free_memory();
    }
  }

  basic_gate<Sync, Stripe> gate_;
  // Of the memory: the counts of the kref together, and the info that operations use.
  typename Sync::template atomic<std::int32_t> holders_{2};
};

}  // namespace sluice
