// admission: which works a pool accepts, and how they are published.
//
// What can fail comes first, and changes nothing of the works (W6): a pass of the gate, room in the queue, a count of each domain,
// a slot for the handle, timers, entries for keys. Then the works are marked and published; from then on nothing of them is read
// (W3).
//
// Thread safety:  any thread.
// Blocking:       only under when_full::wait.
// Errors:         as io_wq::submit.
// Invariants:     W3 W6 X3
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <new>
#include <span>
#include <vector>

#include "sluice/wq/io_wq.h"

#include "wq/keyed/keys.h"
#include "wq/watch/deadlines.h"

namespace sluice::detail {

template <class Sync>
class basic_admission {
 public:
  using traits = pool_traits<Sync>;
  using account = basic_account<Sync>;
  using key_table = basic_key_table<Sync>;

  explicit basic_admission(basic_pool<Sync>& owner) noexcept : pool_(owner) {}

  [[nodiscard]] result<void> submit(work& head, work_handle* handle) noexcept;
  // Runs of plain works of one class are published with one exchange and one wake.
  [[nodiscard]] result<std::size_t> submit(std::span<work* const> works) noexcept;

  // Works left the queue of this class: submitters that wait for room try again.
  void made_room(work_class cls) noexcept;
  // The gate is closed: submitters that wait for room give up.
  void end_waits() noexcept;

  // To which lane of the account a work belongs that this thread submits. All to one, and so in submit order whichever core they
  // come from, unless works are quick and the class may have several workers.
  [[nodiscard, gnu::always_inline]] inline unsigned lane_here(const account& to) noexcept;

 private:
  template <class Value>
  using atomic = typename Sync::template atomic<Value>;

  // Submitters of one class that wait for room.
  struct waiting_room {
    atomic<std::uint32_t> word{0};
    atomic<std::uint32_t> waiters{0};
  };
  struct chain_facts {
    std::array<std::uint32_t, work_classes> members{};
    std::uint32_t all = 0;
    std::uint32_t timed = 0;  // members that have a deadline
  };

  [[nodiscard, gnu::always_inline]] inline std::size_t room(work_class cls) noexcept;
  [[nodiscard, gnu::noinline]] std::size_t exact_room(work_class cls) noexcept;
  [[nodiscard, gnu::always_inline]] inline int try_submit(work& head, work_handle* handle) noexcept;
  [[nodiscard, gnu::noinline]] result<void> not_at_once(work& head, work_handle* handle, int err) noexcept;
  [[nodiscard]] int wait_for_room(work& head, work_handle* handle) noexcept;

  template <std::size_t Extent>
  [[nodiscard, gnu::always_inline]] inline int submit_singles(account& to,
                                                              std::span<work* const, Extent> works) noexcept;
  template <std::size_t Extent>
  [[nodiscard, gnu::always_inline]] inline std::size_t submit_keyed(account& to,
                                                                    std::span<work* const, Extent> works) noexcept;
  [[nodiscard, gnu::always_inline]] inline work* link_newest_first(account& to, unsigned lane,
                                                                   std::span<work* const> works) noexcept;
  [[nodiscard, gnu::noinline]] int submit_chain(account& to, work& head, work_handle* handle) noexcept;
  [[nodiscard]] int admit_chain(account& to, work& head, bool tracked, const chain_facts& chain,
                                std::uint32_t& index) noexcept;
  void undo_chain(work& head, const chain_facts& chain, std::uint32_t index) noexcept;
  [[nodiscard]] int publish(account& to, work& head, std::uint32_t index) noexcept;
  [[gnu::always_inline]] inline void after_put(account& to, need why, std::size_t came) noexcept;
  [[nodiscard]] static chain_facts facts_of(const work& head) noexcept;
  static void mark_chain(work& head, work_state state) noexcept;
  void count_accepted(unsigned node, const chain_facts& chain, int sign) noexcept;

