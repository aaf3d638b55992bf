// Goal: on real threads no reader ever sees an object a grace period after its removal, none is deleted early, and
// nothing is lost. Method: readers record the age of what they see at the end of their section; memory is poisoned
// before it is freed; the sanitizers watch the rest.
#include "sluice/rcu/rcu.h"

#include <array>
#include <atomic>
#include <deque>
#include <latch>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"

#include "support/stress.h"

namespace sluice {
namespace rcu_test {
namespace {

constexpr int readers = 3;

// An element's age: 0 while it is linked, 1 once removed, then one more for each grace period since.
struct element {
  std::atomic<std::uint32_t> age{0};
};

TEST(StressRcu, R7_NoReaderSeesAnythingBeyondOneGracePeriod) {
  constexpr std::uint32_t oldest = 10;
  std::array<std::atomic<std::uint64_t>, oldest + 1> histogram{};
  std::atomic<element*> current{new element};
  std::atomic<bool> stop{false};
  std::latch reading(readers);
  std::vector<std::jthread> threads;
  for (int i = 0; i < readers; ++i) {
    threads.emplace_back([&, i] {
      reading.arrive_and_wait();
      std::array<std::uint64_t, oldest + 1> mine{};
      for (std::uint64_t turn = 0; !stop.load(std::memory_order_relaxed); ++turn) {
        const std::scoped_lock section(rcu_default_domain());
        const element* seen = current.load(std::memory_order_acquire);
        if (turn % 64 == static_cast<std::uint64_t>(i)) {
          std::this_thread::yield();  // now and then a long section
        }
        ++mine[std::min(seen->age.load(std::memory_order_relaxed), oldest)];
      }
      for (std::size_t age = 0; age < mine.size(); ++age) {
        histogram[age].fetch_add(mine[age], std::memory_order_relaxed);
      }
    });
  }
  reading.wait();
  std::deque<std::unique_ptr<element>> removed;
  const test::stress_time time;
  std::uint64_t updates = 0;
  while (!time.over()) {
    std::unique_ptr<element> fresh;
    if (!removed.empty() && removed.front()->age.load(std::memory_order_relaxed) >= oldest) {
      fresh = std::move(removed.front());  // used again without being freed: only the age can tell
      removed.pop_front();
      fresh->age.store(0, std::memory_order_relaxed);
    } else {
      fresh = std::make_unique<element>();
    }
    element* old = current.exchange(fresh.release(), std::memory_order_acq_rel);
    old->age.store(1, std::memory_order_relaxed);
    removed.emplace_back(old);
    rcu_synchronize();
    for (const auto& each : removed) {
      each->age.fetch_add(1, std::memory_order_relaxed);
    }
    ++updates;
  }
  stop.store(true, std::memory_order_relaxed);
  threads.clear();
  delete current.load(std::memory_order_relaxed);
  EXPECT_GT(updates, 0U);
  EXPECT_GT(histogram[0].load(std::memory_order_relaxed), 0U);
  for (std::size_t age = 2; age < histogram.size(); ++age) {
    EXPECT_EQ(histogram[age].load(std::memory_order_relaxed), 0U)
        << "seen " << age - 1 << " grace periods after removal";
  }
  RecordProperty("updates", std::to_string(updates));
  std::printf("updates %llu, ages 0/1: %llu/%llu\n", static_cast<unsigned long long>(updates),
              static_cast<unsigned long long>(histogram[0].load(std::memory_order_relaxed)),
              static_cast<unsigned long long>(histogram[1].load(std::memory_order_relaxed)));
}

constexpr std::uint64_t alive = 0x5a5a5a5a5a5a5a5a;

struct retired_node : rcu_obj_base<retired_node> {
  explicit retired_node(std::atomic<std::uint64_t>& deleted) : deleted_(deleted) {}
  ~retired_node() {
    mark = 0;
    deleted_.fetch_add(1, std::memory_order_relaxed);
  }
  std::uint64_t mark = alive;

