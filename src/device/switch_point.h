// switch_point: the leg that operations take now; it is exchanged while they come and go. The core of switchable_device.
//
//   Leg& mine = point.enter(); … use it …; mine.door.leave();           // any thread
//   Leg* old = point.change_to(fresh);                                   // one thread at a time
//   old->door.wait();                                                   // nobody is on it, nobody comes
//   … end what it leads to …; retire(old)                               // a grace period later its memory goes
//
// The fresh leg is in place before the door of the old one closes. So whoever finds a door closed finds another leg, and
// whoever came through a door is waited for. A leg that was just replaced may still be looked at by enter(), which reads
// the door and nothing else: hence the grace period.
//
// Ownership:      the point owns the leg that is in it; change_to gives the old one to its caller.
// Thread safety:  enter by any thread; change_to excludes itself.
// Blocking:       never; wait on the old door does.
// Ordering:       what was done before change_to is visible to whoever enters the fresh leg; what was done on a leg to
//                 whoever has waited for its door.
// Cost:           enter: a read section, a load, and the gate's.
#pragma once

#include <mutex>

#include "sluice/base/sync.h"
#include "sluice/rcu/rcu.h"

namespace sluice::detail {

// Leg has a gate `door`.
template <class Leg, class Sync = os_sync>
class basic_switch_point {
 public:
  // Requires: a leg whose door is open.
  explicit basic_switch_point(Leg* first, rcu_domain& domain = rcu_default_domain()) noexcept
      : domain_(domain), current_(first) {}
  basic_switch_point(const basic_switch_point&) = delete;
  basic_switch_point& operator=(const basic_switch_point&) = delete;

  // The leg of now, with a pass through its door that the caller owes to leave().
  [[nodiscard]] Leg& enter() noexcept {
    for (;;) {
      const std::scoped_lock section(domain_);
      // acquire: pairs with change_to(): the leg is seen set up.
      Leg* leg = current_.load(std::memory_order_acquire);
      if (leg->door.try_enter()) [[likely]] {
        return *leg;
      }
      // closing() acquires what the closer did: the next load shows its exchange, or a later one.
      static_cast<void>(leg->door.closing());
    }
  }

  // Puts a fresh leg in the place of the old one, and closes that one's door.
  [[nodiscard]] Leg* change_to(Leg* fresh) noexcept {
    // release: the fresh leg, to enter(). acquire: the old one, to the caller.
    Leg* old = current_.exchange(fresh, std::memory_order_acq_rel);
    old->door.close();
    return old;
  }

  // The leg of now. Requires: no change at the same time.
  [[nodiscard]] Leg* current() const noexcept { return current_.load(std::memory_order_acquire); }

 private:
  rcu_domain& domain_;
  typename Sync::template atomic<Leg*> current_;
};

}  // namespace sluice::detail
