// Goal: what went wrong with hashed works in the kernel's io-wq does not go wrong here. Method: each defect's scene is
// built with works that wait on latches; one test per defect.
#include <algorithm>
#include <array>
#include <latch>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/wq/blocking_region.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"

#include "support/wq_probe.h"

namespace sluice {
namespace wq_defects_keys_test {
namespace {

using test::make_wq;
using test::probe;

// A work that holds its key until it is told to let go.
struct holder {
  explicit holder(hash_domain& domain, std::uint64_t key) { work.set_key(domain, key); }

  std::latch started{1};
  std::latch go{1};
  probe work{[this](work_context&) {
    started.count_down();
    const blocking_region region;
    go.wait();
  }};
};

// Defect 1: the completion of an unhashed work frees the key 0, so that two works of it run at once (H1 H5).
TEST(WqDefects, UnhashedCompletionDoesNotFreeKeyZero) {
  const auto wq = make_wq({.max_bound = 4, .max_unbound = 4});
  const auto domain = *hash_domain::create();
  holder first(*domain, 0);
  ASSERT_TRUE(wq->submit(first.work));
  first.started.wait();
  std::atomic<bool> let_go{false};
  probe second([&](work_context&) { EXPECT_TRUE(let_go.load(std::memory_order_seq_cst)); });
  second.set_key(*domain, 0);
  ASSERT_TRUE(wq->submit(second));
  for (int i = 0; i < 200; ++i) {
    probe unhashed(nullptr, i % 2 == 0 ? work_class::bound : work_class::unbound);
    ASSERT_TRUE(wq->submit(unhashed));
    unhashed.wait_released();
    EXPECT_TRUE(domain->busy(0));
  }
  EXPECT_EQ(wq->stats().bound.waiting_on_key, 1U);
  let_go.store(true, std::memory_order_seq_cst);
  first.go.count_down();
  second.wait_released();
  wq->stop(stop_policy::run_queued);
  EXPECT_EQ(domain->live_keys(), 0U);
}

// Defect 2: cancelling the last work of a key leaves the tail of its queue at a stranger or at freed memory (H2 H4).
TEST(WqDefects, CancelledTailOfAKeyIsForgotten) {
  // Which of four waiting works are cancelled, and freed at once: every subset, the tail and the only one among them.
  for (unsigned cancelled = 1; cancelled < 16; ++cancelled) {
    const auto wq = make_wq({.max_bound = 1});
    const auto domain = *hash_domain::create();
    holder first(*domain, 3);
    ASSERT_TRUE(wq->submit(first.work));
    first.started.wait();
    std::vector<int> order;
    std::vector<int> expected;
    std::vector<std::unique_ptr<probe>> waiting;
    const auto add = [&](int number) {
      waiting.push_back(std::make_unique<probe>([&order, number](work_context&) { order.push_back(number); }));
      waiting.back()->set_key(*domain, 3);
      return wq->submit_tracked(*waiting.back()).value_or(work_handle());
    };
    std::array<work_handle, 4> handles;
    for (int i = 0; i < 4; ++i) {
      handles[static_cast<std::size_t>(i)] = add(i);
    }
    for (int i = 0; i < 4; ++i) {
      const auto at = static_cast<std::size_t>(i);
      if ((cancelled >> i & 1U) == 0) {
        expected.push_back(i);
      } else {
        EXPECT_EQ(wq->cancel(handles[at]), cancel_result::cancelled);
        waiting[at].reset();
      }
    }
    for (int i = 4; i < 7; ++i) {
      EXPECT_TRUE(add(i));
      expected.push_back(i);
    }
    first.go.count_down();
    wq->stop(stop_policy::run_queued);
    EXPECT_EQ(order, expected) << "cancelled: " << cancelled;
    EXPECT_EQ(domain->live_keys(), 0U);
  }
}

template <class Options>
void use_four_nodes(Options& options) {
  // An engine that knows nodes is told of four; one that does not is tested as it is.
  if constexpr (requires { options.topology; }) {
    options.topology = "node:4 pu:4";
  }
}

// Defect 8: the map of busy keys is each node's own, so that one key runs on two nodes at once (H1 H2).
TEST(WqDefects, OneKeyNeverRunsOnTwoNodesAtOnce) {
  constexpr int submitters = 4;
  constexpr int each = 500;
  io_wq_options options{.max_bound = 8, .max_unbound = 8};
  use_four_nodes(options);
  const auto wq = make_wq(options);
  const auto domain = *hash_domain::create();
  std::atomic<int> inside{0};
  std::array<int, submitters> last{};
  std::vector<std::unique_ptr<probe>> all(submitters * each);
  std::vector<std::jthread> crowd;
  for (int t = 0; t < submitters; ++t) {
    crowd.emplace_back([&, t] {
      for (int i = 1; i <= each; ++i) {
        auto one = std::make_unique<probe>([&, t, i](work_context&) {
          EXPECT_EQ(inside.fetch_add(1, std::memory_order_seq_cst), 0);
          EXPECT_EQ(++last[static_cast<std::size_t>(t)], i);
          inside.fetch_sub(1, std::memory_order_seq_cst);
        });
        one->set_class(i % 2 == 0 ? work_class::bound : work_class::unbound);
        one->set_key(*domain, 5);
        EXPECT_TRUE(wq->submit(*one));
        all[static_cast<std::size_t>(t * each + i - 1)] = std::move(one);
      }
    });
  }
  crowd.clear();
  wq->stop(stop_policy::run_queued);
  for (const int count : last) {
    EXPECT_EQ(count, each);
  }
}

// As small as a work can be, for queues as long as can be.
struct grain : work {
  grain() : work(operations) {}
  static void do_run(work& w, work_context& ctx) noexcept { static_cast<grain&>(w).cancelled = ctx.cancelled(); }
  static void do_release(work& w) noexcept { ++static_cast<grain&>(w).releases; }
  static constexpr work_ops operations{do_run, do_release};
  bool cancelled = false;
  int releases = 0;
};

// So many that an algorithm that looks at all of them for each of them does not come to an end.
constexpr std::size_t very_many = 300'000;

// Defect 16: skipping the works of a busy key costs as much as there are, for each work that is taken (H3 H6).
TEST(WqDefects, LongRunOfABusyKeyIsNotWalkedForEachTake) {
  const auto wq = make_wq({.max_bound = 2});
  const auto domain = *hash_domain::create();
  holder first(*domain, 1);
  ASSERT_TRUE(wq->submit(first.work));
  first.started.wait();
  const auto waiting = std::make_unique<grain[]>(very_many);
  for (std::size_t i = 0; i < very_many; ++i) {
    waiting[i].set_key(*domain, 1);
    ASSERT_TRUE(wq->submit(waiting[i]));
  }
  EXPECT_TRUE(wq->stats().bound.stalled());
  const auto strangers = std::make_unique<grain[]>(very_many);
  for (std::size_t i = 0; i < very_many; ++i) {
    strangers[i].set_key(*domain, 2 + i % 1000);
    ASSERT_TRUE(wq->submit(strangers[i]));
  }
  probe last;
  ASSERT_TRUE(wq->submit(last));
  last.wait_released();
  EXPECT_GE(wq->stats().bound.waiting_on_key, very_many);
  first.go.count_down();
  wq->stop(stop_policy::run_queued);
  EXPECT_EQ(waiting[very_many - 1].releases, 1);
  EXPECT_EQ(domain->live_keys(), 0U);
}

// A queue of works without a key, with a key of their own, and with a key that is busy; every second is somebody's.
class very_long_queue {
 public:
  very_long_queue() {
    EXPECT_TRUE(wq_->submit(first_.work));
    first_.started.wait();
    for (std::size_t i = 0; i < very_many; ++i) {
      if (i % 3 != 0) {
        works_[i].set_key(*domain_, i % 3 == 1 ? 1 : i);
      }
      works_[i].set_owner(i % 2);
      EXPECT_TRUE(wq_->submit(works_[i]));
    }
  }
  // Everything has been cancelled and released once.
  void expect_over() {
    for (std::size_t i = 0; i < very_many; ++i) {
      ASSERT_TRUE(works_[i].cancelled);
      ASSERT_EQ(works_[i].releases, 1);
    }
    first_.go.count_down();
    wq_->stop(stop_policy::run_queued);
    EXPECT_EQ(domain_->live_keys(), 0U);
    EXPECT_EQ(wq_->stats().bound.cancelled, very_many);
  }
  [[nodiscard]] io_wq& wq() const { return *wq_; }

 private:
  const ref<hash_domain> domain_ = *hash_domain::create();
  holder first_{*domain_, 1};
  const std::unique_ptr<grain[]> works_ = std::make_unique<grain[]>(very_many);
  const ref<io_wq> wq_ = make_wq({.max_bound = 1});
};

// Defect 16: cancelling all is quadratic (C6 W7).
TEST(WqDefects, CancelAllOfAVeryLongQueueEnds) {
  very_long_queue queue;
  const cancel_counts all = queue.wq().cancel_all();
  EXPECT_EQ(all.cancelled, very_many);
  EXPECT_EQ(all.running, 1U);
  queue.expect_over();
}

// Defect 16: cancelling every second walks over those that stay, for each that goes (C6 W7).
TEST(WqDefects, CancelHalfOfAVeryLongQueueEnds) {
  very_long_queue queue;
  EXPECT_EQ(queue.wq().cancel_owner(1).cancelled, very_many / 2);
  EXPECT_EQ(queue.wq().cancel_all().cancelled, very_many / 2);
  queue.expect_over();
}

}  // namespace
}  // namespace wq_defects_keys_test
}  // namespace sluice
