// Goal: whichever allocation or thread creation fails, nothing leaks and nothing is stranded: what was accepted is run and
// released, what was refused is untouched and may be submitted again (X4 P10 W6).
// Method: this program's operator new refuses allocation 0, 1, 2 … of one call until none is left to refuse: that one alone,
// or all from it on; of the calling thread, or of all threads. Blocks that are left afterwards are a leak.
#include <sched.h>

#include <array>
#include <chrono>
#include <functional>
#include <latch>
#include <memory>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/base/thread.h"
#include "sluice/wq/blocking_region.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"

#include "support/own_new.h"
#include "support/proc_threads.h"
#include "support/wq_probe.h"

namespace {

enum class extent : std::uint8_t { that_one, and_all_later };
enum class victims : std::uint8_t { caller, every_thread };

// What fails next. Written while no other thread looks at it, except `seen`.
struct fault_plan {
  std::atomic<bool> armed{false};
  std::atomic<int> seen{0};
  std::atomic<bool> struck{false};
  int at = 0;
  extent how = extent::that_one;
  victims whose = victims::caller;
};
constinit fault_plan faults;
thread_local bool is_caller = false;

bool refuses() noexcept {
  if (!faults.armed.load(std::memory_order_seq_cst) || (faults.whose == victims::caller && !is_caller)) {
    return false;
  }
  const int number = faults.seen.fetch_add(1, std::memory_order_seq_cst);
  const bool fails = number == faults.at || (number > faults.at && faults.how == extent::and_all_later);
  if (fails) {
    faults.struck.store(true, std::memory_order_seq_cst);
  }
  return fails;
}

}  // namespace

void* test::block_of(std::size_t bytes) noexcept {
  return refuses() ? nullptr : std::malloc(bytes);
}

namespace {

using namespace sluice;
using namespace std::chrono_literals;
using test::make_wq;
using test::probe;

constexpr const char* pool_name = "faults";

// The fault is there from construction until end(), or the destructor.
class fault {
 public:
  fault() {
    is_caller = true;
    faults.armed.store(true, std::memory_order_seq_cst);
  }
  ~fault() { end(); }
  fault(const fault&) = delete;
  fault& operator=(const fault&) = delete;
  static void end() { faults.armed.store(false, std::memory_order_seq_cst); }
};

// Calls the scene with each fault there is. The scene makes a fault around the call that it tests.
void with_each_fault(const std::function<void()>& scene, int least) {
  constexpr int most = 500;
  faults.at = most;
  scene();  // what is made once, and kept, is made here
  for (const victims whose : {victims::caller, victims::every_thread}) {
    for (const extent how : {extent::that_one, extent::and_all_later}) {
      int failures = 0;
      for (bool struck = true; struck && failures < most; failures += struck ? 1 : 0) {
        faults.at = failures;
        faults.how = how;
        faults.whose = whose;
        faults.seen.store(0, std::memory_order_seq_cst);
        faults.struck.store(false, std::memory_order_seq_cst);
        const std::int64_t before = test::live_blocks.load(std::memory_order_relaxed);
        scene();
        struck = faults.struck.load(std::memory_order_seq_cst);
        ASSERT_EQ(test::live_blocks.load(std::memory_order_relaxed), before) << "allocation " << failures << " leaks";
        ASSERT_FALSE(testing::Test::HasFailure()) << "allocation " << failures;
      }
      ASSERT_LT(failures, most) << "the call does not succeed without a fault";
      ASSERT_GE(failures, least) << "no allocation of the call was refused";
    }
  }
}

void wait_until_gone() {
  while (test::threads_named(pool_name) != 0) {  // one that was joined may be listed for a moment
    std::this_thread::yield();
  }
}

// A pool and a domain, and works whose submits are tested.
struct pool_scene {
  explicit pool_scene(thread_seam* threads = nullptr, unsigned max_bound = 1)
      : wq(make_wq({.max_bound = max_bound, .max_unbound = 2, .name = pool_name, .threads = threads})),
        domain(*hash_domain::create()) {}

