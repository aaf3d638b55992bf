// Goal: freeze, quiesce, resize, set_elevator and remove under full load, a thousand times each: no deadlock, and every
// accepted request is answered once. Method: submitters that never pause, with requests that are done inline, on a
// worker, or in several quanta; one thread changes the queue; counts are compared. The runs are counted, not timed.
#include <array>

#include <gtest/gtest.h>

#include "support/queue_helpers.h"
#include "support/stress.h"

namespace request_queue_life_test {
namespace {

using namespace sluice;
using test::probe_request;

constexpr int times = 1000;
constexpr std::size_t submitters = 3;
constexpr int each_has = 6;

// Submits for as long as it may, from several threads, and counts.
class load {
 public:
  explicit load(ref<request_queue> onto, io_context& as) : queue_(std::move(onto)), context_(as) {
    for (std::size_t who = 0; who < submitters; ++who) {
      threads_.emplace_back([this, who] { submit(who); });
    }
  }
  ~load() { end(); }
  load(const load&) = delete;
  load& operator=(const load&) = delete;

  void end() {
    over_.store(true, std::memory_order_seq_cst);
    for (std::thread& each : threads_) {
      each.join();
    }
    threads_.clear();
  }
  // Waits until so many more requests are over.
  void await(std::int64_t more) const {
    const std::int64_t wanted = answered.load(std::memory_order_seq_cst) + more;
    while (answered.load(std::memory_order_seq_cst) < wanted) {
      std::this_thread::yield();
    }
  }

  std::atomic<std::int64_t> accepted{0}, answered{0}, inline_done{0}, gone{0};
  std::atomic<int> allowed_error{EAGAIN};

 private:
  void submit(std::size_t who) {
    std::vector<std::unique_ptr<probe_request>> mine;
    for (int i = 0; i < each_has; ++i) {
      auto made = std::make_unique<probe_request>(nullptr, who + 1);
      made->inline_ok = i % 3 == 0;
      made->then = [this](probe_request&) { answered.fetch_add(1, std::memory_order_seq_cst); };
      mine.push_back(std::move(made));
    }
    for (std::uint64_t turn = 0; !over_.load(std::memory_order_seq_cst); ++turn) {
      std::vector<probe_request*> waiting;
      for (auto& each : mine) {
        each->has_bytes(turn % 2 == 0 ? 4096 * (turn % 5) : 0);
        accepted.fetch_add(1, std::memory_order_seq_cst);
        const result<issued> how = queue_->submit(*each, context_);
        if (!how) {
          accepted.fetch_sub(1, std::memory_order_seq_cst);
          EXPECT_TRUE(how.error() == error_of(EAGAIN) ||
                      how.error() == error_of(allowed_error.load(std::memory_order_seq_cst)))
              << how.error();
          gone.fetch_add(how.error() == error_of(ENODEV) ? 1 : 0, std::memory_order_seq_cst);
        } else if (*how == issued::completed) {
          answered.fetch_add(1, std::memory_order_seq_cst);
          inline_done.fetch_add(1, std::memory_order_seq_cst);
        } else {
          waiting.push_back(each.get());
        }
      }
      for (probe_request* each : waiting) {
        each->wait();
      }
    }
  }

