// nowait: what a lane learns from attempts that are refused, fall short, or take too long; who shares it.
#include "sluice/device/nowait.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "sluice/device/file_device.h"

#include "support/file_helpers.h"

namespace nowait_test {
namespace {

using namespace sluice;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using test::faulty_seam;
using test::scratch_file;

struct lane_bench {
  // One attempt, or none if the lane says so. Returns whether it was made.
  bool attempt(nowait_outcome outcome = nowait_outcome::all, std::chrono::nanoseconds takes = {}) {
    const nowait_lane::trial now = lane.begin(clock);
    if (now.go) {
      clock.advance(takes);
      timed += now.timed ? 1U : 0U;
      lane.end(now, outcome, clock);
    }
    return now.go;
  }
  // How many callers are turned away until one may try again; that one's attempt is made.
  std::uint64_t turned_away(nowait_outcome outcome = nowait_outcome::all, std::chrono::nanoseconds takes = {}) {
    std::uint64_t count = 0;
    while (!attempt(outcome, takes)) {
      ++count;
    }
    return count;
  }
  // Past the attempts that are all timed.
  void settle() {
    for (std::int32_t i = 0; i < nowait_lane::watched; ++i) {
      ASSERT_TRUE(attempt());
    }
  }

  test::manual_clock clock;
  nowait_lane lane;
  std::uint64_t timed = 0;
};

TEST(Nowait, WorksOnceTheKernelTakesIt) {
  for (const nowait_outcome taken : {nowait_outcome::all, nowait_outcome::part}) {
    lane_bench bench;
    EXPECT_EQ(bench.lane.state(), nowait_state::unknown);
    EXPECT_TRUE(bench.attempt(taken));
    EXPECT_EQ(bench.lane.state(), nowait_state::works);
  }
}

TEST(Nowait, ARefusalIsForEver) {
  lane_bench bench;
  EXPECT_TRUE(bench.attempt(nowait_outcome::refused));
  EXPECT_EQ(bench.lane.state(), nowait_state::refused);
  for (std::uint64_t i = 0; i < 3 * nowait_lane::lie_rest; ++i) {
    ASSERT_FALSE(bench.attempt());
  }
}

TEST(Nowait, WhereItWorkedARefusalIsAboutOneFile) {
  lane_bench bench;
  EXPECT_TRUE(bench.attempt());
  EXPECT_TRUE(bench.attempt(nowait_outcome::refused));
  EXPECT_EQ(bench.lane.state(), nowait_state::works);
  EXPECT_EQ(bench.lane.figures().punts, 1U);
}

TEST(Nowait, WhatFallsShortNearlyAlwaysIsLeftAloneForAWhile) {
  lane_bench bench;
  for (std::uint64_t i = 0; i < nowait_lane::window; ++i) {
    ASSERT_TRUE(bench.attempt(i % 12 == 0 ? nowait_outcome::all : nowait_outcome::part));
  }
  EXPECT_EQ(bench.lane.state(), nowait_state::does_not_pay);
  EXPECT_EQ(bench.turned_away(), nowait_lane::rest - 1);
  EXPECT_EQ(bench.lane.state(), nowait_state::works) << "looked at again";
  EXPECT_EQ(bench.lane.figures().skipped, nowait_lane::rest);
}

TEST(Nowait, ARefusalAfterARestIsAboutOneFileToo) {
  lane_bench bench;
  ASSERT_TRUE(bench.attempt());
  for (std::uint64_t i = 1; i < nowait_lane::window; ++i) {
    ASSERT_TRUE(bench.attempt(nowait_outcome::part));
  }
  EXPECT_EQ(bench.turned_away(nowait_outcome::refused), nowait_lane::rest - 1);
  EXPECT_EQ(bench.lane.state(), nowait_state::unknown) << "it worked once";
  EXPECT_TRUE(bench.attempt());
  EXPECT_EQ(bench.lane.state(), nowait_state::works);
}

TEST(Nowait, WhatSufficesNowAndThenPays) {
  lane_bench bench;
  for (std::uint64_t i = 0; i < 4 * nowait_lane::window; ++i) {
    ASSERT_TRUE(bench.attempt(i % 9 == 0 ? nowait_outcome::all : nowait_outcome::part)) << i;
  }
  EXPECT_EQ(bench.lane.state(), nowait_state::works);
}

TEST(Nowait, OnlyAFewAreTimed) {
  lane_bench bench;
  bench.settle();
  EXPECT_EQ(bench.timed, static_cast<std::uint64_t>(nowait_lane::watched)) << "the first ones all";
  for (std::uint64_t i = 0; i < 10 * nowait_lane::sampled; ++i) {
    ASSERT_TRUE(bench.attempt());
  }
  EXPECT_EQ(bench.timed, static_cast<std::uint64_t>(nowait_lane::watched) + 10);
}

TEST(Nowait, AKernelThatBlocksAllTheSameIsFoundOut) {
  lane_bench bench;
  bench.settle();
  std::uint64_t attempts = 0;
  while (bench.attempt(nowait_outcome::all, milliseconds(5))) {
    ASSERT_LT(++attempts, nowait_lane::sampled + nowait_lane::late_limit) << "a sample, then all are timed";
  }
  EXPECT_EQ(bench.lane.state(), nowait_state::lies);
  EXPECT_EQ(bench.lane.figures().late, nowait_lane::late_limit);
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
  EXPECT_EQ(bench.lane.state(), nowait_state::works);
}

TEST(Nowait, ALiarIsAskedLessAndLessOften) {
  lane_bench bench;
  for (std::uint32_t i = 0; i < nowait_lane::late_limit; ++i) {
    ASSERT_TRUE(bench.attempt(nowait_outcome::all, milliseconds(2)));
  }
  std::uint64_t expected = nowait_lane::lie_rest;
  for (int round = 0; round < 3; ++round, expected *= 2) {
    EXPECT_EQ(bench.turned_away(nowait_outcome::all, milliseconds(2)), expected - 1);
    EXPECT_EQ(bench.lane.state(), nowait_state::lies) << "one late is enough";
  }
  EXPECT_EQ(bench.turned_away(), expected - 1);
  bench.settle();
  EXPECT_TRUE(bench.attempt(nowait_outcome::all, milliseconds(2)));
  EXPECT_EQ(bench.lane.state(), nowait_state::works) << "it kept its word for a watch: as any other again";
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

TEST(Nowait, TheFirstDeviceOnAFileSystemLooksAndTheNextOnesKnow) {
  three_files files;
  const ref<device> first = files.open(files.a, files.here);
  EXPECT_EQ(files.here.nowait_reads, 1) << "one byte, to see";
  const ref<device> second = files.open(files.b, files.here);
  EXPECT_EQ(files.here.nowait_reads, 1);
  EXPECT_EQ(static_cast<file_device&>(*second).nowait().reads.state, nowait_state::works);
  const ref<device> third = files.open(files.c, files.elsewhere);
  EXPECT_EQ(files.elsewhere.nowait_reads, 1) << "another file system";
}

TEST(Nowait, WhatOneDeviceFindsOutHoldsForItsFileSystem) {
  three_files files;
  files.here.nowait_preads = {{.err = EOPNOTSUPP}};
  const ref<device> first = files.open(files.a, files.here);
  const ref<device> second = files.open(files.b, files.here);
  EXPECT_EQ(three_files::try_read(*second), 0U);
  EXPECT_EQ(files.here.nowait_reads, 1);
  const ref<device> third = files.open(files.c, files.elsewhere);
  EXPECT_EQ(three_files::try_read(*third), 4096U) << "not for others";
  EXPECT_EQ(static_cast<file_device&>(*first).nowait().reads.state, nowait_state::refused);
  EXPECT_EQ(static_cast<file_device&>(*first).nowait().writes.state, nowait_state::unknown)
      << "writes are another matter";
}

TEST(Nowait, ARefusalOfOneFileIsRememberedForThatFile) {
  three_files files;
  const ref<device> odd = files.open(files.a, files.here);
  const ref<device> other = files.open(files.b, files.here);
  files.here.nowait_preads = {{.err = EOPNOTSUPP}};
  EXPECT_EQ(three_files::try_read(*odd), 0U);
  const int asked = files.here.nowait_reads;
  EXPECT_EQ(three_files::try_read(*odd), 0U);
  EXPECT_EQ(files.here.nowait_reads, asked);
  EXPECT_EQ(three_files::try_read(*other), 4096U) << "the file system as such takes it";
}

TEST(Nowait, AFileSystemThatBlocksIsNotTriedInsideSubmit) {
  three_files files;
  files.here.nowait_takes = milliseconds(10);
  const ref<device> target = files.open(files.a, files.here);
  int moved = 0;
  while (three_files::try_read(*target) != 0) {
    ++moved;
  }
  EXPECT_EQ(moved, static_cast<int>(nowait_lane::late_limit) - 1) << "the look at the start was the first";
  EXPECT_EQ(static_cast<file_device&>(*target).nowait().reads.state, nowait_state::lies);
  std::vector<nowait_report> listed(4);
  ASSERT_EQ(files.table.list(listed), 1U);
  EXPECT_EQ(listed[0].read.state, nowait_state::lies);
  EXPECT_STREQ(to_string(listed[0].read.state), "lies");
}

TEST(Nowait, AFileInMemoryTeachesNothing) {
  three_files files;
  files.here.system_type = TMPFS_MAGIC;
  const ref<device> target = files.open(files.a, files.here);
  EXPECT_EQ(three_files::try_read(*target), 4096U);
  EXPECT_EQ(static_cast<file_device&>(*target).nowait().reads.state, nowait_state::unknown);
  EXPECT_EQ(static_cast<file_device&>(*target).nowait().read_hits, 1U);
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