  // The work was accepted by then, or is submitted now that memory is there.
  void settle(probe& head, int err, const std::vector<probe*>& members) {
    if (err != 0) {
      EXPECT_EQ(err, ENOMEM);
      for (const probe* const one : members) {
        EXPECT_EQ(one->runs() + one->releases(), 0) << "a refused work is untouched (W6)";
      }
      ASSERT_TRUE(wq->submit(head));
    }
    accepted += members.size();
    for (probe* const one : members) {
      ASSERT_TRUE(one->released_within(60s)) << "stranded";
      EXPECT_EQ(one->runs() + one->releases(), 2);
    }
  }
  void end() {
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
    const wq_stats stats = wq->stats();
    EXPECT_EQ(stats.bound.accepted + stats.unbound.accepted, accepted);
    EXPECT_EQ(stats.bound.released + stats.unbound.released, accepted);
    EXPECT_EQ(domain->live_keys(), 0U);
  }

  const ref<io_wq> wq;
  const ref<hash_domain> domain;
  std::size_t accepted = 0;
};

template <class Value>
int error_of_result(const result<Value>& what) {
  return what.has_value() ? 0 : what.error().value();
}

TEST(IoWqFaults, EachAllocationOfCreateMayFail) {
  with_each_fault(
      [] {
        int err = 0;
        {
          std::optional<result<ref<io_wq>>> made;
          {
            const fault now;
            made = io_wq::create({.max_bound = 4, .name = pool_name, .topology = "node:2 pu:2"});
          }
          err = error_of_result(*made);
          if (*made) {
            probe one;
            EXPECT_TRUE((**made)->submit(one));
            EXPECT_TRUE(one.released_within(60s));
          }
        }
        EXPECT_TRUE(err == 0 || err == ENOMEM) << err;
        wait_until_gone();
      },
      10);
}

TEST(IoWqFaults, EachAllocationOfADomainMayFail) {
  with_each_fault(
      [] {
        std::optional<result<ref<hash_domain>>> made;
        {
          const fault now;
          made = hash_domain::create();
        }
        EXPECT_TRUE(*made || made->error().value() == ENOMEM);
      },
      2);
}

// Submits `head`, of these members, under the fault. What was accepted is waited for while the fault lasts.
void submit_under_fault(pool_scene& at, probe& head, const std::vector<probe*>& members, bool tracked) {
  int err = 0;
  bool stranded = false;
  {
    const fault now;
    if (tracked) {
      err = error_of_result(at.wq->submit_tracked(head));
    } else {
      err = error_of_result(at.wq->submit(head));
    }
    if (err == 0 && faults.whose == victims::every_thread) {
      stranded = !head.released_within(60s);
    }
  }
  EXPECT_FALSE(stranded) << "stranded while there is no memory";
  std::vector<probe*> rest = members;
  if (err == 0 && faults.whose == victims::every_thread) {
    ++at.accepted;  // waited for
    std::erase(rest, &head);
  }
  at.settle(head, err, rest);
}

TEST(IoWqFaults, EachAllocationOfASubmitMayFail) {
  with_each_fault(
      [] {
        pool_scene at;
        probe one(nullptr, work_class::unbound);  // has no worker yet
        submit_under_fault(at, one, {&one}, false);
        at.end();
      },
      0);
}

TEST(IoWqFaults, EachAllocationOfASubmitWithADeadlineMayFail) {
  with_each_fault(
      [] {
        pool_scene at;
        probe one;
        one.set_deadline(std::chrono::steady_clock::now() + 1h);
        submit_under_fault(at, one, {&one}, true);
        EXPECT_FALSE(one.was_cancelled());
        at.end();
      },
      2);
}

// With the flag `concurrent` works go to their key at once; without it they may go through the table's inbox.
TEST(IoWqFaults, EachAllocationOfASubmitWithAKeyMayFail) {
  for (const work_flags flags : {work_flags::none, work_flags::concurrent}) {
    with_each_fault(
        [flags] {
          pool_scene at;
          probe one(nullptr, work_class::bound, flags);
          one.set_key(*at.domain, 7);
          one.set_deadline(std::chrono::steady_clock::now() + 1h);
          submit_under_fault(at, one, {&one}, true);
          EXPECT_FALSE(one.was_cancelled());
          at.end();
        },
        2);
  }
}

// A work that was refused keeps its deadline: submitted again, it is given up, for the only worker is held.
TEST(IoWqFaults, ARefusedWorkKeepsItsDeadline) {
  with_each_fault(
      [] {
        pool_scene at;
        std::latch started(1);
        std::latch go(1);
        probe held([&](work_context&) {
          started.count_down();
          go.wait();
        });
        ASSERT_TRUE(at.wq->submit(held));
        started.wait();
        probe late(nullptr, work_class::bound, work_flags::concurrent);
        late.set_key(*at.domain, 7);
        late.set_deadline(std::chrono::steady_clock::now() - 1s);
        int err = 0;
        {
          const fault now;
          err = error_of_result(at.wq->submit(late));
        }
        at.settle(late, err, {&late});
        EXPECT_TRUE(late.was_cancelled());
        go.count_down();
        held.wait_released();
        ++at.accepted;
        at.end();
      },
      2);
}

// Members of a chain need memory when their turn comes too: without it the chain is cut, and the rest of it given up. A head
// with the flag `concurrent` needs memory for its key at once, when its members have been counted.
TEST(IoWqFaults, EachAllocationOfAChainMayFail) {
  for (const work_flags flags : {work_flags::none, work_flags::concurrent}) {
    with_each_fault(
        [flags] {
          pool_scene at;
          const auto elsewhere = *hash_domain::create();
          std::array<probe, 3> all;
          all[0].set_flags(flags);
          all[0].set_key(*at.domain, 1);
          all[1].set_key(*elsewhere, 2);
          all[1].set_deadline(std::chrono::steady_clock::now() + 1h);
          all[2].set_class(work_class::unbound);
          all[0].then(&all[1]);
          all[1].then(&all[2]);
          submit_under_fault(at, all[0], {&all[0], &all[1], &all[2]}, true);
          EXPECT_FALSE(all[0].was_cancelled());
          EXPECT_TRUE(!all[1].was_cancelled() || all[2].was_cancelled());
          at.end();
        },
        3);
  }
}

TEST(IoWqFaults, EachAllocationOfABatchMayFail) {
  with_each_fault(
      [] {
        pool_scene at;
        std::array<probe, 4> all;
        std::array<work*, 4> works{};
        for (std::size_t i = 0; i < all.size(); ++i) {
          all[i].set_key(*at.domain, i);
          works[i] = &all[i];
        }
        std::size_t count = 0;
        {
          const fault now;
          count = at.wq->submit(std::span<work* const>(works)).value_or(0);
        }
        for (std::size_t i = 0; i < all.size(); ++i) {
          at.settle(all[i], i < count ? 0 : ENOMEM, {&all[i]});
        }
        at.end();
      },
      1);
}

TEST(IoWqFaults, EachAllocationOfACallableMayFail) {
  with_each_fault(
      [] {
        pool_scene at;
        std::latch ran(1);
        const std::array<std::byte, 128> large{};
        const auto call = [&ran, large] {
          static_cast<void>(large);
          ran.count_down();
        };
        bool accepted = false;
        try {
          const fault now;
          accepted = at.wq->submit(call).has_value();
        } catch (const std::bad_alloc&) {
          accepted = false;
        }
        if (!accepted) {
          ASSERT_TRUE(at.wq->submit(call));
        }
        ran.wait();
        at.accepted = 1;
        at.end();
      },
      2);
}

// A work that has a stop token, and runs until it is asked to stop, and then until it may leave.
struct obedient : probe {
  obedient()
      : probe([this](work_context& ctx) {
          const std::stop_token token = ctx.stop_token();
          started.count_down();
          const blocking_region region;
          while (!ctx.cancelled()) {
            std::this_thread::yield();
          }
          leave.wait();
        }) {}
  std::latch started{1};
  std::latch leave{1};
};

enum class cancel_kind : std::uint8_t { by_predicate, by_owner, all, by_handle };

// A cancel without memory: a predicate's is refused and nothing has changed; the others take back what they would otherwise.
TEST(IoWqFaults, EachAllocationOfACancelMayFail) {
  for (const cancel_kind how :
       {cancel_kind::by_predicate, cancel_kind::by_owner, cancel_kind::all, cancel_kind::by_handle}) {
    with_each_fault(
        [how] {
          pool_scene at;
          obedient running;
          running.set_owner(1);
          const auto handle = at.wq->submit_tracked(running);
          ASSERT_TRUE(handle);
          running.started.wait();
          std::array<probe, 4> pending;
          for (std::size_t i = 0; i < pending.size(); ++i) {
            pending[i].set_owner(1);
            if (i < 2) {
              pending[i].set_key(*at.domain, i);
            }
            ASSERT_TRUE(at.wq->submit(pending[i]));
          }
          cancel_counts counts;
          int err = 0;
          const auto of_owner = [](const work_view& v) { return v.owner == 1; };
          {
            const fault now;
            if (how == cancel_kind::by_predicate) {
              const auto some = at.wq->cancel_if(of_owner);
              err = error_of_result(some);
              counts = some.value_or(cancel_counts{});
            } else if (how == cancel_kind::by_owner) {
              counts = at.wq->cancel_owner(1);
            } else if (how == cancel_kind::all) {
              counts = at.wq->cancel_all();
            } else {
              counts.running = at.wq->cancel(*handle) == cancel_result::running ? 1 : 0;
            }
          }
          if (err != 0) {
            EXPECT_EQ(err, ENOMEM);
            EXPECT_EQ(running.releases(), 0);
            counts = at.wq->cancel_if(of_owner).value_or(cancel_counts{});
          }
          EXPECT_EQ(counts.running, 1U);
          EXPECT_EQ(counts.cancelled, how == cancel_kind::by_handle ? 0U : pending.size());
          running.leave.count_down();
          running.wait_released();
          for (probe& one : pending) {
            ASSERT_TRUE(one.released_within(60s));
          }
          at.accepted = 1 + pending.size();
          at.end();
        },
        how == cancel_kind::by_predicate ? 1 : 0);
  }
}

// A run asks for its stop token without memory: the token has no state, and the flag tells all the same.
TEST(IoWqFaults, AStopTokenWithoutMemoryHasNoState) {
  with_each_fault(
      [] {
        pool_scene at;
        std::latch asked(1);
        probe one([&](work_context& ctx) {
          std::stop_token token;
          {
            const fault now;
            token = ctx.stop_token();
          }
          is_caller = false;
          asked.count_down();
          while (!ctx.cancelled()) {
            std::this_thread::yield();
          }
          while (token.stop_possible() && !token.stop_requested()) {
            std::this_thread::yield();
          }
        });
        const auto handle = at.wq->submit_tracked(one);
        ASSERT_TRUE(handle);
        asked.wait();
        EXPECT_EQ(at.wq->cancel(*handle), cancel_result::running);
        one.wait_released();
        at.accepted = 1;
        at.end();
      },
      1);
}

TEST(IoWqFaults, EachAllocationOfSetAffinityMayFail) {
  cpu_set_t set;
  ASSERT_EQ(::sched_getaffinity(0, sizeof set, &set), 0);
  std::vector<unsigned> cpus;
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) {
      cpus.push_back(cpu);
    }
  }
  with_each_fault(
      [&] {
        pool_scene at;
        int err = 0;
        {
          const fault now;
          err = error_of_result(at.wq->set_affinity(cpus));
        }
        EXPECT_TRUE(err == 0 || err == ENOMEM) << err;
        probe one;
        at.settle(one, error_of_result(at.wq->submit(one)), {&one});
        at.end();
      },
      0);
}

