// Goal: with real threads a kref releases each object exactly once, after all who used it, also where the last put and
// a lookup meet under a lock. Method: time-boxed rounds; contents are not atomic, so ThreadSanitizer checks the order.
#include "sluice/ref/kref.h"

#include <array>
#include <atomic>
#include <barrier>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/base/mutex.h"
#include "sluice/ref/ref.h"
#include "sluice/ref/spin_lock.h"

#include "support/stress.h"

namespace sluice {
namespace kref_test {
namespace {

constexpr unsigned threads_used = 4;

struct worked_on : kref<worked_on> {
  explicit worked_on(std::atomic<std::uint64_t>& ends) : ends_(ends) {}
  ~worked_on() {
    // R4: plain reads of what each thread wrote before its put.
    for (const std::uint64_t& each : written) {
      sum += each;
    }
    if (sum == threads_used) {
      ends_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  struct alignas(64) slot {
    std::uint64_t value = 0;
  };
  std::array<std::uint64_t, threads_used> written{};
  std::uint64_t sum = 0;

 private:
  std::atomic<std::uint64_t>& ends_;
};

TEST(StressKref, R1_R4_EveryObjectIsReleasedOnceAfterAllItsUsers) {
  constexpr std::size_t batch = 256;
  std::atomic<std::uint64_t> ends{0};
  std::uint64_t made = 0;
  std::vector<worked_on*> objects(batch);
  std::atomic<bool> stop{false};
  const test::stress_time time;
  const auto refill = [&]() noexcept {
    if (time.over()) {
      stop.store(true, std::memory_order_relaxed);
      return;
    }
    for (worked_on*& object : objects) {
      object = make_ref<worked_on>(ends).release();
      for (unsigned i = 1; i < threads_used; ++i) {
        object->get();
      }
      ++made;
    }
  };
  refill();
  std::barrier round(threads_used, refill);
  {
    std::vector<std::jthread> threads;
    for (unsigned who = 0; who < threads_used; ++who) {
      threads.emplace_back([&, who] {
        do {
          for (std::size_t i = 0; i < batch; ++i) {
            worked_on* object = objects[(i + who * batch / threads_used) % batch];
            object->written[who] = 1;
            object->get();
            EXPECT_FALSE(object->put());
            object->put();
          }
          round.arrive_and_wait();
        } while (!stop.load(std::memory_order_relaxed));
      });
    }
  }
  EXPECT_EQ(ends.load(std::memory_order_relaxed), made);
}

template <class Lock>
class StressPutAndLock : public testing::Test {};
using Locks = testing::Types<mutex, spin_lock>;
TYPED_TEST_SUITE(StressPutAndLock, Locks);

// R1 R5
TYPED_TEST(StressPutAndLock, LookupsUnderTheLockNeverMeetADeadObject) {
  struct entry : kref<entry> {
    explicit entry(std::atomic<std::int64_t>& live) : live_(live) { live_.fetch_add(1, std::memory_order_relaxed); }
    ~entry() { live_.fetch_sub(1, std::memory_order_relaxed); }
    std::atomic<std::int64_t>& live_;
  };
  std::atomic<std::int64_t> live{0};
  std::atomic<std::uint64_t> faults{0};
  static std::atomic<std::uint64_t>* seen_faults = nullptr;
  seen_faults = &faults;
  const auto before = set_refcount_fault_handler(
      [](const refcount_fault_report&) noexcept { seen_faults->fetch_add(1, std::memory_order_relaxed); });
  TypeParam lock;
  entry* slot = nullptr;  // under lock
  const test::stress_time time;
  {
    std::vector<std::jthread> threads;
    for (unsigned who = 0; who < threads_used; ++who) {
      threads.emplace_back([&] {
        while (!time.over()) {
          entry* found = nullptr;
          {
            const std::unique_lock<TypeParam> held(lock);
            if (slot == nullptr) {
              slot = new entry(live);
            } else {
              slot->get();
            }
            found = slot;
          }
          found->put_and_lock(lock, [&slot](entry& last) noexcept {
            EXPECT_EQ(slot, &last);
            slot = nullptr;
          });
        }
      });
    }
  }
  set_refcount_fault_handler(before);
  EXPECT_EQ(faults.load(std::memory_order_relaxed), 0U);
  EXPECT_EQ(live.load(std::memory_order_relaxed), 0);
}

}  // namespace
}  // namespace kref_test
}  // namespace sluice
