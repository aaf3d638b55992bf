// Goal: the invariants of io_wq that no single scene shows: nothing is touched after publication, a key's run is bounded,
// counters stay sane in every snapshot, nobody leaves with work in the queue, one canceller wins, the last user destroys.
// Method: many short rounds through the public interface; states are reached by latches, never by waiting.
#include <algorithm>
#include <array>
#include <barrier>
#include <cstring>
#include <latch>
#include <new>

#include <gtest/gtest.h>

#include "sluice/wq/blocking_region.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"

#include "support/proc_threads.h"
#include "support/wq_probe.h"

namespace sluice {
namespace io_wq_invariants_test {
namespace {

using namespace std::chrono_literals;
using test::fleeting;
using test::held_worker;
using test::make_wq;
using test::probe;

// W3: a work that deletes itself in its release, on another thread, while the submit may still be under way.
TEST(IoWqInvariants, NothingOfAWorkIsTouchedOnceItIsFreed) {
  constexpr int rounds = 2000;
  const auto wq = make_wq({.max_bound = 2});
  const auto domain = *hash_domain::create();
  std::atomic<int> released{0};
  int sent = 0;
  for (int i = 0; i < rounds; ++i) {
    auto* const plain = new fleeting(released);
    auto* const keyed = new fleeting(released);
    auto* const followed = new fleeting(released);
    auto* const timed = new fleeting(released);
    keyed->set_key(*domain, static_cast<std::uint64_t>(i % 3));
    keyed->set_flags(work_flags::concurrent);
    followed->set_key(*domain, 1);
    followed->then(new fleeting(released));
    timed->set_deadline(std::chrono::steady_clock::now() + 1h);
    const std::array<work*, 2> batch{new fleeting(released), new fleeting(released)};
    ASSERT_TRUE(wq->submit(*plain));
    ASSERT_TRUE(wq->submit_tracked(*keyed));
    ASSERT_TRUE(wq->submit(*followed));
    ASSERT_TRUE(wq->submit(*timed));
    ASSERT_EQ(*wq->submit(std::span<work* const>(batch)), 2U);
    sent += 7;
    // A short queue: the next submit meets a worker that just went idle as often as one that is at work.
    while (i % 2 == 0 && released.load(std::memory_order_seq_cst) != sent) {
      std::this_thread::yield();
    }
  }
  wq->stop(stop_policy::run_queued);
  EXPECT_EQ(released.load(std::memory_order_seq_cst), sent);
}

constexpr int ash = 0xA5;

// A work whose release burns the memory that it lies in.
struct burning : work {
  burning() : work(operations) {}
  static void do_run(work&, work_context&) noexcept {}
  static void do_release(work& w) noexcept {
    auto* const self = static_cast<burning*>(&w);
    self->~burning();
    std::memset(static_cast<void*>(self), ash, sizeof(burning));
  }
  static constexpr work_ops operations{do_run, do_release};
};

// W3: nor is it written to; also seen without a sanitizer.
TEST(IoWqInvariants, ReleasedMemoryKeepsWhatTheUserWroteThere) {
  struct alignas(burning) place {
    std::array<std::byte, sizeof(burning)> bytes;
  };
  constexpr std::size_t count = 20'000;
  std::vector<place> field(count);
  const auto domain = *hash_domain::create();
  const auto wq = make_wq({.max_bound = 2, .max_unbound = 2});
  for (std::size_t i = 0; i + 1 < count; i += 2) {
    auto* const head = new (&field[i]) burning;
    auto* const other = new (&field[i + 1]) burning;
    head->set_class(i % 3 == 0 ? work_class::unbound : work_class::bound);
    other->set_key(*domain, i % 5);
    if (i % 4 == 0) {
      head->then(other);
      ASSERT_TRUE(wq->submit(*head));
    } else {
      const auto handle = wq->submit_tracked(*other);
      ASSERT_TRUE(handle);
      ASSERT_TRUE(wq->submit(*head));
      static_cast<void>(wq->cancel(*handle));
    }
  }
  wq->stop(stop_policy::run_queued);
  for (const place& one : field) {
    ASSERT_TRUE(std::ranges::all_of(one.bytes, [](std::byte b) { return b == std::byte{ash}; }));
  }
}

// Works of one key that submit themselves again as long as they may: the key's queue never runs dry.
class endless_key {
 public:
  endless_key(io_wq& wq, hash_domain& domain) {
    for (int i = 0; i < 4; ++i) {
      works_.push_back(std::make_unique<probe>([this](work_context&) {
        if (counted.load(std::memory_order_seq_cst)) {
          ++runs;
        }
        flowing.count_down(flowing.try_wait() ? 0 : 1);
      }));
      works_.back()->set_key(domain, 1);
      works_.back()->on_release([this, &wq, one = works_.back().get()] {
        if (!ended.load(std::memory_order_seq_cst) && runs < most) {
          static_cast<void>(wq.submit(*one));  // refused once the stop has begun
        }
      });
    }
    for (const auto& one : works_) {
      EXPECT_TRUE(wq.submit(*one));
    }
  }

