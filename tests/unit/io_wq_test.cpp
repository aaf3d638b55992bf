// Goal: an io_wq runs what it accepts, in order, under its limits, through blocked workers, cancels, stops and faults.
// Method: works that wait on latches which the test opens, so that each state is reached for certain; no sleeping.
#include "sluice/wq/io_wq.h"

#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <latch>
#include <semaphore>

#include <gtest/gtest.h>

#include "sluice/base/unique_fd.h"
#include "sluice/wq/blocking_region.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/wq_timer.h"

#include "support/proc_threads.h"
#include "support/wq_probe.h"

namespace sluice {
namespace io_wq_test {
namespace {

using namespace std::chrono_literals;
using test::failing_threads;
using test::held_worker;
using test::make_wq;
using test::probe;

// W1 W7: run once, release once, and the counters agree at the end.
TEST(IoWq, WithoutOptionsItHasFourBoundWorkersForEachCpu) {
  cpu_set_t mine;
  CPU_ZERO(&mine);
  ASSERT_EQ(::sched_getaffinity(0, sizeof mine, &mine), 0);
  const auto wq = io_wq::create({}).value();
  EXPECT_EQ(wq->max_workers(work_class::bound), 4U * static_cast<unsigned>(CPU_COUNT(&mine)));
  EXPECT_EQ(wq->max_workers(work_class::unbound), 512U);
}

TEST(IoWq, RunsThenReleasesOnce) {
  const auto wq = make_wq();
  std::vector<std::unique_ptr<probe>> all;
  for (int i = 0; i < 100; ++i) {
    all.push_back(std::make_unique<probe>(nullptr, i % 2 == 0 ? work_class::bound : work_class::unbound));
    ASSERT_TRUE(wq->submit(*all.back()));
  }
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  for (const auto& one : all) {
    EXPECT_EQ(one->runs(), 1);
    EXPECT_EQ(one->releases(), 1);
  }
  const wq_stats stats = wq->stats();
  EXPECT_EQ(stats.bound.accepted, 50U);
  EXPECT_EQ(stats.bound.released, 50U);
  EXPECT_EQ(stats.unbound.accepted, 50U);
  EXPECT_EQ(stats.unbound.released, 50U);
  EXPECT_EQ(stats.bound.queued + stats.bound.running + stats.bound.workers, 0U);
}

// W2: a release may submit the very same work again.
TEST(IoWq, ReleaseMaySubmitAgain) {
  const auto wq = make_wq();
  std::latch done(1);
  int rounds = 0;
  probe again;
  again.on_release([&] {
    if (++rounds < 100) {
      EXPECT_TRUE(wq->submit(again));
    } else {
      done.count_down();
    }
  });
  ASSERT_TRUE(wq->submit(again));
  done.wait();
  wq->stop(stop_policy::run_queued);
  EXPECT_EQ(again.runs(), 100);
}

TEST(IoWq, UnhashedWorksStartInSubmitOrder) {
  const auto wq = make_wq({.max_bound = 1});
  std::vector<int> order;
  std::vector<std::unique_ptr<probe>> all;
  for (int i = 0; i < 64; ++i) {
    all.push_back(std::make_unique<probe>([&order, i](work_context&) { order.push_back(i); }));
    ASSERT_TRUE(wq->submit(*all.back()));
  }
  wq->stop(stop_policy::run_queued);
  ASSERT_EQ(order.size(), 64U);
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

// Says whether it had a key when it ran. Light, so that a worker takes full batches of these.
struct key_asked : work {
  key_asked() : work(ops) {}
  static void do_run(work& w, work_context& /*ctx*/) noexcept {
    auto& self = static_cast<key_asked&>(w);
    self.asked = true;
    self.had_one = self.keyed();
  }
  static void do_release(work& /*w*/) noexcept {}
  static constexpr work_ops ops{do_run, do_release};

  bool asked = false;
  bool had_one = false;
};

// What the wq notes in works that wait is gone when they run, and when they are taken back.
TEST(IoWq, AWorkWithoutAKeyHasNoneWhenItRuns) {
  constexpr std::size_t half = 4000;
  const auto wq = make_wq({.max_bound = 1});
  std::latch go(1);
  probe first([&](work_context&) { go.wait(); });
  ASSERT_TRUE(wq->submit(first));
  std::vector<key_asked> all(2 * half);
  for (const std::size_t i : {127U, 128U, 129U}) {  // one of them is the first of a batch
    all[i].set_owner(1);
  }
  for (std::size_t i = 0; i < half; ++i) {
    ASSERT_TRUE(wq->submit(all[i]));
  }
  EXPECT_EQ(wq->cancel_owner(1).cancelled, 3U);  // those that are here are looked at when they are taken
  for (const std::size_t i : {127U, 128U, 129U}) {
    EXPECT_TRUE(all[i].asked);
    EXPECT_FALSE(all[i].keyed());
  }
  for (std::size_t i = half; i < all.size(); ++i) {
    ASSERT_TRUE(wq->submit(all[i]));
  }
  go.count_down();
  wq->stop(stop_policy::run_queued);
  EXPECT_TRUE(std::ranges::all_of(all, &key_asked::asked));
  EXPECT_TRUE(std::ranges::none_of(all, &key_asked::had_one));
}

// H1 H2 H3 H5 H6: one run of a key at a time, in order; strangers pass; a stall is seen and ends.
TEST(IoWq, KeyedWorksAreExclusiveOrderedAndStrangersPass) {
  const auto wq = make_wq({.max_bound = 3});
  const auto domain = *hash_domain::create();
  std::latch started(1);
  std::latch go(1);
  probe first([&](work_context&) {
    started.count_down();
    const blocking_region region;
    go.wait();
  });
  first.set_key(*domain, 7);
  ASSERT_TRUE(wq->submit(first));
  started.wait();
  EXPECT_TRUE(domain->busy(7));
  std::vector<int> order;
  std::vector<std::unique_ptr<probe>> later;
  for (int i = 0; i < 10; ++i) {
    later.push_back(std::make_unique<probe>([&order, i](work_context&) { order.push_back(i); }));
    later.back()->set_key(*domain, 7);
    ASSERT_TRUE(wq->submit(*later.back()));
  }
  EXPECT_TRUE(wq->stats().bound.stalled());
  EXPECT_EQ(wq->stats().bound.waiting_on_key, 10U);
  EXPECT_EQ(wq->stats().bound.workers, 1U) << "no worker is started for works that could only stall";
  probe stranger;
  stranger.set_key(*domain, 8);
  probe unhashed;
  ASSERT_TRUE(wq->submit(stranger));
  ASSERT_TRUE(wq->submit(unhashed));
  stranger.wait_released();
  unhashed.wait_released();
  EXPECT_TRUE(order.empty());
  go.count_down();
  wq->stop(stop_policy::run_queued);
  ASSERT_EQ(order.size(), 10U);
  EXPECT_TRUE(std::ranges::is_sorted(order));
  EXPECT_EQ(domain->live_keys(), 0U);
}

// H1: also between two wqs that share the domain.
TEST(IoWq, SharedDomainOrdersAcrossWqs) {
  const auto one = make_wq();
  const auto two = make_wq();
  const auto domain = *hash_domain::create();
  std::atomic<int> inside{0};
  int order = 0;
  std::vector<std::unique_ptr<probe>> all;
  for (int i = 0; i < 200; ++i) {
    all.push_back(std::make_unique<probe>([&, i](work_context&) {
      EXPECT_EQ(inside.fetch_add(1, std::memory_order_seq_cst), 0);
      EXPECT_EQ(order++, i);
      inside.fetch_sub(1, std::memory_order_seq_cst);
    }));
    all.back()->set_key(*domain, 1);
    ASSERT_TRUE((i % 2 == 0 ? one : two)->submit(*all.back()));
  }
  one->stop(stop_policy::run_queued);
  two->stop(stop_policy::run_queued);
  EXPECT_EQ(order, 200);
}

// P5 P6 P8: blocked workers are replaced below the limit, and one class never holds up the other; the sampler is not
// needed.
TEST(IoWq, BlockedWorkersAreReplaced) {
  test::clock_without_sampler clock;
  const auto wq =
      make_wq({.max_bound = 4, .max_unbound = 2, .idle_timeout = std::chrono::milliseconds::max(), .clock = &clock});
  test::use_up_sampler(*wq);
  std::latch go(1);
  std::vector<std::unique_ptr<probe>> blocked;
  for (int i = 0; i < 5; ++i) {
    blocked.push_back(std::make_unique<probe>(
        [&](work_context&) {
          const blocking_region region;
          go.wait();
        },
        i < 3 ? work_class::bound : work_class::unbound));
    ASSERT_TRUE(wq->submit(*blocked.back()));
  }
  probe next;
  ASSERT_TRUE(wq->submit(next));
  next.wait_released();
  const wq_stats stats = wq->stats();
  EXPECT_LE(stats.bound.workers, 4U);
  EXPECT_LE(stats.unbound.workers, 2U);
  EXPECT_LE(stats.bound.running, stats.bound.workers);
  EXPECT_EQ(stats.bound.found_blocked + stats.unbound.found_blocked, 0U);
  go.count_down();
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
}

// P5: one that blocks without saying so is found.
TEST(IoWq, SilentlyBlockedWorkerIsFound) {
  const auto wq = make_wq({.max_bound = 2});
  std::latch go(1);
  std::atomic<pid_t> thread{0};
  probe blocker([&](work_context&) {
    thread.store(::gettid(), std::memory_order_release);
    go.wait();
  });
  probe next;
  ASSERT_TRUE(wq->submit(blocker));
  // Asleep before others wait: else they may have waited long enough for one worker more before it is.
  ASSERT_TRUE(test::comes_true([&] {
    const pid_t id = thread.load(std::memory_order_acquire);
    return id != 0 && thread_seam::real().sleeps(id);
  }));
  ASSERT_TRUE(wq->submit(next));
  next.wait_released();
  EXPECT_GE(wq->stats().bound.found_blocked, 1U);
  go.count_down();
  blocker.wait_released();
}

// W4: release(head) comes before run(linked), on the same worker.
TEST(IoWq, ChainRunsInOrderOnOneWorker) {
  const auto wq = make_wq();
  std::vector<std::string> events;
  probe a([&](work_context&) { events.push_back("run a"); });
  a.on_release([&] { events.push_back("release a"); });
  probe b([&](work_context&) { events.push_back("run b"); });
  b.on_release([&] { events.push_back("release b"); });
  const std::array<work*, 2> chain{&a, &b};
  ASSERT_TRUE(wq->submit_chain(chain));
  wq->stop(stop_policy::run_queued);
  EXPECT_EQ(events, (std::vector<std::string>{"run a", "release a", "run b", "release b"}));
  EXPECT_EQ(a.ran_on(), b.ran_on());
}

// W4 W5: a failed head cancels its chain.
TEST(IoWq, FailedHeadCancelsTheChain) {
  const auto wq = make_wq();
  probe a([](work_context& ctx) { ctx.fail(); });
  probe b;
  probe c;
  const std::array<work*, 3> chain{&a, &b, &c};
  ASSERT_TRUE(wq->submit_chain(chain));
  wq->stop(stop_policy::run_queued);
  EXPECT_FALSE(a.was_cancelled());
  EXPECT_TRUE(b.was_cancelled());
  EXPECT_TRUE(c.was_cancelled());
  EXPECT_EQ(c.releases(), 1);
}

// C1 C3 W5: a pending head is over, with its chain, when cancel returns; a handle is never found twice.
TEST(IoWq, CancelPendingEndsTheChainBeforeItReturns) {
  const auto wq = make_wq({.max_bound = 1});
  std::latch go(1);
  probe blocker([&](work_context&) {
    const blocking_region region;
    go.wait();
  });
  ASSERT_TRUE(wq->submit(blocker));
  probe a;
  probe b;
  a.then(&b);
  const auto handle = wq->submit_tracked(a);
  ASSERT_TRUE(handle);
  EXPECT_EQ(wq->cancel(*handle), cancel_result::cancelled);
  EXPECT_TRUE(a.was_cancelled());
  EXPECT_TRUE(b.was_cancelled());
  EXPECT_EQ(a.releases() + b.releases(), 2);
  EXPECT_EQ(wq->cancel(*handle), cancel_result::not_found);
  go.count_down();
  wq->stop(stop_policy::run_queued);
  EXPECT_EQ(wq->stats().bound.accepted, wq->stats().bound.released);
}

// C2 C5 C8: a running one is interrupted in its system call and completes once; the next work sees nothing of it.
TEST(IoWq, CancelRunningInterruptsTheSystemCall) {
  const auto wq = make_wq({.max_unbound = 1});
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const unique_fd reader(ends[0]);
  const unique_fd writer(ends[1]);
  std::latch started(1);
  int saw = 0;
  probe victim(
      [&](work_context& ctx) {
        started.count_down();
        char byte = 0;
        while (!ctx.cancelled()) {
          const blocking_region region;
          if (::read(reader.get(), &byte, 1) < 0) {
            saw = errno;
          }
        }
        EXPECT_TRUE(ctx.stop_token().stop_requested());
      },
      work_class::unbound);
  int stray = 0;
  probe next(
      [&](work_context& ctx) {
        char byte = 0;
        stray = ::read(reader.get(), &byte, 1) == 1 ? 0 : errno;
        EXPECT_FALSE(ctx.cancelled());
      },
      work_class::unbound);
  const auto handle = wq->submit_tracked(victim);
  ASSERT_TRUE(handle);
  ASSERT_TRUE(wq->submit(next));
  started.wait();
  EXPECT_EQ(wq->cancel(*handle), cancel_result::running);
  victim.wait_released();
  EXPECT_EQ(saw == 0 || saw == EINTR, true);
  EXPECT_EQ(victim.runs(), 1);
  ASSERT_EQ(::write(writer.get(), "x", 1), 1);
  next.wait_released();
  EXPECT_EQ(stray, 0);
}

// C4: no_cancel work is neither found, interrupted nor run by the canceller.
TEST(IoWq, NoCancelWorkIsLeftAlone) {
  const auto wq = make_wq({.max_bound = 1});
  std::latch go(1);
  probe blocker(
      [&](work_context& ctx) {
        go.wait();
        EXPECT_FALSE(ctx.cancelled());
      },
      work_class::bound, work_flags::no_cancel);
  probe pending(nullptr, work_class::bound, work_flags::no_cancel);
  ASSERT_TRUE(wq->submit(blocker));
  ASSERT_TRUE(wq->submit(pending));
  const cancel_counts counts = wq->cancel_all();
  EXPECT_EQ(counts.cancelled + counts.running, 0U);
  go.count_down();
  wq->stop(stop_policy::cancel_queued);
  EXPECT_FALSE(pending.was_cancelled());
  EXPECT_NE(pending.ran_on(), std::this_thread::get_id());
}

// C6: by owner and by predicate, each match once; waiting keyed works are found; order of the rest survives (H2 H4).
TEST(IoWq, CancelByOwnerFindsQueuedAndWaitingWorks) {
  const auto wq = make_wq({.max_bound = 1});
  const auto domain = *hash_domain::create();
  std::latch go(1);
  std::latch started(1);
  probe blocker([&](work_context&) {
    started.count_down();
    const blocking_region region;
    go.wait();
  });
  blocker.set_key(*domain, 1);
  ASSERT_TRUE(wq->submit(blocker));
  started.wait();
  std::vector<int> order;
  std::vector<std::unique_ptr<probe>> all;
  for (int i = 0; i < 20; ++i) {
    all.push_back(std::make_unique<probe>([&order, i](work_context&) { order.push_back(i); }));
    all.back()->set_owner(static_cast<std::uint64_t>(i % 2 + 1));
    all.back()->set_key(*domain, i < 10 ? 1 : 2);
    ASSERT_TRUE(wq->submit(*all.back()));
  }
  EXPECT_EQ(wq->cancel_owner(2).cancelled, 10U);
  EXPECT_EQ(wq->cancel_owner(2).cancelled, 0U);
  const auto some = wq->cancel_if([&](const work_view& v) { return v.address == all[0].get(); });
  ASSERT_TRUE(some);
  EXPECT_EQ(some->cancelled, 1U);
  go.count_down();
  wq->stop(stop_policy::run_queued);
  std::vector<int> low;
  std::vector<int> high;
  for (const int i : order) {
    (i < 10 ? low : high).push_back(i);
  }
  EXPECT_EQ(low, (std::vector<int>{2, 4, 6, 8}));
  EXPECT_EQ(high, (std::vector<int>{10, 12, 14, 16, 18}));
}

TEST(IoWq, DeadlineCancelsAPendingWork) {
  const auto wq = make_wq({.max_bound = 1});
  std::latch go(1);
  probe blocker([&](work_context&) {
    const blocking_region region;
    go.wait();
  });
  probe late;
  late.set_deadline(std::chrono::steady_clock::now() + 1ms);
  ASSERT_TRUE(wq->submit(blocker));
  ASSERT_TRUE(wq->submit(late));
  late.wait_released();
  EXPECT_TRUE(late.was_cancelled());
  go.count_down();
  wq->stop(stop_policy::run_queued);
}

// W6 X3: refused works stay untouched: full queue, then after stop.
TEST(IoWq, RefusedWorkIsUntouched) {
  const auto wq = make_wq({.max_bound = 1, .queue_limit = 2});
  held_worker blocker(*wq);
  probe a;
  probe b;
  probe c;
  const std::array<work*, 3> three{&a, &b, &c};
  const auto accepted = wq->submit(std::span<work* const>(three));
  ASSERT_TRUE(accepted);
  EXPECT_EQ(*accepted, 2U);
  EXPECT_EQ(wq->submit(c).error().value(), EAGAIN);
  blocker.unblock();
  wq->stop(stop_policy::run_queued);
  EXPECT_EQ(wq->submit(c).error().value(), ESHUTDOWN);
  EXPECT_EQ(c.runs() + c.releases(), 0);
}

TEST(IoWq, FullQueueMayWaitButNotAWorkerForItself) {
  const auto wq = make_wq({.max_bound = 1, .queue_limit = 1, .full = when_full::wait, .full_wait = 60'000ms});
  std::latch go(1);
  std::latch started(1);
  probe extra;
  int said = 0;
  probe blocker([&](work_context&) {
    started.count_down();
    {
      const blocking_region region;
      go.wait();
    }
    said = wq->submit(extra).error().value();
  });
  ASSERT_TRUE(wq->submit(blocker));
  started.wait();
  probe queued;
  ASSERT_TRUE(wq->submit(queued));
  probe waits;
  std::thread submitter([&] { EXPECT_TRUE(wq->submit(waits)); });
  go.count_down();
  submitter.join();
  wq->stop(stop_policy::run_queued);
  EXPECT_TRUE(said == EDEADLK);
  EXPECT_EQ(waits.runs(), 1);
}

// X1 X6: a stop with a deadline reports what still runs; a later one finishes.
TEST(IoWq, StopReportsWhatStillRuns) {
  const auto wq = make_wq({.max_bound = 1});
  std::latch go(1);
  std::latch started(1);
  probe blocker([&](work_context&) {
    started.count_down();
    go.wait();
  });
  blocker.set_owner(42);
  probe queued;
  ASSERT_TRUE(wq->submit(blocker));
  started.wait();
  ASSERT_TRUE(wq->submit(queued));
  const stop_report first = wq->stop(stop_policy::cancel_queued, std::chrono::steady_clock::now());
  EXPECT_FALSE(first.finished);
  EXPECT_EQ(first.cancelled, 1U);
  ASSERT_EQ(first.still_running.size(), 1U);
  EXPECT_EQ(first.still_running[0].what.owner, 42U);
  go.count_down();
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
}

// X5: a worker cannot stop its own wq.
TEST(IoWq, StopFromAWorkerIsAnError) {
  const auto wq = make_wq();
  int said = 0;
  probe bad([&](work_context&) { said = wq->stop(stop_policy::run_queued).error.value(); });
  ASSERT_TRUE(wq->submit(bad));
  bad.wait_released();
  EXPECT_EQ(said, EDEADLK);
}

// Waits until the pool has ended: its last thread is joined by then.
void await_end_of(std::string_view name) {
  while (test::threads_named(name) != 0) {
    std::this_thread::yield();
  }
}

// X5: the last count put on a worker, in a cancelled run, in a release on the canceller's thread or in a timer
// function ends the pool on another thread.
TEST(IoWq, TheLastCountMayBePutInACallback) {
  {
    auto wq = make_wq({.name = "lastrun"});
    auto* const held = new ref<io_wq>(std::move(wq));
    ASSERT_TRUE((*held)->submit([held] { delete held; }));
    await_end_of("lastrun");
  }
  for (const bool in_release : {false, true}) {
    auto wq = make_wq({.max_bound = 1, .name = "lastcan"});
    io_wq& pool = *wq;
    std::latch started(1);
    probe runs([&](work_context& ctx) {
      started.count_down();
      while (!ctx.cancelled()) {
        std::this_thread::yield();
      }
    });
    ASSERT_TRUE(pool.submit(runs));
    started.wait();
    probe pending;
    test::probe* const last = &pending;
    if (in_release) {
      last->on_release([&] { wq.reset(); });
    } else {
      last->on_cancelled_run([&] { wq.reset(); });
    }
    const auto handle = pool.submit_tracked(pending);
    ASSERT_TRUE(handle);
    EXPECT_EQ(pool.cancel(*handle), cancel_result::cancelled);
    EXPECT_FALSE(wq);
    await_end_of("lastcan");
  }
  {
    struct last_timer : wq_timer {
      explicit last_timer(ref<io_wq>* held) : wq_timer(**held, fire), owner(held) {}
      static void fire(wq_timer& timer) noexcept {
        ref<io_wq>* const owner = static_cast<last_timer&>(timer).owner;
        delete &static_cast<last_timer&>(timer);
        delete owner;
      }
      ref<io_wq>* owner;
    };
    auto* const timer = new last_timer(new ref<io_wq>(make_wq({.name = "lasttim"})));
    timer->arm(std::chrono::steady_clock::now());
    await_end_of("lasttim");
  }
}

// X5: stop in a cancelled run, in a release, in a stop callback or in a timer function is refused.
TEST(IoWq, StopInACallbackIsAnError) {
  const auto wq = make_wq({.max_bound = 1});
  held_worker blocker(*wq);
  std::vector<int> said;
  const auto stop = [&] { said.push_back(wq->stop(stop_policy::cancel_queued).error.value()); };
  probe pending;
  pending.on_cancelled_run(stop);
  pending.on_release(stop);
  const auto handle = wq->submit_tracked(pending);
  ASSERT_TRUE(handle);
  EXPECT_EQ(wq->cancel(*handle), cancel_result::cancelled);
  EXPECT_EQ(said, (std::vector<int>{EDEADLK, EDEADLK}));
  blocker.unblock();
  blocker.wait_released();

  said.clear();
  std::latch ready(1);
  std::latch seen(1);
  probe listens([&](work_context& ctx) {
    const std::stop_callback heard(ctx.stop_token(), [&] {
      stop();
      seen.count_down();
    });
    ready.count_down();
    seen.wait();
  });
  const auto running = wq->submit_tracked(listens);
  ASSERT_TRUE(running);
  ready.wait();
  EXPECT_EQ(wq->cancel(*running), cancel_result::running);
  listens.wait_released();
  EXPECT_EQ(said, (std::vector<int>{EDEADLK}));

  struct stopping_timer : wq_timer {
    stopping_timer(io_wq& pool, std::function<void()> what) : wq_timer(pool, fire), act(std::move(what)) {}
    static void fire(wq_timer& timer) noexcept { static_cast<stopping_timer&>(timer).act(); }
    std::function<void()> act;
  };
  said.clear();
  std::latch fired(1);
  stopping_timer timer(*wq, [&] {
    stop();
    fired.count_down();
  });
  timer.arm(std::chrono::steady_clock::now());
  fired.wait();
  timer.disarm_and_wait();
  EXPECT_EQ(said, (std::vector<int>{EDEADLK}));
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
}

// A timer function does not wait for room: it would hold up the manager.
TEST(IoWq, ATimerFunctionDoesNotWaitForRoom) {
  const auto wq = make_wq({.max_bound = 1, .queue_limit = 1, .full = when_full::wait, .full_wait = 60'000ms});
  held_worker blocker(*wq);
  probe queued;
  ASSERT_TRUE(wq->submit(queued));
  struct submitting_timer : wq_timer {
    explicit submitting_timer(io_wq& pool) : wq_timer(pool, fire), wq(pool) {}
    static void fire(wq_timer& timer) noexcept {
      auto& self = static_cast<submitting_timer&>(timer);
      const result<void> accepted = self.wq.submit(self.extra);
      self.said = accepted ? 0 : accepted.error().value();
      self.fired.count_down();
    }
    io_wq& wq;
    probe extra;
    int said = -1;
    std::latch fired{1};
  } timer(*wq);
  timer.arm(std::chrono::steady_clock::now());
  timer.fired.wait();
  timer.disarm_and_wait();
  EXPECT_EQ(timer.said, EDEADLK);
  EXPECT_EQ(timer.extra.runs(), 0);
  blocker.unblock();
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
}

// Times that no clock reaches, and times long past, end in a wait that is not a busy loop.
TEST(IoWq, ExtremeTimesDoNotSpin) {
  const auto wq = make_wq({.max_bound = 1, .idle_timeout = std::chrono::milliseconds::max()});
  held_worker blocker(*wq);
  EXPECT_FALSE(wq->stop(stop_policy::run_queued, steady_time::min()).finished);
  EXPECT_FALSE(wq->stop(stop_policy::run_queued, steady_time{} - std::chrono::hours(1)).finished);
  EXPECT_FALSE(wq->stop(stop_policy::run_queued, std::chrono::steady_clock::now()).finished);
  blocker.unblock();
  EXPECT_TRUE(wq->stop(stop_policy::run_queued, no_deadline - 1ns).finished);
  constexpr steady_time now{std::chrono::hours(1)};
  EXPECT_EQ(deadline_after(now, std::chrono::milliseconds::max()), no_deadline);
  EXPECT_EQ(deadline_after(now, std::chrono::hours::max()), no_deadline);
  EXPECT_EQ(deadline_after(now, std::chrono::nanoseconds::max()), no_deadline);
  EXPECT_EQ(deadline_after(now, 5ms), now + 5ms);
  EXPECT_EQ(io_wq::create({.idle_timeout = -1ms}).error().value(), EINVAL);
  EXPECT_EQ(io_wq::create({.full_wait = -1ms}).error().value(), EINVAL);
}

// A member's deadline is its own: it ends the chain from there on, and leaves nothing behind.
TEST(IoWq, DeadlinesOfChainMembersAreMet) {
  const auto wq = make_wq({.max_bound = 2});
  const auto past = std::chrono::steady_clock::now() - 1s;
  probe head;
  probe late;
  probe rest;
  late.set_deadline(past);
  const std::array<work*, 3> chain{&head, &late, &rest};
  ASSERT_TRUE(wq->submit_chain(chain));
  rest.wait_released();
  EXPECT_FALSE(head.was_cancelled());
  EXPECT_TRUE(late.was_cancelled());
  EXPECT_TRUE(rest.was_cancelled());

  // Submitted again without a deadline, it runs.
  late.wait_released();
  head.wait_released();
  probe again_head;
  probe again_rest;
  const std::array<work*, 2> same{&again_head, &again_rest};
  again_rest.set_deadline(std::chrono::steady_clock::now() + 1h);
  ASSERT_TRUE(wq->submit_chain(same));
  again_rest.wait_released();
  again_head.wait_released();
  EXPECT_FALSE(again_rest.was_cancelled());
  ASSERT_TRUE(wq->submit(again_rest));
  again_rest.wait_released();
  EXPECT_FALSE(again_rest.was_cancelled());

  // While the member runs its deadline interrupts it; the deadline of the head does not.
  probe first;
  bool stopped = false;
  probe second([&](work_context& ctx) {
    while (!ctx.cancelled()) {
      std::this_thread::yield();
    }
    stopped = true;
  });
  first.set_deadline(std::chrono::steady_clock::now() + 1h);
  second.set_deadline(std::chrono::steady_clock::now() + 20ms);
  const std::array<work*, 2> both{&first, &second};
  ASSERT_TRUE(wq->submit_chain(both));
  second.wait_released();
  EXPECT_TRUE(stopped || second.was_cancelled());  // on a loaded machine its turn may come after its deadline
  EXPECT_FALSE(first.was_cancelled());
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
}

// Counts what is sent, and delivers nothing: a thread that cannot take a signal.
struct deaf_interrupts final : interrupt_seam {
  void admit(interrupt_mark& /*mark*/) noexcept override {}
  [[nodiscard]] bool send(pthread_t /*thread*/) noexcept override {
    sent.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  void consume() noexcept override {}
  std::atomic<int> sent{0};
};

// A worker that does not take an interrupt is not sent another, however long its work runs on.
TEST(IoWq, AnInterruptThatIsNotTakenIsNotRepeated) {
  deaf_interrupts signals;
  const auto wq = make_wq({.max_bound = 1, .interrupts = &signals});
  std::latch started(1);
  std::latch go(1);
  probe stuck([&](work_context&) {
    started.count_down();
    go.wait();
  });
  const auto handle = wq->submit_tracked(stuck);
  ASSERT_TRUE(handle);
  started.wait();
  EXPECT_EQ(wq->cancel(*handle), cancel_result::running);
  EXPECT_EQ(wq->cancel(*handle), cancel_result::running);
  // A work that waits keeps the manager busy; its deadline shows that time has passed.
  probe timed;
  timed.set_deadline(std::chrono::steady_clock::now() + 100ms);
  ASSERT_TRUE(wq->submit(timed));
  timed.wait_released();
  EXPECT_EQ(signals.sent.load(std::memory_order_relaxed), 1);
  go.count_down();
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
}

// W1: an accepted work is not the submitter's, and the check says so whatever the wq has noted in it.
TEST(IoWqDeathTest, WhoeverWaitsMayNotBeSubmitted) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto submit_twice = [](bool keyed, bool several) {
    const auto wq = make_wq({.max_bound = 1});
    const auto domain = *hash_domain::create();
    std::latch started(1);
    std::latch go(1);
    probe first([&](work_context&) {
      started.count_down();
      go.wait();
    });
    std::vector<key_asked> all(1024);
    if (keyed) {
      first.set_key(*domain, 1);
      std::ranges::for_each(all, [&](key_asked& one) { one.set_key(*domain, 1); });
    }
    ASSERT_TRUE(wq->submit(first));
    started.wait();
    std::ranges::for_each(all, [&](key_asked& one) { ASSERT_TRUE(wq->submit(one)); });
    static_cast<void>(wq->cancel_owner(1));  // nobody's; all have left the inbox now
    work* const again = &all[128];           // without a key: the first of a batch
    if (several) {
      static_cast<void>(wq->submit(std::span(&again, 1)));
    } else {
      static_cast<void>(wq->submit(*again));
    }
  };
  EXPECT_DEATH(submit_twice(false, false), "submitted twice");
  EXPECT_DEATH(submit_twice(false, true), "submitted twice");
  EXPECT_DEATH(submit_twice(true, false), "submitted twice");
  EXPECT_DEATH(submit_twice(true, true), "submitted twice");
}

// P10 X4: no thread can be created: the rescuer does the work.
TEST(IoWq, RescuerRunsWhatNoWorkerCan) {
  failing_threads threads;
  const auto wq = make_wq({.threads = &threads});
  threads.allowed.store(0, std::memory_order_seq_cst);
  std::vector<std::unique_ptr<probe>> all;
  for (int i = 0; i < 10; ++i) {
    all.push_back(std::make_unique<probe>(nullptr, work_class::unbound));
    ASSERT_TRUE(wq->submit(*all.back()));
  }
  for (const auto& one : all) {
    one->wait_released();
  }
  EXPECT_GE(wq->stats().unbound.create_failures, 1U);
  wq->stop(stop_policy::run_queued);
  EXPECT_EQ(wq->stats().unbound.rescued, 10U);
}

// X4: create fails cleanly at each of its threads.
TEST(IoWq, CreateFailsCleanly) {
  for (int n = 0; n < 3; ++n) {
    failing_threads threads;
    threads.allowed.store(n, std::memory_order_seq_cst);
    const auto made = io_wq::create({.threads = &threads});
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().value(), EAGAIN);
  }
  EXPECT_EQ(io_wq::create({.name = "ninechars"}).error().value(), EINVAL);
  EXPECT_EQ(io_wq::create({.interrupt_signal = 1}).error().value(), EINVAL);
}

// P3 P9: idle workers leave after the timeout, the fixed one stays; none is left after stop.
TEST(IoWq, IdleWorkersLeave) {
  const auto wq = make_wq({.max_unbound = 2, .idle_timeout = 1ms});
  probe one(nullptr, work_class::unbound);
  ASSERT_TRUE(wq->submit(one));
  one.wait_released();
  while (wq->stats().unbound.workers != 0) {
    std::this_thread::yield();
  }
  EXPECT_EQ(wq->stats().bound.workers, 1U);
  wq->stop(stop_policy::run_queued);
  EXPECT_EQ(wq->stats().bound.workers, 0U);
}

// P1: a lowered limit is met by attrition.
TEST(IoWq, LimitsChangeAtRunTime) {
  const auto wq = make_wq({.max_bound = 3});
  std::latch inside(3);
  std::latch go(1);
  std::vector<std::unique_ptr<probe>> all;
  for (int i = 0; i < 3; ++i) {
    all.push_back(std::make_unique<probe>([&](work_context&) {
      const blocking_region region;
      inside.count_down();
      go.wait();
    }));
    ASSERT_TRUE(wq->submit(*all.back()));
  }
  inside.wait();
  EXPECT_EQ(wq->set_max_workers(work_class::bound, 1), 3U);
  EXPECT_EQ(wq->max_workers(work_class::bound), 1U);
  EXPECT_EQ(wq->stats().bound.workers, 3U);
  go.count_down();
  while (wq->stats().bound.workers > 1) {
    std::this_thread::yield();
  }
  probe after;
  ASSERT_TRUE(wq->submit(after));
  after.wait_released();
  wq->stop(stop_policy::run_queued);
}

TEST(IoWq, CallablesRunOnceAndAreDropped) {
  const auto wq = make_wq();
  std::binary_semaphore done(0);
  auto owned = std::make_unique<int>(7);
  ASSERT_TRUE(wq->submit([&done, owned = std::move(owned)] {
    EXPECT_EQ(*owned, 7);
    done.release();
  }));
  done.acquire();
  ASSERT_TRUE(wq->submit(
      [&](work_context& ctx) {
        EXPECT_FALSE(ctx.cancelled());
        done.release();
      },
      work_class::unbound));
  done.acquire();
}

struct item : work {
  item() : work(operations) {}
  static void do_run(work& w, work_context&) noexcept {
    auto& self = static_cast<item&>(w);
    EXPECT_GT(self.number, std::exchange(*self.last, self.number));
  }
  static void do_release(work&) noexcept {}
  static constexpr work_ops operations{do_run, do_release};
  int number = 0;
  int* last = nullptr;
};

// W1 H1 H2 W7: a mix from several threads; nothing is lost, doubled or reordered within a key.
TEST(IoWq, MixedLoadFromSeveralThreads) {
  constexpr int submitters = 3;
  constexpr int each = 500;
  constexpr int keys = 7;
  const auto wq = make_wq({.max_bound = 3, .max_unbound = 3});
  const auto domain = *hash_domain::create();
  std::array<std::array<int, keys>, submitters> last;
  std::vector<std::vector<item>> items;
  std::vector<std::jthread> threads;
  for (int t = 0; t < submitters; ++t) {
    last[static_cast<std::size_t>(t)].fill(-1);
    items.emplace_back(each);
  }
  for (int t = 0; t < submitters; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < each; ++i) {
        item& one = items[static_cast<std::size_t>(t)][static_cast<std::size_t>(i)];
        const int key = i % keys;
        one.number = i;
        one.last = &last[static_cast<std::size_t>(t)][static_cast<std::size_t>(key)];
        one.set_class(i % 3 == 0 ? work_class::unbound : work_class::bound);
        one.set_key(*domain, static_cast<std::uint64_t>(t) * keys + static_cast<std::uint64_t>(key));
        EXPECT_TRUE(wq->submit(one));
      }
    });
  }
  threads.clear();
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  const wq_stats stats = wq->stats();
  EXPECT_EQ(stats.bound.released + stats.unbound.released, static_cast<std::uint64_t>(submitters) * each);
  EXPECT_EQ(domain->live_keys(), 0U);
}

}  // namespace
}  // namespace io_wq_test
}  // namespace sluice
