// Goal: seed 003's scenario with real threads, over and over: many submit while one closes; nothing uses the info after
// its release, which happens once, after the last operation; accepted requests complete once. And the same through a
// table whose numbers are reused meanwhile. Method: time-boxed; the device checks its info at both ends of every
// operation.
#include "sluice/device/open_file.h"

#include <gtest/gtest.h>

#include "sluice/device/file_table.h"

#include "support/io_helpers.h"
#include "support/stress.h"

namespace open_file_test {
namespace {

using namespace sluice;

// One thread's requests: submits until the file refuses, waits for each.
struct submitter {
  void run(open_file& file, io_context& context) {
    test::fill(request, io_op::read, 0, 512);
    for (;;) {
      const result<issued> how = file.submit(request, context);
      if (!how) {
        EXPECT_EQ(how.error(), error_of(EBADF));
        break;
      }
      ++accepted;
      if (*how == issued::queued) {
        ++queued;
        EXPECT_EQ(request.wait(), 512);
      }
    }
    EXPECT_EQ(request.calls.load(std::memory_order_seq_cst), queued);
  }

  test::awaited_request request;
  int accepted = 0;
  int queued = 0;
};

// D1 D2 D3
TEST(StressOpenFile, CloseWhileManySubmit) {
  test::io_bench bench({.depth = 3}, 3);
  auto [target, device] = test::make_gated_device();
  std::int64_t accepted = 0;
  int rounds = 0;
  const test::stress_time time;
  for (; !time.over(); ++rounds) {
    device->inline_bytes.store(rounds % 3 == 0 ? 512 : rounds % 3 == 1 ? 100 : 0, std::memory_order_seq_cst);
    ref<open_file> file = open_file::open(target, bench.queue, access_mode::read_write).value();
    constexpr int threads = 4;
    std::vector<submitter> all(threads);
    std::atomic<int> ready{0};
    std::vector<std::thread> crowd;
    for (submitter& each : all) {
      crowd.emplace_back([&, held = file] {
        ready.fetch_add(1, std::memory_order_seq_cst);
        ready.notify_all();
        each.run(*held, *bench.context);
      });
    }
    for (int seen = 0; seen < threads; seen = ready.load(std::memory_order_seq_cst)) {
      ready.wait(seen, std::memory_order_seq_cst);
    }
    EXPECT_TRUE(file->close().has_value());
    test::awaited_request late;
    test::fill(late, io_op::read, 0, 512);
    EXPECT_EQ(file->submit(late, *bench.context).error(), error_of(EBADF));
    file.reset();
    for (std::thread& each : crowd) {
      each.join();
    }
    ASSERT_TRUE(bench.queue->drain().has_value());
    EXPECT_EQ(device->released.load(std::memory_order_seq_cst), rounds + 1);
    for (const submitter& each : all) {
      accepted += each.accepted;
    }
  }
  std::cout << rounds << " closes, " << accepted << " requests\n";
}

// D4: two look up a number and read through it while two others close and open it.
TEST(StressOpenFile, NumbersReusedUnderLookups) {
  test::io_bench bench({.depth = 4}, 2);
  auto [target, device] = test::make_gated_device();
  file_table table(2);
  std::atomic<bool> over{false};
  std::atomic<std::int64_t> found{0}, missed{0}, installed{0};
  std::vector<std::thread> crowd;
  for (int i = 0; i < 2; ++i) {
    crowd.emplace_back([&] {
      test::awaited_request read;
      test::fill(read, io_op::read, 0, 512);
      for (int number = 0; !over.load(std::memory_order_seq_cst); number ^= 1) {
        result<ref<open_file>> file = table.lookup(number);
        if (!file) {
          EXPECT_EQ(file.error(), error_of(EBADF));
          missed.fetch_add(1, std::memory_order_relaxed);
          continue;
        }
        const result<issued> how = (*file)->submit(read, *bench.context);
        if (!how) {
          EXPECT_EQ(how.error(), error_of(EBADF)) << "closed between the lookup and the submit";
        } else if (*how == issued::queued) {
          EXPECT_EQ(read.wait(), 512);
        }
        found.fetch_add(1, std::memory_order_relaxed);
      }
    });
    crowd.emplace_back([&] {
      while (!over.load(std::memory_order_seq_cst)) {
        result<int> number = table.install(open_file::open(target, bench.queue, access_mode::read_write).value());
        if (number) {
          installed.fetch_add(1, std::memory_order_relaxed);
          std::this_thread::yield();
          EXPECT_TRUE(table.close(*number).has_value()) << "only its installer closes it";
        }
      }
    });
  }
  const test::stress_time time;
  while (!time.over()) {
    std::this_thread::yield();
  }
  over.store(true, std::memory_order_seq_cst);
  for (std::thread& each : crowd) {
    each.join();
  }
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(device->opened.load(std::memory_order_seq_cst), device->released.load(std::memory_order_seq_cst));
  std::cout << installed.load(std::memory_order_relaxed) << " opened, " << found.load(std::memory_order_relaxed)
            << " found, " << missed.load(std::memory_order_relaxed) << " missed\n";
}

}  // namespace
}  // namespace open_file_test
