// Four files that answer beside a device that never does, all on one io_wq: each has a queue, and a queue has its share of
// the workers. The reads go to workers, as if the data were not in memory.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <thread>

#include "sluice/base/check.h"
#include "sluice/base/mutex.h"
#include "sluice/ioc/request_queue.h"
#include "sluice/ioc/task.h"
#include "sluice/wq/blocking_region.h"
#include "sluice/wq/io_wq.h"

#include "dead_device.h"
#include "fair_parts.h"

namespace bench {
namespace {

constexpr std::size_t healthy_files = 4;
constexpr std::size_t reads_per_file = 8;
constexpr std::size_t dead_requests = 64;
constexpr unsigned workers = 8;

enum class share_of_workers : std::uint8_t { its_own, all };

// Whoever comes waits until it is let go.
class closed_gate {
 public:
  void pass() noexcept {
    const sluice::blocking_region region;
    sluice::scoped_lock hold(lock_);
    while (!open_) {
      changed_.wait(lock_);
    }
  }
  void open() noexcept {
    sluice::scoped_lock hold(lock_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  sluice::mutex lock_;
  sluice::cond_var changed_;
  bool open_ SLUICE_GUARDED_BY(lock_) = false;
};

struct dead_request : sluice::request {
  explicit dead_request(closed_gate& at) : gate(at) { set_request_ops(operations); }
  static sluice::attempt try_run(sluice::request& /*base*/) noexcept { return sluice::attempt::would_block; }
  static void run(sluice::request& base, std::uint64_t /*budget*/, sluice::cancel_probe /*probe*/) noexcept {
    auto& mine = static_cast<dead_request&>(base);
    mine.gate.pass();
    mine.set_result(0);
  }
  static void complete(sluice::request& /*base*/) noexcept {}
  static constexpr sluice::request_ops operations{.try_run = try_run, .run = run, .complete = complete};

  closed_gate& gate;
};

class file_reader;

struct read_request : sluice::request {
  explicit read_request(file_reader& whose) : from(whose) {}
  static sluice::attempt try_run(sluice::request& /*base*/) noexcept { return sluice::attempt::would_block; }
  static void run(sluice::request& base, std::uint64_t budget, sluice::cancel_probe probe) noexcept;
  static void complete(sluice::request& base) noexcept;
  static constexpr sluice::request_ops operations{.try_run = try_run, .run = run, .complete = complete};
  void submit() noexcept;  // or not, if the reader stops

  file_reader& from;
  reader self;
};

// One file, its queue, and reads that come again until they are told to stop.
class file_reader {
 public:
  file_reader(sluice::io_wq& pool, sluice::request_queue_options options)
      : queue(sluice::request_queue::create(pool, options).value()),
        context(self_.get_task_io_context(sluice::task_side::current).value()) {
    for (std::size_t i = 0; i < reads_per_file; ++i) {
      reads_.emplace_back(*this).self.state = i;
    }
    for (read_request& each : reads_) {
      each.submit();
    }
  }
  ~file_reader() {
    stopping.store(true, std::memory_order_relaxed);
    static_cast<void>(queue->stop());
  }
  file_reader(const file_reader&) = delete;
  file_reader& operator=(const file_reader&) = delete;

  [[nodiscard]] std::uint64_t done() const noexcept {
    std::uint64_t sum = 0;
    for (const read_request& each : reads_) {
      sum += each.self.done.load(std::memory_order_relaxed);
    }
    return sum;
  }

  std::atomic<bool> stopping{false};  // relaxed: one read more does no harm
  descriptor file = cached_file(file_blocks * block_bytes);
  sluice::ref<sluice::request_queue> queue;

 private:
  sluice::task self_;

 public:
  sluice::ref<sluice::io_context> context;

 private:
  std::deque<read_request> reads_;
};

void read_request::submit() noexcept {
  set_request_ops(operations);
  set_bytes_left(block_bytes);
  const bool sent = from.queue->submit(*this, *from.context).has_value();
  SLUICE_CHECK(sent || from.stopping.load(std::memory_order_relaxed), "the queue takes all that its reader has");
}

void read_request::run(sluice::request& base, std::uint64_t /*budget*/, sluice::cancel_probe /*probe*/) noexcept {
  auto& mine = static_cast<read_request&>(base);
  mine.self.read(mine.from.file.get());
  mine.set_bytes_left(0);
  mine.set_result(static_cast<std::int64_t>(block_bytes));
}

void read_request::complete(sluice::request& base) noexcept {
  auto& mine = static_cast<read_request&>(base);
  if (!mine.from.stopping.load(std::memory_order_relaxed)) {
    mine.submit();
  }
}

sample beside_dead(share_of_workers share) {
  using clock = std::chrono::steady_clock;
  constexpr std::chrono::milliseconds warm_span{20};
  constexpr std::chrono::milliseconds span{120};
  const sluice::request_queue_options options{.max_workers = share == share_of_workers::all ? workers : 0};
  const auto pool = sluice::io_wq::create({.max_bound = workers, .max_unbound = 1, .name = "isol"}).value();
  closed_gate gate;
  sluice::task issuer;
  const auto context = issuer.get_task_io_context(sluice::task_side::current).value();
  const auto dead_queue = sluice::request_queue::create(*pool, options).value();
  std::deque<dead_request> dead;
  double kept = 0;
  {
    std::deque<file_reader> files;
    for (std::size_t i = 0; i < healthy_files; ++i) {
      files.emplace_back(*pool, options);
    }
    const auto rate = [&] {
      std::this_thread::sleep_for(warm_span);
      std::uint64_t count = 0;
      for (const file_reader& each : files) {
        count -= each.done();
      }
      const clock::time_point begin = clock::now();
      std::this_thread::sleep_for(span);
      for (const file_reader& each : files) {
        count += each.done();
      }
      return static_cast<double>(count) / std::chrono::duration<double>(clock::now() - begin).count();
    };
    const double alone = rate();
    for (std::size_t i = 0; i < dead_requests; ++i) {
      SLUICE_CHECK(dead_queue->submit(dead.emplace_back(gate), *context).has_value(), "it takes what never ends");
    }
    kept = rate() / alone;
    gate.open();
  }
  static_cast<void>(dead_queue->stop());
  static_cast<void>(pool->stop(sluice::stop_policy::run_queued));
  return {.value = 100 * kept};
}

}  // namespace

void fair_isolation(report& out) {
  const comparison& found = out.compare(
      {.name = "4 files beside a device that never answers",
       .unit = "% of solo",
       .direction = better::more,
       .rounds = 7},
      {{"a share of the workers each", side::ours, [] { return beside_dead(share_of_workers::its_own); }, {}},
       {"all workers for any", side::floor, [] { return beside_dead(share_of_workers::all); }, {}}});
  out.target("reads kept beside a dead device, % of their solo rate", found.median("a share of the workers each"),
             at_least(90));
}

}  // namespace bench