  static constexpr int most = 100'000;
  std::latch flowing{16};
  std::atomic<bool> counted{false};
  std::atomic<bool> ended{false};
  int runs = 0;  // since they were counted; a key runs one at a time

 private:
  std::vector<std::unique_ptr<probe>> works_;
};

// H7 H3: one key with an endless stream of works does not own the only worker.
TEST(IoWqInvariants, EndlessKeyLetsAnotherKeyAndUnhashedWorkThrough) {
  const auto wq = make_wq({.max_bound = 1});
  const auto domain = *hash_domain::create();
  endless_key stream(*wq, *domain);
  stream.flowing.wait();
  probe stranger;
  stranger.set_key(*domain, 2);
  probe unhashed;
  ASSERT_TRUE(wq->submit(stranger));
  ASSERT_TRUE(wq->submit(unhashed));
  stream.counted.store(true, std::memory_order_seq_cst);
  stranger.wait_released();
  unhashed.wait_released();
  stream.ended.store(true, std::memory_order_seq_cst);
  wq->stop(stop_policy::run_queued);
  EXPECT_LT(stream.runs, endless_key::most) << "the others ran only when the stream had dried up";
}

// H7: the same for a key whose works are all there already, in a queue longer than any one run of a key should be.
TEST(IoWqInvariants, LongQueueOfOneKeyIsNoSingleRun) {
  constexpr int length = 20'000;
  const auto wq = make_wq({.max_bound = 1});
  const auto domain = *hash_domain::create();
  std::latch go(1);
  probe first([&](work_context&) {
    const blocking_region region;
    go.wait();
  });
  first.set_key(*domain, 1);
  ASSERT_TRUE(wq->submit(first));
  int runs = 0;
  int runs_before_stranger = -1;
  std::vector<std::unique_ptr<probe>> all;
  for (int i = 0; i < length; ++i) {
    all.push_back(std::make_unique<probe>([&](work_context&) { ++runs; }));
    all.back()->set_key(*domain, 1);
    ASSERT_TRUE(wq->submit(*all.back()));
  }
  probe stranger([&](work_context&) { runs_before_stranger = runs; });
  ASSERT_TRUE(wq->submit(stranger));
  go.count_down();
  wq->stop(stop_policy::run_queued);
  EXPECT_EQ(runs, length);
  EXPECT_LT(runs_before_stranger, length / 2);
}

void expect_sane(const class_stats& one, std::size_t most) {
  EXPECT_LE(one.running, one.workers);
  EXPECT_LE(one.blocked, one.workers);
  EXPECT_LE(one.idle, one.workers);
  EXPECT_LE(one.workers, most);
  EXPECT_LT(one.queued, std::size_t{1} << 20);
  EXPECT_LT(one.waiting_on_key, std::size_t{1} << 20);
}

// P1 P2: 0 <= running <= workers <= the highest limit in every snapshot of a wild mix, and nothing wraps.
TEST(IoWqInvariants, CountersAreSaneInEverySnapshot) {
  constexpr unsigned most = 4;
  const auto wq = make_wq({.max_bound = most, .max_unbound = most, .idle_timeout = 1ms});
  const auto domain = *hash_domain::create();
  std::atomic<int> under_way{2};
  std::vector<std::jthread> crowd;
  for (int t = 0; t < 2; ++t) {
    crowd.emplace_back([&, t] {
      for (int i = 0; i < 100; ++i) {
        std::vector<std::unique_ptr<probe>> some;
        for (int j = 0; j < 16; ++j) {
          some.push_back(std::make_unique<probe>([j](work_context&) {
            if (j % 2 == 0) {
              const blocking_region outer;
              const blocking_region inner;
              std::this_thread::yield();
            }
          }));
          some.back()->set_class(j % 3 == 0 ? work_class::unbound : work_class::bound);
          some.back()->set_flags(j % 5 == 0 ? work_flags::concurrent : work_flags::none);
          if (j % 4 == 1) {
            some.back()->set_key(*domain, static_cast<std::uint64_t>(j));
          }
          EXPECT_TRUE(wq->submit(*some.back()));
        }
        wq->set_max_workers(t == 0 ? work_class::bound : work_class::unbound, 1 + static_cast<unsigned>(i) % most);
        for (const auto& one : some) {
          one->wait_released();
        }
      }
      under_way.fetch_sub(1, std::memory_order_seq_cst);
    });
  }
  while (under_way.load(std::memory_order_seq_cst) != 0) {
    const wq_stats now = wq->stats();
    expect_sane(now.bound, most);
    expect_sane(now.unbound, most);
  }
  crowd.clear();
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  EXPECT_EQ(wq->stats().bound.accepted, wq->stats().bound.released);
}

// P4 P5: work that comes just when the last worker's idle time is over is not left lying.
TEST(IoWqInvariants, WorkThatMeetsALeavingWorkerIsRun) {
  constexpr auto idle = 1ms;
  const auto wq = make_wq({.max_unbound = 1, .idle_timeout = idle});
  for (int i = 0; i < 1000; ++i) {
    probe one(nullptr, work_class::unbound);
    ASSERT_TRUE(wq->submit(one));
    one.wait_released();
    EXPECT_FALSE(one.was_cancelled());
    // From a little before the time-out to a little after it. Only where the race is sought depends on the clock.
    const auto until = std::chrono::steady_clock::now() + idle - 20us + 1us * (i * 7 % 200);
    while (std::chrono::steady_clock::now() < until) {
      std::this_thread::yield();
    }
  }
  // Both sides of the race were met at all: it left in some rounds.
  while (wq->stats().unbound.workers_died == 0) {
    std::this_thread::yield();
  }
}

// P7: concurrent work does not wait for a worker that runs and is not blocked.
TEST(IoWqInvariants, ConcurrentWorkStartsASecondWorker) {
  int without_the_sampler = 0;
  for (int i = 0; i < 50; ++i) {
    const auto wq = make_wq({.max_bound = 2});
    std::latch started(1);
    std::atomic<bool> over{false};
    probe busy([&](work_context&) {
      started.count_down();
      while (!over.load(std::memory_order_seq_cst)) {
        std::this_thread::yield();
      }
    });
    ASSERT_TRUE(wq->submit(busy));
    started.wait();
    probe second(nullptr, work_class::bound, work_flags::concurrent);
    ASSERT_TRUE(wq->submit(second));
    second.wait_released();
    const class_stats stats = wq->stats().bound;
    EXPECT_EQ(stats.workers, 2U);
    EXPECT_NE(second.ran_on(), std::thread::id());
    without_the_sampler += stats.found_blocked == 0 ? 1 : 0;
    over.store(true, std::memory_order_seq_cst);
    busy.wait_released();
    EXPECT_NE(second.ran_on(), busy.ran_on());
  }
  EXPECT_GT(without_the_sampler, 0) << "it is only ever started because the running one was taken for blocked";
}

// C7 C1: of two cancels of one pending work exactly one is told that it cancelled it.
TEST(IoWqInvariants, OneOfTwoCancelsWins) {
  const auto wq = make_wq({.max_bound = 1});
  held_worker blocker(*wq);
  std::barrier together(2);
  work_handle handle;
  cancel_result theirs = cancel_result::not_found;
  constexpr int rounds = 1000;
  std::jthread other([&] {
    for (int i = 0; i < rounds; ++i) {
      together.arrive_and_wait();
      theirs = wq->cancel(handle);
      together.arrive_and_wait();
    }
  });
  for (int i = 0; i < rounds; ++i) {
    probe victim;
    handle = wq->submit_tracked(victim).value_or(work_handle());
    together.arrive_and_wait();
    const cancel_result ours = wq->cancel(handle);
    together.arrive_and_wait();
    EXPECT_NE(ours == cancel_result::cancelled, theirs == cancel_result::cancelled);
    EXPECT_TRUE(victim.was_cancelled());
    EXPECT_EQ(victim.runs() + victim.releases(), 2);
  }
  blocker.unblock();
  other.join();
  wq->stop(stop_policy::run_queued);
}

// C7 C6 C3: the same between a cancel by handle, a cancel by owner and the worker that would run it.
TEST(IoWqInvariants, OneOfAHandleAnOwnerAndAWorkerWins) {
  const auto wq = make_wq({.max_bound = 1});
  std::barrier together(2);
  std::size_t theirs = 0;
  constexpr int rounds = 1000;
  std::jthread other([&] {
    for (int i = 0; i < rounds; ++i) {
      together.arrive_and_wait();
      theirs = wq->cancel_owner(7).cancelled;
      together.arrive_and_wait();
    }
  });
  for (int i = 0; i < rounds; ++i) {
    probe before;
    probe victim;
    victim.set_owner(7);
    ASSERT_TRUE(wq->submit(before));
    const auto handle = wq->submit_tracked(victim);
    ASSERT_TRUE(handle);
    together.arrive_and_wait();
    const cancel_result said = wq->cancel(*handle);
    EXPECT_TRUE(said != cancel_result::not_found || victim.run_is_over());
    const std::size_t ours = said == cancel_result::cancelled ? 1U : 0U;
    together.arrive_and_wait();
    victim.wait_released();
    before.wait_released();
    // The thread that cancelled gave it up, or it ran on a worker.
    EXPECT_EQ(ours, victim.ran_on() == std::this_thread::get_id() ? 1U : 0U);
    EXPECT_EQ(theirs, victim.ran_on() == other.get_id() ? 1U : 0U);
    EXPECT_TRUE(ours + theirs == 0 || victim.was_cancelled());
    EXPECT_EQ(victim.runs() + victim.releases(), 2);
  }
}

// X2 P9: a user that leaves takes nothing along; the last one stops the pool and joins its threads.
TEST(IoWqInvariants, OnlyTheLastUserDestroys) {
  auto mine = make_wq({.name = "last"});
  {
    const ref<io_wq> another = mine;  // NOLINT(performance-unnecessary-copy-initialization): the copy is what is tested
  }
  probe still;
  ASSERT_TRUE(mine->submit(still));
  still.wait_released();
  EXPECT_FALSE(still.was_cancelled());
  EXPECT_NE(test::threads_named("last"), 0U);
  mine.reset();
  // A joined thread may be listed for a moment longer.
  while (test::threads_named("last") != 0) {
    std::this_thread::yield();
  }
}

// X2 X1 W1: whoever of many users is last, every accepted work is over when its put returns.
TEST(IoWqInvariants, TheLastOfManyUsersLeavesNothingBehind) {
  for (int round = 0; round < 50; ++round) {
    constexpr std::size_t users = 3;
    std::array<std::array<probe, 8>, users> works;
    std::atomic<std::size_t> released{0};
    std::atomic<int> last{0};
    const auto leave = [&](ref<io_wq>& user) {
      if (user.release()->put()) {
        last.fetch_add(1, std::memory_order_seq_cst);
        EXPECT_EQ(released.load(std::memory_order_seq_cst), users * 8);
      }
    };
    auto first = make_wq({.max_bound = 2});
    std::vector<std::jthread> crowd;
    for (std::size_t u = 0; u < users; ++u) {
      crowd.emplace_back([&, u, user = first]() mutable {
        for (probe& one : works[u]) {
          one.on_release([&] { released.fetch_add(1, std::memory_order_seq_cst); });
          EXPECT_TRUE(user->submit(one));
        }
        leave(user);
      });
    }
    leave(first);
    crowd.clear();
    EXPECT_EQ(last.load(std::memory_order_seq_cst), 1);
    for (const auto& some : works) {
      for (const probe& one : some) {
        EXPECT_EQ(one.runs() + one.releases(), 2);
      }
    }
  }
}

}  // namespace
}  // namespace io_wq_invariants_test
}  // namespace sluice
