// What the elevator costs: on a device that does all inside submit, where it has nothing to decide and every request pays
// for it, and by itself, with so many flows waiting.
#include <algorithm>
#include <array>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sluice/base/check.h"
#include "sluice/ioc/fair.h"
#include "sluice/ioc/request_queue.h"
#include "sluice/ioc/task.h"
#include "sluice/wq/io_wq.h"

#include "bench/workloads/fair_bench.h"
#include "fair_parts.h"

namespace bench {
namespace {

constexpr std::size_t most_contexts = 10'000;

struct null_request : sluice::request {
  null_request() { set_request_ops(operations); }
  static sluice::attempt try_run(sluice::request& base) noexcept {
    static_cast<null_request&>(base).set_result(1);
    return sluice::attempt::done;
  }
  static void run(sluice::request& /*base*/, std::uint64_t /*budget*/, sluice::cancel_probe /*probe*/) noexcept {}
  static void complete(sluice::request& /*base*/) noexcept {}
  static constexpr sluice::request_ops operations{.try_run = try_run, .run = run, .complete = complete};
};

// Contexts that issue by turns, on one queue.
class null_device {
 public:
  null_device(std::unique_ptr<sluice::elevator> order, std::size_t contexts)
      : pool_(sluice::io_wq::create({.max_bound = 1, .max_unbound = 1, .name = "null"}).value()),
        queue_(sluice::request_queue::create(*pool_, {}, std::move(order)).value()) {
    for (std::size_t i = 0; i < contexts; ++i) {
      contexts_.push_back(tasks_.emplace_back().get_task_io_context(sluice::task_side::current).value());
    }
  }
  ~null_device() {
    static_cast<void>(queue_->stop());
    queue_.reset();
    static_cast<void>(pool_->stop(sluice::stop_policy::run_queued));
  }
  null_device(const null_device&) = delete;
  null_device& operator=(const null_device&) = delete;

  sample round() {
    constexpr std::size_t requests = 40 * most_contexts;
    return timed_once(requests, [this] {
      const std::size_t turns = requests / contexts_.size();
      for (std::size_t turn = 0; turn < turns; ++turn) {
        for (const auto& each : contexts_) {
          SLUICE_CHECK(queue_->submit(request_, *each).has_value(), "a queue with free slots takes a request");
        }
      }
    });
  }

 private:
  sluice::ref<sluice::io_wq> pool_;
  sluice::ref<sluice::request_queue> queue_;
  std::deque<sluice::task> tasks_;
  std::vector<sluice::ref<sluice::io_context>> contexts_;
  null_request request_;
};

std::string of_contexts(const char* order, std::size_t count) {
  return std::string(order) + ", contexts: " + std::to_string(count);
}

contender null_contender(const char* order, side whose, std::size_t count) {
  const bool fair = whose == side::ours;
  auto device =
      std::make_shared<null_device>(fair ? sluice::make_fair_elevator() : sluice::make_none_elevator(), count);
  return {of_contexts(order, count), whose, [device] { return device->round(); }, {}};
}

void null_costs(report& out) {
  constexpr std::array counts{std::size_t{1}, std::size_t{10}, std::size_t{100}, std::size_t{1'000}, most_contexts};
  std::vector<contender> contenders;
  for (const std::size_t count : counts) {
    contenders.push_back(null_contender("fair", side::ours, count));
  }
  for (const std::size_t count : {std::size_t{1}, most_contexts}) {
    contenders.push_back(null_contender("none", side::peer, count));
  }
  const comparison& found =
      out.compare({.name = "a request that is done inside submit", .unit = "ns", .rounds = 9}, std::move(contenders));
  const double base = found.median(of_contexts("none", 1));
  for (const std::size_t count : {std::size_t{1}, most_contexts}) {
    out.target("fair over none, ns, contexts: " + std::to_string(count),
               std::max(found.median(of_contexts("fair", count)) - base, 1e-3), at_most(150));
  }
  // Ten thousand contexts and their pairs are some megabytes: what is more than flat is the misses of the cache.
  out.target("fair, 10 000 contexts to one", found.ratio(of_contexts("fair", most_contexts), of_contexts("fair", 1)),
             at_most(1.5));
}

// Flows that always have something waiting: each operation is one pick and what follows from it.
sample pick_round(std::size_t flows) {
  constexpr std::uint64_t picks = 40 * most_contexts;
  test::fair_bench bench;
  std::deque<test::sent_flow> all(flows);
  for (test::sent_flow& each : all) {
    bench.add(each, test::fair_bench::for_ever);
  }
  const sample found = timed_once(picks, [&] {
    for (std::uint64_t i = 0; i < picks; ++i) {
      keep(bench.pick());
    }
  });
  for (test::sent_flow& each : all) {
    bench.clear(each);
  }
  return found;
}

void pick_costs(report& out) {
  std::vector<contender> contenders;
  for (const std::size_t flows : {std::size_t{1}, std::size_t{100}, most_contexts}) {
    contenders.push_back(
        {"fair_order, flows: " + std::to_string(flows), side::ours, [flows] { return pick_round(flows); }, {}});
  }
  out.compare({.name = "a pick, all flows waiting", .unit = "ns", .rounds = 9}, std::move(contenders));
}

}  // namespace

void fair_costs(report& out) {
  null_costs(out);
  pick_costs(out);
}

}  // namespace bench
