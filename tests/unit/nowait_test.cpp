// nowait: what is learned from attempts that are refused, fall short, or take too long; for which file, and for how
// long.
#include "sluice/device/nowait.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/base/sync.h"
#include "sluice/device/file_device.h"

#include "support/file_helpers.h"

namespace nowait_test {
namespace {

using namespace sluice;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using test::faulty_seam;
using test::scratch_file;

// Time that passes, and threads that sleep or do not, as the test says.
class told_clock final : public clock_seam {
 public:
  [[nodiscard]] steady_time now() noexcept override { return steady_time(at_); }
  [[nodiscard]] std::uint64_t thread_sleeps() noexcept override { return sleeps_; }
  void advance(std::chrono::nanoseconds by) noexcept { at_ += by; }
  void sleep(std::chrono::nanoseconds by) noexcept {
    at_ += by;
    ++sleeps_;
  }

 private:
  std::chrono::nanoseconds at_{std::chrono::hours(1)};
  std::uint64_t sleeps_ = 0;
};

enum class lateness : bool { asleep, without_cpu };

struct lane_bench {
  // One attempt, or none. Returns whether it was made.
  bool attempt(nowait_outcome outcome = nowait_outcome::all, std::chrono::nanoseconds takes = {},
               lateness why = lateness::asleep) {
    const nowait_trial now = file.begin(lane, clock);
    if (now.go) {
      if (takes.count() != 0 && why == lateness::asleep) {
        clock.sleep(takes);
      } else {
        clock.advance(takes);
      }
      timed += now.timed ? 1U : 0U;
      file.end(lane, now, outcome, clock);
    }
    return now.go;
  }
  // Past the attempts that are all timed.
  void settle() {
    for (std::int32_t i = 0; i < nowait_lane::watched; ++i) {
      ASSERT_TRUE(attempt());
    }
  }
  // How long no attempt is made.
  std::chrono::nanoseconds rests() {
    std::chrono::nanoseconds sum{0};
    constexpr milliseconds step{10};
    for (; !attempt(); sum += step) {
      clock.advance(step);
    }
    return sum;
  }
  [[nodiscard]] nowait_state state() const { return file.figures(lane).state; }

