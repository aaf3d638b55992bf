// elevator: in which order a request queue lets waiting requests go. Policy only: the queue counts slots and launches.
//
// A request that the elevator let go (a pick of next_locked, or a yes of may_go_locked) is out of it and under way. How
// that ends is told exactly once, by served_locked or take_back_locked; if there is more to do the request comes again
// after it:
//
//   insert ─→ waits ─→ next_locked ─→ under way ─→ served ─→ over
//     │                                 ↑  ↑ └goes_on┘ └───→ insert_again (its quantum is over) ─→ waits
//     └─ may_go_locked: yes ─────────────┘             └───→ insert (tried inside submit, would block, no worker for it;
//                                                               taken back instead of served if it moved nothing)
//
// | io_cq_use | pair          | may_go_locked, served_locked | now                             |
// |-----------|---------------|------------------------------|---------------------------------|
// | unused    | null          | never called                 | a time that means nothing       |
// | wanted    | never null    | as above                     | the queue's clock               |
//
// goes_on_locked is called where may_go_locked is.
//
// All functions with `_locked` are called with the queue's lock held and must not call out of the elevator.
//
// Ownership:      one queue owns one elevator.
// Thread safety:  the queue's lock guards all of it.
// Blocking:       never. No allocation but in make_io_cq.
// Limits:         the queue bounds how many requests wait: max_waiting, and those that come again.
// Invariants:     O1 (exit_io_cq_locked runs once per io_cq)
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "sluice/base/clock.h"
#include "sluice/ioc/io_cq.h"
#include "sluice/ioc/request.h"
#include "sluice/ioc/request_node.h"

namespace sluice {

using request_fifo = basic_request_fifo<request>;

// Whether an elevator keeps an io_cq per context.
enum class io_cq_use : bool { unused, wanted };

// Who goes next.
struct elevator_pick {
  // Null: nobody may go now.
  request* next = nullptr;
  // With a null next: requests wait, but not one of them may go before this time (a cap). The queue asks again then,
  // and earlier whenever a request comes or ends. no_deadline: nobody waits, or only for such an event.
  steady_time ask_again = no_deadline;
};

class elevator {
 public:
  elevator(const elevator&) = delete;
  elevator& operator=(const elevator&) = delete;
  virtual ~elevator() = default;

  [[nodiscard]] virtual std::string_view name() const noexcept = 0;

  // unused: a queue with free slots and nobody waiting lets a request go without asking the elevator or taking a lock.
  [[nodiscard]] io_cq_use use() const noexcept { return use_; }

  // A new pair, with whatever the elevator keeps in it. Returns null if there is no memory. May be made in vain. Its
  // context is not yet known.
  [[nodiscard]] virtual std::unique_ptr<io_cq> make_io_cq() noexcept;
  // The pair leaves the queue. Requests of it may still wait or be under way: they go on as before, with all calls for
  // them, and keep its memory.
  virtual void exit_io_cq_locked(io_cq&) noexcept {}

  // A request comes while a slot is free and nobody waits who could take it (whoever waits does so for a worker, or was
  // told to ask again). true: it is let go, at once, as if picked. false: it comes by insert_locked.
  [[nodiscard]] virtual bool may_go_locked(request& /*coming*/, io_cq* /*pair*/, steady_time /*now*/) noexcept {
    return true;
  }
  // Takes a request that must wait, at the end of its flow.
  virtual void insert_locked(request& waiting, io_cq* pair) noexcept = 0;
  // Takes back a request whose quantum is over and that has more to do (request::bytes_left): at the head of its
  // flow, if there are flows, and not ahead of all others.
  virtual void insert_again_locked(request& waiting, io_cq* pair) noexcept = 0;
  // Gives the request that goes next.
  [[nodiscard]] virtual elevator_pick next_locked(steady_time now) noexcept = 0;
  // What was let go is over, or its quantum is: it moved so many bytes since (0 also for a flush or a failure). For
  // one that was done inside submit, `now` is when it was let go.
  virtual void served_locked(request& /*over*/, io_cq* /*pair*/, std::uint64_t /*bytes*/,
                             steady_time /*now*/) noexcept {}
  // The quantum of what was let go is over, there is more to do, and no request waits. true: it counts as served with
  // `bytes`, and is let go again for its next quantum. false: nothing has changed; served_locked and
  // insert_again_locked follow.
  [[nodiscard]] virtual bool goes_on_locked(request& /*going*/, io_cq* /*pair*/, std::uint64_t /*bytes*/,
                                            steady_time /*now*/) noexcept {
    return true;
  }
  // The queue's quantum: the most bytes that a request moves between being let go and being served. Called before all
  // others.
  virtual void set_quantum_locked(std::uint64_t /*bytes*/) noexcept {}
  // Whether requests go as if there were no limits: from when the queue is frozen or stopped, since that waits for
  // what was accepted, until it is open again.
  virtual void lift_limits_locked(bool /*lifted*/, steady_time /*now*/) noexcept {}
  // What was let go is back untouched: no worker was free for it, or its queue was quiesced before it ran. Instead of
  // served_locked; an insert_locked or insert_again_locked follows, unless the request is refused.
  virtual void take_back_locked(request& untouched, io_cq* pair, steady_time now) noexcept {
    served_locked(untouched, pair, 0, now);
  }
  [[nodiscard]] virtual bool empty_locked() const noexcept = 0;
  // Gives up all waiting requests of one owner, or all there are. They are not served. Returns how many.
  virtual std::size_t extract_owner_locked(std::uint64_t owner, request_fifo& into) noexcept = 0;
  virtual std::size_t extract_all_locked(request_fifo& into) noexcept = 0;

 protected:
  explicit elevator(io_cq_use use) noexcept : use_(use) {}

  // What the elevator writes down with a request when it lets it go, and reads when that has ended.
  static void set_note(request& going, std::uint16_t note) noexcept { going.elevator_note_ = note; }
  [[nodiscard]] static std::uint16_t note_of(const request& back) noexcept { return back.elevator_note_; }

 private:
  const io_cq_use use_;
};

// First come, first served; knows no contexts. What comes again goes behind all others: requests take turns, a quantum
// each. Throws bad_alloc (set-up).
[[nodiscard]] std::unique_ptr<elevator> make_none_elevator();

}  // namespace sluice
