// work: one thing to do on an io_wq: an intrusive node of 64 bytes, so that submitting it allocates nothing.
//
// Derive from work (or hold one), give it a table of two functions, and submit it. The wq calls run once, then release
// once; release is the moment at which the memory is the user's again (it may free it, or submit it anew).
//
//   struct flush_log : work {
//     flush_log() : work(ops, work_class::bound) {}
//     static void do_run(work& w, work_context& ctx) noexcept {
//       if (!ctx.cancelled()) { static_cast<flush_log&>(w).flush(); }
//     }
//     static void do_release(work& w) noexcept { delete &static_cast<flush_log&>(w); }
//     static constexpr work_ops ops{do_run, do_release};
//   };
//
// | state of a work | submit        | set_…, then  | cancel                      | destroy |
// |-----------------|---------------|--------------|-----------------------------|---------|
// | idle            | accepted/error| yes          | not found                   | yes     |
// | pending         | check fails   | no           | run(cancelled), release     | no      |
// | running         | check fails   | no           | asked to stop; runs on      | no      |
// | in its release  | yes           | yes          | not found                   | yes     |
//
// What a chain is. then() links works to a chain, and the submit of its head accepts the chain as a whole. One member at a
// time has its turn: it is pending or running, or it comes next. A member is given up: it is run with ctx.cancelled(), then
// released.
//
// | about                     | rule                                                                               |
// |---------------------------|------------------------------------------------------------------------------------|
// | order                     | run and release of a member, then the next member's turn (W4)                      |
// | class, key, priority      | of each member; a keyed member takes its place in its key's order when its turn    |
// |                           | comes                                                                              |
// | handle                    | names the chain, at the member whose turn it is, until the last one is released    |
// | cancel(handle)            | that member pending: it and the rest are given up. Running: it is asked to stop    |
// |                           | and the rest is given up after it                                                  |
// | cancel_owner, _if, _all   | look at each member by itself. One whose turn has not come is marked: it and the   |
// |                           | rest are given up at its turn, and count as `running` (not over at return)         |
// | no_cancel                 | of each member: no cancel, deadline or stop matches it. It is given up all the     |
// |                           | same if an earlier member was, on a thread of the pool and not the canceller's     |
// | fail(), a failed identity | the rest is given up                                                               |
// | deadline                  | of each member, met from its turn on: that member and the rest are given up        |
// | owner, identity           | of each member                                                                     |
// | stop                      | run_queued: every member is run. cancel_queued: each member that is not no_cancel  |
// |                           | is given up, and the rest with it                                                  |
// | refused submit            | the whole chain, unchanged (W6)                                                    |
//
// On which thread, and as whom, the functions of a work are called:
//
// | call                                             | thread                  | identity                        |
// |--------------------------------------------------|-------------------------|---------------------------------|
// | run, and the release after it                    | a worker                | the work's; none: the thread's  |
// | run(cancelled), and the release after it:        |                         |                                 |
// |   a pending work that a cancel took              | the caller of cancel    | the caller's own (*)            |
// |   at a deadline; after a no_cancel member's turn | the pool's canceller    | the thread's                    |
// |   the rest of a chain; a stop; a failed identity | a worker                | the thread's                    |
// | a stop callback of ctx.stop_token()              | the thread that cancels | the caller's own                |
//
// (*) A caller that wears the identity of the work it runs does not lend it: the pool's canceller makes the calls, and the
// caller waits for them.
//
// Ownership:      the submitter's until accepted; then the wq's until release is called. A refused work stays the
//                 submitter's. A chain (then()) is accepted, or refused, as a whole.
// Thread safety:  none of its own: while idle, one thread at a time; while accepted, nobody but the wq.
// Blocking:       never.
// Ordering:       what the submitter did before submit is visible to run; what run did is visible to release.
// Errors:         none. Submitting or destroying an accepted work is a failed check.
// Limits:         64 bytes.
// Invariants:     W1 W3 W4
#pragma once

#include <cstddef>
#include <cstdint>
#include <stop_token>
#include <utility>

#include "sluice/base/check.h"
#include "sluice/base/clock.h"
#include "sluice/base/ioprio.h"
#include "sluice/identity/identity.h"
#include "sluice/ref/ref.h"

namespace sluice {

class hash_domain;
class work;
class work_context;

namespace detail {
struct work_access;
}  // namespace detail

// bound: will finish by itself soon (regular files, block devices, computation).
// unbound: may wait forever (sockets, pipes, locks, a dead mount). Each class has its own queue, workers and limit.
enum class work_class : std::uint8_t { bound = 0, unbound = 1 };
inline constexpr std::size_t work_classes = 2;

enum class work_flags : std::uint8_t {
  none = 0,
  no_cancel = 1,   // no cancel, deadline or stop matches it: it runs (in a chain: see the table)
  concurrent = 2,  // does not wait for a running worker: another one is started for it
};
[[nodiscard]] constexpr work_flags operator|(work_flags a, work_flags b) noexcept {
  return static_cast<work_flags>(std::to_underlying(a) | std::to_underlying(b));
}
[[nodiscard]] constexpr bool has(work_flags all, work_flags one) noexcept {
  return (std::to_underlying(all) & std::to_underlying(one)) != 0;
}

// The two functions of a kind of work. A table lives as long as any work that names it (make it static constexpr).
struct work_ops {
  // Does the work, or gives it up at once if ctx.cancelled(). See the table above for the thread and the identity.
  void (*run)(work&, work_context&) noexcept = nullptr;
  // Takes the memory back. The pool touches nothing of the work from here on.
  void (*release)(work&) noexcept = nullptr;
};

class work {
 public:
  // Not submittable until set_ops().
  work() = default;
  explicit work(const work_ops& ops, work_class cls = work_class::bound, work_flags flags = work_flags::none) noexcept
      : ops_(&ops), class_(std::to_underlying(cls) & 1U), flags_(std::to_underlying(flags) & 3U) {}
  work(const work&) = delete;
  work& operator=(const work&) = delete;

