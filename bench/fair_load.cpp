#include "fair_load.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <numeric>
#include <thread>

#include "sluice/base/park.h"
#include "sluice/ioc/request_queue.h"
#include "sluice/ioc/task.h"
#include "sluice/wq/io_wq.h"

#include "harness.h"

namespace bench {
namespace {

using clock = device_clock;

constexpr std::chrono::milliseconds settling{40};
constexpr std::uint64_t heavy_owner = 1;

struct scene;

struct heavy {
  sluice::task self;
  sluice::ref<sluice::io_context> context;
  alignas(64) std::atomic<std::uint64_t> moved{0};  // alone on its line: eight workers write the others'
};

struct heavy_request : device_request {
  heavy_request(scene& where, heavy& whose, std::uint64_t size)
      : device_request(operations, size, whose.moved), all(where), client(whose) {
    set_owner(heavy_owner);
  }
  static void complete(sluice::request& base) noexcept;
  static constexpr sluice::request_ops operations{.try_run = try_run, .run = run, .complete = complete};

  scene& all;
  heavy& client;
};

struct light_request : device_request {
  light_request() : device_request(operations, small_bytes, moved_of_light) {}
  static void complete(sluice::request& base) noexcept {
    auto& mine = static_cast<light_request&>(base);
    mine.ended = clock::now();
    mine.over.wake();
  }
  static constexpr sluice::request_ops operations{.try_run = try_run, .run = run, .complete = complete};

  std::atomic<std::uint64_t> moved_of_light{0};
  clock::time_point ended;
  sluice::parker over;
};

struct scene {
  explicit scene(const load& what) : pool(make_device_pool()), queue(make_device_queue(*pool, what.order)) {
    for (const heavy_client& each : what.heavy) {
      heavy& made = heavies.emplace_back();
      made.context = made.self.get_task_io_context(sluice::task_side::current).value();
      made.context->set_weight(each.weight).value();
      for (std::uint32_t i = 0; i < each.depth; ++i) {
        requests.emplace_back(*this, made, each.bytes);
      }
    }
    for (heavy_request& each : requests) {
      each.submit(*queue, *each.client.context);
    }
  }
  ~scene() {
    stopping.store(true, std::memory_order_seq_cst);
    end_device(queue, *pool, heavy_owner);
  }
  scene(const scene&) = delete;
  scene& operator=(const scene&) = delete;

  [[nodiscard]] std::vector<double> moved() const {
    std::vector<double> all;
    for (const heavy& each : heavies) {
      all.push_back(static_cast<double>(each.moved.load(std::memory_order_relaxed)));
    }
    return all;
  }

  std::atomic<bool> stopping{false};
  std::deque<heavy> heavies;
  std::deque<heavy_request> requests;
  sluice::ref<sluice::io_wq> pool;
  sluice::ref<sluice::request_queue> queue;
};

void heavy_request::complete(sluice::request& base) noexcept {
  auto& mine = static_cast<heavy_request&>(base);
  if (!mine.all.stopping.load(std::memory_order_relaxed)) {
    mine.submit(*mine.all.queue, *mine.client.context);
  }
}

// Sends, waits, thinks, until `end`. Returns the latencies in µs of what was over after `begin`.
std::vector<double> be_light(scene& where, const load& what, clock::time_point begin, clock::time_point end) {
  sluice::task self;
  const sluice::ref<sluice::io_context> context = self.get_task_io_context(sluice::task_side::current).value();
  context->set_weight(what.light_weight).value();
  light_request one;
  std::vector<double> took;
  for (clock::time_point sent = clock::now(); sent < end; sent = clock::now()) {
    one.submit(*where.queue, *context);
    one.over.park();
    if (one.ended >= begin) {
      took.push_back(std::chrono::duration<double, std::micro>(one.ended - sent).count());
    }
    if (what.light_pause.count() != 0) {
      sleep_until(clock::now() + what.light_pause);
    }
  }
  return took;
}

}  // namespace

outcome run_load(const load& what, std::chrono::milliseconds span) {
  scene where(what);
  const clock::time_point begin = clock::now() + settling;
  const clock::time_point end = begin + span;
  std::vector<double> latencies;
  std::jthread light;
  if (what.light) {
    light = std::jthread([&] { latencies = be_light(where, what, begin, end); });
  }
  sleep_until(begin);
  const std::chrono::nanoseconds cpu_before = cpu_time();
  const std::vector<double> before = where.moved();
  sleep_until(end);
  const std::vector<double> after = where.moved();
  const auto cpu = static_cast<double>((cpu_time() - cpu_before).count());
  if (light.joinable()) {
    light.join();
  }
  outcome found{.light_p50_us = percentile_of(latencies, 0.5),
                .light_p99_us = percentile_of(latencies, 0.99),
                .bytes_of_heavy = {}};
  double pieces = 0;
  for (std::size_t i = 0; i < after.size(); ++i) {
    found.bytes_of_heavy.push_back(after[i] - before[i]);
    found.mib_per_s += found.bytes_of_heavy.back() / (1 << 20) / std::chrono::duration<double>(span).count();
    pieces += found.bytes_of_heavy.back() / static_cast<double>(what.heavy[i].bytes);
  }
  found.mib_per_s +=
      static_cast<double>(latencies.size() * small_bytes) / (1 << 20) / std::chrono::duration<double>(span).count();
  found.cpu_ns = cpu / std::max(1.0, pieces + static_cast<double>(latencies.size()));
  return found;
}

double jain_index(const std::vector<double>& shares) {
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  const double squares = std::inner_product(shares.begin(), shares.end(), shares.begin(), 0.0);
  return squares > 0 ? sum * sum / (static_cast<double>(shares.size()) * squares) : 0;
}

}  // namespace bench