// A stop whose report finds no memory is cut short and says so; the stop after it ends as ever.
TEST(IoWqFaults, EachAllocationOfAStopMayFail) {
  for (const stop_policy policy : {stop_policy::run_queued, stop_policy::cancel_queued}) {
    with_each_fault(
        [policy] {
          pool_scene at;
          std::latch started(1);
          std::latch go(1);
          probe running([&](work_context&) {
            started.count_down();
            const blocking_region region;
            go.wait();
          });
          probe pending;
          ASSERT_TRUE(at.wq->submit(running));
          started.wait();
          ASSERT_TRUE(at.wq->submit(pending));
          std::optional<stop_report> report;
          {
            const fault now;
            report = at.wq->stop(policy, std::chrono::steady_clock::now());
          }
          EXPECT_FALSE(report->finished);
          if (report->error) {
            EXPECT_EQ(report->error.value(), ENOMEM);
          } else {
            EXPECT_EQ(report->still_running.size(), 1U);
          }
          go.count_down();
          {
            const fault still;
            report = at.wq->stop(policy);
          }
          EXPECT_TRUE(report->finished);
          EXPECT_EQ(running.releases() + pending.releases(), 2);
          at.accepted = 2;
          at.end();
        },
        1);
  }
}

// Creation number `at` fails, and no other, or all from that one on.
class counting_threads : public thread_seam {
 public:
  result<named_thread> start(std::string_view name, std::move_only_function<void()> body, std::size_t stack) override {
    const int number = seen.fetch_add(1, std::memory_order_seq_cst);
    if (number == at || (number > at && how == extent::and_all_later)) {
      struck.store(true, std::memory_order_seq_cst);
      return fail(EAGAIN);
    }
    return thread_seam::real().start(name, std::move(body), stack);
  }
  std::atomic<int> seen{0};
  std::atomic<bool> struck{false};
  int at = -1;
  extent how = extent::that_one;
};

