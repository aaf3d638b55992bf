// Goal: very many works that wait in a system call, or behind those that do, can all be taken back; what lent a buffer
// gets it back with the completion and not before. Method: reads on pipes into which nobody writes; a run marks its
// buffer as in use from its first to its last moment.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/base/unique_fd.h"
#include "sluice/wq/blocking_region.h"
#include "sluice/wq/io_wq.h"

#include "support/wq_probe.h"

namespace sluice {
namespace io_wq_cancel_blocked_test {
namespace {

using test::make_wq;

// Raises the soft limit of descriptors as far as it goes. Returns how many pipes may be opened, at most `wanted`.
std::size_t room_for_pipes(std::size_t wanted) {
  rlimit files{};
  EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = files.rlim_max;
  EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &files), 0);
  constexpr std::size_t others = 64;
  return std::min<std::size_t>(wanted, (files.rlim_cur - others) / 2);
}

// Pipes that stay empty; works may share one.
class empty_pipes {
 public:
  explicit empty_pipes(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      int ends[2] = {-1, -1};
      EXPECT_EQ(::pipe(ends), 0);
      readers_.emplace_back(ends[0]);
      writers_.emplace_back(ends[1]);
    }
  }
  [[nodiscard]] int reader(std::size_t i) const { return readers_[i % readers_.size()].get(); }

 private:
  std::vector<unique_fd> readers_;
  std::vector<unique_fd> writers_;
};

enum class mark : std::uint8_t { lent = 'l', in_use = 'u', given_back = 'g', mine = 'm' };

// A read into a buffer that was lent to it. The buffer is plain memory, so that a sanitizer sees a race on it.
struct pipe_read : work {
  pipe_read() : work(operations, work_class::unbound) {}

  static void do_run(work& w, work_context& ctx) noexcept {
    auto& self = static_cast<pipe_read&>(w);
    ++self.runs;
    EXPECT_TRUE(self.all_are(mark::lent));
    if (ctx.cancelled()) {
      self.gave_up = true;
      return;
    }
    self.fill(mark::in_use);
    self.tally->fetch_add(1, std::memory_order_seq_cst);
    while (!ctx.cancelled()) {
      const blocking_region region;
      const ssize_t got = ::read(self.fd, self.buffer.data(), self.buffer.size());
      EXPECT_TRUE(got < 0 && errno == EINTR);
      // One interrupt, one reason.
      EXPECT_TRUE(ctx.cancelled());
    }
    EXPECT_TRUE(self.all_are(mark::in_use));
    self.fill(mark::given_back);
  }
  static void do_release(work& w) noexcept {
    auto& self = static_cast<pipe_read&>(w);
    EXPECT_TRUE(self.all_are(self.gave_up ? mark::lent : mark::given_back));
    // Mine again, and to be reused at once.
    self.fill(mark::mine);
    ++self.releases;
  }
  static constexpr work_ops operations{do_run, do_release};

  void fill(mark with) noexcept { buffer.fill(static_cast<char>(with)); }
  [[nodiscard]] bool all_are(mark with) const noexcept {
    return std::ranges::all_of(buffer, [with](char c) { return c == static_cast<char>(with); });
  }

  int fd = -1;
  std::atomic<std::size_t>* tally = nullptr;  // of those that got as far as their read
  int runs = 0;
  int releases = 0;
  bool gave_up = false;
  std::array<char, 32> buffer{};
};

// So many reads, submitted; some of them blocked, the rest behind them.
class blocked_crowd {
 public:
  blocked_crowd(std::size_t count, unsigned workers)
      : workers_(workers),
        pipes_(room_for_pipes(workers)),
        reads_(std::make_unique<pipe_read[]>(count)),
        count_(count),
        wq_(make_wq({.max_unbound = workers})) {
    for (std::size_t i = 0; i < count; ++i) {
      pipe_read& one = reads_[i];
      one.fd = pipes_.reader(i);
      one.tally = &started_;
      one.fill(mark::lent);
      one.set_owner(i % 4 + 1);
      handles_.push_back(wq_->submit_tracked(one).value_or(work_handle()));
    }
  }

  // Until as many are blocked as there may be workers.
  void wait_blocked() {
    while (started_.load(std::memory_order_seq_cst) != workers_ || wq_->stats().unbound.blocked != workers_) {
      std::this_thread::yield();
    }
    EXPECT_EQ(wq_->stats().unbound.workers, workers_);
    EXPECT_EQ(wq_->stats().unbound.queued, count_ - workers_);
  }

