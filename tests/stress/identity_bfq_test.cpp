// I1: the I/O priority that is worn takes effect in the kernel: a thread that wears BE/0 gets more of a device than
// one that wears BE/7. Method: a loop device with the BFQ scheduler, told to keep strict guarantees, on a file that
// it reads past the page cache: only a device that is slower than its readers has something to share out; both
// threads read it past the page cache with a full queue until a number of reads is done; then the reads are compared,
// not the time.
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/loop.h>
#include <sys/ioctl.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <latch>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/base/unique_fd.h"
#include "sluice/identity/wardrobe.h"

#include "support/identity_helpers.h"

namespace sluice {
namespace identity_bfq_test {
namespace {

constexpr off_t device_bytes = 64 << 20;
constexpr off_t region_bytes = 16 << 20;
constexpr std::size_t block = 64 << 10;
constexpr int reads_in_all = 3000;

bool write_setting(const std::string& path, const std::string& value) {
  std::ofstream file(path);
  file << value;
  file.flush();
  return file.good();
}

// A loop device on a sparse file. why() says what is missing where there is none.
class bfq_loop {
 public:
  explicit bfq_loop(const std::string& file) {
    const unique_fd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    const unique_fd backing(::open(file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    // Written, not sparse: holes are read without a device.
    const std::vector<char> bytes(device_bytes, 'x');
    if (!control || !backing || ::pwrite(backing.get(), bytes.data(), bytes.size(), 0) != device_bytes ||
        ::fsync(backing.get()) != 0) {
      why_ = "no loop devices here";
      return;
    }
    attach(control.get(), backing.get());
    if (!device_) {
      why_ = "no free loop device that may be used";
      return;
    }
    if (::ioctl(device_.get(), LOOP_SET_DIRECT_IO, 1) != 0) {
      why_ = "the file system of " + file + " has no direct I/O";
      return;
    }
    const std::string queue = "/sys/block/loop" + std::to_string(number_) + "/queue/";
    if (!write_setting(queue + "scheduler", "bfq")) {
      why_ = "the kernel has no BFQ scheduler";
    } else if (!write_setting(queue + "iosched/strict_guarantees", "1") ||
               !write_setting(queue + "iosched/low_latency", "0")) {
      why_ = "BFQ cannot be told to keep strict guarantees";
    }
  }
  bfq_loop(const bfq_loop&) = delete;
  bfq_loop& operator=(const bfq_loop&) = delete;
  ~bfq_loop() {
    if (device_) {
      write_setting("/sys/block/loop" + std::to_string(number_) + "/queue/scheduler", "none");
      ::ioctl(device_.get(), LOOP_CLR_FD, 0);
    }
  }
  [[nodiscard]] const std::string& why() const { return why_; }
  [[nodiscard]] std::string path() const { return "/dev/loop" + std::to_string(number_); }

 private:
  void attach(int control, int backing) {
    // Somebody else may take the free one first.
    for (int attempt = 0; attempt < 20 && !device_; ++attempt) {
      number_ = ::ioctl(control, LOOP_CTL_GET_FREE);
      unique_fd found(number_ < 0 ? -1 : ::open(path().c_str(), O_RDWR | O_CLOEXEC));
      if (found && ::ioctl(found.get(), LOOP_SET_FD, backing) == 0) {
        device_ = std::move(found);
      }
    }
  }

  unique_fd device_;
  int number_ = -1;
  std::string why_;
};

struct free_memory {
  void operator()(void* memory) const noexcept { std::free(memory); }
};

// Reads at random in a region of its own: BFQ takes threads that read close to each other for one.
// Keeps `depth` reads queued, so that the device and not this thread's share of a processor is what both wait for.
class reader {
 public:
  reader(const std::string& path, off_t region)
      : device_(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC)),
        buffer_(std::aligned_alloc(block, block)),
        region_(region) {
    EXPECT_TRUE(device_) << errno;
    EXPECT_EQ(::syscall(SYS_io_setup, depth, &context_), 0) << errno;
  }
  reader(const reader&) = delete;
  reader& operator=(const reader&) = delete;
  ~reader() { ::syscall(SYS_io_destroy, context_); }

  // Returns how many reads it got until `all` have been made by everybody.
  [[nodiscard]] int run(std::atomic<int>& all) {
    int mine = 0;
    std::size_t queued = 0;
    for (iocb& each : reads_) {
      queued += submit(each) ? 1U : 0U;
    }
    while (queued > 0) {
      std::array<io_event, depth> done{};
      const long count = ::syscall(SYS_io_getevents, context_, 1, depth, done.data(), nullptr);
      if (count <= 0) {
        ADD_FAILURE() << errno;
        break;
      }
      for (long i = 0; i < count; ++i, --queued) {
        const io_event& event = done.at(static_cast<std::size_t>(i));
        EXPECT_EQ(event.res, std::int64_t{block});
        // relaxed: a count that ends the test.
        if (all.fetch_add(1, std::memory_order_relaxed) < reads_in_all) {
          ++mine;
          queued += submit(reads_.at(event.data)) ? 1U : 0U;
        }
      }
    }
    return mine;
  }

 private:
  static constexpr std::size_t depth = 16;

  [[nodiscard]] bool submit(iocb& read) {
    const off_t at = region_ + static_cast<off_t>(random_() % (region_bytes / block) * block);
    read = {};
    read.aio_data = static_cast<std::uint64_t>(&read - reads_.data());
    read.aio_lio_opcode = IOCB_CMD_PREAD;
    read.aio_fildes = static_cast<std::uint32_t>(device_.get());
    read.aio_buf = reinterpret_cast<std::uintptr_t>(buffer_.get());
    read.aio_nbytes = block;
    read.aio_offset = at;
    iocb* list = &read;
    const bool taken = ::syscall(SYS_io_submit, context_, 1, &list) == 1;
    EXPECT_TRUE(taken) << errno;
    return taken;
  }

  unique_fd device_;
  std::unique_ptr<void, free_memory> buffer_;  // one for all: what is read does not matter
  aio_context_t context_ = 0;
  std::array<iocb, depth> reads_{};
  off_t region_;
  std::minstd_rand random_;
};

void read_as(unsigned level, const std::string& path, std::latch& begin, std::atomic<int>& all, int& mine) {
  const identity_result who = identity_builder().set_priority(ioprio(ioprio_class::be, level)).build();
  begin.arrive_and_wait();
  ASSERT_TRUE(who) << who.error().message();
  wardrobe clothes;
  ASSERT_TRUE(clothes.put_on(who->get()));
  mine = reader(path, level == 0 ? 0 : device_bytes - region_bytes).run(all);
  ASSERT_TRUE(clothes.take_off());
}

TEST(IdentityBfq, I1_PriorityTakesEffect) {
  SLUICE_NEEDS_ROOT();
  const test::open_directory there;
  const bfq_loop loop(there.path("disk"));
  if (!loop.why().empty()) {
    GTEST_SKIP() << loop.why();
  }
  std::latch begin{2};
  std::atomic<int> all{0};
  int urgent = 0;
  int patient = 0;
  std::thread first([&] { read_as(0, loop.path(), begin, all, urgent); });
  std::thread second([&] { read_as(7, loop.path(), begin, all, patient); });
  first.join();
  second.join();
  std::printf("BE/0 %d reads, BE/7 %d\n", urgent, patient);
  // BFQ's weights are 8 to 1; much less will do on a machine whose processors are busy with something else.
  EXPECT_GT(2 * urgent, 3 * patient);
}

}  // namespace
}  // namespace identity_bfq_test
}  // namespace sluice
