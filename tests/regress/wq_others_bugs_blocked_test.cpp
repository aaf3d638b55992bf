// Goal: bugs that other pools shipped are not in this one: storms of workers, marks of blocking that stay, buffers that
// come back too early, an idle pool that burns CPU. Method: the scene of each report, rebuilt with latches and pipes.
#include <unistd.h>

#include <array>
#include <cerrno>
#include <latch>
#include <memory>
#include <semaphore>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/base/unique_fd.h"
#include "sluice/wq/blocking_region.h"
#include "sluice/wq/io_wq.h"

#include "support/proc_threads.h"
#include "support/wq_probe.h"

namespace sluice {
namespace wq_others_bugs_blocked_test {
namespace {

using namespace std::chrono_literals;
using test::make_wq;
using test::probe;

struct pipe_pair {
  pipe_pair() {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    reader.reset(ends[0]);
    writer.reset(ends[1]);
  }
  unique_fd reader;
  unique_fd writer;
};

// liburing #976: a pool of three becomes four hundred while its works block (P1).
TEST(WqOthersBugs, PoolOfThreeDoesNotBecomeFourHundred) {
  for (const bool says_so : {true, false}) {
    const auto wq = make_wq({.max_bound = 2, .max_unbound = 3, .idle_timeout = 1h});
    std::latch go(1);
    std::vector<std::unique_ptr<probe>> all;
    for (int i = 0; i < 400; ++i) {
      all.push_back(std::make_unique<probe>(
          [&](work_context&) {
            if (says_so) {
              const blocking_region region;
              go.wait();
            } else {
              go.wait();
            }
          },
          work_class::unbound));
      ASSERT_TRUE(wq->submit(*all.back()));
    }
    while (wq->stats().unbound.queued != 397) {
      std::this_thread::yield();
    }
    for (int i = 0; i < 200; ++i) {
      probe other;
      ASSERT_TRUE(wq->submit(other));
      other.wait_released();
      EXPECT_LE(wq->stats().unbound.workers, 3U);
    }
    go.count_down();
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
    EXPECT_LE(wq->stats().unbound.workers_created, 3U);
  }
}

// liburing #1466: eight requests in flight start 311 threads (P1 P6).
TEST(WqOthersBugs, EightWorksInFlightNeedAboutEightWorkers) {
  constexpr std::size_t depth = 8;
  constexpr int rounds = 300;
  const auto wq = make_wq({.max_unbound = 512, .idle_timeout = 1h});
  const pipe_pair pipe;
  std::counting_semaphore<> returned(0);
  std::array<std::unique_ptr<probe>, depth> all;
  std::atomic<int> left{rounds * static_cast<int>(depth)};
  for (auto& one : all) {
    one = std::make_unique<probe>(
        [&](work_context&) {
          const blocking_region region;
          char byte = 0;
          EXPECT_EQ(::read(pipe.reader.get(), &byte, 1), 1);
        },
        work_class::unbound);
    one->on_release([&, self = one.get()] {
      if (left.fetch_sub(1, std::memory_order_seq_cst) > static_cast<int>(depth)) {
        EXPECT_TRUE(wq->submit(*self));
      }
      returned.release();
    });
    ASSERT_TRUE(wq->submit(*one));
  }
  for (int i = 0; i < rounds * static_cast<int>(depth); ++i) {
    ASSERT_EQ(::write(pipe.writer.get(), "x", 1), 1);
    if (i % 4 == 0) {
      returned.acquire();  // keeps some blocked and some on their way
    }
  }
  for (std::uint64_t released = 0; released != rounds * depth;) {
    released = wq->stats().unbound.released;
    std::this_thread::yield();
  }
  wq->stop(stop_policy::run_queued);
  // One that the machine did not let go on may be taken for blocked, so that a few more than eight are right too.
  EXPECT_LE(wq->stats().unbound.workers_created, 4 * depth);
}

// A work that runs, neither blocked nor done, until it is let go; expects to be counted so meanwhile.
void expect_counted_as_running(io_wq& wq) {
  std::latch started(1);
  std::atomic<bool> over{false};
  probe busy([&](work_context&) {
    started.count_down();
    while (!over.load(std::memory_order_seq_cst)) {
      std::this_thread::yield();
    }
  });
  ASSERT_TRUE(wq.submit(busy));
  started.wait();
  const class_stats now = wq.stats().bound;
  EXPECT_EQ(now.running, 1U);
  EXPECT_EQ(now.blocked, 0U);
  over.store(true, std::memory_order_seq_cst);
  busy.wait_released();
}

// jdk #9841: the mark "blocked" of one work is still set when its worker runs the next (P2 P6).
TEST(WqOthersBugs, MarkOfBlockingEndsWithTheRegionAndTheWork) {
  const auto wq = make_wq({.max_bound = 1});
  const pipe_pair pipe;
  // ThreadSanitizer puts a handler off until the next call that it knows. A signal that comes just before read(2) is
  // then on its way for as long as the read lasts, and the pool sends no second one: about one round in 1200.
#if defined(__SANITIZE_THREAD__)
  constexpr int rounds = 2;
#else
  constexpr int rounds = 50;
#endif
  for (int round = 0; round < rounds; ++round) {
    probe nests([](work_context&) {
      const blocking_region outer;
      const blocking_region inner;
    });
    ASSERT_TRUE(wq->submit(nests));
    nests.wait_released();
    expect_counted_as_running(*wq);

    std::latch started(1);
    probe interrupted([&](work_context& ctx) {
      while (!ctx.cancelled()) {
        const blocking_region region;
        started.count_down(started.try_wait() ? 0 : 1);
        char byte = 0;
        static_cast<void>(::read(pipe.reader.get(), &byte, 1));
      }
    });
    const auto handle = wq->submit_tracked(interrupted);
    ASSERT_TRUE(handle);
    started.wait();
    EXPECT_EQ(wq->cancel(*handle), cancel_result::running);
    interrupted.wait_released();
    expect_counted_as_running(*wq);

    // Found blocked by the sampler: something of its class waits, and nobody takes it.
    std::latch go(1);
    probe silent([&](work_context&) { go.wait(); });
    probe behind;
    ASSERT_TRUE(wq->submit(silent));
    ASSERT_TRUE(wq->submit(behind));
    while (wq->stats().bound.blocked == 0) {
      std::this_thread::yield();
    }
    go.count_down();
    silent.wait_released();
    behind.wait_released();
    expect_counted_as_running(*wq);
  }
}

// jdk #9841: and the end of an inner region does not end the outer one (P6).
TEST(WqOthersBugs, InnerRegionDoesNotEndTheOuter) {
  const auto wq = make_wq({.max_bound = 2});
  std::latch nested(1);
  std::latch go(1);
  probe blocker([&](work_context&) {
    const blocking_region outer;
    {
      const blocking_region inner;
    }
    nested.count_down();
    go.wait();
  });
  ASSERT_TRUE(wq->submit(blocker));
  nested.wait();
  EXPECT_EQ(wq->stats().bound.blocked, 1U);
  probe next;
  ASSERT_TRUE(wq->submit(next));
  next.wait_released();
  go.count_down();
  blocker.wait_released();
  EXPECT_EQ(wq->stats().bound.found_blocked, 0U);
}

// vibe-core #227: the buffer of a cancelled read is used again while the read still writes to it (C8 C1 C2).
TEST(WqOthersBugs, BufferOfACancelledReadComesBackAtItsRelease) {
  const auto wq = make_wq({.max_unbound = 2});
  pipe_pair pipe;
  std::uint64_t written = 0;
  std::uint64_t received = 0;
  for (int round = 0; round < 600; ++round) {
    // The bytes belong to the run from its beginning to its end; a plain buffer, so that a race is a race.
    std::array<char, 64> buffer{};
    ssize_t got = 0;
    probe reader(
        [&](work_context& ctx) {
          while (got <= 0 && !ctx.cancelled()) {
            const blocking_region region;
            got = ::read(pipe.reader.get(), buffer.data(), buffer.size());
          }
          buffer.fill('r');
        },
        work_class::unbound);
    const auto handle = wq->submit_tracked(reader);
    ASSERT_TRUE(handle);
    for (int i = 0; i < round % 8; ++i) {
      std::this_thread::yield();
    }
    if (round % 3 == 0) {
      ASSERT_EQ(::write(pipe.writer.get(), "data", 4), 4);
      written += 4;
    }
    const cancel_result said = wq->cancel(*handle);
    if (said == cancel_result::cancelled) {
      // Over at once: nothing was read, and nobody will.
      EXPECT_TRUE(reader.was_cancelled());
      EXPECT_EQ(got, 0);
      EXPECT_EQ(reader.releases(), 1);
    } else {
      reader.wait_released();
      EXPECT_EQ(reader.was_cancelled() ? '\0' : 'r', buffer[0]);
    }
    buffer.fill('m');
    received += got > 0 ? static_cast<std::uint64_t>(got) : 0;
    EXPECT_EQ(std::string(buffer.size(), 'm'), std::string(buffer.data(), buffer.size()));
  }
  // What no cancelled read took is still in the pipe, to the byte.
  std::array<char, 4096> rest{};
  pipe.writer.reset();
  const ssize_t left = ::read(pipe.reader.get(), rest.data(), rest.size());
  received += left > 0 ? static_cast<std::uint64_t>(left) : 0;
  EXPECT_EQ(received, written);
}

// Waits that long for something that never comes.
void let_time_pass(std::chrono::milliseconds length) {
  std::binary_semaphore never(0);
  EXPECT_FALSE(never.try_acquire_for(length));
}

// Expects that no thread of the pool runs at all while nothing is to be done.
void expect_quiet(std::string_view prefix) {
  auto before = test::switches_of_threads(prefix);
  EXPECT_FALSE(before.empty());
  for (int i = 0; i < 100; ++i) {
    // The last works may still have something to put away.
    let_time_pass(20ms);
    if (const auto now = test::switches_of_threads(prefix); now != std::exchange(before, now)) {
      continue;
    }
    break;
  }
  let_time_pass(300ms);
  EXPECT_EQ(test::switches_of_threads(prefix), before) << "an idle thread was woken";
}

// taskflow #681: an idle pool burns CPU.
TEST(WqOthersBugs, IdlePoolDoesNotWakeUp) {
  const auto wq = make_wq({.max_bound = 3, .max_unbound = 3, .idle_timeout = 1h, .name = "quiet"});
  std::latch all_in(6);
  std::vector<std::unique_ptr<probe>> all;
  for (int i = 0; i < 6; ++i) {
    all.push_back(std::make_unique<probe>(
        [&](work_context&) {
          const blocking_region region;
          all_in.arrive_and_wait();
        },
        i % 2 == 0 ? work_class::bound : work_class::unbound));
    ASSERT_TRUE(wq->submit(*all.back()));
  }
  for (const auto& one : all) {
    one->wait_released();
  }
  expect_quiet("quiet");
}

// taskflow #681: nor one in which nothing is queued but a work waits for ever, told or not.
TEST(WqOthersBugs, PoolWithABlockedWorkDoesNotWakeUp) {
  for (const bool says_so : {true, false}) {
    const auto wq = make_wq({.max_unbound = 3, .idle_timeout = 1h, .name = "hushed"});
    std::latch started(1);
    std::latch go(1);
    probe blocker(
        [&](work_context&) {
          started.count_down();
          if (says_so) {
            const blocking_region region;
            go.wait();
          } else {
            go.wait();
          }
        },
        work_class::unbound);
    ASSERT_TRUE(wq->submit(blocker));
    started.wait();
    expect_quiet("hushed");
    go.count_down();
    wq->stop(stop_policy::run_queued);
  }
}

}  // namespace
}  // namespace wq_others_bugs_blocked_test
}  // namespace sluice