  // The setters all require: idle.
  void set_ops(const work_ops& ops) noexcept { idle().ops_ = &ops; }
  void set_class(work_class cls) noexcept { idle().class_ = std::to_underlying(cls) & 1U; }
  void set_flags(work_flags flags) noexcept { idle().flags_ = std::to_underlying(flags) & 3U; }
  // Works of one key in one domain run one after the other, in submit order. The submitter holds a count of the domain until submit has
  // returned; from then on the pool does.
  void set_key(hash_domain& domain, std::uint64_t key) noexcept {
    idle().domain_ = &domain;
    key_ = key;
  }
  void clear_key() noexcept { idle().domain_ = nullptr; }
  // As whom it is done. The count is dropped after run, before release.
  void set_identity(ref<const identity> who) noexcept { idle().identity_ = std::move(who); }
  // Works without a key wait in three queues: RT goes before BE (NONE counts as BE) and that before IDLE, but who is passed
  // over for long has a turn all the same (docs/wq.md). The class says nothing of how the device serves what it does.
  void set_ioprio_class(ioprio_class priority) noexcept { idle().priority_ = std::to_underlying(priority) & 3U; }
  // A tag of the user's choice, for cancel_owner. 0 is nobody.
  void set_owner(std::uint64_t owner) noexcept { idle().owner_ = owner; }
  // If the work has not completed by `deadline`, it is cancelled as by cancel(). Holds for one submit; no_deadline takes it
  // away.
  void set_deadline(steady_time deadline) noexcept {
    idle().deadline_ = deadline.time_since_epoch().count();
    timed_ = deadline != no_deadline ? 1 : 0;
  }
  // Links `next` behind this work (null: nothing). Requires: next is idle too, and is linked behind one work only.
  void then(work* next) noexcept { idle().link_ = next; }

  [[nodiscard]] const work_ops* ops() const noexcept { return ops_; }
  [[nodiscard]] work_class cls() const noexcept { return static_cast<work_class>(class_); }
  [[nodiscard]] work_flags flags() const noexcept { return static_cast<work_flags>(flags_); }
  [[nodiscard]] ioprio_class priority() const noexcept { return static_cast<ioprio_class>(priority_); }
  // These three require: idle or running; key() also keyed().
  [[nodiscard]] bool keyed() const noexcept { return domain_ != nullptr; }
  [[nodiscard]] hash_domain* domain() const noexcept { return domain_; }
  [[nodiscard]] std::uint64_t key() const noexcept { return key_; }
  [[nodiscard]] std::uint64_t owner() const noexcept { return owner_; }
  [[nodiscard]] const ref<const identity>& who() const noexcept { return identity_; }
  [[nodiscard]] work* link() const noexcept { return link_; }

 protected:
  // Not virtual: nobody deletes through a work&, release knows the type.
  ~work() { SLUICE_CHECK(state_ == 0, "a work may be destroyed only while it is idle or in its release"); }

 private:
  friend struct detail::work_access;

  work& idle() noexcept {
    SLUICE_CHECK(state_ == 0, "an accepted work belongs to the wq until its release");
    return *this;
  }

  // Three words hold one thing while the program owns the work and another while the pool does: src/wq/item/work_access.h.
  const work_ops* ops_ = nullptr;
  union {
    work* next_ = nullptr;   // while accepted
    std::int64_t deadline_;  // while idle and timed_: nanoseconds of the steady clock
  };
  work* link_ = nullptr;
  union {
    hash_domain* domain_ = nullptr;
    void* entry_;  // while pending
  };
  union {
    std::uint64_t key_ = 0;
    work* prev_;  // while pending
  };
  std::uint64_t owner_ = 0;
  ref<const identity> identity_;
  std::uint32_t slot_ = 0;  // of the wq's handle table; 0: none
  std::uint16_t home_ = 0;  // while accepted: the engine
  std::uint8_t class_ : 1 = 0;
  std::uint8_t flags_ : 2 = 0;
  std::uint8_t timed_ : 1 = 0;
  std::uint8_t priority_ : 2 = 0;
  std::uint8_t entry_promised_ : 1 = 0;
  std::uint8_t state_ = 0;  // 0 idle; the rest is the wq's. A byte of its own: cancels write it
};
static_assert(ref_tracker_on || sizeof(work) <= 64, "one cache line per queued work");

// What a run knows about itself. Lives for the run.
class work_context {
 public:
  // True in a run that was cancelled before it began (give up at once), and true from
  // the moment on which a running work is asked to stop (ask again after every EINTR).
  [[nodiscard]] bool cancelled() const noexcept;
  // A token of this run alone: becomes stopped with cancelled(). The first call in a run allocates; when that fails the
  // token has no state (stop_possible() is false), cancelled() still tells.
  [[nodiscard]] std::stop_token stop_token() noexcept;
  // This work did not succeed: the rest of its chain is cancelled.
  void fail() noexcept { failed_ = true; }
  [[nodiscard]] bool failed() const noexcept { return failed_; }

  work_context(const work_context&) = delete;
  work_context& operator=(const work_context&) = delete;

 private:
  friend struct detail::work_access;

  // token: the run_token of the worker; null in a run that began cancelled.
  explicit work_context(void* token) noexcept : token_(token) {}

  void* token_;
  bool failed_ = false;
};

}  // namespace sluice
