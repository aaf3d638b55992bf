// Goal: D4: one number, given to file after file, leads to the file that it means at some moment of the lookup, or to
// EBADF; never to one that was closed before the lookup began, never to a dead one, never to a mix. Method: real
// threads; each file is on a device whose bytes say which it is; the two counters around install and close say which
// files the number may mean meanwhile.
#include "sluice/device/file_table.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "support/io_helpers.h"
#include "support/joined_threads.h"
#include "support/stress.h"

namespace file_table_test {
namespace {

using namespace sluice;

constexpr std::size_t devices = 64;

struct number_bench : test::io_bench {
  number_bench() : io_bench({.depth = 4}, 2) {
    for (std::size_t i = 0; i < devices; ++i) {
      auto [made, gated] = test::make_gated_device(4096);
      std::ranges::fill(gated->bytes(), static_cast<std::byte>(i));
      gated->inline_bytes.store(1, std::memory_order_seq_cst);
      targets.push_back(std::move(made));
      inside.push_back(gated);
    }
  }

  // Files one after the other under the number 0; file n is on device n % devices.
  void open_and_close() {
    const test::stress_time time;
    for (std::uint64_t nth = 1; !time.over(); ++nth) {
      ref<open_file> file = open_file::open(targets[nth % devices], queue, access_mode::read_only).value();
      begun.store(nth, std::memory_order_seq_cst);
      ASSERT_EQ(table.install(std::move(file)).value(), 0);
      if (nth % 4 == 0) {
        std::this_thread::yield();
      }
      ASSERT_TRUE(table.close(0).has_value());
      closed.store(nth, std::memory_order_seq_cst);
    }
  }

  void look_up() {
    test::awaited_request read;
    test::fill(read, io_op::read, 0, 1);
    while (!over.load(std::memory_order_seq_cst)) {
      const std::uint64_t after = closed.load(std::memory_order_seq_cst);
      result<ref<open_file>> file = table.lookup(0);
      const std::uint64_t until = begun.load(std::memory_order_seq_cst);
      if (!file) {
        ASSERT_EQ(file.error(), error_of(EBADF));
        continue;
      }
      found.fetch_add(1, std::memory_order_relaxed);
      // A count that was raised from zero is saturated. The lookups and the table hold a few.
      ASSERT_LT((*file)->use_count(), 16U) << "a dead one";
      const auto place = std::ranges::find(targets, &(*file)->target(), &ref<device>::get);
      ASSERT_NE(place, targets.end());
      const auto which = static_cast<std::uint64_t>(place - targets.begin());
      if (until - after < devices) {
        bool may_be = false;
        for (std::uint64_t nth = after + 1; nth <= until; ++nth) {
          may_be = may_be || nth % devices == which;
        }
        ASSERT_TRUE(may_be) << "device " << which << " with files " << after + 1 << " to " << until;
      }
      const result<issued> how = (*file)->submit(read, *context);
      if (!how) {
        ASSERT_EQ(how.error(), error_of(EBADF)) << "closed between the lookup and the submit";
        continue;
      }
      ASSERT_EQ(*how == issued::queued ? read.wait() : read.result(), 1);
      ASSERT_EQ(read.space[0], static_cast<std::byte>(which)) << "a file's reads are of its own device";
    }
  }

  file_table table{1};
  std::vector<ref<device>> targets;
  std::vector<test::gated_device*> inside;
  std::atomic<std::uint64_t> begun{0}, closed{0}, found{0};
  std::atomic<bool> over{false};
};

TEST(StressFileTable, ANumberGivenToFileAfterFile) {
  number_bench bench;
  test::joined_threads crowd(bench.over);
  for (int i = 0; i < 3; ++i) {
    crowd.start([&] { bench.look_up(); });
  }
  bench.open_and_close();
  crowd.stop_and_join();
  ASSERT_TRUE(bench.queue->drain().has_value());
  for (const test::gated_device* each : bench.inside) {
    EXPECT_EQ(each->opened.load(std::memory_order_seq_cst), each->released.load(std::memory_order_seq_cst));
  }
  std::cout << bench.closed.load(std::memory_order_seq_cst) << " files, " << bench.found.load(std::memory_order_relaxed)
            << " found\n";
}

}  // namespace
}  // namespace file_table_test
