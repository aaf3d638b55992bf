// Goal: every accepted request completes exactly once, refused ones never, with several submitters over a small depth
// while others cancel by owner, drain and at last stop. Method: time-boxed, real threads, counts compared at the end.
#include "sluice/ioc/request_queue.h"

#include <gtest/gtest.h>

#include "support/io_helpers.h"
#include "support/joined_threads.h"
#include "support/stress.h"

namespace request_queue_test {
namespace {

using namespace sluice;

struct tally {
  std::atomic<std::int64_t> accepted{0}, completed{0}, cancelled{0}, refused{0};
};

TEST(StressRequestQueue, AcceptedCompletesOnceWhateverHappens) {
  test::io_bench bench({.depth = 4, .max_waiting = 6}, 3);
  auto [target, device] = test::make_gated_device();
  const ref<open_file> file = open_file::open(target, bench.queue, access_mode::read_write).value();
  tally sum;
  std::atomic<bool> over{false};
  test::joined_threads crowd(over);
  for (std::uint64_t owner = 1; owner <= 3; ++owner) {
    crowd.start([&, owner] {
      // More than the queue takes, so that it refuses too.
      std::vector<std::unique_ptr<test::awaited_request>> mine;
      for (int i = 0; i < 5; ++i) {
        mine.push_back(std::make_unique<test::awaited_request>());
        mine.back()->set_owner(owner);
        test::fill(*mine.back(), i % 2 == 0 ? io_op::read : io_op::flush, 0, 512);
      }
      while (!over.load(std::memory_order_seq_cst)) {
        std::vector<test::awaited_request*> waiting;
        for (auto& each : mine) {
          const result<issued> how = file->submit(*each, *bench.context);
          if (!how) {
            EXPECT_EQ(how.error(), error_of(EAGAIN));
            sum.refused.fetch_add(1, std::memory_order_relaxed);
          } else {
            sum.accepted.fetch_add(1, std::memory_order_relaxed);
            if (*how == issued::queued) {
              waiting.push_back(each.get());
            } else {
              sum.completed.fetch_add(1, std::memory_order_relaxed);
            }
          }
        }
        for (test::awaited_request* each : waiting) {
          const std::int64_t got = each->wait();
          EXPECT_TRUE(got >= 0 || got == -ECANCELED) << got;
          (got < 0 ? sum.cancelled : sum.completed).fetch_add(1, std::memory_order_relaxed);
        }
      }
    });
  }
  crowd.start([&] {
    for (std::uint64_t owner = 1; !over.load(std::memory_order_seq_cst); owner = owner % 3 + 1) {
      static_cast<void>(bench.queue->cancel_owner(owner));
      static_cast<void>(bench.queue->drain(clock_seam::real().now() + std::chrono::milliseconds(1)));
    }
  });
  const test::stress_time time;
  for (std::size_t bytes = 0; !time.over(); bytes = (bytes + 100) % 600) {
    device->inline_bytes.store(bytes, std::memory_order_seq_cst);
    std::this_thread::yield();
  }
  crowd.stop_and_join();
  EXPECT_TRUE(bench.queue->stop().has_value());
  EXPECT_EQ(sum.accepted.load(std::memory_order_relaxed),
            sum.completed.load(std::memory_order_relaxed) + sum.cancelled.load(std::memory_order_relaxed));
  EXPECT_EQ(bench.queue->stats().in_flight, 0U);
  std::cout << sum.accepted.load(std::memory_order_relaxed) << " accepted, "
            << sum.cancelled.load(std::memory_order_relaxed) << " cancelled, "
            << sum.refused.load(std::memory_order_relaxed) << " refused\n";
}

}  // namespace
}  // namespace request_queue_test
