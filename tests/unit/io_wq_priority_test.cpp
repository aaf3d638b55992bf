// Goal: works of a better class go first, and none waits for ever.
// Method: one worker stands at a gate while works are queued behind it; the order in which they run is written down.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/base/park.h"
#include "sluice/wq/io_wq.h"

#include "support/wq_probe.h"

namespace sluice {
namespace io_wq_priority_test {
namespace {

using test::make_wq;
using test::probe;

constexpr std::array<char, 4> letters{'n', 'r', 'b', 'i'};

// Queues works of the classes that `classes` names by their letters, then lets them run. Returns the order.
std::string order_of(const std::string& classes) {
  const auto wq = make_wq({.max_bound = 1});
  parker here;
  parker open;
  probe gate([&](work_context&) {
    here.wake();
    open.park();
  });
  EXPECT_TRUE(wq->submit(gate));
  here.park();
  std::string ran;
  std::vector<std::unique_ptr<probe>> works;
  for (const char each : classes) {
    works.push_back(std::make_unique<probe>([&ran, each](work_context&) { ran += each; }));
    const auto found = std::find(letters.begin(), letters.end(), each);
    works.back()->set_ioprio_class(static_cast<ioprio_class>(found - letters.begin()));
    EXPECT_TRUE(wq->submit(*works.back()));
  }
  open.wake();
  wq->stop(stop_policy::run_queued);
  return ran;
}

TEST(IoWqPriority, RealTimeBeforeBestEffortBeforeIdleInOrderWithinAClass) {
  EXPECT_EQ(order_of("ibribnr"), "rrbbnii");
}

TEST(IoWqPriority, WithoutClassesTheOrderIsThatOfTheSubmits) {
  EXPECT_EQ(order_of("nbnnb"), "nbnnb");
}

// A worker takes batches: who is passed over waits for a bounded number of them, of a bounded size.
TEST(IoWqPriority, WhoIsPassedOverHasATurnAllTheSame) {
  constexpr std::size_t most_in_a_batch = 128;
  const std::string ran = order_of("bi" + std::string(65 * most_in_a_batch, 'r'));
  ASSERT_EQ(ran.size(), 2 + 65 * most_in_a_batch);
  EXPECT_LE(ran.find('b'), 16 * most_in_a_batch);
  EXPECT_LE(ran.find('i'), 64 * most_in_a_batch);
  EXPECT_LT(ran.find('b'), ran.find('i'));
}

// A class that a work has says nothing of who may take it back.
TEST(IoWqPriority, CancelFindsWorksOfEveryClass) {
  const auto wq = make_wq({.max_bound = 1});
  parker here;
  parker open;
  probe gate([&](work_context&) {
    here.wake();
    open.park();
  });
  ASSERT_TRUE(wq->submit(gate));
  here.park();
  std::array<probe, 4> works;
  std::array<work_handle, 4> handles;
  for (std::size_t i = 0; i < works.size(); ++i) {
    works[i].set_ioprio_class(static_cast<ioprio_class>(i));
    works[i].set_owner(7);
    const result<work_handle> handle = wq->submit_tracked(works[i]);
    ASSERT_TRUE(handle);
    handles[i] = *handle;
  }
  EXPECT_EQ(wq->stats().bound.queued, works.size());
  EXPECT_EQ(wq->cancel(handles[3]), cancel_result::cancelled);
  EXPECT_EQ(wq->cancel_owner(7).cancelled, 3U);
  open.wake();
  gate.wait_released();
  for (probe& each : works) {
    EXPECT_TRUE(each.was_cancelled());
    EXPECT_EQ(each.runs(), 1);
  }
}

// Works that run `stand` stay there, each until it is opened once.
struct gate {
  parker here;
  parker open;
  std::function<void(work_context&)> stand = [this](work_context&) {
    here.wake();
    open.park();
  };
};

// The wait that is being measured ends with a work that is taken back; the next one is measured all the same.
TEST(IoWqPriority, WaitsAreMeasuredAfterOneWasTakenBack) {
  const auto wq = make_wq({.max_bound = 1});
  gate at;
  probe first(at.stand);
  ASSERT_TRUE(wq->submit(first));
  at.here.park();
  probe second(at.stand);  // alone in its batch: those before it were not quick
  probe taken_back;
  second.set_ioprio_class(ioprio_class::rt);
  taken_back.set_ioprio_class(ioprio_class::rt);
  ASSERT_TRUE(wq->submit(second));
  const result<work_handle> handle = wq->submit_tracked(taken_back);
  ASSERT_TRUE(handle);
  at.open.wake();
  at.here.park();
  ASSERT_EQ(wq->cancel(*handle), cancel_result::cancelled);
  const std::uint64_t before = wq->stats().bound.queue_wait.total();
  std::array<probe, 3> others;
  for (probe& each : others) {
    ASSERT_TRUE(wq->submit(each));
  }
  at.open.wake();
  for (probe& each : others) {
    each.wait_released();
  }
  EXPECT_GT(wq->stats().bound.queue_wait.total(), before);
}

// Works that are taken back before and behind the one whose wait is measured neither end that wait nor make it be missed.
TEST(IoWqPriority, AWaitIsMeasuredWholeThoughOthersAreTakenBack) {
  constexpr std::chrono::milliseconds wait{20};
  const auto let_pass = [](std::chrono::milliseconds time) {
    const auto begin = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - begin < time) {
      std::this_thread::yield();
    }
  };
  const auto wq = make_wq({.max_bound = 1});
  gate at;
  probe first(at.stand);
  ASSERT_TRUE(wq->submit(first));
  at.here.park();
  probe second(at.stand);
  probe third(at.stand);
  probe before;
  probe measured;
  probe behind;
  ASSERT_TRUE(wq->submit(second));
  ASSERT_TRUE(wq->submit(third));
  const result<work_handle> earlier = wq->submit_tracked(before);
  ASSERT_TRUE(earlier);
  ASSERT_TRUE(wq->submit(measured));
  at.open.wake();
  at.here.park();  // the second is alone in its batch; the wait of the last one is measured from here
  const result<work_handle> later = wq->submit_tracked(behind);
  ASSERT_TRUE(later);
  ASSERT_EQ(wq->cancel(*earlier), cancel_result::cancelled);
  ASSERT_EQ(wq->cancel(*later), cancel_result::cancelled);
  let_pass(std::chrono::milliseconds(1));  // not quick either, so the third is alone as well
  at.open.wake();
  at.here.park();
  let_pass(wait);
  at.open.wake();
  measured.wait_released();
  EXPECT_GE(wq->stats().bound.queue_wait.percentile_ns(1), std::chrono::nanoseconds(wait).count());
}

}  // namespace
}  // namespace io_wq_priority_test
}  // namespace sluice
