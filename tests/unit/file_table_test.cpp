// file_table: numbers, one thread. Lookups that race are in tests/race and tests/stress.
#include "sluice/device/file_table.h"

#include <gtest/gtest.h>

#include "support/io_helpers.h"

namespace file_table_test {
namespace {

using namespace sluice;

struct table_bench : test::io_bench {
  table_bench() {
    auto [made, gated] = test::make_gated_device();
    target = std::move(made);
    device = gated;
  }
  ref<open_file> open() { return open_file::open(target, queue, access_mode::read_write).value(); }

  ref<sluice::device> target;
  test::gated_device* device = nullptr;
};

TEST(FileTable, GivesTheLowestFreeNumber) {
  table_bench bench;
  file_table table(3);
  for (int expected = 0; expected < 3; ++expected) {
    EXPECT_EQ(table.install(bench.open()).value(), expected);
  }
  EXPECT_EQ(table.install(bench.open()).error(), error_of(EMFILE));
  EXPECT_TRUE(table.close(2).has_value());
  EXPECT_TRUE(table.close(0).has_value());
  EXPECT_EQ(table.install(bench.open()).value(), 0);
  EXPECT_EQ(table.install(bench.open()).value(), 2);
}

TEST(FileTable, NumbersThatMeanNothingAreEbadf) {
  table_bench bench;
  file_table table(2);
  for (const int number : {-1, 0, 1, 2, 1 << 30}) {
    EXPECT_EQ(table.lookup(number).error(), error_of(EBADF));
    EXPECT_EQ(table.close(number).error(), error_of(EBADF));
  }
}

// D3: after the close of a number its file refuses, also through counts taken before.
TEST(FileTable, CloseClosesTheFileForAll) {
  table_bench bench;
  file_table table(2);
  ASSERT_EQ(table.install(bench.open()).value(), 0);
  ref<open_file> held = table.lookup(0).value();
  EXPECT_TRUE(table.close(0).has_value());
  EXPECT_EQ(table.lookup(0).error(), error_of(EBADF));
  EXPECT_EQ(table.close(0).error(), error_of(EBADF));
  test::awaited_request read;
  test::fill(read, io_op::read, 0, 512);
  EXPECT_EQ(held->submit(read, *bench.context).error(), error_of(EBADF));
  EXPECT_EQ(bench.device->released.load(std::memory_order_seq_cst), 1);
}

// D4: a number that is given anew leads to the new file.
TEST(FileTable, AReusedNumberIsTheNewFile) {
  table_bench bench;
  file_table table(1);
  ASSERT_EQ(table.install(bench.open()).value(), 0);
  const ref<open_file> old = table.lookup(0).value();
  ASSERT_TRUE(table.close(0).has_value());
  const ref<open_file> fresh = bench.open();
  ASSERT_EQ(table.install(fresh).value(), 0);
  EXPECT_EQ(table.lookup(0).value().get(), fresh.get());
  EXPECT_NE(fresh.get(), old.get());
}

// A file whose count, at the moment at which a lookup takes it, sees its number closed and given to another.
struct swapped_file : open_life<swapped_file> {
  using table = basic_file_table<swapped_file>;

  [[nodiscard]] bool get_unless_zero() noexcept {
    if (std::function<void()> now = std::exchange(meanwhile, {})) {
      now();
    }
    return kref::get_unless_zero();
  }
  void release_info() noexcept {}
  void free_memory() noexcept { delete this; }

  std::function<void()> meanwhile;
};

// D4: without the second look at the slot this lookup would give a file that the number no longer means.
TEST(FileTable, ANumberGivenAnewDuringALookupIsLookedUpAgain) {
  swapped_file::table table(1);
  const ref<swapped_file> old = make_ref<swapped_file>();
  const ref<swapped_file> fresh = make_ref<swapped_file>();
  ASSERT_EQ(table.install(old).value(), 0);
  old->meanwhile = [&] {
    ASSERT_TRUE(table.close(0).has_value());
    ASSERT_EQ(table.install(fresh).value(), 0);
  };
  EXPECT_EQ(table.lookup(0).value().get(), fresh.get());
  EXPECT_EQ(old->use_count(), 1U) << "the count of the first look was given back";
  fresh->meanwhile = [&] { ASSERT_TRUE(table.close(0).has_value()); };
  EXPECT_EQ(table.lookup(0).error(), error_of(EBADF));
  EXPECT_EQ(fresh->use_count(), 1U);
}

TEST(FileTable, ItsEndClosesWhatIsInIt) {
  table_bench bench;
  ref<open_file> kept = bench.open();
  {
    file_table table(4);
    ASSERT_TRUE(table.install(bench.open()).has_value());
    ASSERT_TRUE(table.install(kept).has_value());
  }
  EXPECT_TRUE(kept->closed());
  EXPECT_EQ(bench.device->released.load(std::memory_order_seq_cst), 2);
}

}  // namespace
}  // namespace file_table_test
