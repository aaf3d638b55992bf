// Goal: the edges of the interface: what is refused leaves nothing changed, what is kept too long does no harm, what the program drops
// the pool drops too, and no choice of keys makes a submit slow.
// Method: each call at its edge, and then a work that shows what is true afterwards.
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <ctime>
#include <deque>
#include <latch>
#include <memory>
#include <optional>
#include <semaphore>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/wq/blocking_region.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/interrupt_seam.h"
#include "sluice/wq/io_wq.h"

#include "support/wq_probe.h"
#include "wq/os/os_pool.h"

namespace sluice {
namespace io_wq_edges_test {
namespace {

using namespace std::chrono_literals;
using test::comes_true;
using test::generous;
using test::held_worker;
using test::make_wq;
using test::probe;

// C1: both wqs give their first handle the same slot and generation.
TEST(IoWqEdges, AHandleOfOneWqIsNotFoundByAnother) {
  const auto one = make_wq({.max_bound = 1});
  const auto other = make_wq({.max_bound = 1});
  held_worker held_one(*one);
  held_worker held_other(*other);
  probe mine;
  probe theirs;
  const auto handle = one->submit_tracked(mine);
  const auto same = other->submit_tracked(theirs);
  ASSERT_TRUE(handle && same);
  EXPECT_EQ(handle->slot(), same->slot());
  EXPECT_EQ(handle->generation(), same->generation());
  EXPECT_NE(*handle, *same);
  EXPECT_EQ(other->cancel(*handle), cancel_result::not_found);
  EXPECT_EQ(one->cancel(*handle), cancel_result::cancelled);
  held_one.unblock();
  held_other.unblock();
  EXPECT_TRUE(one->stop(stop_policy::run_queued).finished);
  EXPECT_TRUE(other->stop(stop_policy::run_queued).finished);
  EXPECT_FALSE(theirs.was_cancelled());
  EXPECT_EQ(theirs.runs(), 1);
}

cpu_set_t mask_of(pid_t thread) {
  cpu_set_t set;
  CPU_ZERO(&set);
  EXPECT_EQ(::sched_getaffinity(thread, sizeof set, &set), 0);
  return set;
}

std::vector<unsigned> usable_cpus() {
  const cpu_set_t mine = mask_of(0);
  std::vector<unsigned> all;
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &mine)) {
      all.push_back(cpu);
    }
  }
  return all;
}

// Expects that a worker of the class has this one CPU.
void expect_worker_on(io_wq& wq, work_class cls, unsigned cpu) {
  probe asks(
      [&](work_context&) {
        const cpu_set_t mask = mask_of(0);
        EXPECT_EQ(CPU_COUNT(&mask), 1);
        EXPECT_TRUE(CPU_ISSET(cpu, &mask));
      },
      cls);
  ASSERT_TRUE(wq.submit(asks));
  asks.wait_released();
}

// P1: a mask of CPUs that do not exist is refused; workers that there are, and those to come, keep the one before.
TEST(IoWqEdges, CpusThatDoNotExistAreRefusedAndTheWorkersKeepTheirMask) {
  const std::vector<unsigned> cpus = usable_cpus();
  const std::array<unsigned, 1> missing{CPU_SETSIZE - 1};
  if (cpus.size() < 2 || cpus.back() == missing[0]) {
    GTEST_SKIP() << "needs two CPUs to tell masks apart, and a number without a CPU";
  }
  const auto wq = make_wq({.max_bound = 1, .max_unbound = 1});
  const std::array<unsigned, 1> first{cpus[0]};
  ASSERT_TRUE(wq->set_affinity(first));
  const result<void> refused = wq->set_affinity(missing);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().value(), EINVAL);
  expect_worker_on(*wq, work_class::bound, first[0]);
  expect_worker_on(*wq, work_class::unbound, first[0]);
  EXPECT_EQ(usable_cpus(), cpus) << "of the thread that asked";
}

// A worker's thread that begins tells the test, and then wastes some time.
struct beginnings final : interrupt_seam {
  void admit(interrupt_mark&) noexcept override {
    if (armed.load(std::memory_order_seq_cst)) {
      begun.release();
      for (int i = 0; i < waste.load(std::memory_order_seq_cst); ++i) {
        waste_of_time.fetch_add(1, std::memory_order_relaxed);
      }
    }
  }
  bool send(pthread_t) noexcept override { return false; }
  void consume() noexcept override {}

  std::atomic<bool> armed{false};
  std::atomic<int> waste{0};
  std::atomic<int> waste_of_time{0};
  std::counting_semaphore<> begun{0};
};

