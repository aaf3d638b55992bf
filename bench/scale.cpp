// What a work costs when a thousand or ten million are queued, when sixteen threads submit, when a million keys or ten
// thousand workers are alive, when the machine has eight nodes.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <latch>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "sluice/base/sync.h"
#include "sluice/wq/blocking_region.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"

#include "drive.h"
#include "experiments.h"
#include "footprint.h"
#include "many_works.h"
#include "sluice_pool.h"

namespace bench {
namespace {

using clock = std::chrono::steady_clock;

constexpr std::size_t million = 1'000'000;
constexpr std::size_t most_works = 10 * million;
constexpr std::array depths{std::size_t{1000}, std::size_t{10'000}, std::size_t{100'000}, million, most_works};
constexpr std::size_t judged_by = 100'000;  // the depth that the others are compared with

double per_work(std::chrono::nanoseconds all, std::size_t count) {
  return static_cast<double>(all.count()) / static_cast<double>(count);
}

std::string queued_row(std::size_t depth) {
  return std::to_string(depth) + " queued";
}

struct cost {
  std::vector<double> submit;
  std::vector<double> drain;
  std::vector<double> touch;
};

// Queues `depth` works and drains them, until a million (or `depth`) have passed. Each time they are others, out of as
// many for every depth: otherwise the small depths would find theirs in the nearest cache, and that is what would be
// measured. The cost is the submitter's CPU time and the worker's.
sample queue_and_drain(many_works& works, std::size_t depth, cost& into) {
  const std::size_t times = std::max<std::size_t>(1, million / depth);
  gated_wq wq(most_works);
  std::chrono::nanoseconds submitting{};
  std::chrono::nanoseconds draining{};
  const std::chrono::nanoseconds cpu_before = cpu_time();
  for (std::size_t turn = 0; turn < times; ++turn) {
    const std::size_t stride = most_works / times;
    wq.close();
    const std::chrono::nanoseconds begin = thread_cpu_time();
    for (bare_work& one : works.slice(turn * stride, depth)) {
      submit(*wq, one);
    }
    submitting += thread_cpu_time() - begin;
    draining += wq.drain();
  }
  const std::size_t count = times * depth;
  into.submit.push_back(per_work(submitting, count));
  into.drain.push_back(per_work(draining, count));
  return {.value = per_work(submitting + draining, count), .cpu_ns = per_work(cpu_time() - cpu_before, count)};
}

// What the machine itself asks for: a line of each work is written, and something hot is counted with a locked
// instruction, as any hand-over between threads must do once. The same works in the same order as above.
double touch(many_works& works, std::size_t depth) {
  const std::size_t times = std::max<std::size_t>(1, million / depth);
  const std::size_t stride = most_works / times;
  std::atomic<std::uint64_t> hot{0};
  const std::chrono::nanoseconds begin = thread_cpu_time();
  for (std::size_t turn = 0; turn < times; ++turn) {
    for (bare_work& one : works.slice(turn * stride, depth)) {
      one.set_owner(turn);
      hot.fetch_add(1, std::memory_order_seq_cst);
    }
  }
  return per_work(thread_cpu_time() - begin, times * depth);
}

void queue_depths(report& out, many_works& works) {
  std::map<std::size_t, cost> parts;
  std::vector<contender> contenders;
  for (const std::size_t depth : depths) {
    const auto round = [&works, &parts, depth] {
      const sample found = queue_and_drain(works, depth, parts[depth]);
      parts[depth].touch.push_back(touch(works, depth));
      return found;
    };
    contenders.push_back({queued_row(depth), side::ours, round, {}});
  }
  const comparison& found = out.compare(
      {.name = "submit + drain, by depth of the queue", .unit = "CPU ns", .rounds = 15}, std::move(contenders));
  std::vector<contender> split;
  for (const std::size_t depth : depths) {
    split.push_back(found_once("submit, " + queued_row(depth), side::ours, {.value = median_of(parts[depth].submit)}));
    split.push_back(found_once("drain, " + queued_row(depth), side::ours, {.value = median_of(parts[depth].drain)}));
    split.push_back(found_once("a line written, one locked instruction, " + queued_row(depth), side::floor,
                               {.value = median_of(parts[depth].touch)}));
  }
  out.compare({.name = "of that", .unit = "CPU ns", .rounds = 1}, std::move(split));
  for (const std::size_t depth : depths) {
    if (depth != judged_by) {
      out.target("cost per work, " + queued_row(depth) + " / " + queued_row(judged_by),
                 found.ratio(queued_row(depth), queued_row(judged_by)), within(0.2));
    }
  }
}

// A million works into a queue that nobody drains meanwhile.
sample submit_together(many_works& works, unsigned submitters) {
  gated_wq wq(million);
  wq.close();
  std::latch ready(submitters);
  std::latch start(1);
  const std::size_t share = million / submitters;
  std::vector<std::jthread> submitting;
  for (unsigned i = 0; i < submitters; ++i) {
    submitting.emplace_back([&, i] {
      ready.count_down();
      start.wait();
      for (bare_work& one : works.slice(i * share, share)) {
        submit(*wq, one);
      }
    });
  }
  ready.wait();
  const sample found = timed_once(share * submitters, [&] {
    start.count_down();
    submitting.clear();  // joins
  });
  static_cast<void>(wq.drain());
  return found;
}

void submitters(report& out, many_works& works) {
  std::vector<contender> contenders;
  for (const unsigned count : {1U, 2U, 4U, 8U, 16U}) {
    contenders.push_back({std::to_string(count) + (count == 1 ? " submitter" : " submitters"),
                          side::ours,
                          [&works, count] { return submit_together(works, count); },
                          {}});
  }
  out.compare({.name = "submit alone, a million works in all", .unit = "ns", .rounds = 5}, std::move(contenders));
}

// Whole bytes: what a wq has once does not count against each of ten million works.
void bytes_per_work(report& out, many_works& works) {
  gated_wq wq(most_works);
  wq.close();
  const footprint before = footprint::now();
  for (bare_work& one : works.slice(0, most_works)) {
    submit(*wq, one);
  }
  const double added = footprint::now().since(before) / static_cast<double>(most_works);
  static_cast<void>(wq.drain());
  const double bytes = static_cast<double>(sizeof(sluice::work)) + std::round(added);
  out.compare({.name = "memory", .unit = "bytes", .rounds = 1},
              {found_once("a queued work: itself and what it adds", side::ours, {.value = bytes})});
  out.target("bytes of a queued work", bytes, at_most(64));
}

void live_keys(report& out, many_works& works) {
  constexpr std::uint64_t scatter = 0x9E3779B97F4A7C15U;  // odd, so that all keys differ; neighbours are no neighbours
  auto domain = sluice::hash_domain::create();
  if (!domain) {
    throw std::system_error(domain.error(), "hash_domain::create");
  }
  const std::span<bare_work> keyed = works.slice(0, million);
  for (std::size_t i = 0; i < million; ++i) {
    keyed[i].set_key(**domain, i * scatter);
  }
  gated_wq wq(million);
  wq.close();
  const footprint before = footprint::now();
  const std::chrono::nanoseconds begin = thread_cpu_time();
  for (bare_work& one : keyed) {
    submit(*wq, one);
  }
  const std::chrono::nanoseconds submitting = thread_cpu_time() - begin;
  static_cast<void>((*wq).stats());  // the last ones are with their keys after it
  const double bytes = footprint::now().since(before) / static_cast<double>(million);
  const auto alive = static_cast<double>((*domain)->live_keys());
  const std::chrono::nanoseconds draining = wq.drain(**domain, million * scatter);
  for (bare_work& one : keyed) {
    one.clear_key();
  }
  out.compare({.name = "a million keys alive", .unit = "CPU ns", .rounds = 1},
              {found_once("submit", side::ours, {.value = per_work(submitting, million)}),
               found_once("drain", side::ours, {.value = per_work(draining, million)})});
  out.compare({.name = "memory of keys", .unit = "bytes", .rounds = 1},
              {found_once("a live key", side::ours, {.value = bytes})});
  out.target("keys alive at once", alive, at_least(static_cast<double>(million)));
  out.target("bytes of a live key", bytes, at_most(128));
}

constexpr std::size_t crowd = 10'000;

// Who comes stays until all are there.
class assembly {
 public:
  void stay() noexcept {
    if (here_.fetch_add(1, std::memory_order_acq_rel) + 1 == crowd) {
      all_.wake();
    }
    while (dismissed_.load(std::memory_order_acquire) == 0) {  // pairs with dismiss()
      sluice::os_sync::wait(dismissed_, 0);
    }
  }
  // False: not all came in time.
  [[nodiscard]] bool wait_for_all(sluice::steady_time deadline) noexcept { return all_.park_until(deadline); }
  [[nodiscard]] std::size_t here() const noexcept { return here_.load(std::memory_order_acquire); }
  void dismiss() noexcept {
    dismissed_.store(1, std::memory_order_release);
    sluice::os_sync::wake(dismissed_, sluice::wake_all);
  }

