// wq_storm: everything that can be done to an io_wq, at once and at random, with a check of every step.
//
//   const storm_report over = storm(storm_options{.works = 2'000'000}).run();
//
// Submitters send works of both classes: single, tracked, in batches and as chains, with and without keys, owners and
// deadlines; they cancel by handle, owner and predicate, change the limits, and read the counters. Works block with and
// without saying so, fail, and submit themselves again in their release. Creating a thread fails now and then. Each
// submitter has a fixed store of works and uses them again, so that a storm of any length needs the same memory.
//
// With storm_options::whole_chains every member of a chain may have what a single work may have, and chains are cancelled by
// their handles; with identities most works carry one; and the storm may end in a stop that cancels, while submitters
// still submit. The bench leaves these out: they cost time.
//
// Checked in each run and release: W1 W4 W5 W6 H1 H2 C1 C3 C4 C5 I1. In snapshots on the way: P1 P2. At the end: W7, that no
// key is live and that no identity is held. A broken check is a text in the report: nothing here knows of a test framework, so
// that a bench can run it too.
#pragma once

#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "sluice/base/mutex.h"
#include "sluice/base/park.h"
#include "sluice/base/thread.h"
#include "sluice/identity/identity.h"
#include "sluice/wq/blocking_region.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"

namespace test {

struct storm_options {
  std::uint64_t works = 2'000'000;        // how many are accepted before the storm ends
  std::chrono::milliseconds cap{60'000};  // but no more are submitted after so long
  unsigned submitters = 8;
  std::size_t store = 2048;  // works of each submitter
  std::size_t keys = 64;     // of each submitter, ordered; as many again for all, exclusive only
  unsigned max_workers = 8;  // of each class; the limit moves between 1 and this
  std::size_t queue_limit = 4096;
  std::uint64_t seed = 1;
  bool whole_chains = false;  // members have flags, deadlines, keys or none, as heads have; chains have handles
  bool identities = false;    // most works carry an identity
  // cancel_queued: the first submitter stops the pool while the others submit.
  sluice::stop_policy ends = sluice::stop_policy::run_queued;
};

struct storm_report {
  std::uint64_t accepted = 0;
  std::uint64_t ran = 0;
  std::uint64_t gave_up = 0;  // ran as cancelled
  std::uint64_t refused = 0;
  std::uint64_t cancels = 0;        // works that a cancel by handle ended
  std::uint64_t not_started = 0;    // threads that could not be created
  sluice::wq_stats stats;           // after the stop
  std::vector<std::string> faults;  // each kind of broken check once; empty: all is well
};

// Numbers that look random and repeat with the seed (xorshift64).
class storm_dice {
 public:
  explicit storm_dice(std::uint64_t seed) noexcept : state_(seed * 0x9E3779B97F4A7C15U + 1) {}
  std::uint64_t below(std::uint64_t limit) noexcept {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return (state_ >> 16) % limit;
  }
  bool one_in(std::uint64_t n) noexcept { return below(n) == 0; }

