// Goal: a node, a release, a rescuer, a worker that breaks, leaves or computes: none of them holds up the works of
// others. Method: the scene of each fault that was found, with nodes, threads and identities as the test says; waits
// for events, with a deadline that is generous.
#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <deque>
#include <future>
#include <latch>
#include <memory>
#include <semaphore>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/base/thread.h"
#include "sluice/identity/identity.h"
#include "sluice/wq/blocking_region.h"
#include "sluice/wq/io_wq.h"
#include "sluice/wq/wq_timer.h"

#include "support/identity_helpers.h"
#include "support/wq_probe.h"
#include "wq/os/topology.h"

namespace sluice {
namespace io_wq_seams_test {
namespace {

using namespace std::chrono_literals;
using test::comes_true;
using test::generous;
using test::make_wq;
using test::probe;

// A work that submits itself again in its release, until `ended`.
class endless : public work {
 public:
  explicit endless(io_wq& wq) : work(operations), wq_(wq) {}
  [[nodiscard]] std::uint64_t runs() const { return runs_.load(std::memory_order_seq_cst); }
  // From here on it is the caller's.
  void end() {
    ended_.store(true, std::memory_order_seq_cst);
    last_.acquire();
  }

 private:
  static void do_run(work& w, work_context&) noexcept {
    static_cast<endless&>(w).runs_.fetch_add(1, std::memory_order_seq_cst);
  }
  static void do_release(work& w) noexcept {
    auto& self = static_cast<endless&>(w);
    if (self.ended_.load(std::memory_order_seq_cst)) {
      self.last_.release();
    } else {
      EXPECT_TRUE(self.wq_.submit(self));
    }
  }
  static constexpr work_ops operations{do_run, do_release};

  io_wq& wq_;
  std::atomic<std::uint64_t> runs_{0};
  std::atomic<bool> ended_{false};
  std::binary_semaphore last_{0};
};

// Nodes of a synthetic topology are dealt out to threads in turn. This seam discards threads until one has the node
// that is wanted: the first bound worker stands on node 0, the next one on node 1, as their accounts do.
class threads_on_nodes : public thread_seam {
 public:
  explicit threads_on_nodes(std::string_view synthetic) : nodes_(detail::topology::discover(synthetic).value()) {}

  result<named_thread> start(std::string_view name, std::move_only_function<void()> body, std::size_t stack) override {
    return name.ends_with("-b") ? start_on(workers_++ % nodes_.nodes(), name, std::move(body))
                                : real().start(name, std::move(body), stack);
  }
  void run_on(unsigned node, const std::function<void()>& body) { EXPECT_TRUE(start_on(node, "submits", body)); }

 private:
  result<named_thread> start_on(unsigned node, std::string_view name, std::move_only_function<void()> body) {
    const auto shared = std::make_shared<std::move_only_function<void()>>(std::move(body));
    for (;;) {
      const auto said = std::make_shared<std::promise<bool>>();
      std::future<bool> fits = said->get_future();
      result<named_thread> made = real().start(
          name,
          [this, node, shared, said] {
            const bool here = nodes_.here() == node;
            said->set_value(here);
            if (here) {
              (*shared)();
            }
          },
          0);
      if (!made || fits.get()) {
        return made;
      }
    }
  }