 private:
  std::atomic<std::uint64_t>& deleted_;
};

TEST(StressRcu, R7_RetiredNodesOutliveTheirReadersAndAllGo) {
  std::atomic<std::uint64_t> deleted{0};
  std::atomic<std::uint64_t> retired{0};
  std::atomic<std::uint64_t> dead_seen{0};
  std::atomic<retired_node*> current{new retired_node(deleted)};
  std::atomic<bool> stop{false};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&] {
        while (!stop.load(std::memory_order_relaxed)) {
          const std::scoped_lock section(rcu_default_domain());
          if (current.load(std::memory_order_acquire)->mark != alive) {
            dead_seen.fetch_add(1, std::memory_order_relaxed);
          }
        }
      });
    }
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&] {
        while (!stop.load(std::memory_order_relaxed)) {
          current.exchange(new retired_node(deleted), std::memory_order_acq_rel)->retire();
          // A bound on what is pending, so that the test's memory is bounded too.
          if (retired.fetch_add(1, std::memory_order_relaxed) % 1024 == 0) {
            rcu_barrier();
          }
        }
      });
    }
    // Threads that come, read and go while grace periods run.
    threads.emplace_back([&] {
      while (!stop.load(std::memory_order_relaxed)) {
        std::thread([&] {
          const std::scoped_lock section(rcu_default_domain());
          if (current.load(std::memory_order_acquire)->mark != alive) {
            dead_seen.fetch_add(1, std::memory_order_relaxed);
          }
        }).join();
      }
    });
    const test::stress_time time;
    while (!time.over()) {
      std::this_thread::yield();
    }
    stop.store(true, std::memory_order_relaxed);
  }
  rcu_barrier();
  EXPECT_EQ(dead_seen.load(std::memory_order_relaxed), 0U);
  EXPECT_EQ(deleted.load(std::memory_order_relaxed), retired.load(std::memory_order_relaxed));
  EXPECT_EQ(rcu_get_statistics().pending(), 0U);
  current.load(std::memory_order_relaxed)->retire();
  rcu_barrier();
}

struct counted_node : kref<counted_node, rcu_release>, rcu_obj_base<counted_node> {
  explicit counted_node(std::atomic<std::int64_t>& live) : live_(live) {
    live_.fetch_add(1, std::memory_order_relaxed);
  }
  ~counted_node() {
    mark = 0;
    live_.fetch_sub(1, std::memory_order_relaxed);
  }
  std::uint64_t mark = alive;

 private:
  std::atomic<std::int64_t>& live_;
};

TEST(StressRcu, R6_LookupsWithGetUnlessZeroNeverYieldADeadObject) {
  std::atomic<std::int64_t> live{0};
  std::atomic<std::uint64_t> dead_seen{0};
  std::atomic<counted_node*> slot{new counted_node(live)};
  std::atomic<bool> stop{false};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < readers; ++i) {
      threads.emplace_back([&] {
        ref<counted_node> found;
        while (!stop.load(std::memory_order_relaxed)) {
          {
            const std::scoped_lock section(rcu_default_domain());
            found = ref<counted_node>::try_get(slot.load(std::memory_order_acquire));
          }
          if (found && found->mark != alive) {
            dead_seen.fetch_add(1, std::memory_order_relaxed);
          }
        }
      });
    }
    const test::stress_time time;
    for (std::uint64_t turn = 0; !time.over(); ++turn) {
      slot.exchange(new counted_node(live), std::memory_order_acq_rel)->put();
      if (turn % 1024 == 0) {
        rcu_barrier();
      }
    }
    stop.store(true, std::memory_order_relaxed);
  }
  slot.load(std::memory_order_relaxed)->put();
  rcu_barrier();
  EXPECT_EQ(dead_seen.load(std::memory_order_relaxed), 0U);
  EXPECT_EQ(live.load(std::memory_order_relaxed), 0);
}

}  // namespace
}  // namespace rcu_test
}  // namespace sluice