 private:
  std::uint64_t state_;
};

// One thread in four cannot be created, once armed.
class storm_threads : public sluice::thread_seam {
 public:
  sluice::result<sluice::named_thread> start(std::string_view name, std::move_only_function<void()> body,
                                             std::size_t stack) override {
    // relaxed, here and below: tallies that are read after a join.
    const std::uint64_t number = count_.fetch_add(1, std::memory_order_relaxed);
    if (armed_.load(std::memory_order_relaxed) && storm_dice(number).one_in(4)) {
      failed_.fetch_add(1, std::memory_order_relaxed);
      return sluice::fail(EAGAIN);
    }
    return sluice::thread_seam::real().start(name, std::move(body), stack);
  }
  void arm() noexcept { armed_.store(true, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t failed() const noexcept { return failed_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> armed_{false};
  std::atomic<std::uint64_t> count_{0};
  std::atomic<std::uint64_t> failed_{0};
};

class storm {
 public:
  explicit storm(const storm_options& options) : options_(options), shared_keys_(options.keys) {}

  [[nodiscard]] storm_report run();

 private:
  enum class phase : std::uint8_t { idle, submitted, ran, released };
  enum class act : std::uint8_t { nothing, blocks_in_region, blocks_silently };

  // What the runs of one key share. `last` is a plain number: the wq orders one run of a key before the next.
  struct key_state {
    std::atomic<int> inside{0};
    std::uint64_t last = 0;
    std::uint64_t submits = 0;  // the submitter's own
  };

  struct lane;

  struct item : sluice::work {
    static void do_run(work& w, sluice::work_context& ctx) noexcept {
      auto& self = static_cast<item&>(w);
      self.of->whole.on_run(self, ctx);
    }
    static void do_release(work& w) noexcept {
      auto& self = static_cast<item&>(w);
      self.of->whole.on_release(self);
    }
    static constexpr sluice::work_ops operations{do_run, do_release};

    lane* of = nullptr;
    item* next_free = nullptr;
    item* before = nullptr;      // in its chain
    key_state* keyed = nullptr;  // exclusive
    const sluice::identity* who = nullptr;
    std::uint64_t place = 0;   // in the order of its key; 0: not ordered
    std::uint64_t serial = 0;  // which submit of this work it is
    unsigned again = 0;        // how often its release submits it anew
    act does = act::nothing;
    bool ends_chain = true;
    bool fails = false;
    bool gave_up = false;
    // Relaxed throughout: the wq orders one step of a work before the next. Atomic for the submitter, which looks at a work
    // that it could not cancel.
    std::atomic<phase> at{phase::idle};

    [[nodiscard]] bool is(phase one) const noexcept { return at.load(std::memory_order_relaxed) == one; }
    void goes_to(phase one) noexcept { at.store(one, std::memory_order_relaxed); }
  };

  struct tracked {
    sluice::work_handle handle;
    item* target = nullptr;  // the last of its chain
    std::uint64_t serial = 0;
    bool may_cancel = false;  // no member is no_cancel
  };

  // A submitter: its works, its keys, its dice.
  struct lane {
    lane(storm& all, std::uint64_t number)
        : whole(all),
          items(std::make_unique<item[]>(all.options_.store)),
          keys(all.options_.keys),
          first_key((number + 1) * all.options_.keys),
          dice(all.options_.seed * 1000 + number) {
      for (std::size_t i = 0; i < all.options_.store; ++i) {
        items[i].of = this;
        items[i].set_ops(item::operations);
        put_free(items[i]);
      }
    }

    void put_free(item& one) noexcept {
      one.goes_to(phase::idle);
      one.next_free = std::exchange(free, &one);
      ++free_count;
    }

    // Any thread: a work is the submitter's again.
    void give_back(item& one) noexcept {
      one.next_free = returned.load(std::memory_order_relaxed);
      // release: pairs with the acquire in collect(); what the release wrote is the submitter's to see.
      while (
          !returned.compare_exchange_weak(one.next_free, &one, std::memory_order_release, std::memory_order_relaxed)) {
      }
      sleeper.wake();
    }

    void collect() noexcept {
      item* one = returned.exchange(nullptr, std::memory_order_acquire);
      while (one != nullptr) {
        item* const next = one->next_free;
        put_free(*one);
        one = next;
      }
    }

    // Waits until so many works are free.
    void need(std::size_t count) noexcept {
      for (collect(); free_count < count; collect()) {
        sleeper.park();
      }
    }

    // Waits until one comes back, if any is out.
    void wait_for_room() noexcept {
      collect();
      if (free_count == whole.options_.store) {
        std::this_thread::yield();
      } else {
        need(free_count + 1);
      }
    }

    item& take() noexcept {
      item& one = *free;
      free = one.next_free;
      --free_count;
      return one;
    }

    storm& whole;
    const std::unique_ptr<item[]> items;
    std::vector<key_state> keys;
    const std::uint64_t first_key;
    storm_dice dice;
    item* free = nullptr;
    std::size_t free_count = 0;
    std::array<tracked, 64> handles;
    std::size_t handle_count = 0;
    std::uint64_t refused_calls = 0;
    std::uint64_t refused_works = 0;
    std::uint64_t cancels = 0;
    bool shut = false;  // a submit was refused because the pool stops
    std::atomic<item*> returned{nullptr};
    sluice::parker sleeper;
  };

  static constexpr std::uint64_t owners = 64;
  static constexpr std::size_t batch = 8;

  void check(bool holds, const char* otherwise) noexcept;
  void block(sluice::work_context& ctx) noexcept;
  void on_run(item& self, sluice::work_context& ctx) noexcept;
  void check_no_cancel(const item& self) noexcept;
  void check_identity(const item& self) noexcept;
  void on_release(item& self) noexcept;
  bool submit_again(item& self) noexcept;

  item& prepare(lane& mine);
  void give_key(lane& mine, item& one);
  void give_member_key(lane& mine, item& one);
  void give_identity(lane& mine, item& one);
  item& next_of_chain(lane& mine, item* before);
  static void remember(lane& mine, const tracked& one) noexcept;
  void submit_single(lane& mine);
  void submit_batch(lane& mine);
  void submit_chain(lane& mine);
  void refused(lane& mine, std::span<sluice::work* const> works, std::error_code why);
  void meddle(lane& mine);
  void cancel_a_handle(lane& mine);
  void look_at_stats();
  void submit_all(lane& mine);
  [[nodiscard]] bool goes_on(const lane& mine) const noexcept;
  [[nodiscard]] bool begin();
  void verify(storm_report& report);

  const storm_options options_;
  storm_threads threads_;
  sluice::ref<sluice::hash_domain> domain_;
  sluice::ref<sluice::io_wq> wq_;
  std::vector<key_state> shared_keys_;
  std::vector<std::unique_ptr<lane>> lanes_;
  std::vector<sluice::ref<const sluice::identity>> people_;
  static inline thread_local bool submits_ = false;  // a submitter's thread, so none of the pool's
  std::chrono::steady_clock::time_point end_;

  // Tallies, all relaxed: only their sums after the joins matter, but for accepted_, which need not be exact on the way.
  std::atomic<std::uint64_t> accepted_{0};
  std::atomic<std::uint64_t> ran_{0};
  std::atomic<std::uint64_t> gave_up_{0};
  std::array<std::atomic<std::uint64_t>, sluice::work_classes> accepted_of_{};
  std::array<std::atomic<std::uint64_t>, sluice::work_classes> released_of_{};
  std::atomic<std::uint64_t> refused_again_{0};

  sluice::mutex fault_lock_;
  std::set<std::string> faults_ SLUICE_GUARDED_BY(fault_lock_);
};

inline void storm::check(bool holds, const char* otherwise) noexcept {
  if (!holds) {
    const sluice::mutex_lock held(fault_lock_);
    faults_.emplace(otherwise);
  }
}

// A slow device: a real system call, which a cancel of this very work may cut short and nothing else.
inline void storm::block(sluice::work_context& ctx) noexcept {
  const timespec service{.tv_sec = 0, .tv_nsec = 100'000};
  if (::ppoll(nullptr, 0, &service, nullptr) < 0) {
    check(errno == EINTR && ctx.cancelled(), "C5: a system call was interrupted for somebody else");
  }
}

inline void storm::on_run(item& self, sluice::work_context& ctx) noexcept {
  check(self.is(phase::submitted), "W1: run without a submit, or twice");
  self.goes_to(phase::ran);
  self.gave_up = ctx.cancelled();
  check_identity(self);
  if (self.before != nullptr) {
    check(self.before->is(phase::released), "W4: a linked work ran before the release of its head");
    check(self.gave_up || !(self.before->gave_up || self.before->fails), "W5: a cancelled or failed head's chain ran");
  }
  if (self.gave_up) {
    check_no_cancel(self);
    gave_up_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  ran_.fetch_add(1, std::memory_order_relaxed);
  if (self.keyed != nullptr) {
    // relaxed: it is the wq that orders the runs of a key; this only finds two at once.
    check(self.keyed->inside.fetch_add(1, std::memory_order_relaxed) == 0, "H1: two runs of one key at once");
    check(self.place == 0 || self.place > std::exchange(self.keyed->last, self.place), "H2: a key's order is broken");
  }
  if (self.does == act::blocks_in_region) {
    const sluice::blocking_region region;
    block(ctx);
  } else if (self.does == act::blocks_silently) {
    for (int i = 0; i < 16 && !ctx.cancelled(); ++i) {
      block(ctx);
    }
  }
  check(!has(self.flags(), sluice::work_flags::no_cancel) || !ctx.cancelled(),
        "C4: a no_cancel work was asked to stop");
  if (self.fails) {
    ctx.fail();
  }
  if (self.keyed != nullptr) {
    self.keyed->inside.fetch_sub(1, std::memory_order_relaxed);
  }
}

// C4: no cancel means a no_cancel work. It is given up if the member before it in its chain failed or was cancelled, and then
// by a thread of the pool.
inline void storm::check_no_cancel(const item& self) noexcept {
  if (!has(self.flags(), sluice::work_flags::no_cancel)) {
    return;
  }
  const item* const before = self.before;
  check(before != nullptr, "C4: a no_cancel work was cancelled");
  check(before == nullptr || before->gave_up || before->fails || !has(before->flags(), sluice::work_flags::no_cancel),
        "C4: a no_cancel member was cancelled, and the one before it had succeeded");
  check(!submits_, "C4: a no_cancel work was given up on a canceller's thread");
}

// I1: a work is run and released as whom it is for. A cancelled one is run as the thread itself; if it was cancelled just
// before it could look, that is as whom it is for.
inline void storm::check_identity(const item& self) noexcept {
  if (!options_.identities) {
    return;
  }
  const sluice::identity* const worn = sluice::current_identity();
  check(worn == self.who || (self.gave_up && worn == nullptr), "I1: a work wears the identity of another");
  check(!submits_ || worn == nullptr, "I1: a canceller wears the identity of a work");
}

inline void storm::on_release(item& self) noexcept {
  if (!self.is(phase::ran)) {
    check(false, "W1: release without a run, or twice");
    return;  // giving it back would tie the store into a knot
  }
  self.goes_to(phase::released);
  check_identity(self);
  released_of_[std::to_underlying(self.cls())].fetch_add(1, std::memory_order_relaxed);
  if (!self.ends_chain || (self.again != 0 && submit_again(self))) {
    return;
  }
  lane& home = *self.of;
  for (item* one = &self; one != nullptr;) {
    item* const before = one->before;  // read first: once given back the work is the submitter's
    home.give_back(*one);
    one = before;
  }
}

// W2: in its release a work is the user's, who may submit it again. Returns whether it was accepted.
inline bool storm::submit_again(item& self) noexcept {
  const std::size_t cls = std::to_underlying(self.cls());
  --self.again;
  self.clear_key();
  self.keyed = nullptr;
  self.place = 0;
  self.who = nullptr;  // the count was dropped
  self.set_deadline(sluice::no_deadline);
  self.goes_to(phase::submitted);
  const sluice::result<void> how = wq_->submit(self);
  if (!how) {
    check(how.error().value() == EAGAIN || how.error().value() == ESHUTDOWN, "W6: refused for no known reason");
    refused_again_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  // Nothing of self from here on: it may be over.
  accepted_.fetch_add(1, std::memory_order_relaxed);
  accepted_of_[cls].fetch_add(1, std::memory_order_relaxed);
  return true;
}

inline void storm::give_key(lane& mine, item& one) {
  if (mine.dice.one_in(8)) {
    const std::uint64_t key = mine.dice.below(shared_keys_.size());
    one.keyed = &shared_keys_[key];
    one.set_key(*domain_, key);
  } else {
    const std::uint64_t key = mine.dice.below(mine.keys.size());
    one.keyed = &mine.keys[key];
    one.place = ++one.keyed->submits;
    one.set_key(*domain_, mine.first_key + key);
  }
}

// The place of a linked work in its key is taken when its turn comes: exclusive, but in no order known here.
inline void storm::give_member_key(lane& mine, item& one) {
  const bool whole = options_.whole_chains;
  if (whole && mine.dice.one_in(3)) {
    return;
  }
  const bool own = whole && mine.dice.one_in(2);
  const std::uint64_t key = mine.dice.below(shared_keys_.size());
  one.keyed = own ? &mine.keys[key] : &shared_keys_[key];
  one.set_key(*domain_, own ? mine.first_key + key : key);
}

inline void storm::give_identity(lane& mine, item& one) {
  const std::uint64_t which = mine.dice.below(people_.size() + 1);
  one.who = which != 0 ? &*people_[which - 1] : nullptr;
  one.set_identity(which != 0 ? people_[which - 1] : nullptr);
}

// A free work with everything about it chosen anew.
inline storm::item& storm::prepare(lane& mine) {
  storm_dice& dice = mine.dice;
  item& one = mine.take();
  ++one.serial;
  one.before = nullptr;
  one.keyed = nullptr;
  one.place = 0;
  one.ends_chain = true;
  one.fails = false;
  one.again = dice.one_in(16) ? 2 : 0;
  one.does = dice.one_in(128) ? act::blocks_in_region : dice.one_in(2048) ? act::blocks_silently : act::nothing;
  one.then(nullptr);
  one.clear_key();
  one.set_class(dice.one_in(2) ? sluice::work_class::bound : sluice::work_class::unbound);
  one.set_flags(dice.one_in(16)   ? sluice::work_flags::no_cancel
                : dice.one_in(64) ? sluice::work_flags::concurrent
                                  : sluice::work_flags::none);
  one.set_owner(1 + dice.below(owners));
  one.set_deadline(sluice::no_deadline);
  if (dice.one_in(32) && !has(one.flags(), sluice::work_flags::no_cancel)) {
    one.set_deadline(std::chrono::steady_clock::now() + std::chrono::microseconds(dice.below(2000)));
  }
  if (options_.identities) {
    give_identity(mine, one);
  }
  one.goes_to(phase::submitted);
  return one;
}

// Tallies before the submit, since the works may be over after it, and takes back what was refused.
inline void storm::refused(lane& mine, std::span<sluice::work* const> works, std::error_code why) {
  mine.shut = why.value() == ESHUTDOWN && options_.ends == sluice::stop_policy::cancel_queued;
  check(why.value() == EAGAIN || mine.shut, "W6: refused for no known reason");
  for (sluice::work* const each : works) {
    auto& one = static_cast<item&>(*each);
    check(one.is(phase::submitted), "W6: a refused work was run");
    if (options_.identities) {
      one.set_identity(nullptr);
    }
    accepted_of_[std::to_underlying(one.cls())].fetch_sub(1, std::memory_order_relaxed);
    mine.put_free(one);
  }
  accepted_.fetch_sub(works.size(), std::memory_order_relaxed);
  mine.refused_works += works.size();
}

inline void storm::submit_single(lane& mine) {
  item& one = prepare(mine);
  if (mine.dice.below(8) < 5) {
    give_key(mine, one);
  }
  sluice::work* const all[] = {&one};
  accepted_.fetch_add(1, std::memory_order_relaxed);
  accepted_of_[std::to_underlying(one.cls())].fetch_add(1, std::memory_order_relaxed);
  if (mine.dice.one_in(4)) {
    one.again = 0;  // so that a cancelled one stays where the canceller can look at it
    const bool may_cancel = !has(one.flags(), sluice::work_flags::no_cancel);
    if (const auto handle = wq_->submit_tracked(one); handle) {
      remember(mine, {*handle, &one, one.serial, may_cancel});
      return;
    } else {
      refused(mine, all, handle.error());
    }
  } else if (const auto how = wq_->submit(one); how) {
    return;
  } else {
    refused(mine, all, how.error());
  }
  ++mine.refused_calls;
  mine.wait_for_room();
}

inline void storm::submit_batch(lane& mine) {
  std::array<sluice::work*, batch> all{};
  for (sluice::work*& each : all) {
    item& one = prepare(mine);
    if (mine.dice.one_in(2)) {
      give_key(mine, one);
    }
    each = &one;
    accepted_of_[std::to_underlying(one.cls())].fetch_add(1, std::memory_order_relaxed);
  }
  accepted_.fetch_add(all.size(), std::memory_order_relaxed);
  const auto how = wq_->submit(std::span<sluice::work* const>(all));
  const std::size_t count = how.value_or(0);
  check(!how || count > 0, "W6: a batch was neither accepted nor refused");
  if (count < all.size()) {
    refused(mine, std::span(all).subspan(count), how ? sluice::error_of(EAGAIN) : how.error());
    mine.refused_calls += how ? 0U : 1U;
    mine.wait_for_room();
  }
}

inline void storm::remember(lane& mine, const tracked& one) noexcept {
  mine.handles[mine.handle_count++ % mine.handles.size()] = one;
}

// before: null for the head.
inline storm::item& storm::next_of_chain(lane& mine, item* before) {
  item& one = prepare(mine);
  one.again = 0;
  if (!options_.whole_chains) {
    one.set_flags(sluice::work_flags::none);
  }
  one.fails = mine.dice.one_in(8);
  if (before == nullptr) {
    give_key(mine, one);
  } else {
    if (!options_.whole_chains) {
      one.set_deadline(sluice::no_deadline);
    }
    give_member_key(mine, one);
    before->ends_chain = false;
    before->then(&one);
  }
  one.before = before;
  return one;
}

inline void storm::submit_chain(lane& mine) {
  std::array<sluice::work*, 4> all{};
  const std::span<sluice::work*> chain = std::span(all).first(2 + mine.dice.below(3));
  item* last = nullptr;
  bool may_cancel = true;
  for (sluice::work*& each : chain) {
    last = &next_of_chain(mine, last);
    each = last;
    may_cancel = may_cancel && !has(last->flags(), sluice::work_flags::no_cancel);
    accepted_of_[std::to_underlying(last->cls())].fetch_add(1, std::memory_order_relaxed);
  }
  accepted_.fetch_add(chain.size(), std::memory_order_relaxed);
  std::error_code why;
  if (options_.whole_chains && mine.dice.one_in(2)) {
    const auto handle = wq_->submit_tracked(*chain.front());
    if (handle) {
      remember(mine, {*handle, last, last->serial, may_cancel});
      return;
    }
    why = handle.error();
  } else if (const auto how = wq_->submit_chain(chain); how) {
    return;
  } else {
    why = how.error();
  }
  refused(mine, chain, why);
  ++mine.refused_calls;
  mine.wait_for_room();
}

// C1: after "cancelled" the work is over, and so is the rest of its chain. C3: after "not found" its run is, and that of the
// last of its chain. Only its submitter uses it again, and that is this thread.
inline void storm::cancel_a_handle(lane& mine) {
  if (mine.handle_count == 0) {
    return;
  }
  const std::size_t known = std::min(mine.handle_count, mine.handles.size());
  const tracked& one = mine.handles[mine.dice.below(known)];
  const bool used_again = one.target->serial != one.serial;
  const sluice::cancel_result said = wq_->cancel(one.handle);
  if (said == sluice::cancel_result::cancelled) {
    ++mine.cancels;
    check(!used_again, "C1: a cancel found a work of another submit");
    check(!one.may_cancel || one.target->is(phase::released), "C1: cancelled, and not over");
  } else if (said == sluice::cancel_result::not_found && one.may_cancel && !used_again) {
    check(!one.target->is(phase::submitted), "C3: not found, and its run was not over");
  }
}

inline void storm::look_at_stats() {
  const sluice::wq_stats now = wq_->stats();
  for (const sluice::class_stats& one : {now.bound, now.unbound}) {
    check(one.running <= one.workers, "P2: more run than there are");
    check(one.workers <= options_.max_workers, "P1: more workers than the highest limit");
    check(one.max_workers >= 1 && one.max_workers <= options_.max_workers, "P1: a limit that nobody set");
  }
}

inline void storm::meddle(lane& mine) {
  storm_dice& dice = mine.dice;
  if (dice.one_in(16)) {
    cancel_a_handle(mine);
  }
  if (dice.one_in(512)) {
    const auto cls = dice.one_in(2) ? sluice::work_class::bound : sluice::work_class::unbound;
    const unsigned before = wq_->set_max_workers(cls, 1 + static_cast<unsigned>(dice.below(options_.max_workers)));
    check(before >= 1 && before <= options_.max_workers, "P1: a limit that nobody set");
  }
  if (dice.one_in(1024)) {
    look_at_stats();
  }
  if (dice.one_in(4096)) {
    wq_->cancel_owner(1 + dice.below(owners));
  }
  if (dice.one_in(8192)) {
    const std::uint64_t rest = dice.below(32);
    const auto some = wq_->cancel_if([rest](const sluice::work_view& v) { return v.key % 32 == rest; });
    check(some.has_value(), "C6: a cancel by predicate failed");
  }
}

// In a storm that ends in a stop that cancels, the first submitter stops the pool, and the others go on until they hear of it.
inline bool storm::goes_on(const lane& mine) const noexcept {
  if (options_.ends == sluice::stop_policy::cancel_queued && &mine != lanes_.front().get()) {
    return !mine.shut;
  }
  return accepted_.load(std::memory_order_relaxed) < options_.works && std::chrono::steady_clock::now() < end_;
}

inline void storm::submit_all(lane& mine) {
  submits_ = true;
  while (goes_on(mine)) {
    mine.need(batch);
    switch (mine.dice.below(8)) {
      case 0:
        submit_batch(mine);
        break;
      case 1:
        submit_chain(mine);
        break;
      default:
        submit_single(mine);
    }
    meddle(mine);
  }
  if (options_.ends == sluice::stop_policy::cancel_queued && &mine == lanes_.front().get()) {
    check(wq_->stop(options_.ends).finished, "X1: the stop did not finish");
  }
}

inline void storm::verify(storm_report& report) {
  std::uint64_t refused_calls = 0;
  std::uint64_t refused_again = refused_again_.load(std::memory_order_relaxed);
  for (const auto& one : lanes_) {
    refused_calls += one->refused_calls;
    report.refused += one->refused_works;
    report.cancels += one->cancels;
    one->collect();
    check(one->free_count == options_.store, "W1: a work did not come back");
  }
  report.accepted = accepted_.load(std::memory_order_relaxed);
  report.ran = ran_.load(std::memory_order_relaxed);
  report.gave_up = gave_up_.load(std::memory_order_relaxed);
  report.not_started = threads_.failed();
  report.stats = wq_->stats();
  check(report.accepted == report.ran + report.gave_up, "W1: accepted is not run + cancelled");
  std::uint64_t refused_total = 0;
  std::uint64_t cancelled_total = 0;
  for (const auto cls : {sluice::work_class::bound, sluice::work_class::unbound}) {
    const sluice::class_stats& one = report.stats.of(cls);
    const std::uint64_t accepted = accepted_of_[std::to_underlying(cls)].load(std::memory_order_relaxed);
    const std::uint64_t released = released_of_[std::to_underlying(cls)].load(std::memory_order_relaxed);
    check(one.accepted == accepted, "W7: the count of accepted works is wrong");
    check(one.released == released && accepted == released, "W7: the count of released works is wrong");
    check(one.queued + one.waiting_on_key == 0, "W7: works are left in a queue");
    check(one.workers + one.running + one.blocked + one.idle == 0, "P9: workers are left");
    check(one.workers_created >= one.workers_died, "P9: more workers died than lived");
    refused_total += one.refused;
    cancelled_total += one.cancelled;
  }
  // How a refused batch counts, once or by its works, is the wq's business.
  check(refused_total >= refused_calls + refused_again && refused_total <= report.refused + refused_again,
        "W6: the count of refused works is wrong");
  // A work that is asked to stop between its dequeue and its run sees a cancelled run too.
  check(cancelled_total <= report.gave_up && cancelled_total >= report.cancels,
        "W7: the count of cancelled works is wrong");
  check(domain_->live_keys() == 0, "H4: keys live on without works");
}

// Returns false if something cannot be made.
inline bool storm::begin() {
  constexpr unsigned people = 8;
  for (unsigned i = 0; options_.identities && i < people; ++i) {
    auto made = sluice::identity_builder().set_audit("storm " + std::to_string(i)).build();
    if (!made) {
      return false;
    }
    people_.push_back(std::move(*made));
  }
  auto domain = sluice::hash_domain::create();
  auto wq = sluice::io_wq::create({.max_bound = options_.max_workers,
                                   .max_unbound = options_.max_workers,
                                   .idle_timeout = std::chrono::milliseconds(1),
                                   .name = "storm",
                                   .queue_limit = options_.queue_limit,
                                   .threads = &threads_});
  if (!domain || !wq) {
    return false;
  }
  domain_ = std::move(*domain);
  wq_ = std::move(*wq);
  return true;
}

inline storm_report storm::run() {
  storm_report report;
  if (!begin()) {
    report.faults.emplace_back("the storm could not begin");
    return report;
  }
  threads_.arm();
  end_ = std::chrono::steady_clock::now() + options_.cap;
  for (std::uint64_t i = 0; i < options_.submitters; ++i) {
    lanes_.push_back(std::make_unique<lane>(*this, i));
  }
  {
    std::vector<std::jthread> crowd;
    for (const auto& one : lanes_) {
      crowd.emplace_back([this, &one] { submit_all(*one); });
    }
  }
  check(wq_->stop(options_.ends).finished, "X1: the stop did not finish");
  verify(report);
  wq_.reset();
  domain_.reset();
  for (const auto& each : people_) {
    check(each->use_count() == 1, "I4: an identity is held though its works are over");
  }
  const sluice::mutex_lock held(fault_lock_);
  report.faults.assign(faults_.begin(), faults_.end());
  return report;
}

}  // namespace test
