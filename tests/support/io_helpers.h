// io_helpers: a device that blocks until the test lets it go, an awaited request, and a pool; for tests of ioc, device
// and io.
#pragma once

#include <atomic>
#include <cstring>
#include <memory>
#include <vector>

#include "sluice/base/mutex.h"
#include "sluice/base/park.h"
#include "sluice/device/device.h"
#include "sluice/device/io_request.h"
#include "sluice/device/open_file.h"
#include "sluice/ioc/request_queue.h"
#include "sluice/ioc/task.h"
#include "sluice/wq/io_wq.h"

namespace test {

// Opens and closes for any number of threads; knows how many have come.
class barrier_gate {
 public:
  // Called by operations: counts itself, then waits while the gate is shut.
  void pass() noexcept {
    sluice::scoped_lock hold(lock_);
    ++arrived_;
    changed_.notify_all();
    while (shut_) {
      changed_.wait(lock_);
    }
  }
  void shut() noexcept { set(true); }
  void open() noexcept { set(false); }
  // Waits until so many have come in all.
  void await_arrivals(int count) noexcept {
    sluice::scoped_lock hold(lock_);
    while (arrived_ < count) {
      changed_.wait(lock_);
    }
  }
  int arrived() noexcept {
    sluice::scoped_lock hold(lock_);
    return arrived_;
  }

 private:
  void set(bool value) noexcept {
    sluice::scoped_lock hold(lock_);
    shut_ = value;
    changed_.notify_all();
  }

  sluice::mutex lock_;
  sluice::cond_var changed_;
  bool shut_ SLUICE_GUARDED_BY(lock_) = false;
  int arrived_ SLUICE_GUARDED_BY(lock_) = 0;
};

// Bytes in memory behind a gate. Its open info is real memory with a mark, so that a sanitizer sees a use after release
// and the device itself sees a wrong one.
class gated_device final : public sluice::device {
 public:
  static constexpr int live_mark = 0x600D;

  struct info final : sluice::open_info {
    std::atomic<int> mark{live_mark};
    std::atomic<int> users{0};
  };

  explicit gated_device(std::uint64_t size = 1 << 20)
      : gated_device({.size = size, .trim = true, .fast_zero = true, .cache = true}) {}
  explicit gated_device(sluice::device_traits traits) : device(traits), bytes_(traits.size) {}
  ~gated_device() override = default;

  barrier_gate gate;  // operations that may block pass it
  std::atomic<int> opened{0};
  std::atomic<int> released{0};
  std::atomic<int> operations{0};            // that ran on a worker
  std::atomic<std::size_t> inline_bytes{0};  // how many bytes try_read and try_write move at most
  std::atomic<int> next_error{0};            // the errno that the next operations on a worker fail with; 0: none

  [[nodiscard]] std::string_view name() const noexcept override { return "gated"; }
  [[nodiscard]] std::vector<std::byte>& bytes() noexcept { return bytes_; }

  [[nodiscard]] sluice::result<sluice::open_info*> open(sluice::access_mode) noexcept override {
    opened.fetch_add(1, std::memory_order_seq_cst);
    return new info;
  }
  void release(sluice::open_info* given) noexcept override {
    auto* mine = static_cast<info*>(given);
    SLUICE_CHECK_OP(mine->users.load(std::memory_order_seq_cst), ==, 0);
    SLUICE_CHECK_OP(mine->mark.exchange(0, std::memory_order_seq_cst), ==, live_mark);
    released.fetch_add(1, std::memory_order_seq_cst);
    delete mine;
  }

