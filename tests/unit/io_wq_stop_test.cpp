// Goal: what a stop does with works is what its policy says: run_queued runs all of them, cancel_queued gives up what waits
// and asks what runs (X6 X1 W1).
// Method: works that end only when they are asked to stop, by each of the ways in which a work can hear of it; works that wait
// behind a gate. A work that a stop forgets holds it up, and the scene is not over within its minute.
#include <unistd.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <latch>
#include <memory>
#include <mutex>
#include <stop_token>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/base/unique_fd.h"
#include "sluice/wq/blocking_region.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"

#include "support/wq_probe.h"

namespace sluice {
namespace io_wq_stop_test {
namespace {

using namespace std::chrono_literals;
using test::make_wq;
using test::probe;
using test::within_a_minute;

// How a running work hears that it is to stop.
enum class hears : std::uint8_t { by_flag, by_token, by_callback, by_interrupt };
constexpr std::array all_ways{hears::by_flag, hears::by_token, hears::by_callback, hears::by_interrupt};

void wait_for_token(const std::stop_token& token) {
  std::mutex lock;
  std::condition_variable_any asked;
  std::unique_lock held(lock);
  asked.wait(held, token, [] { return false; });
}

// Runs until it is asked to stop, which it learns in its own way.
class until_asked : public probe {
 public:
  explicit until_asked(hears how)
      : probe([this, how](work_context& ctx) {
          started.count_down();
          const blocking_region region;
          wait_until_asked(how, ctx);
          asked = ctx.cancelled();
        }) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    reader_ = unique_fd(ends[0]);
    writer_ = unique_fd(ends[1]);
  }
  std::latch started{1};
  bool asked = false;

 private:
  void wait_until_asked(hears how, work_context& ctx) {
    switch (how) {
      case hears::by_flag:
        while (!ctx.cancelled()) {
          std::this_thread::yield();
        }
        break;
      case hears::by_token:
        wait_for_token(ctx.stop_token());
        break;
      case hears::by_callback: {
        std::latch heard(1);
        const std::stop_callback callback(ctx.stop_token(), [&] { heard.count_down(); });
        heard.wait();
        break;
      }
      case hears::by_interrupt: {
        char byte = 0;
        while (!ctx.cancelled()) {
          EXPECT_EQ(::read(reader_.get(), &byte, 1), -1);
          EXPECT_EQ(errno, EINTR);
        }
        break;
      }
    }
  }

