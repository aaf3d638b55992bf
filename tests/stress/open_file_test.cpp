// Goal: seed 003's scenario with real threads, over and over: many submit while one closes; nothing uses the info after
// its release, which happens once, after the last operation; accepted requests complete once. And the same through a
// table whose numbers are reused meanwhile: what a lookup found reads the bytes of one file, its own. Method:
// time-boxed; the device checks its info at both ends of every operation; each device is filled with a byte of its
// own.
#include "sluice/device/open_file.h"

#include <algorithm>
#include <array>

#include <gtest/gtest.h>

#include "sluice/device/file_table.h"

#include "support/io_helpers.h"
#include "support/joined_threads.h"
#include "support/stress.h"

namespace open_file_test {
namespace {

using namespace sluice;

constexpr std::size_t read_bytes = 512;
// How much of a read a device does inside submit: all, a part, nothing.
constexpr std::array<std::size_t, 3> inside_submit{read_bytes, 100, 0};

// One thread's requests: submits until the file refuses, waits for each.
struct submitter {
  void run(open_file& file, io_context& context, const std::atomic<bool>& over) {
    test::fill(request, io_op::read, 0, read_bytes);
    while (!over.load(std::memory_order_seq_cst)) {
      const result<issued> how = file.submit(request, context);
      if (!how) {
        EXPECT_EQ(how.error(), error_of(EBADF));
        break;
      }
      ++accepted;
      if (*how == issued::queued) {
        ++queued;
        EXPECT_EQ(request.wait(), std::int64_t{read_bytes});
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
    device->inline_bytes.store(inside_submit.at(static_cast<std::size_t>(rounds) % inside_submit.size()),
                               std::memory_order_seq_cst);
    ref<open_file> file = open_file::open(target, bench.queue, access_mode::read_write).value();
    constexpr int threads = 4;
    std::vector<submitter> all(threads);
    std::atomic<int> ready{0};
    std::atomic<bool> over{false};  // set only if the close fails: else the file's refusal ends them
    test::joined_threads crowd(over);
    for (submitter& each : all) {
      crowd.start([&, held = file] {
        ready.fetch_add(1, std::memory_order_seq_cst);
        ready.notify_all();
        each.run(*held, *bench.context, over);
      });
    }
    for (int seen = 0; seen < threads; seen = ready.load(std::memory_order_seq_cst)) {
      ready.wait(seen, std::memory_order_seq_cst);
    }
    ASSERT_TRUE(file->close().has_value());
    test::awaited_request late;
    test::fill(late, io_op::read, 0, read_bytes);
    EXPECT_EQ(file->submit(late, *bench.context).error(), error_of(EBADF));
    file.reset();
    crowd.join();
    ASSERT_TRUE(bench.queue->drain().has_value());
    EXPECT_EQ(device->released.load(std::memory_order_seq_cst), rounds + 1);
    for (const submitter& each : all) {
      accepted += each.accepted;
    }
  }
  std::cout << rounds << " closes, " << accepted << " requests\n";
}

// Openers give the numbers of one table to files on many devices; readers look the numbers up.
struct reused_numbers : test::io_bench {
  static constexpr std::size_t openers = 2;
  static constexpr std::size_t devices = 12;
  static constexpr std::byte unread{0xFF};  // no device has it

  reused_numbers() : io_bench({.depth = 4}, 2) {
    for (std::size_t i = 0; i < devices; ++i) {
      auto [made, gated] = test::make_gated_device(4096);
      std::ranges::fill(gated->bytes(), static_cast<std::byte>(i));
      gated->inline_bytes.store(inside_submit.at(i % inside_submit.size()), std::memory_order_seq_cst);
      targets.push_back(std::move(made));
      inside.push_back(gated);
    }
  }

  // One file after the other, each on the next of the opener's devices.
  void open_and_close(std::size_t opener) {
    for (std::size_t nth = opener; !over.load(std::memory_order_seq_cst); nth += openers) {
      const result<int> number =
          table.install(open_file::open(targets[nth % devices], queue, access_mode::read_only).value());
      if (number) {
        installed.fetch_add(1, std::memory_order_relaxed);
        std::this_thread::yield();
        ASSERT_TRUE(table.close(*number).has_value()) << "only its installer closes it";
      }
    }
  }

  void look_up() {
    test::awaited_request read;
    test::fill(read, io_op::read, 0, read_bytes);
    for (int number = 0; !over.load(std::memory_order_seq_cst) && !testing::Test::HasFatalFailure(); number ^= 1) {
      const result<ref<open_file>> file = table.lookup(number);
      if (file) {
        read_through(**file, read);
      } else {
        ASSERT_EQ(file.error(), error_of(EBADF));
        missed.fetch_add(1, std::memory_order_relaxed);
      }
    }
  }

  // All bytes are of one device, the file's own.
  void read_through(open_file& file, test::awaited_request& read) {
    const auto place = std::ranges::find(targets, &file.target(), &ref<device>::get);
    ASSERT_NE(place, targets.end());
    const auto which = static_cast<std::size_t>(place - targets.begin());
    std::ranges::fill(read.space, unread);
    const result<issued> how = file.submit(read, *context);
    if (!how) {
      ASSERT_EQ(how.error(), error_of(EBADF)) << "closed between the lookup and the submit";
      closed.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    ASSERT_EQ(*how == issued::queued ? read.wait() : read.result(), std::int64_t{read_bytes});
    const auto own = [&](std::byte each) { return each == static_cast<std::byte>(which); };
    const auto wrong = std::ranges::find_if_not(read.space, own);
    ASSERT_EQ(wrong, read.space.end()) << "of device " << which << ", but byte " << wrong - read.space.begin()
                                       << " is of " << std::to_integer<int>(*wrong);
    found.at(which % inside_submit.size()).fetch_add(1, std::memory_order_relaxed);
  }

  file_table table{openers};
  std::vector<ref<device>> targets;
  std::vector<test::gated_device*> inside;
  std::atomic<bool> over{false};
  std::array<std::atomic<std::int64_t>, inside_submit.size()> found{};  // by how much was read inside submit
  std::atomic<std::int64_t> missed{0}, closed{0}, installed{0};
};

// D4: two look up a number and read through it while two others close and open it.
TEST(StressOpenFile, NumbersReusedUnderLookups) {
  reused_numbers bench;
  test::joined_threads crowd(bench.over);
  for (std::size_t i = 0; i < reused_numbers::openers; ++i) {
    crowd.start([&] { bench.look_up(); });
    crowd.start([&, i] { bench.open_and_close(i); });
  }
  const test::stress_time time;
  while (!time.over() && !testing::Test::HasFailure()) {
    std::this_thread::yield();
  }
  crowd.stop_and_join();
  ASSERT_TRUE(bench.queue->drain().has_value());
  for (const test::gated_device* each : bench.inside) {
    EXPECT_EQ(each->opened.load(std::memory_order_seq_cst), each->released.load(std::memory_order_seq_cst));
  }
  std::cout << bench.installed.load(std::memory_order_relaxed) << " opened, read";
  for (std::size_t i = 0; i < inside_submit.size(); ++i) {
    const std::int64_t reads = bench.found.at(i).load(std::memory_order_relaxed);
    EXPECT_GT(reads, 0) << "no read of which " << inside_submit.at(i) << " bytes are read inside submit";
    std::cout << (i == 0 ? " " : ", ") << reads << " (" << inside_submit.at(i) << " bytes inside submit)";
  }
  std::cout << "; " << bench.closed.load(std::memory_order_relaxed) << " closed, "
            << bench.missed.load(std::memory_order_relaxed) << " missed\n";
}

}  // namespace
}  // namespace open_file_test
