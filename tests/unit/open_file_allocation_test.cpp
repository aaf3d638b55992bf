// Goal: the way of a request allocates nothing in the steady state: inline, punted, waiting for a slot.
// Method: this program's operator new counts, for all threads; some rounds warm up, the next ones must not count.
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <new>
#include <string>

#include <gtest/gtest.h>

#include "sluice/device/file_device.h"
#include "sluice/device/memory_device.h"

#include "support/queue_helpers.h"

namespace {

std::atomic<std::uint64_t> allocations{0};
std::atomic<bool> memory_is_short{false};

void* counted(std::size_t bytes, std::size_t alignment) {
  allocations.fetch_add(1, std::memory_order_seq_cst);
  if (memory_is_short.load(std::memory_order_seq_cst)) {
    throw std::bad_alloc();
  }
  void* made = alignment <= alignof(std::max_align_t)
                   ? std::malloc(bytes)
                   : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (made == nullptr) {
    throw std::bad_alloc();
  }
  return made;
}

}  // namespace

[[gnu::noinline]] void* operator new(std::size_t bytes) {
  return counted(bytes, 1);
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  allocations.fetch_add(1, std::memory_order_seq_cst);
  return memory_is_short.load(std::memory_order_seq_cst) ? nullptr : std::malloc(bytes);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace {

using namespace sluice;

// Requests that go round: each done submits itself again until its turns are over.
struct circling : io_request {
  void start(open_file& on, io_context& as, int turns, std::atomic<int>& left_over, parker& waiter) {
    file = &on;
    context = &as;
    turns_left = turns;
    unfinished = &left_over;
    sleeper = &waiter;
    done = [](io_request& over) noexcept { static_cast<circling&>(over).next(); };
    next();
  }
  void next() noexcept {
    while (turns_left-- > 0) {
      const sluice::result<issued> how = file->submit(*this, *context);
      SLUICE_CHECK(how.has_value());
      if (*how == issued::queued) {
        return;
      }
    }
    if (unfinished->fetch_sub(1, std::memory_order_seq_cst) == 1) {
      sleeper->wake();
    }
  }

  open_file* file = nullptr;
  io_context* context = nullptr;
  int turns_left = 0;
  std::atomic<int>* unfinished = nullptr;
  parker* sleeper = nullptr;
  std::array<std::byte, 512> space{};
};

// Allocations that `turns` turns of each request make.
std::uint64_t allocations_of(std::vector<std::unique_ptr<circling>>& requests, open_file& file, io_context& context,
                             int turns) {
  std::atomic<int> running{static_cast<int>(requests.size())};
  parker sleeper;
  const std::uint64_t before = allocations.load(std::memory_order_seq_cst);
  for (auto& each : requests) {
    each->start(file, context, turns, running, sleeper);
  }
  sleeper.park();
  return allocations.load(std::memory_order_seq_cst) - before;
}

// What a pool may still do while it settles (start a worker, grow a table) it does in the first rounds: the last of
// some rounds must be free of allocations.
void expect_none(io_op op, io_flags flags, const ref<sluice::device>& target, request_queue_options options,
                 std::unique_ptr<elevator> order = nullptr) {
#if SLUICE_REF_TRACKER
  GTEST_SKIP() << "the reference tracker allocates a record per count";
#endif
  test::io_bench bench(options, 2, std::move(order));
  const ref<open_file> file = open_file::open(target, bench.queue, access_mode::read_write).value();
  std::vector<std::unique_ptr<circling>> requests;
  for (int i = 0; i < 8; ++i) {
    requests.push_back(std::make_unique<circling>());
    test::fill(*requests.back(), op, static_cast<std::uint64_t>(i) * 512, 512, requests.back()->space.data(), flags);
  }
  std::uint64_t last = ~0ULL;
  for (int round = 0; round < 20 && last != 0; ++round) {
    last = allocations_of(requests, *file, *bench.context, 200);
  }
  EXPECT_EQ(last, 0U) << "no round of 1600 requests went without an allocation";
  ASSERT_TRUE(bench.queue->drain().has_value());
}

// Memory that is short once says nothing of later. The first test: what it makes is kept for the process.
TEST(FileDeviceNoMemory, ADeviceThatWasRefusedForWantOfMemoryCanBeMadeLater) {
  std::string path = testing::TempDir() + "/sluice-no-memory-XXXXXX";
  const int fd = ::mkstemp(path.data());
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::ftruncate(fd, 1 << 20), 0);
  ::close(fd);
  memory_is_short.store(true, std::memory_order_seq_cst);
  const result<ref<device>> refused = file_device::create(path, access_mode::read_write);
  memory_is_short.store(false, std::memory_order_seq_cst);
  const result<ref<device>> made = file_device::create(path, access_mode::read_write);
  ::unlink(path.c_str());
  EXPECT_EQ(refused.error(), error_of(ENOMEM));
  ASSERT_TRUE(made.has_value());
  EXPECT_NE((*made)->hash_of_write(0, 512).domain, nullptr);
}

TEST(OpenFileAllocation, NoneInline) {
  expect_none(io_op::read, io_flags::none, memory_device::create(1 << 20).value(), {});
}

TEST(OpenFileAllocation, NoneByAWorker) {
  expect_none(io_op::read, io_flags::no_inline, memory_device::create(1 << 20).value(), {});
}

TEST(OpenFileAllocation, NoneWhileWaitingForASlot) {
  expect_none(io_op::read, io_flags::no_inline, memory_device::create(1 << 20).value(), {.depth = 2});
}

TEST(OpenFileAllocation, NoneBetweenQuanta) {
  expect_none(io_op::read, io_flags::no_inline, memory_device::create(1 << 20).value(), {.depth = 2, .quantum = 100});
}

TEST(OpenFileAllocation, NoneInlineWithPairs) {
  test::elevator_log log;
  expect_none(io_op::read, io_flags::none, memory_device::create(1 << 20).value(), {},
              std::make_unique<test::watching_elevator>(log));
}

TEST(OpenFileAllocation, NoneWithPairsWhileWaitingAndBetweenQuanta) {
  test::elevator_log log;
  expect_none(io_op::read, io_flags::no_inline, memory_device::create(1 << 20).value(), {.depth = 2, .quantum = 100},
              std::make_unique<test::watching_elevator>(log));
}

TEST(OpenFileAllocation, NoneForBufferedWritesToAFile) {
  const std::string path = testing::TempDir() + "/sluice_allocation_" + std::to_string(::getpid());
  {
    std::ofstream made(path);
    made << std::string(1 << 16, 'x');
  }
  const ref<sluice::device> file = file_device::create(path, access_mode::read_write).value();
  for (const io_flags flags : {io_flags::none, io_flags::no_inline}) {
    test::elevator_log log;
    expect_none(io_op::write, flags, file, {.quantum = 100}, std::make_unique<test::watching_elevator>(log));
  }
  ::unlink(path.c_str());
}

}  // namespace
