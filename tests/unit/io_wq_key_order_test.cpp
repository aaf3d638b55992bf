// Goal: the works of a key start in submit order, all of them, also around cancels in the middle and with members of chains
// that are queued again by their key (H2).
// Method: one work holds each key while the others are submitted and some cancelled; the whole start order is compared.
#include <array>
#include <latch>
#include <map>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/base/mutex.h"
#include "sluice/wq/blocking_region.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"

#include "support/wq_probe.h"

namespace sluice {
namespace io_wq_key_order_test {
namespace {

using test::make_wq;
using test::probe;

constexpr std::uint64_t given_up = 5;  // the owner of what is cancelled

// A pool with works of some keys, each of which notes its number when it starts.
class keyed_scene {
 public:
  explicit keyed_scene(const io_wq_options& options) : wq(make_wq(options)), domain(*hash_domain::create()) {}

  probe& make(std::uint64_t key, work_class cls = work_class::bound) {
    const auto number = static_cast<int>(works_.size());
    works_.push_back(std::make_unique<probe>(
        [this, key, number](work_context&) {
          const mutex_lock held(lock_);
          started_[key].push_back(number);
        },
        cls));
    works_.back()->set_key(*domain, key);
    return *works_.back();
  }
  // Submits a work that holds the key until open(), and waits until it does.
  void hold(std::uint64_t key) {
    std::latch started(1);
    holders_.push_back(std::make_unique<probe>([this, &started](work_context&) {
      started.count_down();
      const blocking_region region;
      go_.wait();
    }));
    holders_.back()->set_key(*domain, key);
    EXPECT_TRUE(wq->submit(*holders_.back()));
    started.wait();
  }
  void open() {
    go_.count_down();
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
    for (const auto& one : works_) {
      EXPECT_EQ(one->runs() + one->releases(), 2);
    }
    EXPECT_EQ(domain->live_keys(), 0U);
  }
  [[nodiscard]] std::vector<int> started(std::uint64_t key) {
    const mutex_lock held(lock_);
    return started_[key];
  }

  const ref<io_wq> wq;
  const ref<hash_domain> domain;

 private:
  mutex lock_;
  std::map<std::uint64_t, std::vector<int>> started_ SLUICE_GUARDED_BY(lock_);
  std::vector<std::unique_ptr<probe>> works_;
  std::vector<std::unique_ptr<probe>> holders_;
  std::latch go_{1};
};

// H2: works that come one by one, tracked, in batches and of both classes, of three keys; every third is cancelled, by its
// handle or its owner, before any has started.
TEST(IoWqKeyOrder, TheWholeOrderSurvivesCancelsInTheMiddle) {
  constexpr std::uint64_t keys = 3;
  constexpr int works = 600;
  keyed_scene at({.max_bound = 4, .max_unbound = 4});
  for (std::uint64_t key = 0; key < keys; ++key) {
    at.hold(key);
  }
  std::array<std::vector<int>, keys> expected;
  std::vector<work_handle> handles;
  for (int i = 0; i < works;) {
    const std::uint64_t key = static_cast<std::uint64_t>(i) % keys;
    probe& one = at.make(key, i % 5 == 0 ? work_class::unbound : work_class::bound);
    if (i % 7 == 3) {
      const auto handle = at.wq->submit_tracked(one);
      ASSERT_TRUE(handle);
      handles.push_back(*handle);
    } else if (i % 7 == 5) {
      one.set_owner(given_up);
      ASSERT_TRUE(at.wq->submit(one));
    } else if (i % 11 == 0) {
      probe& second = at.make(key);
      probe& third = at.make(key);
      const std::array<work*, 3> batch{&one, &second, &third};
      ASSERT_EQ(at.wq->submit(std::span<work* const>(batch)).value_or(0), 3U);
      expected[key].insert(expected[key].end(), {i, i + 1, i + 2});
      i += 3;
      continue;
    } else {
      ASSERT_TRUE(at.wq->submit(one));
      expected[key].push_back(i);
    }
    ++i;
  }
  for (const work_handle handle : handles) {
    EXPECT_EQ(at.wq->cancel(handle), cancel_result::cancelled);
  }
  EXPECT_GT(at.wq->cancel_owner(given_up).cancelled, 0U);
  at.open();
  for (std::uint64_t key = 0; key < keys; ++key) {
    EXPECT_EQ(at.started(key), expected[key]) << "key " << key;
  }
}

// H2 W4: members of chains are queued by their key when their turn comes: behind what waits then, before what comes later.
TEST(IoWqKeyOrder, MembersOfChainsHaveTheirPlaceWhenTheirTurnComes) {
  constexpr std::uint64_t key = 1;
  for (const bool cancels : {false, true}) {
    keyed_scene at({.max_bound = 3, .max_unbound = 2});
    at.hold(key);
    std::vector<int> expected;
    std::vector<work_handle> handles;
    std::vector<std::unique_ptr<probe>> heads;
    int number = 0;
    for (int round = 0; round < 20; ++round) {
      // One that waits already, which may be cancelled.
      const auto handle = at.wq->submit_tracked(at.make(key));
      ASSERT_TRUE(handle);
      handles.push_back(*handle);
      if (!cancels || round % 2 == 0) {
        expected.push_back(number);
      }
      ++number;
      // One that comes as the second of a chain, of either class, whose head has no key.
      const std::size_t waiting = at.wq->stats().bound.waiting_on_key + at.wq->stats().unbound.waiting_on_key;
      heads.push_back(std::make_unique<probe>(nullptr, work_class::unbound));
      heads.back()->then(&at.make(key, round % 3 == 0 ? work_class::unbound : work_class::bound));
      ASSERT_TRUE(at.wq->submit(*heads.back()));
      heads.back()->wait_released();
      while (at.wq->stats().bound.waiting_on_key + at.wq->stats().unbound.waiting_on_key == waiting) {
        std::this_thread::yield();
      }
      expected.push_back(number++);
    }
    for (std::size_t i = 1; cancels && i < handles.size(); i += 2) {
      EXPECT_EQ(at.wq->cancel(handles[i]), cancel_result::cancelled);
    }
    at.open();
    EXPECT_EQ(at.started(key), expected);
  }
}

// H2 W4: a member with the key of its own head is queued again behind everything that waits for that key.
TEST(IoWqKeyOrder, AMemberWithTheKeyOfItsHeadGoesToTheEnd) {
  constexpr std::uint64_t key = 1;
  keyed_scene at({.max_bound = 2});
  at.hold(key);
  std::vector<work*> heads;
  std::vector<work*> members;
  for (int i = 0; i < 10; ++i) {
    heads.push_back(&at.make(key));
  }
  for (int i = 0; i < 10; ++i) {
    members.push_back(&at.make(key));
    static_cast<probe*>(heads[static_cast<std::size_t>(i)])->then(members.back());
  }
  std::vector<work_handle> handles;
  for (work* const head : heads) {
    const auto handle = at.wq->submit_tracked(*head);
    ASSERT_TRUE(handle);
    handles.push_back(*handle);
  }
  EXPECT_EQ(at.wq->cancel(handles[4]), cancel_result::cancelled);
  at.open();
  EXPECT_EQ(at.started(key), (std::vector<int>{0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19}));
}

}  // namespace
}  // namespace io_wq_key_order_test
}  // namespace sluice
