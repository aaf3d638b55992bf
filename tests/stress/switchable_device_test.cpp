// Goal: D1 D2: a target replaced a thousand times under full load: no request fails or is lost, none touches a target
// after its release or has a part on another one, each target is released once per opening. Method: real threads read
// and write through a queue, some of it inside submit; the targets check their info at both ends of every operation.
#include "sluice/device/switchable_device.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "support/io_helpers.h"
#include "support/joined_threads.h"
#include "support/stress.h"

namespace switchable_device_test {
namespace {

using namespace sluice;

constexpr std::uint64_t size = 64 << 10;

TEST(StressSwitchableDevice, AThousandReplacementsUnderLoad) {
  test::io_bench bench({.depth = 6, .quantum = 128}, 4);
  std::vector<ref<device>> targets;
  std::vector<test::gated_device*> inside;
  for (std::size_t i = 0; i < 3; ++i) {
    auto [made, gated] = test::make_gated_device(size);
    std::ranges::fill(gated->bytes(), static_cast<std::byte>(i + 1));
    gated->inline_bytes.store(i * 256, std::memory_order_seq_cst);  // none, a part, all of it inside submit
    targets.push_back(std::move(made));
    inside.push_back(gated);
  }
  ref<switchable_device> disk = switchable_device::create(targets[0]).value();
  std::atomic<bool> over{false};
  std::atomic<std::int64_t> done{0};
  test::joined_threads crowd(over);
  for (int t = 0; t < 3; ++t) {
    crowd.start([&, t] {
      const ref<open_file> file = open_file::open(disk, bench.queue, access_mode::read_write).value();
      test::awaited_request request;
      int queued = 0;
      for (int i = 0; !over.load(std::memory_order_relaxed); ++i) {
        const io_op op = (i + t) % 8 == 7 ? io_op::flush : (i + t) % 2 == 0 ? io_op::read : io_op::write;
        // A place of its own for the writes of each thread, and one for reads, where each target has bytes of its own.
        const std::uint64_t place = op == io_op::write ? static_cast<std::uint64_t>(t) * 4096 : size / 2;
        test::fill(request, op, place, 512);
        const issued how = file->submit(request, *bench.context).value();
        queued += how == issued::queued ? 1 : 0;
        const std::int64_t moved = how == issued::queued ? request.wait() : request.result();
        EXPECT_EQ(moved, op == io_op::flush ? 0 : 512);
        if (op == io_op::read) {
          EXPECT_EQ(std::ranges::count(request.space, request.space[0]), 512) << "all of it from one target";
        }
        done.fetch_add(1, std::memory_order_relaxed);
      }
      EXPECT_EQ(request.calls.load(std::memory_order_seq_cst), queued);
    });
  }
  const int rounds = static_cast<int>(1000 * test::stress_factor());
  std::int64_t seen = 0;
  for (int round = 1; round <= rounds; ++round) {
    const switch_report how = disk->replace(targets[static_cast<std::size_t>(round) % targets.size()]).value();
    EXPECT_EQ(how.old, old_target::released);
    EXPECT_FALSE(how.flush);
    // Some operations on each target before the next.
    while (done.load(std::memory_order_relaxed) < seen + 3 && !testing::Test::HasFailure()) {
      std::this_thread::yield();
    }
    seen = done.load(std::memory_order_relaxed);
  }
  crowd.stop_and_join();
  ASSERT_TRUE(bench.queue->drain().has_value());
  disk.reset();
  int opened = 0;
  for (const test::gated_device* each : inside) {
    EXPECT_EQ(each->opened.load(std::memory_order_seq_cst), each->released.load(std::memory_order_seq_cst));
    opened += each->opened.load(std::memory_order_seq_cst);
  }
  EXPECT_EQ(opened, rounds + 1);
  std::cout << rounds << " replacements, " << done.load(std::memory_order_relaxed) << " operations\n";
}

}  // namespace
}  // namespace switchable_device_test
