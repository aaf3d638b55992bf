// Goal: a stop that cancels ends whatever is submitted meanwhile (X6), and a cancel that answers not_found is right
// between two members of a chain too (C3). Method: real threads, for a time; each test counts its operations and
// fails if it made hardly any.
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"

#include "support/stress.h"

namespace io_wq_seams_test {
namespace {

using namespace sluice;
using namespace std::chrono_literals;

// A connection: its release submits it again until the wq refuses. Once `hold` is set, a run ends only when it is
// asked to stop.
struct connection : work {
  connection() : work(operations) {}

  static void do_run(work& w, work_context& ctx) noexcept {
    auto& self = static_cast<connection&>(w);
    while (self.hold->load(std::memory_order_relaxed) && !ctx.cancelled()) {
      std::this_thread::yield();
    }
  }
  static void do_release(work& w) noexcept {
    auto& self = static_cast<connection&>(w);
    self.submit_count->fetch_add(1, std::memory_order_relaxed);
    if (!self.wq->submit(w)) {
      self.still_open->fetch_sub(1, std::memory_order_release);
    }
  }
  static constexpr work_ops operations{do_run, do_release};

  io_wq* wq = nullptr;
  std::atomic<bool>* hold = nullptr;
  std::atomic<std::uint64_t>* submit_count = nullptr;
  std::atomic<int>* still_open = nullptr;
};

// X6: connections that submit themselves again in their releases, and a stop that cancels: it ends each time.
TEST(StressIoWqSeams, ACancellingStopEndsThoughReleasesSubmit) {
  constexpr int connections = 32;
  std::atomic<std::uint64_t> submits{0};
  std::uint64_t stops = 0;
  for (const test::stress_time time; !time.over(); ++stops) {
    std::atomic<bool> holds{false};
    std::atomic<int> open{connections};
    auto made = io_wq::create({.max_bound = 4, .name = "seams"});
    ASSERT_TRUE(made);
    const ref<io_wq> wq = std::move(*made);
    std::vector<connection> all(connections);
    for (connection& one : all) {
      one.wq = wq.get();
      one.hold = &holds;
      one.submit_count = &submits;
      one.still_open = &open;
      if (!wq->submit(one)) {
        ADD_FAILURE() << "refused by a pool that has room";
        open.fetch_sub(1, std::memory_order_relaxed);
      }
    }
    const std::uint64_t until = submits.load(std::memory_order_relaxed) + 2000;
    while (submits.load(std::memory_order_relaxed) < until && !HasFailure()) {
      std::this_thread::yield();
    }
    holds.store(true, std::memory_order_relaxed);
    const stop_report report = wq->stop(stop_policy::cancel_queued, std::chrono::steady_clock::now() + 20s);
    if (!report.finished) {
      ADD_FAILURE() << "stop " << stops << " hangs: " << report.still_running.size() << " run, " << report.still_queued
                    << " are queued";
      std::abort();  // they use what ends with this function
    }
    ASSERT_EQ(open.load(std::memory_order_acquire), 0);
  }
  std::cout << stops << " stops, " << submits.load(std::memory_order_relaxed) << " submits\n";
  EXPECT_GT(stops, 5U);
}

struct member : work {
  member() : work(operations) {}

  static void do_run(work& /*w*/, work_context& /*ctx*/) noexcept {}
  static void do_release(work& w) noexcept { static_cast<member&>(w).released.store(true, std::memory_order_release); }
  static constexpr work_ops operations{do_run, do_release};

  std::atomic<bool> released{true};
};

// C3: while chains of four members change classes and keys, a canceller that hears not_found may free all of them.
TEST(StressIoWqSeams, NotFoundMeansThatTheWholeChainIsOver) {
  const ref<io_wq> wq = *io_wq::create({.max_bound = 2, .max_unbound = 2, .name = "seams"});
  const ref<hash_domain> domain = *hash_domain::create();
  std::atomic<std::uint64_t> cancels{0};
  std::atomic<std::uint64_t> found{0};
  const test::stress_time time;
  const auto submitter = [&](std::uint64_t seed) {
    std::array<member, 4> chain;
    for (std::uint64_t chains = 0; !time.over() && !testing::Test::HasFailure(); ++chains) {
      for (std::size_t i = 0; i < chain.size(); ++i) {
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        chain[i].released.store(false, std::memory_order_relaxed);
        chain[i].set_class((seed >> 40 & 1U) != 0 ? work_class::bound : work_class::unbound);
        chain[i].clear_key();
        if ((seed >> 41 & 1U) != 0) {
          chain[i].set_key(*domain, seed >> 42 & 3U);
        }
        chain[i].then(i + 1 < chain.size() ? &chain[i + 1] : nullptr);
      }
      const auto handle = wq->submit_tracked(chain[0]);
      ASSERT_TRUE(handle) << handle.error().message() << " after " << chains;
      const unsigned most = seed >> 50 & 15U;  // then it runs to its end
      cancel_result said = cancel_result::running;
      unsigned tries = 0;
      for (; said == cancel_result::running; ++tries) {
        if (tries < most) {
          std::this_thread::yield();
        }
        said = wq->cancel(*handle);
        found.fetch_add(said != cancel_result::not_found ? 1 : 0, std::memory_order_relaxed);
        if (said == cancel_result::running) {
          continue;
        }
        for (const member& one : chain) {
          if (!one.released.load(std::memory_order_acquire)) {
            // In its release, at most: that of the last member is about to say so.
            const auto soon = std::chrono::steady_clock::now() + 5s;
            const bool last = &one == &chain.back();
            while (last && !one.released.load(std::memory_order_acquire) && std::chrono::steady_clock::now() < soon) {
            }
            ASSERT_TRUE(one.released.load(std::memory_order_acquire)) << "a member is in use after the answer";
          }
        }
      }
      cancels.fetch_add(tries, std::memory_order_relaxed);
    }
  };
  std::vector<std::jthread> threads;
  for (std::uint64_t i = 1; i <= 3; ++i) {
    threads.emplace_back(submitter, i);
  }
  threads.clear();
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  std::cout << cancels.load(std::memory_order_relaxed) << " cancels, " << found.load(std::memory_order_relaxed)
            << " found\n";
  EXPECT_GT(cancels.load(std::memory_order_relaxed), 100U);
  EXPECT_GT(found.load(std::memory_order_relaxed), 10U);
}

}  // namespace
}  // namespace io_wq_seams_test
