// Everything at once, a hundred million times: the storm of the stress test, as long as a release can be asked to stand it;
// and ten thousand reads that wait for ever, all taken back.
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "sluice/base/unique_fd.h"
#include "sluice/wq/blocking_region.h"

#include "bench/workloads/wq_storm.h"
#include "experiments.h"
#include "sluice_pool.h"

namespace bench {
namespace {

constexpr std::uint64_t storm_works = 100'000'000;
constexpr std::chrono::minutes storm_cap{12};
constexpr std::size_t waiting_reads = 10'000;

using clock = std::chrono::steady_clock;

void weather(report& out) {
  const clock::time_point begin = clock::now();
  test::storm storm({.works = storm_works, .cap = storm_cap});
  const test::storm_report over = storm.run();
  const std::chrono::duration<double> took = clock::now() - begin;
  for (const std::string& fault : over.faults) {
    std::fprintf(stderr, "storm: %s\n", fault.c_str());
  }
  out.compare({.name = "a storm, 8 submitters", .unit = "M works", .direction = better::more, .rounds = 1},
              {found_once("accepted", side::ours, {.value = static_cast<double>(over.accepted) / 1e6}),
               found_once("of them cancelled", side::ours, {.value = static_cast<double>(over.gave_up) / 1e6}),
               found_once("refused", side::ours, {.value = static_cast<double>(over.refused) / 1e6}),
               found_once("accepted per second", side::ours,
                          {.value = static_cast<double>(over.accepted) / took.count() / 1e6})});
  out.target("works accepted / works asked for", static_cast<double>(over.accepted) / static_cast<double>(storm_works),
             at_least(1.0));
  // 1 and no more: a ratio of 0 would stand for something that was not run.
  out.target("kinds of broken checks, and one", static_cast<double>(over.faults.size() + 1), at_most(1.0));
}

// A read of a pipe that nobody writes to. Its buffer is the reader's until its release.
struct waiting_read : sluice::work {
  waiting_read() : work(ops, sluice::work_class::unbound) {}
  static void do_run(sluice::work& w, sluice::work_context& ctx) noexcept {
    auto& self = static_cast<waiting_read&>(w);
    if (ctx.cancelled()) {
      return;
    }
    self.counts_begun->fetch_add(1, std::memory_order_relaxed);  // relaxed: a count
    while (!ctx.cancelled()) {
      const sluice::blocking_region region;
      static_cast<void>(::read(self.fd, self.buffer.data(), self.buffer.size()));
    }
  }
  static void do_release(sluice::work& w) noexcept {
    static_cast<waiting_read&>(w).counts_over->fetch_add(1, std::memory_order_release);  // pairs with the canceller
  }
  static constexpr sluice::work_ops ops{do_run, do_release};

  int fd = -1;
  std::array<char, 64> buffer{};
  std::atomic<std::size_t>* counts_begun = nullptr;
  std::atomic<std::size_t>* counts_over = nullptr;
};

// Milliseconds from the cancel to the last completion, with `workers` of the reads really in read(2), the rest queued.
sample taken_back(unsigned workers) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) {
    throw std::system_error(errno, std::system_category(), "pipe");
  }
  const sluice::unique_fd reading(ends[0]);
  const sluice::unique_fd writing(ends[1]);
  std::atomic<std::size_t> begun{0};
  std::atomic<std::size_t> over{0};
  const auto wq = make_wq({.max_bound = 1, .max_unbound = workers, .name = "bench"});
  std::vector<waiting_read> reads(waiting_reads);
  for (waiting_read& each : reads) {
    each.fd = reading.get();
    each.counts_begun = &begun;
    each.counts_over = &over;
    submit(*wq, each);
  }
  while (begun.load(std::memory_order_relaxed) != workers) {
    std::this_thread::yield();
  }
  const clock::time_point begin = clock::now();
  const sluice::cancel_counts counts = wq->cancel_all();
  while (over.load(std::memory_order_acquire) != waiting_reads) {
    std::this_thread::yield();
  }
  const std::chrono::duration<double, std::milli> took = clock::now() - begin;
  if (counts.cancelled + counts.running != waiting_reads) {
    throw std::logic_error("not every read was found");
  }
  return {.value = took.count()};
}

void reads_that_wait(report& out) {
  const comparison& found =
      out.compare({.name = "10 000 reads of pipes taken back", .unit = "ms", .rounds = 5},
                  {{"256 in read(2), the rest queued", side::ours, [] { return taken_back(256); }, {}},
                   {"5000 in read(2), the rest queued", side::ours, [] { return taken_back(5000); }, {}},
                   {"all in read(2)", side::ours, [] { return taken_back(waiting_reads); }, {}}});
  for (const row& each : found.rows()) {
    out.target("ms, " + each.name, found.median(each.name), at_most(1000));
  }
}

}  // namespace

report run_storm() {
  report out("storm");
  reads_that_wait(out);
  weather(out);
  return out;
}

}  // namespace bench
