// Goal: with real threads that move between cores a gate drains exactly when the last one is out, round after round.
// Method: each round closes a gate while visitors come and go, some leaving on another thread; the owner then frees
// what was guarded, so that anybody still inside is a use after free or a data race.
#include "sluice/ref/gate.h"

#include <atomic>
#include <barrier>
#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "support/stress.h"

namespace sluice {
namespace {

struct guarded {
  explicit guarded(gate_width width) : door(width), contents(std::make_unique<std::uint64_t>(7)) {}
  gate door;
  std::unique_ptr<std::uint64_t> contents;
};

class StressGate : public testing::TestWithParam<gate_width> {};

TEST_P(StressGate, NobodyIsInsideAfterTheWait) {
  constexpr int visitors = 3;
  std::unique_ptr<guarded> shared = std::make_unique<guarded>(GetParam());
  std::atomic<std::uint64_t> wrong{0};
  std::atomic<bool> stop{false};
  std::uint64_t rounds = 0;
  std::barrier meeting(visitors + 1);
  std::vector<std::jthread> threads;
  for (int i = 0; i < visitors; ++i) {
    threads.emplace_back([&] {
      for (;;) {
        meeting.arrive_and_wait();  // a fresh gate is there
        if (stop.load(std::memory_order_relaxed)) {
          return;
        }
        for (std::uint64_t visit = 0;; ++visit) {
          const gate_pass pass(shared->door);
          if (!pass) {
            break;
          }
          if (visit % 16 == 0) {
            std::this_thread::yield();  // leave on another core than we entered on, if the kernel likes
          }
          if (*shared->contents != 7) {
            wrong.fetch_add(1, std::memory_order_relaxed);
          }
        }
        if (shared->door.try_enter()) {
          wrong.fetch_add(1, std::memory_order_relaxed);
        }
        meeting.arrive_and_wait();  // nobody will try this gate any more
      }
    });
  }
  const test::stress_time time;
  for (;;) {
    meeting.arrive_and_wait();
    if (stop.load(std::memory_order_relaxed)) {
      break;
    }
    std::this_thread::yield();
    shared->door.close_and_wait();
    *shared->contents = 0;  // not atomic
    shared->contents.reset();
    meeting.arrive_and_wait();
    shared = std::make_unique<guarded>(GetParam());
    ++rounds;
    if (time.over()) {
      stop.store(true, std::memory_order_relaxed);
    }
  }
  threads.clear();
  EXPECT_EQ(wrong.load(std::memory_order_relaxed), 0U);
  EXPECT_GT(rounds, 0U);
}

INSTANTIATE_TEST_SUITE_P(Widths, StressGate, testing::Values(gate_width::wide, gate_width::narrow));

}  // namespace
}  // namespace sluice