// P1: the mask is chosen while a worker begins: at each round a little earlier or later in its beginning.
TEST(IoWqEdges, AWorkerThatBeginsWhileTheMaskIsChosenHasIt) {
  constexpr int rounds = 150;
  const std::vector<unsigned> cpus = usable_cpus();
  if (cpus.size() < 2) {
    GTEST_SKIP() << "needs two CPUs to tell masks apart";
  }
  beginnings seam;
  const auto wq = make_wq({.max_bound = 1, .max_unbound = rounds, .idle_timeout = 1h, .interrupts = &seam});
  seam.armed.store(true, std::memory_order_seq_cst);
  std::latch go(1);
  std::counting_semaphore<> started(0);
  std::deque<std::atomic<pid_t>> ids(rounds);
  std::deque<probe> all;
  for (int i = 0; i < rounds; ++i) {
    seam.waste.store(i * 40, std::memory_order_seq_cst);
    all.emplace_back(
        [&, i](work_context&) {
          ids[static_cast<std::size_t>(i)].store(static_cast<pid_t>(::syscall(SYS_gettid)), std::memory_order_seq_cst);
          started.release();
          const blocking_region region;
          go.wait();
        },
        work_class::unbound);
    EXPECT_TRUE(wq->submit(all.back()));
    seam.begun.acquire();
    const std::array<unsigned, 1> chosen{cpus[static_cast<std::size_t>(i) % 2]};
    EXPECT_TRUE(wq->set_affinity(chosen));
    started.acquire();
    const cpu_set_t mask = mask_of(ids[static_cast<std::size_t>(i)].load(std::memory_order_seq_cst));
    EXPECT_TRUE(CPU_COUNT(&mask) == 1 && CPU_ISSET(chosen[0], &mask)) << "round " << i;
  }
  go.count_down();
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
}

// Returns once all bound workers except this many are idle.
class_stats when_idle_but(std::size_t others, const io_wq& wq) {
  const auto idle = [&](const class_stats& now) { return now.idle + others == now.workers; };
  EXPECT_TRUE(comes_true([&] { return idle(wq.stats().bound); }));
  return wq.stats().bound;
}

// P2: without the sampler, so that growth comes from regions alone.
TEST(IoWqEdges, ARegionThatOutlivesItsRunEndsWithIt) {
  test::within_a_minute([] {
    test::clock_without_sampler clock;
    const auto wq = make_wq({.max_bound = 2, .idle_timeout = std::chrono::milliseconds::max(), .clock = &clock});
    std::unique_ptr<blocking_region> kept;
    for (const bool in_release : {false, true}) {
      probe keeps([&](work_context&) { kept = in_release ? nullptr : std::make_unique<blocking_region>(); });
      keeps.on_release([&] { kept = in_release ? std::make_unique<blocking_region>() : std::move(kept); });
      ASSERT_TRUE(wq->submit(keeps));
      keeps.wait_released();
      const class_stats after = when_idle_but(0, *wq);
      EXPECT_EQ(after.running, 0U);
      EXPECT_EQ(after.blocked, 0U);

      held_worker held(*wq);
      EXPECT_EQ(wq->stats().bound.blocked, 1U);
      probe next;
      ASSERT_TRUE(wq->submit(next));
      const bool grows = next.released_within(generous);
      EXPECT_TRUE(grows) << "a later region does not count";
      kept.reset();
      if (grows) {
        EXPECT_EQ(when_idle_but(1, *wq).blocked, 1U) << "the late destructor ended the region of another run";
      }
      held.unblock();
      held.wait_released();
      if (!grows) {
        next.wait_released();
      }
    }
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  });
}

// C6: it throws once it has chosen some, and refused one.
TEST(IoWqEdges, APredicateThatThrowsCancelsNothing) {
  const auto wq = make_wq({.max_bound = 1});
  held_worker held(*wq);
  std::array<probe, 6> pending;
  for (probe& one : pending) {
    ASSERT_TRUE(wq->submit(one));
  }
  int calls = 0;
  const auto throws = [&](const work_view& view) {
    if (++calls == 5) {
      throw std::runtime_error("chosen enough");
    }
    return !view.running && calls != 2;
  };
  EXPECT_THROW(static_cast<void>(wq->cancel_if(throws)), std::runtime_error);
  for (const probe& one : pending) {
    EXPECT_EQ(one.runs(), 0);
  }
  held.unblock();
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  for (const probe& one : pending) {
    EXPECT_EQ(one.runs(), 1);
    EXPECT_FALSE(one.was_cancelled());
  }
  EXPECT_EQ(wq->stats().bound.cancelled, 0U);
}