  // Everything is over: run once, released once, each buffer its owner's.
  void expect_over() {
    EXPECT_TRUE(wq_->stop(stop_policy::run_queued).finished);
    for (std::size_t i = 0; i < count_; ++i) {
      ASSERT_EQ(reads_[i].runs, 1);
      ASSERT_EQ(reads_[i].releases, 1);
      ASSERT_TRUE(reads_[i].all_are(mark::mine));
    }
    EXPECT_EQ(wq_->stats().unbound.released, count_);
  }

  [[nodiscard]] std::size_t count() const { return count_; }
  [[nodiscard]] io_wq& wq() const { return *wq_; }
  [[nodiscard]] work_handle handle(std::size_t i) const { return handles_[i]; }
  [[nodiscard]] const pipe_read& read(std::size_t i) const { return reads_[i]; }

 private:
  const unsigned workers_;
  const empty_pipes pipes_;
  std::atomic<std::size_t> started_{0};
  const std::unique_ptr<pipe_read[]> reads_;
  const std::size_t count_;
  std::vector<work_handle> handles_;
  const ref<io_wq> wq_;
};

// C6 C8 C2: ten thousand reads, two hundred and fifty-six of them blocked, and one call takes them all back.
TEST(IoWqCancelBlocked, TenThousandReadsAreTakenBackByOneCall) {
  blocked_crowd crowd(10'000, 256);
  crowd.wait_blocked();
  const cancel_counts counts = crowd.wq().cancel_all();
  EXPECT_EQ(counts.cancelled, crowd.count() - 256);
  EXPECT_EQ(counts.running, 256U);
  crowd.expect_over();
}

// C1 C2 C8: one by one, the last first; those that were pending are over at once, buffer and all.
TEST(IoWqCancelBlocked, TenThousandReadsAreTakenBackOneByOne) {
  blocked_crowd crowd(10'000, 256);
  crowd.wait_blocked();
  std::size_t running = 0;
  for (std::size_t i = crowd.count(); i-- != 0;) {
    const cancel_result said = crowd.wq().cancel(crowd.handle(i));
    ASSERT_NE(said, cancel_result::not_found);
    if (said == cancel_result::cancelled) {
      ASSERT_TRUE(crowd.read(i).all_are(mark::mine));
      ASSERT_TRUE(crowd.read(i).gave_up);
    } else {
      ++running;
    }
  }
  EXPECT_EQ(running, 256U);
  crowd.expect_over();
}

// C6 C8: by owner, four of them at once from four threads, while works still begin to block.
TEST(IoWqCancelBlocked, ReadsThatJustBeginAreTakenBackByTheirOwners) {
  blocked_crowd crowd(10'000, 256);
  std::atomic<std::size_t> found{0};
  std::vector<std::jthread> owners;
  for (std::uint64_t owner = 1; owner <= 4; ++owner) {
    owners.emplace_back([&, owner] {
      const cancel_counts counts = crowd.wq().cancel_owner(owner);
      found.fetch_add(counts.cancelled + counts.running, std::memory_order_seq_cst);
    });
  }
  owners.clear();
  EXPECT_EQ(found.load(std::memory_order_seq_cst), crowd.count()) << "each is found once, wherever it is";
  crowd.expect_over();
}

// C2 C5 C8 P6: several hundred that are all blocked at once, in reads of a pipe of their own each.
TEST(IoWqCancelBlocked, SixHundredBlockedReadsAreAllInterrupted) {
  blocked_crowd crowd(600, 600);
  crowd.wait_blocked();
  EXPECT_EQ(crowd.wq().cancel_if([](const work_view& v) { return v.running; })->running, 600U);
  crowd.expect_over();
}

// X1 X6 C8: a stop that cancels does the same.
TEST(IoWqCancelBlocked, StopTakesBlockedReadsBack) {
  blocked_crowd crowd(10'000, 256);
  crowd.wait_blocked();
  const stop_report report = crowd.wq().stop(stop_policy::cancel_queued);
  EXPECT_TRUE(report.finished);
  EXPECT_EQ(report.cancelled, crowd.count() - 256);
  crowd.expect_over();
}

}  // namespace
}  // namespace io_wq_cancel_blocked_test
}  // namespace sluice
