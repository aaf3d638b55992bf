// D1 D2 D3: the driver whose info is freed while a read uses it. Open gives info, reads take it, and close used to free it;
// a counter inside it does not help, because a read that has loaded the pointer and not yet counted itself is not seen.
// Goal: with reads under way in several threads, close returns at once; later calls are EBADF; the reads finish with their
// data; release runs once, after the last of them. Method: a driver whose reads block in read(2) on a pipe; the test
// decides when each of them ends.
#include <fcntl.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "sluice/base/unique_fd.h"
#include "sluice/device/file_table.h"
#include "sluice/device/open_file.h"
#include "sluice/wq/blocking_region.h"

#include "support/io_helpers.h"

namespace close_under_reads_test {
namespace {

using namespace sluice;

// Each read takes what comes through the pipe. Its info is real memory, so that a sanitizer sees a use after release.
class pipe_device final : public device {
 public:
  struct info final : open_info {
    std::atomic<std::int64_t> bytes{0};
  };

  pipe_device() : device({.size = 1 << 20, .read_only = true, .flush = false, .fua = false, .write_zeroes = false}) {
    int ends[2];
    SLUICE_CHECK(::pipe2(ends, O_CLOEXEC) == 0);
    out_.reset(ends[0]);
    in_.reset(ends[1]);
  }
  ~pipe_device() override = default;

  // Lets the reads have so many bytes.
  void feed(std::size_t bytes) {
    const std::vector<char> data(bytes, 'x');
    ASSERT_EQ(::write(in_.get(), data.data(), bytes), static_cast<ssize_t>(bytes));
  }
  void await_readers(int count) {
    for (int seen = readers.load(std::memory_order_seq_cst); seen < count;
         seen = readers.load(std::memory_order_seq_cst)) {
      readers.wait(seen, std::memory_order_seq_cst);
    }
  }

  std::atomic<int> readers{0};  // that ever came in
  std::atomic<int> released{0};
  std::atomic<std::int64_t> bytes_at_release{0};

  [[nodiscard]] std::string_view name() const noexcept override { return "pipe"; }
  [[nodiscard]] result<open_info*> open(access_mode) noexcept override { return new info; }
  void release(open_info* given) noexcept override {
    auto* mine = static_cast<info*>(given);
    bytes_at_release.store(mine->bytes.load(std::memory_order_seq_cst), std::memory_order_seq_cst);
    released.fetch_add(1, std::memory_order_seq_cst);
    delete mine;
  }
  [[nodiscard]] result<void> read(open_info& given, std::uint64_t, std::span<std::byte> into,
                                  cancel_probe probe) noexcept override {
    auto& mine = static_cast<info&>(given);
    const blocking_region region;
    readers.fetch_add(1, std::memory_order_seq_cst);
    readers.notify_all();
    while (!into.empty()) {
      const ssize_t got = ::read(out_.get(), into.data(), into.size());
      if (got < 0 && (errno != EINTR || probe.cancelled())) {
        return fail(errno == EINTR ? ECANCELED : errno);
      }
      into = into.subspan(got < 0 ? 0 : static_cast<std::size_t>(got));
      // The info is used after the sleep, as a driver does.
      mine.bytes.fetch_add(got < 0 ? 0 : got, std::memory_order_seq_cst);
    }
    return {};
  }
  [[nodiscard]] result<void> write(open_info&, std::uint64_t, std::span<const std::byte>, io_flags,
                                   cancel_probe) noexcept override {
    return fail(EROFS);
  }
  [[nodiscard]] result<void> flush(open_info&, cancel_probe) noexcept override { return {}; }
  [[nodiscard]] result<void> trim(open_info&, std::uint64_t, std::uint64_t, io_flags, cancel_probe) noexcept override {
    return fail(EROFS);
  }
  [[nodiscard]] result<void> write_zeroes(open_info&, std::uint64_t, std::uint64_t, io_flags,
                                          cancel_probe) noexcept override {
    return fail(EROFS);
  }