  ref<request_queue> queue_;
  io_context& context_;
  std::atomic<bool> over_{false};
  std::vector<std::thread> threads_;
};

constexpr request_queue_options small{.depth = 3, .max_waiting = 14, .quantum = 4096, .max_workers = 2};

// Changes a loaded queue so many times, then counts.
void change(std::unique_ptr<elevator> order, const std::function<void(request_queue&, load&, int)>& once) {
  test::io_bench bench(small, 3, std::move(order));
  load many(bench.queue, *bench.context);
  for (int i = 0; i < times; ++i) {
    once(*bench.queue, many, i);
  }
  many.await(10);
  many.end();
  ASSERT_TRUE(bench.queue->stop().has_value());
  EXPECT_EQ(many.accepted.load(std::memory_order_seq_cst), many.answered.load(std::memory_order_seq_cst));
  const request_queue_stats figures = bench.queue->stats();
  EXPECT_EQ(figures.in_flight + figures.on_workers + figures.waiting, 0U);
  std::cout << times << " changes, " << many.answered.load(std::memory_order_seq_cst) << " answered, "
            << many.inline_done.load(std::memory_order_seq_cst) << " inline, " << figures.waited << " waited, "
            << figures.cut << " cut\n";
}

std::unique_ptr<elevator> watching(test::elevator_log& log) {
  return std::make_unique<test::watching_elevator>(log);
}

void freeze_and_unfreeze(request_queue& queue, load& many, int i) {
  many.await(i % 20);
  ASSERT_TRUE(queue.freeze().has_value());
  EXPECT_EQ(queue.stats().in_flight, 0U) << "all that was accepted is over, and nothing goes on";
  queue.unfreeze();
}

TEST(StressRequestQueueLife, Freeze) {
  change(nullptr, freeze_and_unfreeze);
}

TEST(StressRequestQueueLife, FreezeWithPairs) {
  test::elevator_log log;
  change(watching(log), freeze_and_unfreeze);
}

TEST(StressRequestQueueLife, FreezeFromTwoThreadsWithDeadlines) {
  change(nullptr, [](request_queue& queue, load& many, int i) {
    many.await(i % 20);
    std::thread other([&] {
      if (queue.freeze(clock_seam::real().now() + std::chrono::microseconds(i % 300))) {
        queue.unfreeze();
      }
    });
    if (queue.freeze(clock_seam::real().now() + std::chrono::microseconds(i % 500))) {
      queue.unfreeze();
    }
    other.join();
  });
}

TEST(StressRequestQueueLife, Quiesce) {
  change(nullptr, [](request_queue& queue, load& many, int i) {
    ASSERT_TRUE(queue.quiesce().has_value());
    const request_queue_stats still = queue.stats();
    EXPECT_EQ(still.in_flight, still.on_workers) << "nothing is being tried";
    queue.unquiesce();
    many.await(i % 20);
  });
}

TEST(StressRequestQueueLife, Resize) {
  test::elevator_log log;
  change(watching(log), [](request_queue& queue, load& many, int i) {
    ASSERT_TRUE(queue.resize(static_cast<std::uint32_t>(1 + i % 7)).has_value());
    many.await(i % 20);
  });
}

TEST(StressRequestQueueLife, SetElevator) {
  test::elevator_log log;
  change(nullptr, [&](request_queue& queue, load& many, int i) {
    ASSERT_TRUE(queue.set_elevator(i % 2 == 0 ? watching(log) : nullptr).has_value());
    many.await(i % 20);
  });
  EXPECT_GT(log.exits, 0);
  EXPECT_LE(log.exits, times / 2) << "one context, at most one io_cq per elevator that wants them";
}

TEST(StressRequestQueueLife, AllOfThemAtOnceFromManyThreads) {
  test::elevator_log log;
  change(nullptr, [&](request_queue& queue, load& many, int i) {
    many.await(i % 20);
    std::array<std::thread, 4> crowd{
        std::thread([&] {
          ASSERT_TRUE(queue.freeze().has_value());
          queue.unfreeze();
        }),
        std::thread([&] {
          ASSERT_TRUE(queue.quiesce().has_value());
          queue.unquiesce();
        }),
        std::thread([&] { ASSERT_TRUE(queue.set_elevator(i % 2 == 0 ? watching(log) : nullptr).has_value()); }),
        std::thread([&] {
          ASSERT_TRUE(queue.resize(static_cast<std::uint32_t>(1 + i % 5)).has_value());
          static_cast<void>(queue.drain(clock_seam::real().now()));
          static_cast<void>(queue.cancel_owner(1));
        }),
    };
    for (std::thread& each : crowd) {
      each.join();
    }
  });
}

// A queue of its own each time, removed while it is loaded.
TEST(StressRequestQueueLife, Remove) {
  const ref<io_wq> wq = io_wq::create({.max_bound = 3, .max_unbound = 1, .name = "test"}).value();
  test::elevator_log log;
  removal_report all;
  std::int64_t answered = 0;
  for (int i = 0; i < times; ++i) {
    task self;
    const ref<io_context> context = self.get_task_io_context(task_side::current).value();
    const ref<request_queue> queue = request_queue::create(*wq, small, i % 2 == 0 ? watching(log) : nullptr).value();
    load many(queue, *context);
    many.allowed_error.store(ENODEV, std::memory_order_seq_cst);
    many.await(i % 40);
    const removal_report report = queue->remove();
    EXPECT_EQ(report.stuck, 0U);
    many.end();
    EXPECT_EQ(many.accepted.load(std::memory_order_seq_cst), many.answered.load(std::memory_order_seq_cst));
    EXPECT_EQ(queue->stats().removed, report.cancelled + report.interrupted);
    all.answered += report.answered;
    all.cancelled += report.cancelled;
    all.interrupted += report.interrupted;
    answered += many.answered.load(std::memory_order_seq_cst);
  }
  static_cast<void>(wq->stop(stop_policy::run_queued));
  std::cout << times << " removals of " << answered << " requests: " << all.answered << " ran on, " << all.cancelled
            << " did not run, " << all.interrupted << " were interrupted\n";
}

}  // namespace
}  // namespace request_queue_life_test