// W6: links that the program made before stay as they were, of a short chain and of a long one.
TEST(IoWqEdges, ARefusedChainIsLinkedAsBefore) {
  for (const std::size_t length : {3U, 100U}) {
    const auto wq = make_wq({.max_bound = 1});
    std::deque<probe> all(length);
    probe elsewhere;
    std::vector<work*> links;
    for (probe& one : all) {
      links.push_back(&one);
    }
    // Backwards, and the last one to a work that is not in the span.
    for (std::size_t i = 1; i < length; ++i) {
      all[i].then(&all[i - 1]);
    }
    all[0].then(&elsewhere);
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
    const result<void> refused = wq->submit_chain(links);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().value(), ESHUTDOWN);
    EXPECT_EQ(all[0].link(), &elsewhere);
    for (std::size_t i = 1; i < length; ++i) {
      EXPECT_EQ(all[i].link(), &all[i - 1]);
    }
    EXPECT_EQ(elsewhere.link(), nullptr);
  }
}

// X4: the engine itself, for only it knows how many domains it holds.
TEST(IoWqEdges, DomainsThatTheProgramHasDroppedAreLetGo) {
  constexpr std::size_t most_held = 32;
  auto nodes = detail::topology::discover({});
  auto signal = detail::interrupt_signal::acquire(0);
  ASSERT_TRUE(nodes && signal);
  detail::wq_core core({.max_bound = 1, .max_unbound = 1}, std::move(*nodes), std::move(*signal));
  ASSERT_TRUE(core.pool.life.start());
  const auto kept = *hash_domain::create();
  for (int i = 0; i < 200; ++i) {
    probe of_kept;
    of_kept.set_key(*kept, 1);
    const auto domain = *hash_domain::create();
    probe one;
    one.set_key(*domain, static_cast<std::uint64_t>(i));
    ASSERT_TRUE(core.pool.admission.submit(one, nullptr));
    ASSERT_TRUE(core.pool.admission.submit(of_kept, nullptr));
    one.wait_released();
    of_kept.wait_released();
    ASSERT_LE(core.pool.keys.domains.size(), most_held) << "after " << i + 1 << " domains";
  }
  EXPECT_TRUE(core.pool.keys.domains.with(*kept, [](auto&) {})) << "one that the program holds is held";
}

struct small_work : work {
  small_work() : work(operations) {}
  static void nothing(work&, work_context&) noexcept {}
  static void nothing_either(work&) noexcept {}
  static constexpr work_ops operations{nothing, nothing_either};
};

// CPU time of the process for submitting and running a work of each key while all of them wait.
std::chrono::nanoseconds cost_of(const std::vector<std::uint64_t>& keys) {
  const auto now = [] {
    timespec used{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
  };
  const auto wq = make_wq({.max_bound = 1});
  const auto domain = *hash_domain::create();
  held_worker held(*wq);
  std::deque<small_work> all(keys.size());
  const auto begin = now();
  for (std::size_t i = 0; i < keys.size(); ++i) {
    all[i].set_key(*domain, keys[i]);
    EXPECT_TRUE(wq->submit(all[i]));
  }
  held.unblock();
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  return now() - begin;
}

// H5: the keys would all fall into one bucket of one shard if the hash were the multiplication that anybody can look up: its top
// five bits and bits 15 to 58 are the same for all of them.
TEST(IoWqEdges, KeysThatAreChosenToCollideAreNotSlow) {
  constexpr std::uint64_t count = 20000;
  constexpr std::uint64_t multiplier = 0x9E3779B97F4A7C15;
  std::uint64_t inverse =
      multiplier;  // of the multiplication, by Newton's rule: each turn doubles the bits that are right
  for (int turn = 0; turn < 6; ++turn) {
    inverse *= 2 - multiplier * inverse;
  }
  ASSERT_EQ(inverse * multiplier, 1U);
  std::vector<std::uint64_t> sequential;
  std::vector<std::uint64_t> chosen;
  for (std::uint64_t i = 0; i < count; ++i) {
    sequential.push_back(i);
    const std::uint64_t folded = i * inverse;
    chosen.push_back(folded ^ (folded >> 32U));
    ASSERT_EQ((chosen[i] ^ (chosen[i] >> 32U)) * multiplier << 5U >> 20U, 0U);
  }
  constexpr int generous_factor = 8;
  const std::chrono::nanoseconds usual = cost_of(sequential);
  EXPECT_LE(cost_of(chosen), generous_factor * usual);
}

}  // namespace
}  // namespace io_wq_edges_test
}  // namespace sluice
