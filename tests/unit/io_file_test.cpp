// io/file: the API that a program uses, on a real file and on a device that blocks.
#include <unistd.h>

#include <cstring>

#include <gtest/gtest.h>

#include "sluice/io/file.h"

#include "support/io_helpers.h"

namespace io_file_test {
namespace {

using namespace sluice;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

struct text_file {
  explicit text_file(std::string_view text) {
    const int fd = ::mkstemp(path.data());
    SLUICE_CHECK(fd >= 0);
    SLUICE_CHECK(::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    ::close(fd);
  }
  ~text_file() { ::unlink(path.c_str()); }
  text_file(const text_file&) = delete;
  text_file& operator=(const text_file&) = delete;

  std::string path = ::testing::TempDir() + "/sluice-io-file-XXXXXX";
};

struct file_pool {
  ~file_pool() { static_cast<void>(wq->stop(stop_policy::run_queued)); }

  ref<io_wq> wq = io_wq::create({.max_bound = 2, .max_unbound = 1, .name = "test"}).value();
  task self;
};

TEST(IoFile, ReadsAndWritesAndStopsAtTheEnd) {
  text_file text("hello, sluice");
  file_pool pool;
  file f = file::open(*pool.wq, pool.self, text.path, access_mode::read_write).value();
  EXPECT_EQ(f.size(), 13U);
  std::array<std::byte, 64> buffer{};
  EXPECT_EQ(f.read_at(0, buffer).value(), 13U);
  EXPECT_EQ(std::memcmp(buffer.data(), "hello, sluice", 13), 0);
  EXPECT_EQ(f.read_at(7, buffer).value(), 6U);
  EXPECT_EQ(f.read_at(13, buffer).value(), 0U);
  EXPECT_EQ(f.read_at(1'000, buffer).value(), 0U);
  EXPECT_EQ(f.read_at(0, {}).value(), 0U);
  EXPECT_EQ(f.write_at(7, bytes_of("SLUICE")).value(), 6U);
  EXPECT_EQ(f.write_at(7, {}).value(), 0U);
  EXPECT_TRUE(f.flush().has_value());
  EXPECT_EQ(f.read_at(7, buffer).value(), 6U);
  EXPECT_EQ(std::memcmp(buffer.data(), "SLUICE", 6), 0);
  EXPECT_EQ(f.write_at(10, bytes_of("too long")).error(), error_of(ENOSPC));
}

TEST(IoFile, OpenErrorsAreErrno) {
  file_pool pool;
  EXPECT_EQ(file::open(*pool.wq, pool.self, "/no/such/file", access_mode::read_only).error(), error_of(ENOENT));
  EXPECT_EQ(file::open(*pool.wq, pool.self, "/tmp", access_mode::read_only).error(), error_of(EISDIR));
  pool.self.exit_io_context();
  text_file text("x");
  EXPECT_EQ(file::open(*pool.wq, pool.self, text.path, access_mode::read_only).error(), error_of(EBUSY))
      << "a task that has left issues nothing";
}

TEST(IoFile, AfterCloseEverythingIsEbadf) {
  text_file text("hello");
  file_pool pool;
  file f = file::open(*pool.wq, pool.self, text.path, access_mode::read_write).value();
  f.close();
  f.close();
  std::array<std::byte, 8> buffer{};
  EXPECT_EQ(f.read_at(0, buffer).error(), error_of(EBADF));
  EXPECT_EQ(f.write_at(0, buffer).error(), error_of(EBADF));
  EXPECT_EQ(f.flush().error(), error_of(EBADF));
  file_operation op;
  EXPECT_EQ(f.async_read(op, 0, buffer, [](result<std::size_t>) noexcept { ADD_FAILURE(); }).error(), error_of(EBADF));
}

TEST(IoFile, AsyncCompletesInsideOrCallsBackOnce) {
  file_pool pool;
  auto [target, gated] = test::make_gated_device();
  file f = file::open(*pool.wq, pool.self, target, access_mode::read_write).value();
  std::array<std::byte, 512> buffer{};
  std::atomic<int> calls{0};
  parker sleeper;
  const auto count = [&](result<std::size_t> moved) noexcept {
    EXPECT_EQ(moved.value(), 512U);
    calls.fetch_add(1, std::memory_order_seq_cst);
    sleeper.wake();
  };
  file_operation op;
  ASSERT_EQ(f.async_write(op, 0, buffer, count).value(), issued::queued);
  sleeper.park();
  EXPECT_EQ(op.transferred().value(), 512U);
  gated->inline_bytes.store(512, std::memory_order_seq_cst);
  ASSERT_EQ(f.async_read(op, 0, buffer, count).value(), issued::completed);
  EXPECT_EQ(op.transferred().value(), 512U);
  EXPECT_EQ(calls.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(f.async_read(op, f.size(), buffer, count).error(), error_of(EINVAL));
}

TEST(IoFile, ACallbackMayStartTheSameOperationAgain) {
  file_pool pool;
  auto [target, gated] = test::make_gated_device();
  file f = file::open(*pool.wq, pool.self, target, access_mode::read_write).value();
  std::array<std::byte, 512> buffer{};
  struct chain {
    file& f;
    std::array<std::byte, 512>& buffer;
    file_operation op;
    parker sleeper;
    int left = 10;
    void next() noexcept {
      if (left-- == 0) {
        sleeper.wake();
        return;
      }
      EXPECT_EQ(f.async_read(op, 0, buffer, [this](result<std::size_t>) noexcept { next(); }).value(), issued::queued);
    }
  } steps{f, buffer, {}, {}};
  steps.next();
  steps.sleeper.park();
  EXPECT_EQ(gated->operations.load(std::memory_order_seq_cst), 10);
}

TEST(IoFile, CloseWaitsForWhatIsUnderWay) {
  file_pool pool;
  auto [target, gated] = test::make_gated_device();
  file f = file::open(*pool.wq, pool.self, target, access_mode::read_write).value();
  gated->gate.shut();
  std::array<std::byte, 512> buffer{};
  std::atomic<bool> called{false};
  file_operation op;
  ASSERT_EQ(
      f.async_read(op, 0, buffer, [&](result<std::size_t>) noexcept { called.store(true, std::memory_order_seq_cst); })
          .value(),
      issued::queued);
  gated->gate.await_arrivals(1);
  std::thread opener([gate = &gated->gate] { gate->open(); });
  f.close();
  EXPECT_TRUE(called.load(std::memory_order_seq_cst)) << "close returned, so the callback has";
  EXPECT_EQ(gated->released.load(std::memory_order_seq_cst), 1);
  opener.join();
}

TEST(IoFile, MovingTakesTheOpeningAlong) {
  text_file text("hello");
  file_pool pool;
  file a = file::open(*pool.wq, pool.self, text.path, access_mode::read_only).value();
  file b = std::move(a);
  std::array<std::byte, 8> buffer{};
  EXPECT_EQ(b.read_at(0, buffer).value(), 5U);
  EXPECT_EQ(a.read_at(0, buffer).error(), error_of(EBADF));  // NOLINT(bugprone-use-after-move): what is left is closed
  b = file::open(*pool.wq, pool.self, text.path, access_mode::read_only).value();
  EXPECT_EQ(b.read_at(1, buffer).value(), 4U);
}

}  // namespace
}  // namespace io_file_test
