// Goal: with real threads that move between cores a gate drains exactly when the last one is out, round after round,
// whichever way it counts: on a number per core without a lock (where this machine has that), on locked stripes, on one.
// Method: each round closes a gate while visitors come and go, some leaving on another core; the owner then frees what
// was guarded, so that anybody still inside is a use after free or a data race. A storm of signals whose handler is a
// visitor too cuts sequences short.
#include "sluice/ref/gate.h"

#include <pthread.h>
#include <sched.h>

#include <array>
#include <atomic>
#include <barrier>
#include <csignal>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "support/stress.h"

namespace sluice {
namespace gate_test {
namespace {

struct by_core {
  using door = gate;
  static constexpr gate_width width = gate_width::wide;
};
struct by_stripe {
  using door = basic_gate<os_sync, this_core>;
  static constexpr gate_width width = gate_width::wide;
};
struct narrow {
  using door = gate;
  static constexpr gate_width width = gate_width::narrow;
};

template <class How>
class StressGate : public testing::Test {};
using Ways = testing::Types<by_core, by_stripe, narrow>;
TYPED_TEST_SUITE(StressGate, Ways);

template <class How>
struct guarded {
  typename How::door door{How::width};
  std::unique_ptr<std::uint64_t> contents = std::make_unique<std::uint64_t>(7);
};

TYPED_TEST(StressGate, NobodyIsInsideAfterTheWait) {
  constexpr int visitors = 3;
  auto shared = std::make_unique<guarded<TypeParam>>();
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
          const gate_pass<typename TypeParam::door> pass(shared->door);
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
    shared = std::make_unique<guarded<TypeParam>>();
    ++rounds;
    if (time.over()) {
      stop.store(true, std::memory_order_relaxed);
    }
  }
  threads.clear();
  EXPECT_EQ(wrong.load(std::memory_order_relaxed), 0U);
  EXPECT_GT(rounds, 0U);
}

// The gate that the handlers use. Set while no signal is sent.
template <class How>
typename How::door* signalled = nullptr;

template <class How>
void visit(int /*signal*/) {
  if (signalled<How>->try_enter(2)) {
    signalled<How>->leave();
    signalled<How>->leave();
  }
}

template <class How>
void close(int /*signal*/) {
  signalled<How>->close();
}

// A handler for a signal, for a while.
class handled {
 public:
  handled(int signal, void (*handler)(int)) : signal_(signal) {
    struct sigaction action{};
    action.sa_handler = handler;
    EXPECT_EQ(::sigaction(signal, &action, &before_), 0);
  }
  handled(const handled&) = delete;
  handled& operator=(const handled&) = delete;
  ~handled() { EXPECT_EQ(::sigaction(signal_, &before_, nullptr), 0); }

 private:
  int signal_;
  struct sigaction before_{};
};

// Enters and leaves without a pause, moving from core to core, until the gate is closed. Returns the visits.
template <class Door>
std::uint64_t come_and_go(Door& door) {
  std::uint64_t visits = 0;
  while (door.try_enter(3)) {
    door.leave();
    if (visits % 64 == 0) {
      ::sched_yield();
    }
    door.leave(2);
    ++visits;
  }
  return visits;
}

// The last signal of a round closes the gate in the middle of whatever the thread was doing, which is often between the
// first and the last instruction of an enter or a leave. A step that is lost or counted on both sides of the close
// drains too early, which the gate itself reports, or never.
TYPED_TEST(StressGate, EveryStepCountsWhenSignalsVisitAndClose) {
  const handled visits_of_handlers(SIGUSR2, &visit<TypeParam>);
  const handled closes(SIGUSR1, &close<TypeParam>);
  std::uint64_t visits = 0;
  for (const test::stress_time time; !time.over();) {
    typename TypeParam::door door(TypeParam::width);
    signalled<TypeParam> = &door;
    std::array<std::uint64_t, 2> seen{};
    std::latch inside(seen.size());
    std::latch quiet(1);
    std::vector<std::jthread> threads;
    for (std::uint64_t& mine : seen) {
      threads.emplace_back([&] {
        inside.count_down();
        mine = come_and_go(door);
        quiet.wait();  // alive as long as signals are sent
      });
    }
    inside.wait();
    for (const int signal : {SIGUSR2, SIGUSR2, SIGUSR1}) {
      for (std::jthread& each : threads) {
        EXPECT_EQ(::pthread_kill(each.native_handle(), signal), 0);
      }
    }
    door.wait();
    quiet.count_down();
    threads.clear();
    EXPECT_FALSE(door.try_enter());
    visits += seen[0] + seen[1];
  }
  EXPECT_GT(visits, 0U);
}

}  // namespace
}  // namespace gate_test
}  // namespace sluice
