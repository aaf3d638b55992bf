// Goal: a work runs as whom it is for, or is given up; a worker is itself again before it sleeps, or dies.
// Method: one worker, real switches as root, system calls that fail where the test says so; who a thread is, /proc tells.
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <functional>
#include <utility>

#include <gtest/gtest.h>

#include "sluice/identity/identity.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"

#include "support/identity_helpers.h"
#include "support/wq_probe.h"

namespace sluice {
namespace io_wq_identity_test {
namespace {

using test::make_wq;
using test::probe;
using mischief = test::unruly_calls::mischief;

constexpr uid_t somebody = 23456;

ref<const identity> as(uid_t uid) {
  const identity_result made = identity_builder().set_credentials({.uid = uid, .gid = uid, .groups = {}}).build();
  EXPECT_TRUE(made) << made.error().message();
  return made ? *made : identity::neutral();
}

// I1 I2, defect 12: a work without an identity runs as the process, whoever's work came before; and an idle worker is
// itself, and holds nothing.
TEST(IoWqIdentity, AWorkRunsAsWhomItIsForAndTheNextAsTheProcess) {
  SLUICE_NEEDS_ROOT();
  const auto wq = make_wq({.max_bound = 1});
  ref<const identity> who = as(somebody);
  std::string before;
  std::string after;
  uid_t worn = 0;
  pid_t worker = 0;
  probe first([&](work_context&) { before = test::own_facts(); });
  probe second([&](work_context&) {
    worn = ::geteuid();
    worker = static_cast<pid_t>(::syscall(SYS_gettid));
    EXPECT_EQ(current_identity(), who.get());
  });
  probe third([&](work_context&) { after = test::own_facts(); });
  second.set_identity(who);
  for (probe* const each : {&first, &second, &third}) {
    ASSERT_TRUE(wq->submit(*each));
  }
  third.wait_released();
  EXPECT_EQ(worn, somebody);
  EXPECT_EQ(before, after);
  probe last;
  last.set_identity(who);
  ASSERT_TRUE(wq->submit(last));
  last.wait_released();
  while (wq->stats().bound.idle != 1) {
    std::this_thread::yield();
  }
  const std::string idle = test::thread_facts("/proc/self/task/" + std::to_string(worker));
  EXPECT_TRUE(before.starts_with(idle)) << idle;
  EXPECT_EQ(who->use_count(), 1U);
}

// I3: what cannot be done as who it is for is run once, cancelled, with the rest of its chain; the worker goes on.
TEST(IoWqIdentity, ASwitchThatFailsCancelsTheWork) {
  SLUICE_NEEDS_ROOT();
  test::unruly_calls calls;
  const auto wq = make_wq({.max_bound = 1, .identities = &calls});
  const ref<const identity> who = as(somebody);
  bool after_it = false;
  probe head([&](work_context&) { after_it = true; });
  probe linked;
  probe next([&](work_context&) { EXPECT_NE(::geteuid(), somebody); });
  head.set_identity(who);
  head.then(&linked);
  calls.plan(mischief::fail_once, 0);
  ASSERT_TRUE(wq->submit(head));
  ASSERT_TRUE(wq->submit(next));
  next.wait_released();
  linked.wait_released();
  EXPECT_TRUE(head.was_cancelled() && linked.was_cancelled());
  EXPECT_FALSE(after_it);
  EXPECT_FALSE(next.was_cancelled());
  wq->stop(stop_policy::run_queued);
  EXPECT_TRUE(calls.struck());
  EXPECT_EQ(wq->stats().bound.cancelled, 2U);
  EXPECT_EQ(wq->stats().bound.accepted, wq->stats().bound.released);
}

// I6: a restore that fails: the work's result is kept, the worker dies and is replaced, and nothing runs as the wrong one.
TEST(IoWqIdentity, ARestoreThatFailsEndsTheWorker) {
  SLUICE_NEEDS_ROOT();
  for (const mischief how : {mischief::fail_from, mischief::pretend_from}) {
    test::unruly_calls calls;
    const auto wq = make_wq({.max_bound = 1, .identities = &calls});
    const ref<const identity> who = as(somebody);
    probe spoilt([&](work_context&) { calls.plan(how, 0); });
    std::vector<std::unique_ptr<probe>> rest;
    spoilt.set_identity(who);
    ASSERT_TRUE(wq->submit(spoilt));
    for (int i = 0; i < 10; ++i) {
      rest.push_back(std::make_unique<probe>([&](work_context&) { EXPECT_NE(::geteuid(), somebody); }));
      ASSERT_TRUE(wq->submit(*rest.back()));
    }
    for (const auto& each : rest) {
      each->wait_released();
    }
    spoilt.wait_released();
    EXPECT_FALSE(spoilt.was_cancelled());
    wq->stop(stop_policy::run_queued);
    EXPECT_TRUE(calls.struck());
    const class_stats stats = wq->stats().bound;
    EXPECT_GE(stats.workers_created, 2U);
    EXPECT_EQ(stats.accepted, stats.released);
    EXPECT_EQ(who->use_count(), 1U);
  }
}

// I6 H1 H2: the worker that dies owned a key: the key's works go on in their order with another worker.
TEST(IoWqIdentity, AKeyOutlivesTheWorkerThatBroke) {
  SLUICE_NEEDS_ROOT();
  test::unruly_calls calls;
  const auto wq = make_wq({.max_bound = 1, .identities = &calls});
  const auto domain = *hash_domain::create();
  const ref<const identity> who = as(somebody);
  std::vector<int> order;
  std::vector<std::unique_ptr<probe>> all;
  for (int i = 0; i < 20; ++i) {
    all.push_back(std::make_unique<probe>([&order, &calls, i](work_context&) {
      if (i == 5) {
        calls.plan(mischief::fail_from, 0);
      }
      order.push_back(i);
    }));
    all.back()->set_key(*domain, 1);
    if (i == 5) {
      all.back()->set_identity(who);
    }
    ASSERT_TRUE(wq->submit(*all.back()));
  }
  for (const auto& each : all) {
    each->wait_released();
    EXPECT_FALSE(each->was_cancelled());
  }
  wq->stop(stop_policy::run_queued);
  EXPECT_EQ(order.size(), 20U);
  EXPECT_TRUE(std::ranges::is_sorted(order));
  EXPECT_EQ(domain->live_keys(), 0U);
}

// Lets the test in at the first call that a thread makes to become itself again.
struct calls_with_a_hook final : test::unruly_calls {
  int capset(const capability_sets& sets) noexcept override {
    fire();
    return unruly_calls::capset(sets);
  }
  int setresuid(uid_t r, uid_t e, uid_t s) noexcept override {
    fire();
    return unruly_calls::setresuid(r, e, s);
  }
  void fire() noexcept {
    if (std::function<void()> now = std::exchange(hook, nullptr)) {
      now();
    }
  }
  std::function<void()> hook;
};

// I6 C2: a work is cancelled while its worker breaks on the way to it: the thread runs nothing more, somebody else gives
// the work up, once.
TEST(IoWqIdentity, AWorkCancelledOnAWorkerThatBreaksIsGivenUpElsewhere) {
  SLUICE_NEEDS_ROOT();
  calls_with_a_hook calls;
  const auto wq = make_wq({.max_bound = 1, .identities = &calls});
  const ref<const identity> who = as(somebody);
  cancel_counts counts;
  probe spoilt([&](work_context&) {
    calls.plan(mischief::fail_from, 0);
    calls.hook = [&] { counts = wq->cancel_owner(7); };
  });
  probe victim;
  probe next;
  spoilt.set_identity(who);
  victim.set_owner(7);
  // Together: the cancel, which comes while the first one runs, finds the victim.
  const std::array<work*, 3> all{&spoilt, &victim, &next};
  ASSERT_EQ(wq->submit(all).value_or(0), all.size());
  next.wait_released();
  victim.wait_released();
  spoilt.wait_released();
  EXPECT_EQ(counts.cancelled + counts.running, 1U);
  EXPECT_TRUE(victim.was_cancelled());
  EXPECT_EQ(victim.runs() + victim.releases(), 2);
  EXPECT_TRUE(counts.running == 0 || victim.ran_on() != spoilt.ran_on());
  EXPECT_FALSE(spoilt.was_cancelled() || next.was_cancelled());
  wq->stop(stop_policy::run_queued);
  EXPECT_EQ(wq->stats().bound.accepted, wq->stats().bound.released);
}

// I6 P10: the rescuer breaks: it is replaced as well.
TEST(IoWqIdentity, ARescuerThatBreaksIsReplaced) {
  SLUICE_NEEDS_ROOT();
  test::failing_threads threads;
  test::unruly_calls calls;
  const auto wq = make_wq({.max_unbound = 1, .threads = &threads, .identities = &calls});
  threads.allowed.store(0, std::memory_order_seq_cst);
  const ref<const identity> who = as(somebody);
  probe spoilt([&](work_context&) { calls.plan(mischief::fail_from, 0); }, work_class::unbound);
  probe next([&](work_context&) { EXPECT_NE(::geteuid(), somebody); }, work_class::unbound);
  spoilt.set_identity(who);
  ASSERT_TRUE(wq->submit(spoilt));
  spoilt.wait_released();
  threads.allowed.store(1 << 20, std::memory_order_seq_cst);
  ASSERT_TRUE(wq->submit(next));
  next.wait_released();
  EXPECT_FALSE(spoilt.was_cancelled() || next.was_cancelled());
  wq->stop(stop_policy::run_queued);
}

}  // namespace
}  // namespace io_wq_identity_test
}  // namespace sluice
