// Goal: with the elevator `fair` on a real queue every accepted request is answered once, whatever comes at the same
// time: contexts that come and go with requests waiting, weights, classes and limits that change, cancels by owner,
// quanta. Method: time-boxed, real threads, counts compared at the end; and who is capped keeps nobody else from
// ending.
#include <array>

#include <gtest/gtest.h>

#include "sluice/ioc/fair.h"

#include "support/io_helpers.h"
#include "support/joined_threads.h"
#include "support/stress.h"

namespace fair_elevator_test {
namespace {

using namespace sluice;

struct tally {
  std::atomic<std::int64_t> accepted{0}, answered{0}, cancelled{0}, refused{0};
};

struct crowd_request : test::awaited_request {
  crowd_request(tally& all, std::uint64_t whose) : sum(all) {
    set_owner(whose);
    done = [](io_request& over) noexcept {
      auto& mine = static_cast<crowd_request&>(over);
      const std::int64_t got = mine.result();
      EXPECT_TRUE(got >= 0 || got == -ECANCELED) << got;
      (got < 0 ? mine.sum.cancelled : mine.sum.answered).fetch_add(1, std::memory_order_relaxed);
      mine.sleeper.wake();
    };
  }
  tally& sum;
};

void change(io_context& context, std::uint64_t turn) {
  constexpr std::array classes{ioprio_class::none, ioprio_class::rt, ioprio_class::be, ioprio_class::idle};
  const ioprio_class cls = classes[turn % classes.size()];
  context.set_ioprio({cls, cls == ioprio_class::rt || cls == ioprio_class::be ? static_cast<unsigned>(turn % 8) : 0});
  EXPECT_TRUE(context.set_weight(static_cast<std::uint32_t>(1 + turn * 37 % 10'000)).has_value());
  context.set_limits(turn % 3 == 0 ? io_limits{.iops = 2'000 + turn % 500, .bytes_per_second = 64 << 20} : io_limits{});
}

// Submits a handful for a context that ends while they wait, again and again.
void come_and_go(open_file& file, tally& sum, std::uint64_t owner, const std::atomic<bool>& over) {
  std::vector<std::unique_ptr<crowd_request>> mine;
  for (int i = 0; i < 12; ++i) {
    mine.push_back(std::make_unique<crowd_request>(sum, owner));
    // No writes: they would race with the reads in the device, which is memory.
    test::fill(*mine.back(), i % 3 == 2 ? io_op::flush : io_op::read, 0, i % 3 == 2 ? 0 : 512U << (i % 5));
  }
  for (std::uint64_t turn = owner; !over.load(std::memory_order_seq_cst); ++turn) {
    std::vector<crowd_request*> waiting;
    {
      task self;
      const ref<io_context> context = self.get_task_io_context(task_side::current).value();
      change(*context, turn);
      for (auto& each : mine) {
        const result<issued> how = file.submit(*each, *context);
        if (!how) {
          EXPECT_EQ(how.error(), error_of(EAGAIN));
          sum.refused.fetch_add(1, std::memory_order_relaxed);
          continue;
        }
        sum.accepted.fetch_add(1, std::memory_order_relaxed);
        if (*how == issued::queued) {
          waiting.push_back(each.get());
        } else {
          sum.answered.fetch_add(1, std::memory_order_relaxed);
        }
      }
      change(*context, turn + 1);
    }
    for (crowd_request* each : waiting) {
      each->sleeper.park();
    }
  }
}

TEST(StressFairElevator, AcceptedIsAnsweredOnceWhoeverComesAndGoes) {
  const fair_options options{.limits = {.bytes_per_second = 256 << 20}, .burst = std::chrono::milliseconds(1)};
  test::io_bench bench({.depth = 4, .max_waiting = 24, .quantum = 1024, .max_workers = 3}, 4,
                       make_fair_elevator(options));
  auto [target, device] = test::make_gated_device();
  const ref<open_file> file = open_file::open(target, bench.queue, access_mode::read_write).value();
  tally sum;
  std::atomic<bool> over{false};
  test::joined_threads crowd(over);
  for (std::uint64_t owner = 1; owner <= 3; ++owner) {
    crowd.start([&, owner] { come_and_go(*file, sum, owner, over); });
  }
  crowd.start([&] {
    for (std::uint64_t owner = 1; !over.load(std::memory_order_seq_cst); owner = owner % 3 + 1) {
      static_cast<void>(bench.queue->cancel_owner(owner));
      static_cast<void>(bench.queue->drain(clock_seam::real().now() + std::chrono::milliseconds(1)));
    }
  });
  const test::stress_time time;
  for (std::size_t bytes = 0; !time.over(); bytes = (bytes + 300) % 9000) {
    device->inline_bytes.store(bytes, std::memory_order_seq_cst);
    std::this_thread::yield();
  }
  crowd.stop_and_join();
  EXPECT_TRUE(bench.queue->stop().has_value());
  EXPECT_EQ(sum.accepted.load(std::memory_order_relaxed),
            sum.answered.load(std::memory_order_relaxed) + sum.cancelled.load(std::memory_order_relaxed));
  EXPECT_TRUE(bench.queue->order().empty_locked());
  EXPECT_EQ(bench.queue->stats().in_flight, 0U);
  std::cout << sum.accepted.load(std::memory_order_relaxed) << " accepted, "
            << sum.cancelled.load(std::memory_order_relaxed) << " cancelled, "
            << sum.refused.load(std::memory_order_relaxed) << " refused, " << bench.queue->stats().cut << " cut\n";
}

}  // namespace
}  // namespace fair_elevator_test