  unique_fd reader_;
  unique_fd writer_;
};

// X6: what runs in either class, with a key or in a chain, is asked; what waits behind it is given up, and counted exactly.
TEST(IoWqStop, CancelQueuedAsksWhatRunsAndGivesUpWhatWaits) {
  within_a_minute([] {
    const auto wq = make_wq({.max_bound = 4, .max_unbound = 4});
    const auto domain = *hash_domain::create();
    std::vector<std::unique_ptr<until_asked>> running;
    std::vector<std::unique_ptr<probe>> rest;
    for (const work_class cls : {work_class::bound, work_class::unbound}) {
      for (const hears how : all_ways) {
        running.push_back(std::make_unique<until_asked>(how));
        running.back()->set_class(cls);
        if (how == hears::by_token) {
          running.back()->set_key(*domain, static_cast<std::uint64_t>(cls));
        }
        if (how == hears::by_callback) {
          rest.push_back(std::make_unique<probe>());
          running.back()->then(rest.back().get());
        }
        ASSERT_TRUE(wq->submit(*running.back()));
      }
    }
    for (const auto& one : running) {
      one->started.wait();
    }
    for (int i = 0; i < 40; ++i) {
      rest.push_back(std::make_unique<probe>(nullptr, i % 2 == 0 ? work_class::bound : work_class::unbound));
      if (i % 4 < 2) {
        rest.back()->set_key(*domain, static_cast<std::uint64_t>(i % 2));
      }
      ASSERT_TRUE(wq->submit(*rest.back()));
    }
    const stop_report report = wq->stop(stop_policy::cancel_queued);
    EXPECT_TRUE(report.finished);
    EXPECT_EQ(report.cancelled, rest.size());
    for (const auto& one : running) {
      EXPECT_TRUE(one->asked);
      EXPECT_FALSE(one->was_cancelled());
      EXPECT_EQ(one->runs() + one->releases(), 2);
    }
    for (const auto& one : rest) {
      EXPECT_TRUE(one->was_cancelled());
      EXPECT_EQ(one->runs() + one->releases(), 2);
    }
    EXPECT_EQ(domain->live_keys(), 0U);
  });
}

// X6: the same when the last user leaves without a stop.
TEST(IoWqStop, TheLastPutAsksWhatRunsAndGivesUpWhatWaits) {
  for (const hears how : all_ways) {
    within_a_minute([how] {
      auto wq = make_wq({.max_bound = 1});
      until_asked running(how);
      std::array<probe, 4> rest;
      ASSERT_TRUE(wq->submit(running));
      running.started.wait();
      for (probe& one : rest) {
        ASSERT_TRUE(wq->submit(one));
      }
      wq.reset();
      EXPECT_TRUE(running.asked);
      EXPECT_EQ(running.releases(), 1);
      for (const probe& one : rest) {
        EXPECT_TRUE(one.was_cancelled());
        EXPECT_EQ(one.releases(), 1);
      }
    });
  }
}

// X6: a work that does not start before the stop has begun to cancel, and ends only when asked, is not run on and on: the stop
// meets works that wait while others leave.
TEST(IoWqStop, CancelQueuedMeetsWorksThatAreJustTaken) {
  within_a_minute([] {
    for (int round = 0; round < 200; ++round) {
      const auto wq = make_wq({.max_bound = 2});
      std::vector<std::unique_ptr<probe>> all;
      for (int i = 0; i < 8; ++i) {
        all.push_back(std::make_unique<probe>([](work_context& ctx) {
          const blocking_region region;
          while (!ctx.cancelled()) {
            std::this_thread::yield();
          }
        }));
        ASSERT_TRUE(wq->submit(*all.back()));
      }
      EXPECT_TRUE(wq->stop(stop_policy::cancel_queued).finished);
      for (const auto& one : all) {
        EXPECT_EQ(one->runs() + one->releases(), 2);
      }
    }
  });
}

// X6 C4: no_cancel works that wait are run, and those that run are not asked.
TEST(IoWqStop, CancelQueuedRunsNoCancelWorks) {
  within_a_minute([] {
    const auto wq = make_wq({.max_bound = 1});
    std::latch started(1);
    std::latch go(1);
    bool asked = false;
    probe blocker(
        [&](work_context& ctx) {
          started.count_down();
          const blocking_region region;
          go.wait();
          asked = ctx.cancelled();
        },
        work_class::bound, work_flags::no_cancel);
    ASSERT_TRUE(wq->submit(blocker));
    started.wait();
    std::array<probe, 4> all;
    for (std::size_t i = 0; i < all.size(); ++i) {
      all[i].set_flags(i % 2 == 0 ? work_flags::no_cancel : work_flags::none);
      ASSERT_TRUE(wq->submit(all[i]));
    }
    std::jthread stopper([&] { EXPECT_EQ(wq->stop(stop_policy::cancel_queued).cancelled, 2U); });
    all[1].wait_released();
    all[3].wait_released();
    go.count_down();
    stopper.join();
    EXPECT_FALSE(asked);
    for (std::size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(all[i].was_cancelled(), i % 2 == 1);
      EXPECT_EQ(all[i].runs() + all[i].releases(), 2);
    }
  });
}

// X6 W1: run_queued runs all that is queued: many works, of both classes, with and without keys, in chains.
TEST(IoWqStop, RunQueuedRunsAllThatIsQueued) {
  within_a_minute([] {
    constexpr std::size_t count = 3000;
    const auto wq = make_wq({.max_bound = 1, .max_unbound = 1});
    const auto domain = *hash_domain::create();
    std::latch go(1);
    const auto wait = [&](work_context&) {
      const blocking_region region;
      go.wait();
    };
    probe bound(wait);
    probe unbound(wait, work_class::unbound);
    ASSERT_TRUE(wq->submit(bound));
    ASSERT_TRUE(wq->submit(unbound));
    std::atomic<std::size_t> ran{0};
    std::vector<std::unique_ptr<probe>> all;
    for (std::size_t i = 0; i < count; ++i) {
      all.push_back(std::make_unique<probe>([&](work_context&) { ran.fetch_add(1, std::memory_order_seq_cst); },
                                            i % 3 == 0 ? work_class::unbound : work_class::bound));
      if (i % 2 == 0) {
        all.back()->set_key(*domain, i % 10);
      }
      if (i % 5 == 4) {
        all[i - 1]->then(all[i].get());
        ASSERT_TRUE(wq->submit(*all[i - 1]));
      } else if (i % 5 != 3) {
        ASSERT_TRUE(wq->submit(*all[i]));
      }
    }
    std::jthread opener([&] { go.count_down(); });
    const stop_report report = wq->stop(stop_policy::run_queued);
    EXPECT_TRUE(report.finished);
    EXPECT_EQ(report.cancelled, 0U);
    EXPECT_EQ(ran.load(std::memory_order_seq_cst), count);
    for (const auto& one : all) {
      ASSERT_FALSE(one->was_cancelled());
      ASSERT_EQ(one->runs() + one->releases(), 2);
    }
  });
}

}  // namespace
}  // namespace io_wq_stop_test
}  // namespace sluice