  [[nodiscard]] std::size_t try_read(sluice::open_info& given, std::uint64_t offset,
                                     std::span<std::byte> into) noexcept override {
    const use mine(given);
    const std::size_t count = std::min(into.size(), inline_bytes.load(std::memory_order_seq_cst));
    std::memcpy(into.data(), bytes_.data() + offset, count);
    return count;
  }
  [[nodiscard]] std::size_t try_write(sluice::open_info& given, std::uint64_t offset, std::span<const std::byte> from,
                                      sluice::io_flags) noexcept override {
    const use mine(given);
    const std::size_t count = std::min(from.size(), inline_bytes.load(std::memory_order_seq_cst));
    std::memcpy(bytes_.data() + offset, from.data(), count);
    return count;
  }
  [[nodiscard]] sluice::result<void> read(sluice::open_info& given, std::uint64_t offset, std::span<std::byte> into,
                                          sluice::cancel_probe) noexcept override {
    return blocking(given, [&] { std::memcpy(into.data(), bytes_.data() + offset, into.size()); });
  }
  [[nodiscard]] sluice::result<void> write(sluice::open_info& given, std::uint64_t offset,
                                           std::span<const std::byte> from, sluice::io_flags,
                                           sluice::cancel_probe) noexcept override {
    return blocking(given, [&] { std::memcpy(bytes_.data() + offset, from.data(), from.size()); });
  }
  [[nodiscard]] sluice::result<void> flush(sluice::open_info& given, sluice::cancel_probe) noexcept override {
    return blocking(given, [] {});
  }
  [[nodiscard]] sluice::result<void> trim(sluice::open_info& given, std::uint64_t, std::uint64_t, sluice::io_flags,
                                          sluice::cancel_probe) noexcept override {
    return blocking(given, [] {});
  }
  [[nodiscard]] sluice::result<void> write_zeroes(sluice::open_info& given, std::uint64_t offset, std::uint64_t length,
                                                  sluice::io_flags, sluice::cancel_probe) noexcept override {
    return blocking(given, [&] { std::memset(bytes_.data() + offset, 0, length); });
  }

 private:
  // An operation inside the info: it must be alive at both ends.
  class use {
   public:
    explicit use(sluice::open_info& given) noexcept : info_(static_cast<info&>(given)) {
      info_.users.fetch_add(1, std::memory_order_seq_cst);
      SLUICE_CHECK_OP(info_.mark.load(std::memory_order_seq_cst), ==, live_mark);
    }
    ~use() {
      SLUICE_CHECK_OP(info_.mark.load(std::memory_order_seq_cst), ==, live_mark);
      info_.users.fetch_sub(1, std::memory_order_seq_cst);
    }
    use(const use&) = delete;
    use& operator=(const use&) = delete;

   private:
    info& info_;
  };

  template <class Do>
  sluice::result<void> blocking(sluice::open_info& given, Do act) noexcept {
    const use mine(given);
    gate.pass();
    operations.fetch_add(1, std::memory_order_seq_cst);
    if (const int err = next_error.load(std::memory_order_seq_cst); err != 0) {
      return sluice::fail(err);
    }
    act();
    return {};
  }

  std::vector<std::byte> bytes_;
};

// A request that a test thread can wait for.
struct awaited_request : sluice::io_request {
  awaited_request() {
    done = [](sluice::io_request& over) noexcept {
      auto& mine = static_cast<awaited_request&>(over);
      mine.calls.fetch_add(1, std::memory_order_seq_cst);
      mine.sleeper.wake();
    };
  }
  // The result, once the callback has come.
  std::int64_t wait() noexcept {
    sleeper.park();
    return result();
  }

  std::atomic<int> calls{0};
  sluice::parker sleeper;
  std::vector<std::byte> space;
};

inline void fill(sluice::io_request& request, sluice::io_op op, std::uint64_t offset, std::uint64_t length,
                 std::byte* buffer, sluice::io_flags flags = sluice::io_flags::none) {
  request.op = op;
  request.flags = flags;
  request.offset = offset;
  request.length = length;
  request.buffer = buffer;
}

// The same with a buffer of its own.
inline void fill(awaited_request& request, sluice::io_op op, std::uint64_t offset, std::uint64_t length,
                 sluice::io_flags flags = sluice::io_flags::none) {
  request.space.resize(length);
  fill(request, op, offset, length, request.space.data(), flags);
}

// A pool, a task with a context, and a queue. Ends in the order that the contracts ask for.
struct io_bench {
  explicit io_bench(sluice::request_queue_options options = {}, unsigned workers = 4,
                    std::unique_ptr<sluice::elevator> order = nullptr)
      : wq(sluice::io_wq::create({.max_bound = workers, .max_unbound = workers, .name = "test"}).value()),
        queue(sluice::request_queue::create(*wq, options, std::move(order)).value()),
        context(self.get_task_io_context(sluice::task_side::current).value()) {}
  ~io_bench() {
    static_cast<void>(queue->stop());
    queue.reset();
    static_cast<void>(wq->stop(sluice::stop_policy::run_queued));
  }

  sluice::ref<sluice::io_wq> wq;
  sluice::ref<sluice::request_queue> queue;
  sluice::task self;
  sluice::ref<sluice::io_context> context;
};

// The device as a ref that the open file takes, and as itself.
inline std::pair<sluice::ref<sluice::device>, gated_device*> make_gated_device(std::uint64_t size = 1 << 20) {
  auto* made = new gated_device(size);
  return {sluice::ref<sluice::device>::adopt(made), made};
}

}  // namespace test