// X4 P9: each thread of create, on two nodes; nothing is left behind, and no thread either.
TEST(IoWqFaults, EachThreadOfCreateMayFail) {
  for (const extent how : {extent::that_one, extent::and_all_later}) {
    int failures = 0;
    for (bool struck = true; struck;) {
      const std::int64_t before = test::live_blocks.load(std::memory_order_relaxed);
      {
        counting_threads threads;
        threads.at = failures;
        threads.how = how;
        const auto made =
            io_wq::create({.max_bound = 4, .name = pool_name, .topology = "node:2 pu:2", .threads = &threads});
        struck = threads.struck.load(std::memory_order_seq_cst);
        EXPECT_EQ(error_of_result(made), struck ? EAGAIN : 0);
      }
      wait_until_gone();
      EXPECT_TRUE(failures == 0 || test::live_blocks.load(std::memory_order_relaxed) == before) << failures;
      failures += struck ? 1 : 0;
      ASSERT_LT(failures, 20);
    }
    EXPECT_GE(failures, 4) << "a manager, a rescuer, and a worker for each node";
  }
}

// Three works that block until all three run.
void block_three(pool_scene& at, bool until_all_run) {
  std::latch inside(3);
  std::latch go(1);
  std::array<std::unique_ptr<probe>, 3> all;
  for (auto& one : all) {
    one = std::make_unique<probe>([&](work_context&) {
      const blocking_region region;
      inside.count_down();
      go.wait();
    });
    ASSERT_TRUE(at.wq->submit(*one));
  }
  if (until_all_run) {
    inside.wait();
  }
  go.count_down();
  for (const auto& one : all) {
    ASSERT_TRUE(one->released_within(60s)) << "stranded";
  }
  at.accepted += all.size();
}

// X4 P10 P6: each creation of a worker that works ask for fails; none of the works is stranded. A creation that failed has given
// its place back: afterwards as many works run at once as before, also when the rescuer, which helps while creation fails, no
// longer does.
TEST(IoWqFaults, EachThreadOfASubmitMayFail) {
  for (const extent how : {extent::that_one, extent::and_all_later}) {
    int failures = 0;
    for (bool struck = true; struck && failures < 6;) {
      test::within_a_minute([&] {
        counting_threads threads;
        pool_scene at(&threads, 3);
        threads.seen.store(0, std::memory_order_seq_cst);
        threads.how = how;
        threads.at = failures;
        block_three(at, how == extent::that_one);
        probe quick(nullptr, work_class::unbound);
        ASSERT_TRUE(at.wq->submit(quick));
        ASSERT_TRUE(quick.released_within(60s)) << "stranded";
        ++at.accepted;
        for (int round = 0; round < 20 && how == extent::that_one; ++round) {
          block_three(at, true);
        }
        struck = threads.struck.load(std::memory_order_seq_cst);
        at.end();
      });
      failures += struck ? 1 : 0;
    }
    EXPECT_GE(failures, 2);
  }
}

}  // namespace
