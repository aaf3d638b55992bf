// Goal: a pool of four workers does the works of sixteen users in random order, each as the right one, every time (I1),
// also when some are cancelled in the middle; idle workers are themselves (I2), other threads are never touched (I5).
// Method: each work creates, opens, stats and reads files by relative names, and checks owner, mode, group and denials.
#include <atomic>
#include <memory>
#include <random>

#include <gtest/gtest.h>

#include "sluice/wq/io_wq.h"

#include "support/identity_people.h"
#include "support/stress.h"

namespace sluice {
namespace io_wq_identity_test {
namespace {

constexpr std::size_t in_flight = 64;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t wanted = 10'000;
#else
constexpr std::uint64_t wanted = 100'000;
#endif

struct errand : work {
  errand() : work(operations) {}
  static void do_run(work& w, work_context& ctx) noexcept {
    auto& self = static_cast<errand&>(w);
    if (ctx.cancelled()) {
      return;
    }
    self.others->add_worker();
    test::work_as(*self.me, *self.other, std::to_string(self.number));
  }
  static void do_release(work& w) noexcept {
    auto& self = static_cast<errand&>(w);
    self.busy.store(false, std::memory_order_release);  // pairs with the submitter's acquire
  }
  static constexpr work_ops operations{do_run, do_release};

  const test::person* me = nullptr;
  const test::person* other = nullptr;
  test::bystanders* others = nullptr;
  std::uint64_t number = 0;
  std::atomic<bool> busy{false};
};

TEST(StressIoWqIdentity, I1_I2_I5_SixteenIdentitiesOnFourWorkers) {
  SLUICE_NEEDS_ROOT();
  const test::open_directory there;
  const std::vector<test::person> people = test::make_people(there);
  test::bystanders others;
  auto wq = *io_wq::create({.max_bound = 4, .name = "people"});
  const std::string before = test::thread_facts();
  std::mt19937 random(7);
  std::vector<errand> errands(in_flight);
  std::uint64_t done = 0;
  for (const test::stress_time time; done < wanted && !time.over() && !testing::Test::HasFatalFailure(); ++done) {
    errand& one = errands[done % in_flight];
    while (one.busy.load(std::memory_order_acquire)) {
      std::this_thread::yield();
    }
    one.me = &people[random() % test::identities];
    one.other = &people[random() % test::identities];
    one.others = &others;
    one.number = done;
    one.busy.store(true, std::memory_order_relaxed);  // relaxed: the submit publishes it
    one.set_identity(one.me->who);
    one.set_owner(1 + done % 16);
    if (!wq->submit(one)) {
      ADD_FAILURE() << "refused";
      break;  // not a return: others still run
    }
    if (random() % 64 == 0) {
      static_cast<void>(wq->cancel_owner(1 + random() % 16));
    }
    if (done % 1024 == 0) {
      others.look();
    }
  }
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  const class_stats stats = wq->stats().bound;
  EXPECT_EQ(stats.accepted, done);
  EXPECT_EQ(stats.released, done);
  EXPECT_EQ(test::thread_facts(), before);
  for (errand& each : errands) {
    each.set_identity(nullptr);
  }
  for (const test::person& each : people) {
    EXPECT_EQ(each.who->use_count(), 1U);
  }
  std::printf("%llu works, %llu of them cancelled\n", static_cast<unsigned long long>(done),
              static_cast<unsigned long long>(stats.cancelled));
}

}  // namespace
}  // namespace io_wq_identity_test
}  // namespace sluice
