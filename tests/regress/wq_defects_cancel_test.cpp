// Goal: what went wrong with cancelling, identities and exit in the kernel's io-wq does not go wrong here. Method: many
// short rounds that meet each moment of a work's life; one test per defect.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <latch>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/base/unique_fd.h"
#include "sluice/wq/blocking_region.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"

#include "support/wq_probe.h"

namespace sluice {
namespace wq_defects_cancel_test {
namespace {

using test::make_wq;
using test::probe;

// Defect 10: a work between dequeue and "current" is invisible to cancel (C3 C2).
TEST(WqDefects, WorkOnItsWayFromTheQueueToItsRunIsFoundByHandle) {
  const auto wq = make_wq({.max_bound = 1});
  for (int round = 0; round < 3000; ++round) {
    std::atomic<bool> over{false};
    std::atomic<bool> may_end{false};
    probe victim([&](work_context& ctx) {
      while (!ctx.cancelled() && !may_end.load(std::memory_order_seq_cst)) {
        std::this_thread::yield();
      }
      over.store(true, std::memory_order_seq_cst);
    });
    const auto handle = wq->submit_tracked(victim);
    ASSERT_TRUE(handle);
    for (int i = 0; i < round % 16; ++i) {
      std::this_thread::yield();
    }
    may_end.store(round % 4 == 0, std::memory_order_seq_cst);
    const cancel_result said = wq->cancel(*handle);
    EXPECT_TRUE(said != cancel_result::not_found || over.load(std::memory_order_seq_cst));
    may_end.store(true, std::memory_order_seq_cst);
    victim.wait_released();
    EXPECT_EQ(victim.was_cancelled() || said != cancel_result::cancelled, true);
    EXPECT_EQ(victim.runs(), 1);
  }
}

// Defect 10: the same for those who cancel by owner, or all (C3 C6).
TEST(WqDefects, WorkOnItsWayFromTheQueueToItsRunIsFoundByOwner) {
  const auto wq = make_wq({.max_bound = 1});
  for (int round = 0; round < 3000; ++round) {
    probe victim([](work_context& ctx) {
      while (!ctx.cancelled()) {
        std::this_thread::yield();
      }
    });
    victim.set_owner(9);
    ASSERT_TRUE(wq->submit(victim));
    for (int i = 0; i < round % 16; ++i) {
      std::this_thread::yield();
    }
    const cancel_counts found = round % 2 == 0 ? wq->cancel_owner(9) : wq->cancel_all();
    ASSERT_EQ(found.cancelled + found.running, 1U);
    victim.wait_released();
    EXPECT_EQ(victim.runs(), 1);
  }
}

// Defect 11: pending no_cancel work is run in the canceller's thread (C4).
TEST(WqDefects, PendingNoCancelWorkIsNotRunByTheCanceller) {
  const auto wq = make_wq({.max_bound = 1});
  const auto domain = *hash_domain::create();
  std::latch go(1);
  std::latch started(1);
  probe blocker(
      [&](work_context&) {
        started.count_down();
        const blocking_region region;
        go.wait();
      },
      work_class::bound, work_flags::no_cancel);
  blocker.set_key(*domain, 1);
  ASSERT_TRUE(wq->submit(blocker));
  started.wait();
  std::vector<std::unique_ptr<probe>> pending;
  for (int i = 0; i < 8; ++i) {
    pending.push_back(std::make_unique<probe>([&](work_context&) { EXPECT_TRUE(wq->on_worker()); }, work_class::bound,
                                              work_flags::no_cancel));
    pending.back()->set_owner(5);
    if (i % 2 == 0) {
      pending.back()->set_key(*domain, 1);
    }
    const auto handle = wq->submit_tracked(*pending.back());
    ASSERT_TRUE(handle);
    EXPECT_EQ(wq->cancel(*handle), cancel_result::not_found);
  }
  EXPECT_EQ(wq->cancel_owner(5).cancelled, 0U);
  EXPECT_EQ(wq->cancel_if([](const work_view&) { return true; })->cancelled, 0U);
  EXPECT_EQ(wq->cancel_all().cancelled, 0U);
  for (const auto& one : pending) {
    EXPECT_EQ(one->runs(), 0);
  }
  std::jthread opener([&] { go.count_down(); });
  EXPECT_EQ(wq->stop(stop_policy::cancel_queued).cancelled, 0U);
  for (const auto& one : pending) {
    EXPECT_FALSE(one->was_cancelled());
    EXPECT_EQ(one->runs(), 1);
    EXPECT_NE(one->ran_on(), std::this_thread::get_id());
  }
}

// Defect 12: a work without an identity runs under that of the work before it.
TEST(WqDefects, WorkWithoutIdentityInheritsNone) {
  const auto wq = make_wq({.max_bound = 1});
  probe first([&](work_context&) { EXPECT_TRUE(first.who()); });
  first.set_identity(identity::neutral());
  first.on_release([&] { EXPECT_FALSE(first.who()) << "the count is dropped before the release"; });
  probe second([&](work_context&) { EXPECT_FALSE(second.who()); });
  const std::array<work*, 2> both{&first, &second};
  ASSERT_EQ(*wq->submit(std::span<work* const>(both)), 2U);
  wq->stop(stop_policy::run_queued);
  EXPECT_EQ(first.ran_on(), second.ran_on());
}

// Defect 14: a cancel signal that is aimed at A hits B (C5).
TEST(WqDefects, SignalForOneWorkNeverInterruptsTheNext) {
  const auto wq = make_wq({.max_unbound = 1});
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const unique_fd reader(ends[0]);
  const unique_fd writer(ends[1]);
  for (int round = 0; round < 500; ++round) {
    std::latch started(1);
    probe victim(
        [&](work_context& ctx) {
          started.count_down();
          while (!ctx.cancelled()) {
            const blocking_region region;
            static_cast<void>(::poll(nullptr, 0, -1));
          }
        },
        work_class::unbound);
    std::latch next_started(1);
    ssize_t got = 0;
    probe next(
        [&](work_context& ctx) {
          next_started.count_down();
          const blocking_region region;
          char byte = 0;
          got = ::read(reader.get(), &byte, 1) == 1 ? 1 : -errno;
          EXPECT_FALSE(ctx.cancelled());
        },
        work_class::unbound);
    const auto handle = wq->submit_tracked(victim);
    ASSERT_TRUE(handle);
    ASSERT_TRUE(wq->submit(next));
    started.wait();
    // From two sides, so that one signal may still be on its way when the other has done its work.
    std::jthread another([&] { static_cast<void>(wq->cancel(*handle)); });
    static_cast<void>(wq->cancel(*handle));
    next_started.wait();
    another.join();
    ASSERT_EQ(::write(writer.get(), "x", 1), 1);
    next.wait_released();
    EXPECT_EQ(got, 1) << "the read of a stranger was interrupted";
    EXPECT_FALSE(next.was_cancelled());
  }
}

// Defect 15: a submit after exit strands the work (X3 W6 X6).
TEST(WqDefects, SubmitThatRacesWithStopIsRunOrRefused) {
  for (int round = 0; round < 200; ++round) {
    const auto wq = make_wq({.max_bound = 2, .max_unbound = 2});
    std::vector<std::unique_ptr<probe>> accepted;
    std::latch flowing(1);
    std::jthread submitter([&] {
      while (accepted.size() < 20'000) {
        auto one = std::make_unique<probe>();
        one->set_class(accepted.size() % 2 == 0 ? work_class::bound : work_class::unbound);
        const auto how = wq->submit(*one);
        if (!how) {
          EXPECT_EQ(how.error().value(), ESHUTDOWN);
          EXPECT_EQ(one->runs() + one->releases(), 0);
          break;
        }
        accepted.push_back(std::move(one));
        if (accepted.size() == 8) {
          flowing.count_down();
        }
      }
    });
    flowing.wait();
    EXPECT_TRUE(wq->stop(round % 2 == 0 ? stop_policy::run_queued : stop_policy::cancel_queued).finished);
    submitter.join();
    for (const auto& one : accepted) {
      EXPECT_EQ(one->runs(), 1);
      EXPECT_EQ(one->releases(), 1);
      EXPECT_FALSE(round % 2 == 0 && one->was_cancelled());
    }
    const wq_stats stats = wq->stats();
    EXPECT_EQ(stats.bound.accepted + stats.unbound.accepted, accepted.size());
    EXPECT_EQ(stats.bound.released + stats.unbound.released, accepted.size());
  }
}

}  // namespace
}  // namespace wq_defects_cancel_test
}  // namespace sluice