 private:
  unique_fd out_, in_;
};

constexpr int readers = 4;
constexpr std::uint64_t bytes_each = 64;

// Reads that block, each submitted by a thread of its own.
struct readers_under_way {
  explicit readers_under_way(open_file& file, io_context& context) : all(readers) {
    std::vector<std::thread> crowd;
    for (test::awaited_request& each : all) {
      test::fill(each, io_op::read, 0, bytes_each);
      crowd.emplace_back([&] { EXPECT_EQ(file.submit(each, context).value(), issued::queued); });
    }
    for (std::thread& each : crowd) {
      each.join();
    }
  }
  std::vector<test::awaited_request> all;
};

TEST(RegressCloseUnderReads, ReleaseRunsOnceAfterTheLastRead) {
  test::io_bench bench({.depth = 8, .max_workers = readers}, readers);
  auto* driver = new pipe_device;
  const ref<device> target = ref<device>::adopt(driver);
  ref<open_file> file = open_file::open(target, bench.queue, access_mode::read_only).value();
  readers_under_way reads(*file, *bench.context);
  driver->await_readers(readers);

  EXPECT_TRUE(file->close().has_value()) << "at once, with all of them inside";
  EXPECT_EQ(file->close().error(), error_of(EBADF));
  test::awaited_request late;
  test::fill(late, io_op::read, 0, 1);
  EXPECT_EQ(file->submit(late, *bench.context).error(), error_of(EBADF));
  file.reset();  // nor do the reads need the caller's count

  for (int ended = 0; ended < readers; ++ended) {
    EXPECT_EQ(driver->released.load(std::memory_order_seq_cst), 0) << "after " << ended << " of them ended";
    driver->feed(bytes_each - (ended == 0 ? 1U : 0U));  // the last byte of the last one is kept back
  }
  EXPECT_EQ(driver->released.load(std::memory_order_seq_cst), 0);
  driver->feed(1);
  for (test::awaited_request& each : reads.all) {
    EXPECT_EQ(each.wait(), static_cast<std::int64_t>(bytes_each)) << "what was under way finishes";
  }
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(driver->released.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(driver->bytes_at_release.load(std::memory_order_seq_cst), static_cast<std::int64_t>(readers * bytes_each))
      << "the release sees what every read did";
}

// The same through a number, which is given to another file meanwhile: that one is not touched.
TEST(RegressCloseUnderReads, TheNumberIsAnothersWhileTheOldReadsGoOn) {
  test::io_bench bench({.depth = 8, .max_workers = readers}, readers);
  auto* old_driver = new pipe_device;
  auto* new_driver = new pipe_device;
  const ref<device> old_target = ref<device>::adopt(old_driver), new_target = ref<device>::adopt(new_driver);
  file_table table(1);
  ASSERT_EQ(table.install(open_file::open(old_target, bench.queue, access_mode::read_only).value()).value(), 0);
  readers_under_way reads(*table.lookup(0).value(), *bench.context);
  old_driver->await_readers(readers);

  EXPECT_TRUE(table.close(0).has_value());
  EXPECT_EQ(table.lookup(0).error(), error_of(EBADF));
  ASSERT_EQ(table.install(open_file::open(new_target, bench.queue, access_mode::read_only).value()).value(), 0);
  EXPECT_EQ(&table.lookup(0).value()->target(), new_driver);

  old_driver->feed(readers * bytes_each);
  for (test::awaited_request& each : reads.all) {
    EXPECT_EQ(each.wait(), static_cast<std::int64_t>(bytes_each));
  }
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(old_driver->released.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(new_driver->released.load(std::memory_order_seq_cst), 0);
  EXPECT_EQ(new_driver->readers.load(std::memory_order_seq_cst), 0);
  EXPECT_TRUE(table.close(0).has_value());
  EXPECT_EQ(new_driver->released.load(std::memory_order_seq_cst), 1);
}

}  // namespace
}  // namespace close_under_reads_test
