// Goal: real threads that switch among 16 identities at random do everything as the right one, every time (I1), end as
// themselves (I2), and no other thread is touched (I5). Method: four threads, each with a wardrobe, create, open,
// stat and read files by relative names and check owner, mode, group, denials; one thread watches all that are not
// theirs.
#include <array>
#include <atomic>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "sluice/base/mutex.h"
#include "sluice/identity/wardrobe.h"

#include "support/identity_helpers.h"
#include "support/identity_people.h"
#include "support/joined_threads.h"
#include "support/stress.h"

namespace sluice {
namespace identity_test {
namespace {

constexpr unsigned workers = 4;

using test::bystanders;
using test::identities;
using test::make_people;
using test::person;
using test::work_as;

TEST(IdentityStress, I1_I2_I5_SixteenIdentitiesOnFourThreads) {
  SLUICE_NEEDS_ROOT();
  const test::open_directory there;
  const std::vector<person> people = make_people(there);
  bystanders others;
  std::atomic<unsigned> ready{0};
  std::atomic<bool> over{false};
  std::atomic<std::uint64_t> works{0};
  const std::string before = test::thread_facts();
  // A worker counts as one before it changes anything, and the watcher begins when all of them do.
  const auto worker = [&](unsigned number) {
    others.add_worker();
    ready.fetch_add(1, std::memory_order_release);  // pairs with the watcher's acquire
    std::mt19937 random(number);
    wardrobe clothes;
    const std::string mine = test::own_facts();
    std::uint64_t done = 0;
    for (const test::stress_time time; !time.over() && !testing::Test::HasFatalFailure(); ++done) {
      const person& me = people[random() % identities];
      ASSERT_TRUE(clothes.put_on(me.who.get())) << clothes.failed_call();
      work_as(me, people[random() % identities], std::to_string(number) + "-" + std::to_string(done));
      if (random() % 8 == 0) {
        ASSERT_TRUE(clothes.take_off()) << clothes.failed_call();
        ASSERT_EQ(test::own_facts(), mine);
      }
    }
    ASSERT_TRUE(clothes.take_off());
    EXPECT_EQ(test::own_facts(), mine);
    works.fetch_add(done, std::memory_order_relaxed);  // relaxed: read after the join
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < workers; ++i) {
    threads.emplace_back(worker, i);
  }
  test::joined_threads watcher(over);
  watcher.start([&] {
    while (ready.load(std::memory_order_acquire) < workers) {
      std::this_thread::yield();
    }
    while (!over.load(std::memory_order_relaxed)) {
      others.look();
    }
  });
  for (std::thread& each : threads) {
    each.join();
  }
  watcher.stop_and_join();
  EXPECT_EQ(test::thread_facts(), before);
  EXPECT_GT(works.load(std::memory_order_relaxed), 0U);
  for (const person& each : people) {
    EXPECT_EQ(each.who->use_count(), 1U);
  }
  RecordProperty("works", std::to_string(works.load(std::memory_order_relaxed)));
  std::printf("%llu works\n", static_cast<unsigned long long>(works.load(std::memory_order_relaxed)));
}

}  // namespace
}  // namespace identity_test
}  // namespace sluice