  const detail::topology nodes_;
  unsigned workers_ = 0;
};

// W1 P5: the loaded nodes' workers have all places of the class; a work of another node has its turn after a few of
// theirs.
TEST(IoWqSeams, WorkOfANodeRunsWhileOtherNodesHaveAllWorkersAndAreLoaded) {
  constexpr std::uint64_t most_between = 2000;
  for (const unsigned workers : {1U, 2U}) {
    const std::string topology = workers == 1 ? "node:2 pu:1" : "node:4 pu:1";
    threads_on_nodes threads(topology);
    const auto wq = make_wq({.max_bound = workers, .topology = topology, .threads = &threads});
    std::deque<endless> loads;
    for (unsigned node = 0; node < workers; ++node) {
      loads.emplace_back(*wq);
    }
    const auto all_runs = [&] {
      std::uint64_t all = 0;
      for (const endless& one : loads) {
        all += one.runs();
      }
      return all;
    };
    for (unsigned node = 0; node < workers; ++node) {
      threads.run_on(node, [&] { EXPECT_TRUE(wq->submit(loads[node])); });
      EXPECT_TRUE(comes_true([&] { return loads[node].runs() > 100; }));
    }
    std::uint64_t submitted_at = 0;
    std::uint64_t ran_at = 0;
    probe other([&](work_context&) { ran_at = all_runs(); });
    threads.run_on(2 * workers - 1, [&] {
      EXPECT_TRUE(wq->submit(other));
      submitted_at = all_runs();
    });
    EXPECT_TRUE(other.released_within(generous)) << "the work of the other node starves";
    for (endless& one : loads) {
      one.end();
    }
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
    EXPECT_LE(ran_at, submitted_at + most_between);
  }
}

enum class blocks_in : std::uint8_t { release, rest_of_a_chain };

// P2 P6 X6: a callback that blocks without saying so is found. One CPU, so that nothing but that starts the second
// worker.
TEST(IoWqSeams, ACallbackThatBlocksIsFoundAndTheWorksBehindItAreRun) {
  for (const blocks_in where : {blocks_in::release, blocks_in::rest_of_a_chain}) {
    const auto wq = make_wq({.max_bound = 2, .idle_timeout = 1h, .topology = "node:1 pu:1"});
    std::deque<probe> quick(256);  // a worker takes more at once after them
    for (probe& one : quick) {
      ASSERT_TRUE(wq->submit(one));
    }
    for (probe& one : quick) {
      one.wait_released();
    }
    std::latch started(1);
    std::latch go(1);
    probe head([&](work_context& ctx) { ctx.fail(); });
    probe blocker;
    probe& first = where == blocks_in::release ? blocker : head;
    if (where == blocks_in::rest_of_a_chain) {
      head.then(&blocker);
    }
    blocker.on_release([&] {
      started.count_down();
      go.wait();
    });
    std::array<probe, 8> behind;
    std::array<work*, 9> all{&first};
    for (std::size_t i = 0; i < behind.size(); ++i) {
      all[i + 1] = &behind[i];
    }
    ASSERT_EQ(wq->submit(std::span<work* const>(all)).value_or(0), all.size());
    started.wait();
    const auto released = [](const probe& one) { return one.releases() == 1; };
    EXPECT_TRUE(comes_true([&] { return wq->stats().bound.idle == 1; })) << "a second worker has nothing left to do";
    EXPECT_TRUE(std::ranges::all_of(behind, released)) << "works wait for the callback that blocks";
    EXPECT_GE(wq->stats().bound.found_blocked, 1U);
    const stop_report unfinished = wq->stop(stop_policy::run_queued, std::chrono::steady_clock::now() + 1ms);
    EXPECT_FALSE(unfinished.finished);
    EXPECT_EQ(unfinished.in_callbacks, 1U);
    EXPECT_EQ(unfinished.still_queued + unfinished.still_running.size(), 0U);
    go.count_down();
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  }
}

// P10 C8: no worker can be created, and the rescuer is in a work that blocks.
TEST(IoWqSeams, ADeadlineIsMetWhileTheRescuerRunsAWorkThatBlocks) {
  test::failing_threads threads;
  const auto wq = make_wq({.max_bound = 1, .max_unbound = 2, .threads = &threads});
  threads.allowed.store(0, std::memory_order_seq_cst);
  const auto bound = std::make_unique<test::held_worker>(*wq);
  std::latch started(1);
  std::latch go(1);
  probe blocks(
      [&](work_context&) {
        started.count_down();
        go.wait();
      },
      work_class::unbound);
  ASSERT_TRUE(wq->submit(blocks));
  started.wait();
  for (const work_class cls : {work_class::bound, work_class::unbound}) {
    probe late(nullptr, cls);
    late.set_deadline(std::chrono::steady_clock::now() + 2ms);
    ASSERT_TRUE(wq->submit(late));
    const bool in_time = late.released_within(generous);
    EXPECT_TRUE(in_time) << "its deadline waits for the rescuer";
    if (!in_time) {
      go.count_down();
      late.wait_released();
      break;
    }
    EXPECT_TRUE(late.was_cancelled());
  }
  EXPECT_EQ(blocks.releases(), 0);
  EXPECT_TRUE(comes_true([&] {
    return wq->stop(stop_policy::run_queued, std::chrono::steady_clock::now() + 1ms).in_callbacks == 0;
  })) << "a deadline that was met is no callback any more";
  if (!go.try_wait()) {
    go.count_down();
  }
  bound->unblock();
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  EXPECT_EQ(wq->stats().unbound.rescued, 1U);
}

// P10 W1: the only bound worker is held, so the rescuer runs endless bound works. An unbound one has its turn.
TEST(IoWqSeams, TheRescuerServesTheClassesInTurn) {
  constexpr std::uint64_t most_between = 1000;
  test::failing_threads threads;
  const auto wq = make_wq({.max_bound = 2, .max_unbound = 2, .threads = &threads});
  threads.allowed.store(0, std::memory_order_seq_cst);
  test::held_worker held(*wq);
  endless load(*wq);
  ASSERT_TRUE(wq->submit(load));
  // Then there is a pause before a worker of its class is tried again, and the rescuer is all there is.
  EXPECT_TRUE(comes_true([&] { return load.runs() > 100 && wq->stats().bound.create_failures >= 6; }));
  std::uint64_t ran_at = 0;
  probe other([&](work_context&) { ran_at = load.runs(); }, work_class::unbound);
  ASSERT_TRUE(wq->submit(other));
  EXPECT_TRUE(comes_true([&] { return wq->stats().unbound.create_failures != 0; }));
  const std::uint64_t failed_at = load.runs();
  EXPECT_TRUE(other.released_within(generous)) << "the unbound work starves";
  load.end();
  held.unblock();
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  EXPECT_LE(ran_at, failed_at + most_between);
  EXPECT_EQ(wq->stats().unbound.rescued, 1U);
}

enum class cancel_kind : std::uint8_t { by_handle, by_owner, all };

// I1 C1: a work that is cancelled by a run with an identity is given up by another thread, without one, before the
// cancel returns.
TEST(IoWqSeams, ARunThatWearsAnIdentityCancelsOnAnotherThread) {
  const identity_result who = identity_builder().set_audit("canceller").build();
  ASSERT_TRUE(who);
  for (const cancel_kind how : {cancel_kind::by_handle, cancel_kind::by_owner, cancel_kind::all}) {
    const auto wq = make_wq({.max_bound = 1});
    const identity* run_as = who->get();
    const identity* released_as = who->get();
    std::thread::id released_on;
    probe victim;
    victim.set_owner(7);
    victim.on_cancelled_run([&] { run_as = current_identity(); });
    victim.on_release([&] {
      released_as = current_identity();
      released_on = std::this_thread::get_id();
    });
    std::latch queued(1);
    work_handle handle;
    int over_at_return = 0;
    probe canceller([&](work_context&) {
      queued.wait();
      if (how == cancel_kind::by_handle) {
        EXPECT_EQ(wq->cancel(handle), cancel_result::cancelled);
      } else {
        EXPECT_EQ((how == cancel_kind::all ? wq->cancel_all() : wq->cancel_owner(7)).cancelled, 1U);
      }
      over_at_return = victim.runs() + victim.releases();
      EXPECT_EQ(current_identity(), who->get());
    });
    canceller.set_identity(*who);
    ASSERT_TRUE(wq->submit(canceller));
    handle = wq->submit_tracked(victim).value_or(work_handle());
    queued.count_down();
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
    EXPECT_TRUE(victim.was_cancelled());
    EXPECT_EQ(over_at_return, 2);
    EXPECT_EQ(run_as, nullptr);
    EXPECT_EQ(released_as, nullptr);
    EXPECT_NE(victim.ran_on(), canceller.ran_on());
    EXPECT_NE(released_on, canceller.ran_on());
  }
}

// I1 I6: a chain's head fails, and its thread cannot become itself again. The rest is given up by another thread, as
// itself.
TEST(IoWqSeams, TheRestOfAChainIsNotGivenUpByAThreadThatBroke) {
  test::unruly_calls calls;
  const auto wq = make_wq({.max_bound = 1, .identities = &calls});
  const identity_result strict = identity_builder().set_umask(077).build();
  ASSERT_TRUE(strict) << strict.error().message();
  const auto umask_line = [] {
    const std::string facts = test::thread_facts();
    const std::size_t at = facts.find("Umask:");
    return facts.substr(at, facts.find('\n', at) - at);
  };
  const std::string usual = umask_line();
  std::string head_has;
  std::string run_has;
  std::string release_has;
  std::thread::id released_on;
  probe head([&](work_context& ctx) {
    head_has = umask_line();
    calls.plan(test::unruly_calls::mischief::pretend_from, 0);
    ctx.fail();
  });
  head.set_identity(*strict);
  probe member;
  member.on_cancelled_run([&] { run_has = umask_line(); });
  member.on_release([&] {
    release_has = umask_line();
    released_on = std::this_thread::get_id();
  });
  head.then(&member);
  ASSERT_TRUE(wq->submit(head));
  EXPECT_TRUE(member.released_within(generous));
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  EXPECT_TRUE(calls.struck());
  EXPECT_NE(head_has, usual);
  EXPECT_FALSE(head.was_cancelled());
  EXPECT_TRUE(member.was_cancelled());
  EXPECT_EQ(run_has, usual);
  EXPECT_EQ(release_has, usual);
  EXPECT_NE(member.ran_on(), head.ran_on());
  EXPECT_NE(released_on, head.ran_on());
}

// I6 P3: the only worker breaks (its umask stays another's). The worker that replaces it is the fixed one: it never
// times out.
TEST(IoWqSeams, TheFixedWorkerThatBreaksIsReplacedByAFixedOne) {
  constexpr std::chrono::milliseconds idle_timeout{10};
  test::unruly_calls calls;
  const auto wq = make_wq({.max_bound = 2, .idle_timeout = idle_timeout, .identities = &calls});
  const identity_result strict = identity_builder().set_umask(077).build();
  ASSERT_TRUE(strict) << strict.error().message();
  probe spoilt([&](work_context&) { calls.plan(test::unruly_calls::mischief::pretend_from, 0); });
  spoilt.set_identity(*strict);
  ASSERT_TRUE(wq->submit(spoilt));
  spoilt.wait_released();
  const auto bound = [&] { return wq->stats().bound; };
  // It may be idle before the thread that creates it has counted it.
  const auto replaced = [&] { return bound().workers_died == 1 && bound().workers_created == 2 && bound().idle == 1; };
  EXPECT_TRUE(comes_true(replaced)) << "it is not replaced";
  const auto end = std::chrono::steady_clock::now() + 15 * idle_timeout;
  std::size_t least = 1;
  while (least == 1 && std::chrono::steady_clock::now() < end) {
    least = std::min(least, bound().workers);
  }
  EXPECT_EQ(least, 1U) << "the worker that replaced it has timed out";
  EXPECT_EQ(bound().workers_created, 2U);
  EXPECT_TRUE(calls.struck());
}

// A program's object of a thread, which waits when the thread ends.
struct exit_scene {
  std::binary_semaphore entered{0};
  std::binary_semaphore go{0};
};
struct waits_at_exit {
  ~waits_at_exit() {
    scene->entered.release();
    scene->go.acquire();
  }
  exit_scene* scene = nullptr;
};

struct timer_probe : wq_timer {
  explicit timer_probe(io_wq& wq) : wq_timer(wq, fire) {}
  static void fire(wq_timer& timer) noexcept { static_cast<timer_probe&>(timer).fired.release(); }
  std::binary_semaphore fired{0};
};

// P9: the destructor of a thread_local object of the program waits on the thread of a worker that has left.
TEST(IoWqSeams, AThreadLocalDestructorOfAWorkerThatHasLeftDoesNotHoldUpTheManager) {
  const auto wq = make_wq({.max_bound = 1, .max_unbound = 2, .idle_timeout = 1ms});
  exit_scene scene;
  probe leaves(
      [&](work_context&) {
        thread_local waits_at_exit object;
        object.scene = &scene;
      },
      work_class::unbound);
  ASSERT_TRUE(wq->submit(leaves));
  leaves.wait_released();
  scene.entered.acquire();
  // The manager sees it now, if it has not yet.
  timer_probe seen(*wq);
  seen.arm(std::chrono::steady_clock::now());
  EXPECT_TRUE(seen.fired.try_acquire_for(generous)) << "the manager waits for the thread that ends";
  timer_probe later(*wq);
  later.arm(std::chrono::steady_clock::now() + 5ms);
  EXPECT_TRUE(later.fired.try_acquire_for(generous)) << "the manager waits for the thread that ends";
  probe needs_a_worker(nullptr, work_class::unbound);
  ASSERT_TRUE(wq->submit(needs_a_worker));
  EXPECT_TRUE(needs_a_worker.released_within(generous)) << "no worker is created";
  scene.go.release();
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  seen.disarm_and_wait();
  later.disarm_and_wait();
}

void burn(std::chrono::nanoseconds cpu_time) {
  const auto used = [] {
    timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
  };
  const auto end = used() + cpu_time;
  while (used() < end) {
  }
}

// To it every thread sleeps, as every worker that did not move seemed to.
struct threads_that_seem_to_sleep : thread_seam {
  result<named_thread> start(std::string_view name, std::move_only_function<void()> body, std::size_t stack) override {
    return real().start(name, std::move(body), stack);
  }
  bool sleeps(pid_t) noexcept override { return true; }
};

class_stats stats_after_computing(thread_seam* threads) {
  const auto wq = make_wq({.max_bound = 64, .idle_timeout = 1h, .topology = "node:1 pu:2", .threads = threads});
  std::deque<probe> all;
  for (int i = 0; i < 80; ++i) {
    EXPECT_TRUE(wq->submit(all.emplace_back([](work_context&) { burn(3ms); })));
  }
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  return wq->stats().bound;
}

// P6: a worker that computes is not taken for a blocked one, and the pool stays as large as the CPUs it may use.
TEST(IoWqSeams, WorksThatComputeDoNotMakeThePoolGrow) {
  // A few: a thread may sleep for a moment although its work computes (a page fault, a lock of the pool).
  constexpr std::uint64_t most = 2 + 2;
  const class_stats real = stats_after_computing(nullptr);
  EXPECT_LE(real.workers_created, most);
  EXPECT_LE(real.found_blocked, most);
  threads_that_seem_to_sleep fooled;
  const class_stats control = stats_after_computing(&fooled);
  EXPECT_GT(control.workers_created, most) << "the scene would not show the fault";
  EXPECT_GT(control.found_blocked, most);
}

}  // namespace
}  // namespace io_wq_seams_test
}  // namespace sluice