  told_clock clock;
  nowait_lane lane;
  nowait_file file;
  std::uint64_t timed = 0;
};

TEST(Nowait, WorksOnceTheKernelTakesIt) {
  for (const nowait_outcome taken : {nowait_outcome::all, nowait_outcome::part}) {
    lane_bench bench;
    EXPECT_EQ(bench.state(), nowait_state::unknown);
    EXPECT_TRUE(bench.attempt(taken));
    EXPECT_EQ(bench.state(), nowait_state::works);
  }
}

TEST(Nowait, RefusalsInARowRestTheFileForAWhile) {
  lane_bench bench;
  for (std::uint32_t i = 0; i < nowait_file::refusal_limit; ++i) {
    ASSERT_TRUE(bench.attempt(nowait_outcome::refused));
  }
  EXPECT_EQ(bench.state(), nowait_state::refused);
  EXPECT_EQ(bench.rests(), nowait_file::refused_rest);
  EXPECT_EQ(bench.state(), nowait_state::works);
  EXPECT_FALSE(bench.lane.lies());
}

// The answer to one request teaches only about that request.
TEST(Nowait, SingleRefusalsTeachNothing) {
  lane_bench bench;
  ASSERT_TRUE(bench.attempt(nowait_outcome::refused));
  ASSERT_TRUE(bench.attempt()) << "the first of all";
  ASSERT_TRUE(bench.attempt(nowait_outcome::refused));
  ASSERT_TRUE(bench.attempt(nowait_outcome::refused));
  ASSERT_TRUE(bench.attempt()) << "nor do two";
  for (int round = 0; round < 1000; ++round) {
    for (std::uint32_t i = 0; i + 1 < nowait_file::refusal_limit; ++i) {
      ASSERT_TRUE(bench.attempt(nowait_outcome::refused)) << round;
    }
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(bench.attempt()) << round;
    }
  }
  EXPECT_EQ(bench.state(), nowait_state::works);
}

TEST(Nowait, WhatFallsShortNearlyAlwaysIsLeftAloneForAWhile) {
  lane_bench bench;
  for (std::uint64_t i = 0; i < nowait_file::window; ++i) {
    ASSERT_TRUE(bench.attempt(i % 12 == 0 ? nowait_outcome::all : nowait_outcome::part));
  }
  EXPECT_EQ(bench.state(), nowait_state::does_not_pay);
  EXPECT_EQ(bench.rests(), nowait_file::unpaid_rest);
  EXPECT_EQ(bench.state(), nowait_state::works) << "tried again";
  EXPECT_EQ(bench.file.figures(bench.lane).skipped, nowait_file::unpaid_rest / milliseconds(10));
}

TEST(Nowait, WhatSufficesNowAndThenPays) {
  lane_bench bench;
  for (std::uint64_t i = 0; i < 4 * nowait_file::window; ++i) {
    ASSERT_TRUE(bench.attempt(i % 9 == 0 ? nowait_outcome::all : nowait_outcome::part)) << i;
  }
  EXPECT_EQ(bench.state(), nowait_state::works);
}

// Windows that several threads end at once: none is judged by what was counted in another.
TEST(Nowait, AFileWithManyHitsIsNeverLeftAloneByManyThreads) {
  nowait_lane lane;
  nowait_file file;
  std::atomic<std::uint64_t> skipped{0};
  std::vector<std::thread> crowd;
  for (unsigned thread = 0; thread < 8; ++thread) {
    crowd.emplace_back([&] {
      for (unsigned i = 0; i < 100'000; ++i) {
        const nowait_trial now = file.begin(lane, clock_seam::real());
        if (now.go) {
          file.end(lane, now, i % 20 == 0 ? nowait_outcome::part : nowait_outcome::all, clock_seam::real());
        } else {
          skipped.fetch_add(1, std::memory_order_relaxed);
        }
      }
    });
  }
  for (std::thread& each : crowd) {
    each.join();
  }
  EXPECT_EQ(skipped.load(std::memory_order_relaxed), 0U);
  const nowait_figures found = file.figures(lane);
  EXPECT_EQ(found.state, nowait_state::works);
  EXPECT_EQ(found.hits, 8U * 95'000);
  EXPECT_EQ(found.punts, 8U * 5'000);
}

// Many threads that fall short nearly always, for several rests: attempts resume each time.
TEST(Nowait, ARestEndsHoweverManyThreadsBeganIt) {
  nowait_lane lane;
  nowait_file file;
  std::atomic<std::uint64_t> made{0};
  std::atomic<bool> over{false};
  std::vector<std::thread> crowd;
  for (unsigned thread = 0; thread < 4; ++thread) {
    crowd.emplace_back([&] {
      while (!over.load(std::memory_order_relaxed)) {
        const nowait_trial now = file.begin(lane, clock_seam::real());
        if (now.go) {
          file.end(lane, now, nowait_outcome::part, clock_seam::real());
          made.fetch_add(1, std::memory_order_relaxed);
        }
      }
    });
  }
  while (made.load(std::memory_order_relaxed) < 3 * nowait_file::window) {
    std::this_thread::yield();  // the test's time limit is the failure
  }
  over.store(true, std::memory_order_relaxed);
  for (std::thread& each : crowd) {
    each.join();
  }
}

TEST(Nowait, OnlyAFewAreTimed) {
  lane_bench bench;
  bench.settle();
  EXPECT_EQ(bench.timed, static_cast<std::uint64_t>(nowait_lane::watched)) << "the first ones all";
  for (std::uint64_t i = 0; i < 10 * nowait_file::sampled; ++i) {
    ASSERT_TRUE(bench.attempt());
  }
  EXPECT_EQ(bench.timed, static_cast<std::uint64_t>(nowait_lane::watched) + 10);
}

TEST(Nowait, AKernelThatBlocksAllTheSameIsFoundOut) {
  lane_bench bench;
  bench.settle();
  std::uint64_t attempts = 0;
  while (bench.attempt(nowait_outcome::all, milliseconds(5))) {
    ASSERT_LT(++attempts, nowait_file::sampled + nowait_lane::late_limit) << "a sample, then all are timed";
  }
  EXPECT_EQ(bench.state(), nowait_state::lies);
  EXPECT_EQ(bench.lane.late(), nowait_lane::late_limit);
}

// A machine with more threads than CPUs: an attempt takes long because its thread has no CPU.
TEST(Nowait, AThreadWithoutACpuIsNoLie) {
  lane_bench bench;
  for (int i = 0; i < 10'000; ++i) {
    ASSERT_TRUE(bench.attempt(nowait_outcome::all, milliseconds(20), lateness::without_cpu)) << i;
  }
  EXPECT_EQ(bench.state(), nowait_state::works);
  EXPECT_EQ(bench.lane.late(), 0U);
}

// The machine's own clock tells a sleep from computing.
TEST(Nowait, TheMachineSaysWhetherAThreadSlept) {
  clock_seam& machine = clock_seam::real();
  const std::uint64_t before = machine.thread_sleeps();
  const std::atomic<std::uint32_t> word{0};
  for (const steady_time until = machine.now() + milliseconds(2); machine.now() < until;) {
    static_cast<void>(os_sync::wait(word, 0, until));
  }
  EXPECT_NE(machine.thread_sleeps(), before);
  bool computed_without_a_sleep = false;
  for (int round = 0; round < 100 && !computed_without_a_sleep; ++round) {
    const std::uint64_t begin = machine.thread_sleeps();
    for (const steady_time until = machine.now() + milliseconds(2); machine.now() < until;) {
    }
    computed_without_a_sleep = machine.thread_sleeps() == begin;
  }
  EXPECT_TRUE(computed_without_a_sleep);
}

TEST(Nowait, AFewLateOnesAreABusyMachine) {
  lane_bench bench;
  for (int round = 0; round < 50; ++round) {
    for (std::uint32_t i = 0; i + 1 < nowait_lane::late_limit; ++i) {
      ASSERT_TRUE(bench.attempt(nowait_outcome::all, milliseconds(2)));
    }
    bench.settle();
    ASSERT_TRUE(bench.attempt(nowait_outcome::all, microseconds(900)));
  }
  EXPECT_EQ(bench.state(), nowait_state::works);
}

TEST(Nowait, ALiarIsAskedLessAndLessOften) {
  lane_bench bench;
  for (std::uint32_t i = 0; i < nowait_lane::late_limit; ++i) {
    ASSERT_TRUE(bench.attempt(nowait_outcome::all, milliseconds(2)));
  }
  std::chrono::nanoseconds expected = nowait_lane::lie_rest;
  for (int round = 0; round < 10; ++round) {
    EXPECT_EQ(bench.state(), nowait_state::lies) << "one late is enough";
    std::chrono::nanoseconds rested{0};
    while (!bench.file.begin(bench.lane, bench.clock).go) {
      bench.clock.advance(milliseconds(10));
      rested += milliseconds(10);
    }
    EXPECT_EQ(rested, expected) << round;
    ASSERT_TRUE(bench.attempt(nowait_outcome::all, milliseconds(2)));
    expected = std::min(2 * expected, std::chrono::nanoseconds(nowait_lane::most_rest));
  }
  static_cast<void>(bench.rests());
  bench.settle();
  EXPECT_TRUE(bench.attempt(nowait_outcome::all, milliseconds(2)));
  EXPECT_EQ(bench.state(), nowait_state::works) << "it kept its word for a watch: it is as any other again";
  while (bench.attempt(nowait_outcome::all, milliseconds(2))) {
  }
  EXPECT_EQ(bench.state(), nowait_state::lies);
  EXPECT_EQ(bench.rests(), nowait_lane::lie_rest) << "and its lies are counted anew";
}

TEST(Nowait, TheTableKeepsOneRecordPerDeviceAndForgetsTheUnusedFirst) {
  nowait_table table;
  std::vector<ref<nowait_record>> used;
  for (std::uint64_t id = 1; id <= nowait_table::max_records; ++id) {
    used.push_back(table.of(id));
  }
  EXPECT_EQ(table.of(1).get(), used[0].get());
  const ref<nowait_record> private_one = table.of(1000);
  ASSERT_TRUE(private_one);
  EXPECT_NE(table.of(1000).get(), private_one.get()) << "no place while all are in use";
  used[4].reset();
  const ref<nowait_record> shared = table.of(1000);
  EXPECT_EQ(table.of(1000).get(), shared.get()) << "in the place of the one that nobody used";
  std::vector<nowait_report> listed(nowait_table::max_records + 1);
  EXPECT_EQ(table.list(listed), nowait_table::max_records);
  EXPECT_TRUE(std::ranges::count(listed, std::uint64_t{1000U}, &nowait_report::device) == 1);
  EXPECT_FALSE(std::ranges::count(listed, std::uint64_t{5U}, &nowait_report::device) == 1);
  EXPECT_EQ(table.list({}), nowait_table::max_records);
}

// Two devices on files of one file system, a third on another one; all through one table.
struct three_files {
  three_files() { elsewhere.device_id = 77; }
  ref<device> open(const scratch_file& file, faulty_seam& system) {
    file_device_options options = system.options();
    options.known = &table;
    return file_device::create(file.path(), access_mode::read_write, options).value();
  }
  static std::size_t try_read(device& target) {
    open_info* info = target.open(access_mode::read_only).value();
    std::vector<std::byte> bytes(4096);
    const std::size_t moved = target.try_read(*info, 0, bytes);
    target.release(info);
    return moved;
  }

  nowait_table table;
  scratch_file a{1 << 20}, b{1 << 20}, c{1 << 20};
  faulty_seam here, elsewhere;
};

TEST(Nowait, NothingIsReadBeforeItIsAskedFor) {
  three_files files;
  const ref<device> first = files.open(files.a, files.here);
  EXPECT_EQ(files.here.preadv2_calls, 0);
  EXPECT_EQ(static_cast<file_device&>(*first).nowait().reads.state, nowait_state::unknown);
}

TEST(Nowait, WhatOneFileRefusesTeachesNothingOfAnother) {
  three_files files;
  const ref<device> odd = files.open(files.a, files.here);
  const ref<device> other = files.open(files.b, files.here);
  files.here.nowait_preads.assign(nowait_file::refusal_limit, {.err = EOPNOTSUPP});
  for (std::uint32_t i = 0; i < nowait_file::refusal_limit; ++i) {
    EXPECT_EQ(three_files::try_read(*odd), 0U);
  }
  const int asked = files.here.nowait_reads;
  EXPECT_EQ(three_files::try_read(*odd), 0U);
  EXPECT_EQ(files.here.nowait_reads, asked);
  EXPECT_EQ(static_cast<file_device&>(*odd).nowait().reads.state, nowait_state::refused);
  EXPECT_EQ(static_cast<file_device&>(*odd).nowait().writes.state, nowait_state::unknown)
      << "writes are another matter";
  EXPECT_EQ(three_files::try_read(*other), 4096U);
  // The file system may be another one under the same number, or another version of it.
  files.here.clock.advance(nowait_file::refused_rest);
  EXPECT_EQ(three_files::try_read(*odd), 4096U);
}

TEST(Nowait, AColdFileDoesNotShutAWarmOne) {
  three_files files;
  const ref<device> cold = files.open(files.a, files.here);
  const ref<device> warm = files.open(files.b, files.here);
  files.here.nowait_preads.assign(nowait_file::window, {.err = EAGAIN});
  for (std::uint32_t i = 0; i < nowait_file::window; ++i) {
    EXPECT_EQ(three_files::try_read(*cold), 0U);
  }
  EXPECT_EQ(static_cast<file_device&>(*cold).nowait().reads.state, nowait_state::does_not_pay);
  EXPECT_EQ(three_files::try_read(*warm), 4096U);
}

TEST(Nowait, AFileSystemThatBlocksIsNotTriedInsideSubmit) {
  three_files files;
  files.here.nowait_takes = milliseconds(10);
  const ref<device> target = files.open(files.a, files.here);
  const ref<device> neighbour = files.open(files.b, files.here);
  const ref<device> stranger = files.open(files.c, files.elsewhere);
  int moved = 0;
  while (three_files::try_read(*target) != 0) {
    ++moved;
  }
  EXPECT_EQ(moved, static_cast<int>(nowait_lane::late_limit));
  EXPECT_EQ(static_cast<file_device&>(*target).nowait().reads.state, nowait_state::lies);
  EXPECT_EQ(three_files::try_read(*neighbour), 0U) << "what one device finds out the next one on it knows";
  EXPECT_EQ(three_files::try_read(*stranger), 4096U) << "not on another file system";
  std::vector<nowait_report> listed(4);
  ASSERT_EQ(files.table.list(listed), 2U);
  EXPECT_TRUE(listed[0].reads_lie);
  EXPECT_EQ(listed[0].late_reads, nowait_lane::late_limit);
  EXPECT_FALSE(listed[0].writes_lie);
  EXPECT_FALSE(listed[1].reads_lie);
  EXPECT_STREQ(to_string(nowait_state::lies), "lies");
}

TEST(Nowait, AFileInMemoryTeachesNothing) {
  three_files files;
  files.here.system_type = TMPFS_MAGIC;
  const ref<device> target = files.open(files.a, files.here);
  EXPECT_EQ(three_files::try_read(*target), 4096U);
  EXPECT_EQ(static_cast<file_device&>(*target).nowait().reads.state, nowait_state::unknown);
  EXPECT_EQ(static_cast<file_device&>(*target).nowait().reads.hits, 1U);
}

// The machine's own: whatever it says, it is listed.
TEST(Nowait, TheProcessListsWhatItKnows) {
  const scratch_file scratch(1 << 20);
  const ref<device> target = file_device::create(scratch.path(), access_mode::read_only).value();
  std::vector<nowait_report> listed(nowait_table::max_records);
  EXPECT_GE(nowait_table::process().list(listed), 1U);
}

}  // namespace
}  // namespace nowait_test
