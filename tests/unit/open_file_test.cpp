// open_file: what is refused at the edge, what goes inline and what to a worker, and close with operations under way.
#include "sluice/device/open_file.h"

#include <gtest/gtest.h>

#include "support/io_helpers.h"

namespace open_file_test {
namespace {

using namespace sluice;

struct file_bench : test::io_bench {
  explicit file_bench(access_mode mode = access_mode::read_write, request_queue_options options = {})
      : io_bench(options) {
    auto [made, gated] = test::make_gated_device();
    target = std::move(made);
    device = gated;
    file = open_file::open(target, queue, mode).value();
  }
  // What submit says to such a request, as an errno; 0 if it goes.
  int refusal(io_op op, std::uint64_t offset, std::uint64_t length, io_flags flags = io_flags::none) {
    test::awaited_request request;
    test::fill(request, op, offset, std::min<std::uint64_t>(length, 4096), flags);
    request.length = length;
    const result<issued> got = file->submit(request, *context);
    if (!got) {
      EXPECT_EQ(request.calls.load(std::memory_order_seq_cst), 0);
      EXPECT_EQ(file->validate(request), file->closed() ? file->validate(request) : got.error().value());
      return got.error().value();
    }
    if (*got == issued::queued) {
      EXPECT_GE(request.wait(), 0);
    }
    return 0;
  }