  basic_pool<Sync>& pool_;
  std::array<waiting_room, work_classes> waiting_;
};

template <class Sync>
result<void> basic_admission<Sync>::submit(work& head, work_handle* handle) noexcept {
  const int err = try_submit(head, handle);
  if (err == 0) [[likely]] {
    return {};
  }
  return not_at_once(head, handle, err);
}

// What becomes of a submit that was refused with `err`.
template <class Sync>
result<void> basic_admission<Sync>::not_at_once(work& head, work_handle* handle, int err) noexcept {
  if (err == EAGAIN && pool_.env.options.full == when_full::wait) {
    err = wait_for_room(head, handle);
  }
  if (err == 0) {
    return {};
  }
  pool_.engines.local(head.cls()).refused.fetch_add(1, std::memory_order_relaxed);  // relaxed: a statistic
  return fail(err);
}

template <class Sync>
result<std::size_t> basic_admission<Sync>::submit(std::span<work* const> works) noexcept {
  std::size_t accepted = 0;
  const auto plain = [](const work& w) {
    return !w.keyed() && w.link() == nullptr && !work_access::timed(w) && w.ops() != nullptr;
  };
  while (accepted < works.size()) {
    const work& first = *works[accepted];
    account& to = pool_.engines.local(first.cls());
    std::size_t n = 0;
    const std::size_t most = std::min(works.size() - accepted, basic_inbox<Sync>::capacity);
    while (n < most && plain(*works[accepted + n]) && works[accepted + n]->cls() == first.cls()) {
      ++n;
    }
    n = std::min(n, room(first.cls()));
    if (n > 1 && submit_singles(to, works.subspan(accepted, n)) == 0) {
      accepted += n;
      continue;
    }
    if (first.keyed()) {
      n = submit_keyed(to, works.subspan(accepted, most));
      if (n != 0) {
        accepted += n;
        continue;
      }
    }
    if (const result<void> one = submit(*works[accepted], nullptr); !one) {
      return accepted != 0 ? result<std::size_t>(accepted) : std::unexpected(one.error());
    }
    ++accepted;
  }
  return accepted;
}

// Publishes as many of the first works as go through the inbox of their domain together. Returns 0 if they cannot, or are
// refused.
template <class Sync>
template <std::size_t Extent>
std::size_t basic_admission<Sync>::submit_keyed(account& to, std::span<work* const, Extent> works) noexcept {
  const work& first = *works.front();
  // Before its domain is asked for: one that waits may name something else there.
  SLUICE_CHECK(work_access::state(first) == work_state::idle, "a work is submitted twice: its release has not begun");
  key_table& table = traits::table(*first.domain());
  const std::size_t aside = table.inbox.size();  // counted in no account yet
  const std::size_t free = room(to.cls);
  const std::size_t most = std::min(works.size(), free - std::min(free, aside));
  if (most == 0 || !pool_.life.gate.try_enter(static_cast<std::int64_t>(most))) {
    return 0;
  }
  std::size_t n = 0;
  // The domain is held before the table is owned: a pool that owns a table gives it up when it lets the domain go.
  if (pool_.keys.domains.hold(*first.domain())) [[likely]] {
    while (n < most && works[n]->domain() == first.domain() && works[n]->cls() == first.cls() &&
           works[n]->link() == nullptr && !work_access::timed(*works[n]) && works[n]->ops() != nullptr &&
           basic_keys<Sync>::goes_through_inbox(to, table, works[n]->flags())) {
      ++n;
    }
  }
  if (n != 0) [[likely]] {
    const auto some = std::span<work* const>(works.data(), n);
    if (pool_.keys.put(to, table, *link_newest_first(to, 0, some), *some.front(), n) != 0) {
      for (work* const w : some) {
        work_access::set_state(*w, work_state::idle);
      }
      n = 0;
    }
  }
  if (n != most) {
    pool_.life.gate.leave(static_cast<std::int64_t>(most - n));
  }
  return n;
}

// Marks works as accepted and links them as an inbox has them. Returns the newest.
template <class Sync>
work* basic_admission<Sync>::link_newest_first(account& to, unsigned lane, std::span<work* const> works) noexcept {
  work* newest = nullptr;
  for (work* const w : works) {
    SLUICE_CHECK(work_access::state(*w) == work_state::idle, "a work is submitted twice: its release has not begun");
    work_access::accept(*w, lane);
    work_access::home(*w) = to.home;
    work_access::next(*w) = newest;
    newest = w;
  }
  return newest;
}

// Returns an errno; the work is untouched unless it is 0 (W6).
template <class Sync>
int basic_admission<Sync>::try_submit(work& head, work_handle* handle) noexcept {
  SLUICE_CHECK(head.ops() != nullptr, "a work is submitted without its table of functions: call set_ops()");
  account& to = pool_.engines.local(head.cls());
  work* const one = &head;
  const bool plain = head.link() == nullptr && handle == nullptr && !work_access::timed(head);
  if (plain && !head.keyed()) {
    return submit_singles(to, std::span<work* const, 1>(&one, 1));
  }
  if (plain && submit_keyed(to, std::span<work* const, 1>(&one, 1)) == 1) {
    return 0;
  }
  return submit_chain(to, head, handle);
}

// How many more works of the class may be queued. Works submitted at the same moment may overshoot it by their number.
template <class Sync>
std::size_t basic_admission<Sync>::room(work_class cls) noexcept {
  if (pool_.engines.all_of(cls, [](const account& at) { return !at.crowd.crowded(); })) [[likely]] {
    return pool_.env.options.queue_limit / 2;
  }
  return exact_room(cls);
}

template <class Sync>
std::size_t basic_admission<Sync>::exact_room(work_class cls) noexcept {
  std::size_t queued = 0;
  pool_.engines.for_each_of(cls, [&](const account& at) { queued += at.pending(); });
  const std::size_t limit = pool_.env.options.queue_limit;
  return limit - std::min(limit, queued);
}

template <class Sync>
template <std::size_t Extent>
int basic_admission<Sync>::submit_singles(account& to, std::span<work* const, Extent> works) noexcept {
  const std::size_t n = works.size();
  if (!pool_.life.gate.try_enter(static_cast<std::int64_t>(n))) {
    return ESHUTDOWN;  // X3
  }
  if (room(to.cls) < n) {
    pool_.life.gate.leave(static_cast<std::int64_t>(n));
    return EAGAIN;
  }
  bool another = false;
  bool graded = false;
  for (const work* const w : works) {
    another |= has(w->flags(), work_flags::concurrent);
    graded |= ready_queue::graded(*w);
  }
  if (graded) [[unlikely]] {
    to.expect_grades();
  }
  const unsigned lane = lane_here(to);
  to.put(lane, *link_newest_first(to, lane, works), *works.front(), n);
  after_put(to, another ? need::another : need::any, n);  // W3: the works may be gone
  return 0;
}

template <class Sync>
unsigned basic_admission<Sync>::lane_here(const account& to) noexcept {
  const bool lanes = to.quick() && pool_.growth.max(to.cls) != 1;
  return lanes ? traits::core() & pool_.env.lane_mask : 0;
}

template <class Sync>
void basic_admission<Sync>::after_put(account& to, need why, std::size_t came) noexcept {
  // seq_cst: partner of the decrement of a worker that goes idle or blocks, see account.h.
  if ((why == need::another || to.running() == 0) && !pool_.growth.saturated(to.cls)) {
    pool_.growth.start_worker(to, why, came);
  } else {
    pool_.sampler.ensure_ticking();
  }
}

template <class Sync>
auto basic_admission<Sync>::facts_of(const work& head) noexcept -> chain_facts {
  chain_facts chain;
  for (const work* w = &head; w != nullptr; w = w->link()) {
    SLUICE_CHECK(work_access::state(*w) == work_state::idle, "a work is submitted twice: its release has not begun");
    SLUICE_CHECK(w->ops() != nullptr, "a member of a chain has no table of functions: call set_ops()");
    ++chain.members[std::to_underlying(w->cls())];
    ++chain.all;
    chain.timed += work_access::timed(*w) ? 1U : 0U;
  }
  return chain;
}

template <class Sync>
void basic_admission<Sync>::mark_chain(work& head, work_state state) noexcept {
  for (work* w = &head; w != nullptr; w = w->link()) {
    work_access::set_state(*w, state);
  }
}

// What may fail, once there is a pass: room, counts of the domains, entries for keys, a slot (its index, or 0), a timer for each
// deadline. On an error nothing is kept.
template <class Sync>
int basic_admission<Sync>::admit_chain(account& to, work& head, bool tracked, const chain_facts& chain,
                                       std::uint32_t& index) noexcept {
  if (!pool_.keys.domains.hold_all(head)) {
    return ENOMEM;
  }
  // Works in a table's inbox are counted in no account yet.
  const std::size_t aside = head.keyed() ? traits::table(*head.domain()).inbox.size() : 0;
  if (room(to.cls) <= aside) {
    return EAGAIN;
  }
  if (const int err = pool_.keys.promise_rest(head); err != 0) {
    return err;
  }
  if (!tracked && chain.timed == 0) {
    return 0;
  }
  index = pool_.handles.take();
  if (index != 0 && pool_.deadlines.reserve(chain.timed)) {
    return 0;
  }
  if (index != 0) {
    pool_.handles.give_back(std::exchange(index, 0));
  }
  for (work* w = head.link(); w != nullptr; w = w->link()) {
    pool_.keys.take_back_promise(*w);
  }
  return ENOMEM;
}

template <class Sync>
int basic_admission<Sync>::submit_chain(account& to, work& head, work_handle* handle) noexcept {
  chain_facts chain = facts_of(head);
  if (!pool_.life.gate.try_enter(chain.all)) {
    return ESHUTDOWN;
  }
  std::uint32_t index = 0;
  int err = admit_chain(to, head, handle != nullptr, chain, index);
  if (err != 0) {
    pool_.life.gate.leave(chain.all);
    return err;
  }
  const bool timed = work_access::timed(head);
  const steady_time deadline = timed ? work_access::deadline(head) : no_deadline;
  const work_handle name = pool_.name_of(index);
  mark_chain(head, work_state::accepted);
  work_access::slot(head) = index;
  work_access::home(head) = to.home;
  work_access::set_timed(head, false);
  --chain.members[std::to_underlying(to.cls)];  // the head is counted when it is taken out of the inbox
  count_accepted(to.node, chain, 1);
  err = publish(to, head, index);
  if (err == 0) {  // the works may be gone
    if (handle != nullptr) {
      *handle = name;
    }
    if (timed) {
      pool_.deadlines.add({deadline, name, &head});
    }
    return 0;
  }
  count_accepted(to.node, chain, -1);
  if (timed) {
    work_access::put_deadline(head, deadline);
    work_access::set_timed(head, true);
  }
  undo_chain(head, chain, index);
  return err;
}

template <class Sync>
void basic_admission<Sync>::undo_chain(work& head, const chain_facts& chain, std::uint32_t index) noexcept {
  for (work* w = head.link(); w != nullptr; w = w->link()) {
    pool_.keys.take_back_promise(*w);
  }
  mark_chain(head, work_state::idle);
  work_access::slot(head) = 0;
  if (index != 0) {
    pool_.handles.give_back(index);
  }
  pool_.deadlines.take_back(chain.timed);
  pool_.life.gate.leave(chain.all);
}

// Returns ENOMEM if there is no entry for the head's key; nothing has changed then.
template <class Sync>
int basic_admission<Sync>::publish(account& to, work& head, std::uint32_t index) noexcept {
  if (!head.keyed()) {
    pool_.handles.move(index, head, place::account, &to);
    const need why = has(head.flags(), work_flags::concurrent) ? need::another : need::any;
    if (ready_queue::graded(head)) {
      to.expect_grades();
    }
    const unsigned lane = lane_here(to);
    work_access::accept(head, lane);
    to.put(lane, head, head, 1);
    after_put(to, why, 1);
    return 0;
  }
  hash_domain& domain = *head.domain();
  key_table& table = traits::table(domain);
  if (!basic_keys<Sync>::goes_through_inbox(to, table, head.flags())) {
    return pool_.keys.enter(to, head);
  }
  pool_.handles.move(index, head, place::key, nullptr, &domain, head.key());
  return pool_.keys.put(to, table, head, head, 1);
}

template <class Sync>
void basic_admission<Sync>::count_accepted(unsigned node, const chain_facts& chain, int sign) noexcept {
  for (const work_class cls : {work_class::bound, work_class::unbound}) {
    if (const std::uint64_t members = chain.members[std::to_underlying(cls)]; members != 0) {
      // relaxed: a statistic
      pool_.engines.at(node, cls).accepted_aside.fetch_add(sign > 0 ? members : 0 - members, std::memory_order_relaxed);
    }
  }
}

// A submit that finds the queue full under when_full::wait.
template <class Sync>
int basic_admission<Sync>::wait_for_room(work& head, work_handle* handle) noexcept {
  if (pool_.inside()) {
    return EDEADLK;  // this thread alone may be able to make the room that it would wait for
  }
  waiting_room& of = waiting_[std::to_underlying(head.cls())];
  const steady_time until = deadline_after(pool_.env.clock.now(), pool_.env.options.full_wait);
  of.waiters.fetch_add(1, std::memory_order_seq_cst);  // seq_cst: partner of made_room()
  int err = EAGAIN;
  for (bool late = false;;) {
    const std::uint32_t seen = of.word.load(std::memory_order_acquire);
    err = try_submit(head, handle);
    if (err != EAGAIN) {
      break;
    }
    if (late) {
      err = ETIMEDOUT;
      break;
    }
    late = !Sync::wait(of.word, seen, until);
  }
  of.waiters.fetch_sub(1, std::memory_order_relaxed);  // relaxed: a wake too many does no harm
  return err;
}

template <class Sync>
void basic_admission<Sync>::made_room(work_class cls) noexcept {
  if (pool_.env.options.full != when_full::wait) {
    return;
  }
  waiting_room& of = waiting_[std::to_underlying(cls)];
  // seq_cst: the queue's new size came first; a waiter counts itself first and then looks at the size.
  if (of.waiters.load(std::memory_order_seq_cst) != 0) {
    of.word.fetch_add(1, std::memory_order_release);
    Sync::wake(of.word, wake_all);
  }
}

template <class Sync>
void basic_admission<Sync>::end_waits() noexcept {
  for (waiting_room& of : waiting_) {
    of.word.fetch_add(1, std::memory_order_release);
    Sync::wake(of.word, wake_all);
  }
}

}  // namespace sluice::detail