 private:
  std::atomic<std::size_t> here_{0};
  std::atomic<std::uint32_t> dismissed_{0};
  sluice::parker all_;
};

struct crowd_work : sluice::work {
  explicit crowd_work(assembly& meeting)
      : work(ops, sluice::work_class::unbound, sluice::work_flags::concurrent), where(meeting) {}
  static void do_run(sluice::work& w, sluice::work_context& /*ctx*/) noexcept {
    const sluice::blocking_region region;
    static_cast<crowd_work&>(w).where.stay();
  }
  static void do_release(sluice::work& /*w*/) noexcept {}
  static constexpr sluice::work_ops ops{do_run, do_release};

  assembly& where;
};

constexpr std::chrono::seconds patience{40};

std::string too_few(std::size_t came, const std::string& why) {
  return std::to_string(came) + " of " + std::to_string(crowd) + " threads came" + why;
}

contender crowd_of_workers(double& workers) {
  const std::string name = "io_wq, 10000 workers";
  assembly meeting;
  std::deque<crowd_work> works;
  const auto wq = make_wq({.max_bound = 1, .max_unbound = crowd, .name = "bench"});
  const clock::time_point begin = clock::now();
  for (std::size_t i = 0; i < crowd; ++i) {
    submit(*wq, works.emplace_back(meeting));
  }
  const bool all = meeting.wait_for_all(begin + patience);
  const std::chrono::duration<double, std::milli> took = clock::now() - begin;
  const sluice::class_stats stats = wq->stats().unbound;
  const std::size_t came = meeting.here();
  meeting.dismiss();
  wq->stop(sluice::stop_policy::run_queued);
  if (!all) {
    const std::string refused = ", the system refused " + std::to_string(stats.create_failures);
    return found_once(name, side::ours, {}, too_few(came, refused));
  }
  workers = static_cast<double>(stats.workers);
  return found_once(name, side::ours, {.value = took.count()});
}

contender crowd_of_threads() {
  const std::string name = "std::thread, 10000";
  assembly meeting;
  std::vector<std::jthread> threads;
  const clock::time_point begin = clock::now();
  std::string fault;
  try {
    for (std::size_t i = 0; i < crowd; ++i) {
      threads.emplace_back([&meeting] { meeting.stay(); });
    }
  } catch (const std::system_error& refused) {
    fault = too_few(threads.size(), std::string(", then: ") + refused.what());
  }
  if (fault.empty() && !meeting.wait_for_all(begin + patience)) {
    fault = too_few(meeting.here(), "");
  }
  const std::chrono::duration<double, std::milli> took = clock::now() - begin;
  meeting.dismiss();
  return found_once(name, side::floor, {.value = took.count()}, fault);
}

void crowds(report& out) {
  double workers = 0;
  std::vector<contender> contenders;
  contenders.push_back(crowd_of_workers(workers));
  contenders.push_back(crowd_of_threads());
  out.compare({.name = "10000 threads: until all are there", .unit = "ms", .rounds = 1}, std::move(contenders));
  out.target("workers alive at once", workers, at_least(static_cast<double>(crowd)));
}

// Why it could not be set; empty if it was. A template, so that it compiles with options that know no topology.
template <class Options>
std::string set_topology(Options& options, std::string_view synthetic) {
  if constexpr (requires { options.topology = synthetic; }) {
    options.topology = synthetic;
    const auto probe = sluice::io_wq::create(options);
    return probe ? std::string() : probe.error().message();
  } else {
    static_cast<void>(synthetic);
    return "io_wq_options has no topology";
  }
}

void nodes(report& out) {
  constexpr std::uint64_t works = std::uint64_t{1} << 17;
  const sluice::io_wq_options plain{.max_bound = 16, .max_unbound = 8, .name = "bench"};
  sluice::io_wq_options eight = plain;
  const std::string missing = set_topology(eight, "node:8 pu:2");
  const auto round = [](const sluice::io_wq_options& options) {
    return [options] {
      const auto wq = make_wq(options);
      sluice_single pool(*wq, in_flight);
      drive(pool, in_flight, in_flight);
      return as_rate(timed_once(works, [&] { drive(pool, in_flight, works); }));
    };
  };
  out.compare({.name = "submit to done, 1 submitter", .unit = "M works/s", .direction = better::more, .rounds = 5},
              {{"the machine's own nodes", side::ours, round(plain), {}},
               {"eight nodes of two", side::ours, round(eight), missing}});
}

}  // namespace

report run_scale() {
  report out("scale");
  crowds(out);  // first: its threads need the address space, and nothing else is alive
  nodes(out);
  many_works works(most_works);
  live_keys(out, works);
  bytes_per_work(out, works);
  submitters(out, works);
  queue_depths(out, works);
  return out;
}

}  // namespace bench