  ref<sluice::device> target;
  test::gated_device* device = nullptr;
  ref<open_file> file;
};

TEST(OpenFile, RefusesAtTheEdgeWhatTheProtocolsWantRefused) {
  file_bench bench;
  const std::uint64_t size = bench.file->size();
  EXPECT_EQ(bench.refusal(io_op::read, 0, 0), EINVAL);
  EXPECT_EQ(bench.refusal(io_op::read, size - 1, 1), 0);
  EXPECT_EQ(bench.refusal(io_op::read, size - 1, 2), EINVAL);
  EXPECT_EQ(bench.refusal(io_op::read, size + 1, 1), EINVAL);
  EXPECT_EQ(bench.refusal(io_op::read, ~0ULL, ~0ULL), EINVAL) << "the sum wraps";
  EXPECT_EQ(bench.refusal(io_op::write, size, 1), ENOSPC);
  EXPECT_EQ(bench.refusal(io_op::write_zeroes, size - 1, ~0ULL), ENOSPC);
  EXPECT_EQ(bench.refusal(io_op::trim, size, 1), EINVAL);
  EXPECT_EQ(bench.refusal(io_op::cache, size, 1), EINVAL);
  EXPECT_EQ(bench.refusal(io_op::flush, 0, 0), 0);
  EXPECT_EQ(bench.refusal(io_op::read, 0, 1, io_flags::fua), EINVAL);
  EXPECT_EQ(bench.refusal(io_op::write, 0, 1, io_flags::fast_zero), EINVAL);
  EXPECT_EQ(bench.refusal(io_op::write_zeroes, 0, 1, io_flags::fua | io_flags::no_hole | io_flags::fast_zero), 0);
}

TEST(OpenFile, RefusesChangesThroughAReadOnlyOpening) {
  file_bench bench(access_mode::read_only);
  EXPECT_EQ(bench.refusal(io_op::write, 0, 1), EPERM);
  EXPECT_EQ(bench.refusal(io_op::trim, 0, 1), EPERM);
  EXPECT_EQ(bench.refusal(io_op::write_zeroes, 0, 1), EPERM);
  EXPECT_EQ(bench.refusal(io_op::read, 0, 1), 0);
  EXPECT_EQ(bench.refusal(io_op::flush, 0, 0), 0);
}

TEST(OpenFile, MovesBytesInlineOrByAWorkerOrHalfAndHalf) {
  file_bench bench;
  for (const std::size_t by_submit : {std::size_t{0}, std::size_t{1000}, std::size_t{4096}}) {
    bench.device->inline_bytes.store(by_submit, std::memory_order_seq_cst);
    test::awaited_request write;
    test::fill(write, io_op::write, 512, 4096);
    for (std::size_t i = 0; i < write.space.size(); ++i) {
      write.space[i] = static_cast<std::byte>(i * 7 + by_submit);
    }
    test::awaited_request read;
    test::fill(read, io_op::read, 512, 4096);
    for (test::awaited_request* each : {&write, &read}) {
      const issued how = bench.file->submit(*each, *bench.context).value();
      EXPECT_EQ(how, by_submit == 4096 ? issued::completed : issued::queued);
      EXPECT_EQ(how == issued::queued ? each->wait() : each->result(), 4096);
      EXPECT_EQ(each->calls.load(std::memory_order_seq_cst), how == issued::queued ? 1 : 0);
    }
    EXPECT_EQ(read.space, write.space);
  }
}

TEST(OpenFile, NoInlineGoesToAWorker) {
  file_bench bench;
  bench.device->inline_bytes.store(4096, std::memory_order_seq_cst);
  test::awaited_request read;
  test::fill(read, io_op::read, 0, 4096, io_flags::no_inline);
  ASSERT_EQ(bench.file->submit(read, *bench.context).value(), issued::queued);
  EXPECT_EQ(read.wait(), 4096);
}

TEST(OpenFile, ErrorsOfTheDeviceArriveAsNegativeErrno) {
  file_bench bench;
  bench.device->next_error.store(EIO, std::memory_order_seq_cst);
  for (const io_op op : {io_op::read, io_op::write, io_op::flush, io_op::trim, io_op::write_zeroes}) {
    test::awaited_request failing;
    test::fill(failing, op, 0, 512);
    ASSERT_EQ(bench.file->submit(failing, *bench.context).value(), issued::queued);
    EXPECT_EQ(failing.wait(), -EIO);
  }
}

// D1 D2 D3: seed 003's scenario: reads under way, close; they finish; release runs once after the last; later calls
// EBADF.
TEST(OpenFile, CloseLetsReadsUnderWayFinishAndReleasesOnceAfterTheLast) {
  file_bench bench;
  bench.device->gate.shut();
  constexpr int reads = 3;  // of four workers: a queue leaves one to others
  std::vector<std::unique_ptr<test::awaited_request>> under_way;
  for (int i = 0; i < reads; ++i) {
    under_way.push_back(std::make_unique<test::awaited_request>());
    test::fill(*under_way.back(), io_op::read, 0, 512);
    ASSERT_EQ(bench.file->submit(*under_way.back(), *bench.context).value(), issued::queued);
  }
  bench.device->gate.await_arrivals(reads);
  EXPECT_TRUE(bench.file->close().has_value());
  EXPECT_TRUE(bench.file->closed());
  EXPECT_EQ(bench.device->released.load(std::memory_order_seq_cst), 0) << "reads are under way";
  test::awaited_request late;
  test::fill(late, io_op::read, 0, 512);
  EXPECT_EQ(bench.file->submit(late, *bench.context).error(), error_of(EBADF));
  EXPECT_EQ(bench.file->close().error(), error_of(EBADF));
  bench.device->gate.open();
  for (auto& each : under_way) {
    EXPECT_EQ(each->wait(), 512);
  }
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(bench.device->released.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(bench.device->operations.load(std::memory_order_seq_cst), reads);
  bench.file.reset();
  EXPECT_EQ(bench.device->released.load(std::memory_order_seq_cst), 1);
}

// D2: with nobody inside, close itself releases.
TEST(OpenFile, CloseOfAnIdleFileReleasesAtOnce) {
  file_bench bench;
  EXPECT_TRUE(bench.file->close().has_value());
  EXPECT_EQ(bench.device->released.load(std::memory_order_seq_cst), 1);
}

// D2: the last count closes; operations under way keep the file, the device and the queue.
TEST(OpenFile, LastPutClosesAndOperationsKeepWhatTheyNeed) {
  file_bench bench;
  bench.device->gate.shut();
  test::awaited_request read;
  test::fill(read, io_op::read, 0, 512);
  ASSERT_EQ(bench.file->submit(read, *bench.context).value(), issued::queued);
  bench.file.reset();
  EXPECT_EQ(bench.device->released.load(std::memory_order_seq_cst), 0);
  bench.device->gate.open();
  EXPECT_EQ(read.wait(), 512);
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(bench.device->released.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(bench.target->use_count(), 1U) << "the file let the device go";
}

TEST(OpenFile, ADoneMayDropTheLastCountOfItsFile) {
  file_bench bench;
  struct holder : test::awaited_request {
    ref<open_file> file;
  } request;
  test::fill(request, io_op::read, 0, 512);
  request.file = std::move(bench.file);
  request.done = [](io_request& over) noexcept {
    auto& mine = static_cast<holder&>(over);
    mine.file.reset();
    mine.sleeper.wake();
  };
  open_file& file = *request.file;
  ASSERT_EQ(file.submit(request, *bench.context).value(), issued::queued);
  EXPECT_EQ(request.wait(), 512);
  ASSERT_TRUE(bench.queue->drain().has_value());
  EXPECT_EQ(bench.device->released.load(std::memory_order_seq_cst), 1);
}

TEST(OpenFile, EachOpeningHasItsOwnInfo) {
  file_bench bench;
  ref<open_file> other = open_file::open(bench.target, bench.queue, access_mode::read_only).value();
  EXPECT_EQ(bench.device->opened.load(std::memory_order_seq_cst), 2);
  EXPECT_TRUE(other->close().has_value());
  EXPECT_EQ(bench.device->released.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(bench.refusal(io_op::read, 0, 1), 0) << "the first is still open";
}

TEST(OpenFile, AFailedSubmitIsNoOperation) {
  file_bench bench;
  static_cast<void>(bench.queue->stop());
  test::awaited_request read;
  test::fill(read, io_op::read, 0, 512);
  EXPECT_EQ(bench.file->submit(read, *bench.context).error(), error_of(ESHUTDOWN));
  EXPECT_TRUE(bench.file->close().has_value());
  EXPECT_EQ(bench.device->released.load(std::memory_order_seq_cst), 1) << "nothing is counted as under way";
}

}  // namespace
}  // namespace open_file_test
