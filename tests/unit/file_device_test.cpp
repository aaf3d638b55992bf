// file_device: the rules of transfer on a real file, and the faults of the system calls through the seam.
#include "sluice/device/file_device.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include <gtest/gtest.h>

#include "sluice/base/unique_fd.h"

#include "support/file_helpers.h"
#include "support/io_helpers.h"

namespace file_device_test {
namespace {

using namespace sluice;

using test::faulty_seam;
using test::scratch_file;

constexpr std::uint64_t size = 1 << 20;

// A device on a scratch file with faults, used directly: each call here is what a worker would make.
enum class pretends : bool { a_file, a_block_device };

struct device_bench {
  explicit device_bench(pretends what = pretends::a_file, access_mode mode = access_mode::read_write) {
    system.pretend_block_device = what == pretends::a_block_device;
    system.block_device_bytes = size;
    target = file_device::create(scratch.path(), mode, system.options()).value();
    info = target->open(mode).value();
  }
  ~device_bench() { target->release(info); }

  std::vector<std::byte> contents() {
    std::vector<std::byte> bytes(size);
    const unique_fd fd(::open(scratch.path().c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(::pread(fd.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(size));
    return bytes;
  }
  void fill_with(std::byte value) {
    const std::vector<std::byte> bytes(size, value);
    const unique_fd fd(::open(scratch.path().c_str(), O_WRONLY | O_CLOEXEC));
    ASSERT_EQ(::pwrite(fd.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(size));
  }

  scratch_file scratch{size};
  faulty_seam system;
  ref<device> target;
  open_info* info = nullptr;
};

std::vector<std::byte> pattern(std::size_t bytes) {
  std::vector<std::byte> made(bytes);
  for (std::size_t i = 0; i < bytes; ++i) {
    made[i] = static_cast<std::byte>(i * 31 + i / 251);
  }
  return made;
}

TEST(FileDevice, OpenErrorsAreErrnoAndLeaveNothingOpen) {
  faulty_seam system;
  EXPECT_EQ(file_device::create("/no/such/file", access_mode::read_only, system.options()).error(), error_of(ENOENT));
  EXPECT_EQ(file_device::create("/tmp", access_mode::read_only, system.options()).error(), error_of(EISDIR));
  EXPECT_EQ(file_device::create("/tmp", access_mode::read_write, system.options()).error(), error_of(EISDIR));
  EXPECT_EQ(file_device::create("/dev/null", access_mode::read_only, system.options()).error(), error_of(EINVAL));
  scratch_file scratch(size);
  system.stat_error = EIO;
  EXPECT_EQ(file_device::create(scratch.path(), access_mode::read_only, system.options()).error(), error_of(EIO));
  EXPECT_EQ(system.opened, system.closed);
}

TEST(FileDevice, APipeIsRefusedAtOnce) {
  const std::string path = ::testing::TempDir() + "/sluice-pipe-" + std::to_string(::getpid());
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(file_device::create(path, access_mode::read_only).error(), error_of(EINVAL));
  EXPECT_EQ(file_device::create(path, access_mode::read_write).error(), error_of(EINVAL));
  ::unlink(path.c_str());
}

TEST(FileDevice, ABlockDeviceSaysItsSizeItself) {
  scratch_file scratch(size);
  faulty_seam system;
  system.pretend_block_device = true;
  system.system_type = TMPFS_MAGIC;  // as its node in /dev says
  const ref<device> disk = file_device::create(scratch.path(), access_mode::read_only, system.options()).value();
  EXPECT_EQ(disk->size(), 12345U);
  open_info* info = disk->open(access_mode::read_only).value();
  std::vector<std::byte> bytes(512);
  const int looked = system.nowait_reads;  // at create
  EXPECT_EQ(disk->try_read(*info, 0, bytes), 512U);
  EXPECT_EQ(system.nowait_reads, looked + 1) << "it is no file in memory";
  EXPECT_EQ(disk->try_range(*info, io_op::flush, 0, 0, io_flags::none), attempt::would_block);
  disk->release(info);
}

TEST(FileDevice, ReadOnlyRefusesAWriter) {
  device_bench bench(pretends::a_file, access_mode::read_only);
  EXPECT_EQ(bench.target->open(access_mode::read_write).error(), error_of(EROFS));
  EXPECT_TRUE(bench.target->traits().read_only);
  EXPECT_FALSE(bench.target->traits().trim);
}

TEST(FileDevice, ClosesItsDescriptorWithTheLastCount) {
  faulty_seam system;
  scratch_file scratch(size);
  ref<device> target = file_device::create(scratch.path(), access_mode::read_write, system.options()).value();
  EXPECT_EQ(system.closed, 0);
  target.reset();
  EXPECT_EQ(system.closed, 1);
}

TEST(FileDevice, GoesOnAfterShortTransfersAndSignals) {
  device_bench bench;
  const std::vector<std::byte> data = pattern(100'000);
  bench.system.pwrites = {{.limit = 1}, {.err = EINTR}, {.limit = 4097}, {.err = EINTR}, {.limit = 50'000}};
  ASSERT_TRUE(bench.target->write(*bench.info, 77, data, io_flags::none, {}).has_value());
  EXPECT_EQ(bench.system.pwritev2_calls, 6);
  std::vector<std::byte> back(data.size());
  bench.system.preads = {{.limit = 3}, {.err = EINTR}, {.limit = 60'000}};
  ASSERT_TRUE(bench.target->read(*bench.info, 77, back, {}).has_value());
  EXPECT_EQ(back, data);
  EXPECT_EQ(bench.system.preadv2_calls - bench.system.nowait_reads, 4);
}

TEST(FileDevice, ErrorsInTheMiddleAreReported) {
  device_bench bench;
  std::vector<std::byte> bytes(10'000);
  bench.system.preads = {{.limit = 4096}, {.err = EIO}};
  EXPECT_EQ(bench.target->read(*bench.info, 0, bytes, {}).error(), error_of(EIO));
  bench.system.pwrites = {{.limit = 4096}, {.err = ENOSPC}};
  EXPECT_EQ(bench.target->write(*bench.info, 0, bytes, io_flags::none, {}).error(), error_of(ENOSPC));
  bench.system.pwrites = {{.limit = 0}};
  EXPECT_EQ(bench.target->write(*bench.info, 0, bytes, io_flags::none, {}).error(), error_of(EIO))
      << "no progress and no error must not be asked for ever";
  bench.system.syncs = {{.err = EINTR}, {.err = EIO}};
  EXPECT_EQ(bench.target->flush(*bench.info, {}).error(), error_of(EIO));
  EXPECT_TRUE(bench.target->flush(*bench.info, {}).has_value());
}

TEST(FileDevice, ATruncatedFileIsAnErrorNeverZeros) {
  device_bench bench;
  ASSERT_EQ(::truncate(bench.scratch.path().c_str(), 5000), 0);
  std::vector<std::byte> bytes(8192);
  EXPECT_EQ(bench.target->read(*bench.info, 0, bytes, {}).error(), error_of(EIO));
  EXPECT_EQ(bench.target->try_read(*bench.info, 0, bytes), 5000U) << "a part: the worker finds out the rest";
  EXPECT_EQ(bench.target->try_read(*bench.info, 8192, bytes), 0U);
}

// The whole way: a short or failed NOWAIT read goes on on the worker, from where it stopped (tokio #3803, scylladb
// #3996).
TEST(FileDevice, AShortOrFailedNowaitReadGoesOnOnAWorker) {
  test::io_bench bench;
  device_bench files;
  const std::vector<std::byte> data = pattern(64 << 10);
  ASSERT_TRUE(files.target->write(*files.info, 0, data, io_flags::none, {}).has_value());
  const ref<open_file> file = open_file::open(files.target, bench.queue, access_mode::read_write).value();
  std::vector<faulty_seam::fault> faults{{.limit = 4096}, {.limit = 0}, {.err = EAGAIN}, {.err = EIO}, {.err = EINTR}};
  faults.resize(faults.size() + nowait_file::refusal_limit, {.err = EOPNOTSUPP});
  for (const faulty_seam::fault& fault : faults) {
    files.system.nowait_preads = {fault};
    test::awaited_request read;
    test::fill(read, io_op::read, 0, data.size());
    ASSERT_EQ(file->submit(read, *bench.context).value(), issued::queued);
    EXPECT_EQ(read.wait(), static_cast<std::int64_t>(data.size()));
    EXPECT_EQ(read.space, data);
  }
  ASSERT_TRUE(bench.queue->drain().has_value());
  const int asked = files.system.nowait_reads;
  test::awaited_request read;
  test::fill(read, io_op::read, 0, 512);
  ASSERT_EQ(file->submit(read, *bench.context).value(), issued::queued);
  EXPECT_EQ(read.wait(), 512);
  EXPECT_EQ(files.system.nowait_reads, asked) << "EOPNOTSUPP was remembered";
  ASSERT_TRUE(bench.queue->drain().has_value());
}

TEST(FileDevice, NowaitIsCountedAndWritesLearnOnTheirOwn) {
  device_bench bench;
  auto& files = static_cast<file_device&>(*bench.target);
  std::vector<std::byte> bytes(4096);
  bench.system.nowait_preads = {{.limit = 4096}, {.err = EAGAIN}};
  EXPECT_EQ(files.try_read(*bench.info, 0, bytes), 4096U);
  EXPECT_EQ(files.try_read(*bench.info, 0, bytes), 0U);
  bench.system.nowait_pwrites = {{.limit = 4096}, {.limit = 100}};
  EXPECT_EQ(files.try_write(*bench.info, 0, bytes, io_flags::none), 4096U);
  EXPECT_EQ(files.try_write(*bench.info, 0, bytes, io_flags::none), 100U);
  bench.system.nowait_pwrites.assign(nowait_file::refusal_limit, {.err = EOPNOTSUPP});
  for (std::uint32_t i = 0; i < nowait_file::refusal_limit + 1; ++i) {
    EXPECT_EQ(files.try_write(*bench.info, 0, bytes, io_flags::none), 0U);
  }
  EXPECT_EQ(bench.system.nowait_writes, 2 + static_cast<int>(nowait_file::refusal_limit)) << "not asked for a while";
  EXPECT_EQ(files.try_read(*bench.info, 0, bytes), 4096U) << "reads are another matter";
  const nowait_stats figures = files.nowait();
  EXPECT_EQ(figures.reads.hits, 2U);
  EXPECT_EQ(figures.reads.punts, 1U);
  EXPECT_EQ(figures.writes.hits, 1U);
  EXPECT_EQ(figures.writes.punts, 1U + nowait_file::refusal_limit);
  EXPECT_EQ(figures.writes.skipped, 1U);
}

// A request that the file refuses says nothing of RWF_DSYNC; one that it takes without the flag does, for a while.
TEST(FileDevice, ARequestThatIsWrongDoesNotTurnDsyncOff) {
  device_bench bench;
  const std::vector<std::byte> data = pattern(4096);
  for (const int wrong : {EINVAL, EOPNOTSUPP}) {
    bench.system.dsync_pwrites = {{.err = wrong}};
    bench.system.pwrites = {{.err = wrong}};
    EXPECT_EQ(bench.target->write(*bench.info, 0, data, io_flags::fua, {}).error(), error_of(wrong));
  }
  int tried = bench.system.dsync_writes;
  ASSERT_TRUE(bench.target->write(*bench.info, 0, data, io_flags::fua, {}).has_value());
  EXPECT_EQ(bench.system.dsync_writes, ++tried);
  EXPECT_EQ(bench.system.fsync_calls, 0);
  bench.system.dsync_pwrites = {{.err = EINVAL}};
  ASSERT_TRUE(bench.target->write(*bench.info, 0, data, io_flags::fua, {}).has_value());
  ++tried;
  for (int i = 0; i < 4096; ++i) {
    ASSERT_TRUE(bench.target->write(*bench.info, 0, data, io_flags::fua, {}).has_value());
  }
  EXPECT_EQ(bench.system.dsync_writes, tried) << "the file does not know the flag";
  EXPECT_EQ(bench.system.fsync_calls, 4097);
  ASSERT_TRUE(bench.target->write(*bench.info, 0, data, io_flags::fua, {}).has_value());
  EXPECT_EQ(bench.system.dsync_writes, ++tried) << "it is asked again: the answer may have been about something else";
  EXPECT_EQ(bench.system.fsync_calls, 4097);
}

TEST(FileDevice, FuaIsStableBeforeTheAnswerAndNeverInline) {
  device_bench bench;
  const std::vector<std::byte> data = pattern(4096);
  EXPECT_EQ(bench.target->try_write(*bench.info, 0, data, io_flags::fua), 0U);
  ASSERT_TRUE(bench.target->write(*bench.info, 0, data, io_flags::fua, {}).has_value());
  EXPECT_EQ(bench.system.dsync_writes, 1);
  EXPECT_EQ(bench.system.fsync_calls, 0);
  bench.system.dsync_pwrites = {{.err = EOPNOTSUPP}};
  for (int syncs = 1; syncs <= 2; ++syncs) {
    ASSERT_TRUE(bench.target->write(*bench.info, 0, data, io_flags::fua, {}).has_value());
    EXPECT_EQ(bench.system.fsync_calls, syncs) << "the write is followed by a sync where DSYNC is unknown";
  }
  EXPECT_EQ(bench.system.dsync_writes, 2) << "and DSYNC is not asked for again for a while";
  bench.system.syncs = {{.err = EIO}};
  EXPECT_EQ(bench.target->write(*bench.info, 0, data, io_flags::fua, {}).error(), error_of(EIO));
  ASSERT_TRUE(bench.target->trim(*bench.info, 0, 4096, io_flags::fua, {}).has_value());
  ASSERT_TRUE(bench.target->write_zeroes(*bench.info, 0, 4096, io_flags::fua, {}).has_value());
  EXPECT_EQ(bench.system.fsync_calls, 5);
}

TEST(FileDevice, TrimIsAHint) {
  device_bench bench;
  bench.fill_with(std::byte{0xFF});
  bench.system.fallocates = {{.err = EOPNOTSUPP}};
  ASSERT_TRUE(bench.target->trim(*bench.info, 0, 4096, io_flags::none, {}).has_value());
  EXPECT_EQ(bench.contents()[0], std::byte{0xFF});
  bench.system.fallocates = {{.err = EINTR}};
  ASSERT_TRUE(bench.target->trim(*bench.info, 0, 4096, io_flags::none, {}).has_value());
  EXPECT_EQ(bench.contents()[0], std::byte{0});
  EXPECT_EQ(bench.system.fallocate_modes.back(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
  bench.system.fallocates = {{.err = EIO}};
  EXPECT_EQ(bench.target->trim(*bench.info, 0, 4096, io_flags::none, {}).error(), error_of(EIO));
}

TEST(FileDevice, ZeroesPunchOrZeroOrWriteAndFastZeroNeverWrites) {
  struct variant {
    io_flags flags;
    bool known;
  };
  for (const variant& each : std::vector<variant>{
           {io_flags::none, true}, {io_flags::none, false}, {io_flags::no_hole, true}, {io_flags::no_hole, false}}) {
    device_bench bench;
    bench.fill_with(std::byte{0xFF});
    if (!each.known) {
      bench.system.fallocates = {{.err = EOPNOTSUPP}};
    }
    // 600 000 bytes at an odd place: more than one buffer of zeros.
    ASSERT_TRUE(bench.target->write_zeroes(*bench.info, 1001, 600'000, each.flags, {}).has_value());
    std::vector<std::byte> expected(size, std::byte{0xFF});
    std::fill_n(expected.begin() + 1001, 600'000, std::byte{0});
    EXPECT_EQ(bench.contents(), expected);
    EXPECT_EQ(bench.system.fallocate_modes.at(0),
              FALLOC_FL_KEEP_SIZE | (each.flags == io_flags::no_hole ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE));
    EXPECT_EQ(bench.system.pwritev2_calls > 0, !each.known);
  }
  device_bench bench;
  bench.system.fallocates = {{.err = EOPNOTSUPP}};
  EXPECT_EQ(bench.target->write_zeroes(*bench.info, 0, 4096, io_flags::fast_zero, {}).error(), error_of(EOPNOTSUPP));
  EXPECT_EQ(bench.system.pwritev2_calls, 0);
}

// A disk that discards but cannot zero: to punch a hole would fail there, and no one would know.
TEST(FileDevice, ABlockDeviceTrimsItsWholeBlocksByDiscard) {
  device_bench bench(pretends::a_block_device);
  bench.fill_with(std::byte{0xFF});
  ASSERT_TRUE(bench.target->trim(*bench.info, 4097, 100, io_flags::none, {}).has_value());
  EXPECT_TRUE(bench.system.discards.empty()) << "no whole block";
  bench.system.discard_faults = {{.err = EINTR}};
  ASSERT_TRUE(bench.target->trim(*bench.info, 4097, 20'000, io_flags::fua, {}).has_value());
  EXPECT_TRUE(bench.system.fallocate_modes.empty());
  ASSERT_EQ(bench.system.discards.size(), 2U) << "once more after the signal";
  EXPECT_EQ(bench.system.discards.back(), std::pair(std::uint64_t{8192}, std::uint64_t{12'288}));
  EXPECT_EQ(bench.system.fsync_calls, 1);
  EXPECT_EQ(bench.contents()[8191], std::byte{0xFF});
  EXPECT_EQ(bench.contents()[8192], std::byte{0});
  bench.system.discard_faults = {{.err = EOPNOTSUPP}};
  EXPECT_TRUE(bench.target->trim(*bench.info, 0, 4096, io_flags::none, {}).has_value()) << "a hint";
  bench.system.discard_faults = {{.err = EIO}};
  EXPECT_EQ(bench.target->trim(*bench.info, 0, 4096, io_flags::none, {}).error(), error_of(EIO));
}

TEST(FileDevice, ABlockDeviceZeroesFastOnlyWhereTheKernelSaysSo) {
  device_bench bench(pretends::a_block_device);
  const io_flags fast_in_place = io_flags::fast_zero | io_flags::no_hole;
  EXPECT_EQ(bench.target->write_zeroes(*bench.info, 0, 4096, fast_in_place, {}).error(), error_of(EOPNOTSUPP));
  EXPECT_TRUE(bench.system.fallocate_modes.empty()) << "ZERO_RANGE would write, and not say so";
  EXPECT_EQ(bench.system.pwritev2_calls, 0);
  ASSERT_TRUE(bench.target->write_zeroes(*bench.info, 0, 4096, io_flags::fast_zero, {}).has_value());
  EXPECT_EQ(bench.system.fallocate_modes.back(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
  ASSERT_TRUE(bench.target->write_zeroes(*bench.info, 0, 4096, io_flags::no_hole, {}).has_value());
  EXPECT_EQ(bench.system.fallocate_modes.back(), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
  device_bench file;
  EXPECT_TRUE(file.target->write_zeroes(*file.info, 0, 4096, fast_in_place, {}).has_value()) << "a file's extents";
}

// Says "cancelled" after so many questions.
struct patience {
  mutable int left;
  [[nodiscard]] bool cancelled() const noexcept { return left-- <= 0; }
};

TEST(FileDevice, LongRangesGoInChunksAndStopWhenCancelled) {
  scratch_file scratch(8ULL << 30);  // sparse
  faulty_seam system;
  const ref<device> target = file_device::create(scratch.path(), access_mode::read_write, system.options()).value();
  open_info* info = target->open(access_mode::read_write).value();
  const std::uint64_t range = (4ULL << 30) + 12345;
  ASSERT_TRUE(target->write_zeroes(*info, 999, range, io_flags::none, {}).has_value());
  EXPECT_EQ(system.fallocate_modes.size(), (range + file_device::chunk - 1) / file_device::chunk);
  EXPECT_TRUE(std::ranges::all_of(system.fallocate_lengths,
                                  [](off_t bytes) { return static_cast<std::uint64_t>(bytes) <= file_device::chunk; }));

  system.fallocate_modes.clear();
  const patience three{3};
  EXPECT_EQ(target->write_zeroes(*info, 0, range, io_flags::none, cancel_probe(three)).error(), error_of(ECANCELED));
  EXPECT_EQ(system.fallocate_modes.size(), 3U);

  const patience none{0};
  std::vector<std::byte> bytes(512);
  EXPECT_EQ(target->read(*info, 0, bytes, cancel_probe(none)).error(), error_of(ECANCELED));
  EXPECT_EQ(target->write(*info, 0, bytes, io_flags::none, cancel_probe(none)).error(), error_of(ECANCELED));
  const patience one{1};
  system.preads = {{.err = EINTR}};
  EXPECT_EQ(target->read(*info, 0, bytes, cancel_probe(one)).error(), error_of(ECANCELED)) << "interrupted to stop";
  system.syncs = {{.err = EINTR}};
  EXPECT_EQ(target->flush(*info, cancel_probe(none)).error(), error_of(ECANCELED));
  target->release(info);
}

TEST(FileDevice, CacheAdvises) {
  device_bench bench;
  ASSERT_TRUE(bench.target->cache(*bench.info, 0, size, {}).has_value());
  EXPECT_EQ(bench.system.advised, 1);
}

TEST(FileDevice, TheKeyIsTheInode) {
  scratch_file one(size), two(size);
  const ref<device> a = file_device::create(one.path(), access_mode::read_write).value();
  const ref<device> again = file_device::create(one.path(), access_mode::read_only).value();
  const ref<device> b = file_device::create(two.path(), access_mode::read_write).value();
  EXPECT_EQ(a->hash_of_write(0, 512).key, again->hash_of_write(0, 512).key);
  EXPECT_EQ(a->hash_of_write(0, 512).domain, again->hash_of_write(0, 512).domain);
  EXPECT_NE(a->hash_of_write(0, 512).domain, nullptr);
  EXPECT_EQ(a->hash_of_write(0, 512).domain, b->hash_of_write(0, 512).domain);
  EXPECT_NE(a->hash_of_write(0, 512).key, b->hash_of_write(0, 512).key);
}

// tmpfs refuses NOWAIT, and there is nothing to wait for: done plainly inside submit, also what must be stable.
TEST(FileDevice, AFileInMemoryIsServedInsideSubmit) {
  scratch_file scratch(size);
  faulty_seam system;
  system.system_type = TMPFS_MAGIC;
  test::io_bench bench;
  const ref<open_file> file =
      open_file::open(file_device::create(scratch.path(), access_mode::read_write, system.options()).value(),
                      bench.queue, access_mode::read_write)
          .value();
  for (const io_op op : {io_op::write, io_op::read, io_op::flush, io_op::cache, io_op::trim, io_op::write_zeroes}) {
    test::awaited_request request;
    test::fill(request, op, 512, 4096, op == io_op::write ? io_flags::fua : io_flags::none);
    EXPECT_EQ(file->submit(request, *bench.context).value(), issued::completed);
  }
  EXPECT_EQ(system.nowait_reads + system.nowait_writes, 0);
  test::awaited_request request;
  test::fill(request, io_op::write_zeroes, 512, 4096, io_flags::no_hole);
  EXPECT_EQ(file->submit(request, *bench.context).value(), issued::queued);
  EXPECT_EQ(request.wait(), 0);
  system.fallocates = {{.err = ENOSPC}};
  test::fill(request, io_op::trim, 512, 4096);
  EXPECT_EQ(file->submit(request, *bench.context).value(), issued::queued) << "a failure is for the worker to find";
  EXPECT_EQ(request.wait(), 0);
  ASSERT_TRUE(bench.queue->drain().has_value());
}

// With the machine's own calls: whatever this file system answers to NOWAIT, the bytes are right.
TEST(FileDevice, TheRealThingMovesBytesBothWays) {
  scratch_file scratch(size);
  test::io_bench bench;
  const ref<open_file> file = open_file::open(file_device::create(scratch.path(), access_mode::read_write).value(),
                                              bench.queue, access_mode::read_write)
                                  .value();
  const std::vector<std::byte> data = pattern(size);
  for (const std::size_t step : {std::size_t{4096}, std::size_t{100'000}, std::size_t{size}}) {
    for (std::size_t at = 0; at < size; at += step) {
      test::awaited_request write;
      test::fill(write, io_op::write, at, std::min(step, size - at));
      std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(at), write.length, write.space.begin());
      const issued how = file->submit(write, *bench.context).value();
      EXPECT_EQ(how == issued::queued ? write.wait() : write.result(), static_cast<std::int64_t>(write.length));
    }
    test::awaited_request read;
    test::fill(read, io_op::read, 0, size);
    const issued how = file->submit(read, *bench.context).value();
    EXPECT_EQ(how == issued::queued ? read.wait() : read.result(), static_cast<std::int64_t>(size));
    EXPECT_EQ(read.space, data);
  }
}

}  // namespace
}  // namespace file_device_test
