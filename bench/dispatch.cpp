// A work that does nothing, two workers: how many per second, how long there and back, what an idle pool costs.
//
// Every pool is made, warmed, measured and ended within its round, so that no other pool is alive meanwhile.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "drive.h"
#include "experiments.h"
#include "peers/aio_pool.h"
#include "peers/asio_pool.h"
#include "peers/hand_over.h"
#include "peers/mutex_pool.h"
#include "peers/queue_pool.h"
#include "peers/tbb_pool.h"
#include "peers/uring.h"
#include "peers/uv_pool.h"
#include "sluice_pool.h"

namespace bench {
namespace {

constexpr unsigned workers = 2;
constexpr std::size_t keys = 64;
// Works per round, so that each round takes some tens of milliseconds.
constexpr std::uint64_t many = std::uint64_t{1} << 19;
// Of 16 submitters 131 072 are outstanding: enough that their start and their end are a few hundredths of the round.
constexpr std::uint64_t most = std::uint64_t{1} << 22;
constexpr std::uint64_t few = std::uint64_t{1} << 17;
constexpr std::uint64_t fewest = std::uint64_t{1} << 15;
constexpr unsigned trips = 2000;
constexpr unsigned rounds = 25;
// Those of a comparison whose two sides are to differ by a few hundredths only, and of one that has no target.
constexpr unsigned many_rounds = 41;
constexpr unsigned few_rounds = 9;
constexpr std::chrono::seconds idle_span{2};

sluice::io_wq_options two_workers() {
  return {.max_bound = workers, .max_unbound = 1, .name = "bench"};
}

template <class Pool>
sample rate_of(Pool& pool, std::uint64_t works) {
  drive(pool, in_flight, in_flight);  // warm: threads are started, pages are there
  return as_rate(timed_once(works, [&] { drive(pool, in_flight, works); }));
}

// `make` returns the pool by value, alive for one round.
template <class Make>
contender streaming(std::string name, side whose, std::uint64_t works, Make make, std::string missing = {}) {
  return {std::move(name), whose,
          [works, make] {
            auto pool = make();
            return rate_of(pool, works);
          },
          std::move(missing)};
}

template <class Pool>
contender ours_streaming(std::string name) {
  return {std::move(name),
          side::ours,
          [] {
            const auto wq = make_wq(two_workers());
            Pool pool(*wq, in_flight);
            return rate_of(pool, many);
          },
          {}};
}

void throughput(report& out) {
  using namespace peers;
  const comparison& found = out.compare(
      {.name = "submit to done, 1 submitter", .unit = "M works/s", .direction = better::more, .rounds = rounds},
      {ours_streaming<sluice_single>("io_wq, one at a time"), ours_streaming<sluice_batch>("io_wq, 64 at a time"),
       streaming("mutex, condition_variable, function", side::peer, few, [] { return mutex_pool(in_flight, workers); }),
       streaming("Boost.Asio thread_pool post", side::peer, few, [] { return asio_pool(in_flight, workers); }),
       streaming("oneTBB task_arena enqueue", side::peer, few, [] { return tbb_pool(in_flight, workers); }),
       streaming("libuv uv_queue_work", side::peer, few, [] { return uv_pool(in_flight, workers); }),
       streaming(
           "io_uring NOP, async, 64 at a time", side::peer, few, [] { return uring_pool(in_flight, workers); },
           uring::missing()),
       streaming("glibc aio_read, 1 byte", side::peer, fewest, [] { return aio_pool(in_flight, workers); }),
       streaming("moodycamel queue, polled", side::floor, few, [] { return queue_pool(in_flight, workers); })});
  out.target("one at a time / best peer", found.ratio_to_best("io_wq, one at a time"), at_least(3.0));
  out.target("64 at a time / best peer", found.ratio_to_best("io_wq, 64 at a time"), at_least(6.0));
}

template <class Pool>
sample keyed_rate() {
  auto domain = sluice::hash_domain::create();
  if (!domain) {
    throw std::system_error(domain.error(), "hash_domain::create");
  }
  const auto wq = make_wq(two_workers());
  Pool pool(*wq, in_flight);
  pool.set_keys(**domain, keys);
  return rate_of(pool, many);
}

void keyed_throughput(report& out) {
  const comparison& found = out.compare(
      {.name = "submit to done, 64 keys in order", .unit = "M works/s", .direction = better::more, .rounds = rounds},
      {{"io_wq, keyed", side::ours, keyed_rate<sluice_single>, {}},
       {"io_wq, keyed, 64 at a time", side::ours, keyed_rate<sluice_batch>, {}},
       streaming("Boost.Asio, 64 strands", side::peer, few,
                 [] { return peers::asio_strands(in_flight, workers, keys); })});
  out.target("keyed, 64 at a time / Boost.Asio strands",
             found.ratio("io_wq, keyed, 64 at a time", "Boost.Asio, 64 strands"), at_least(4.2));
  out.target("keyed / Boost.Asio strands", found.ratio("io_wq, keyed", "Boost.Asio, 64 strands"), at_least(4.2));
}

// However many submitters there are, each is driven alike: with as many works outstanding, so that none sleeps more often
// than another.
sample rate_with(unsigned submitters, std::size_t places) {
  const auto wq = make_wq(two_workers());
  std::vector<std::unique_ptr<sluice_single>> pools;
  for (unsigned i = 0; i < submitters; ++i) {
    pools.push_back(std::make_unique<sluice_single>(*wq, places));
    drive(*pools.back(), places, places);
  }
  std::latch ready(submitters);
  std::latch start(1);
  std::latch over(submitters);
  std::latch measured(1);  // the end of a thread is not to be
  std::vector<std::jthread> submitting;
  for (unsigned i = 0; i < submitters; ++i) {
    submitting.emplace_back([&, i] {
      ready.count_down();
      start.wait();
      drive(*pools[i], places, most / submitters);
      over.count_down();
      measured.wait();
    });
  }
  ready.wait();
  const sample found = timed_once(most, [&] {
    start.count_down();
    over.wait();
  });
  measured.count_down();
  return as_rate(found);
}

std::string submitters_row(unsigned count) {
  return "io_wq, " + std::to_string(count) + (count == 1 ? " submitter" : " submitters");
}

const comparison& compare_submitters(report& out, std::string name, std::size_t places, unsigned times) {
  std::vector<contender> contenders;
  for (const unsigned count : {1U, 2U, 4U, 8U, 16U}) {
    contenders.push_back({submitters_row(count), side::ours, [count, places] { return rate_with(count, places); }, {}});
  }
  return out.compare({.name = std::move(name), .unit = "M works/s", .direction = better::more, .rounds = times},
                     std::move(contenders));
}

// The target is for as many places as in the other comparisons: there a submitter seldom sleeps, and what is compared is
// what submitters cost each other. With few places one submitter keeps up with a worker on the other core and need not
// sleep, or does, by the machine; of several each sleeps every 128 works, and what is compared is two switches for each
// of these against one or none: figures to know, and no property of the pool.
void submitters(report& out) {
  const comparison& found = compare_submitters(out, "submit to done, submitters of 8192", in_flight, many_rounds);
  for (const unsigned count : {2U, 4U, 8U, 16U}) {
    out.target(std::to_string(count) + " submitters / 1 submitter",
               found.ratio(submitters_row(count), submitters_row(1)), at_least(0.95));
  }
  static_cast<void>(compare_submitters(out, "submit to done, submitters of 512", in_flight / 16, few_rounds));
}

template <class Make>
contender there_and_back(std::string name, side whose, Make make, std::string missing = {}) {
  return {std::move(name), whose,
          [make] {
            auto pool = make();
            static_cast<void>(round_trips(pool, trips / 10));  // warm
            return round_trips(pool, trips);
          },
          std::move(missing)};
}

void hand_overs(report& out) {
  using namespace peers;
  const auto ours = [] {
    const auto wq = make_wq(two_workers());
    sluice_single pool(*wq, 1);
    static_cast<void>(round_trips(pool, trips / 10));
    return round_trips(pool, trips);
  };
  const comparison& found = out.compare(
      {.name = "round trip, one work at a time", .unit = "us p50", .rounds = rounds},
      {{"io_wq", side::ours, ours, {}},
       there_and_back("mutex, condition_variable, function", side::peer, [] { return mutex_pool(1, workers); }),
       there_and_back("Boost.Asio thread_pool post", side::peer, [] { return asio_pool(1, workers); }),
       there_and_back("oneTBB task_arena enqueue", side::peer, [] { return tbb_pool(1, workers); }),
       there_and_back("libuv uv_queue_work", side::peer, [] { return uv_pool(1, workers); }),
       there_and_back(
           "io_uring NOP, async", side::peer, [] { return uring_pool(1, workers); }, uring::missing()),
       there_and_back("glibc aio_read, 1 byte", side::peer, [] { return aio_pool(1, workers); }),
       there_and_back("bare futex hand-over", side::floor, [] { return futex_hand_over(); }),
       there_and_back("two spinning threads", side::floor, [] { return spinning_hand_over(); })});
  out.target("round trip p50 / bare futex hand-over", found.ratio("io_wq", "bare futex hand-over"), at_most(1.1));
}

// From the moment its last work is done: what a pool spends on going to sleep counts as well. The clock of the process
// would not do: at that moment it lacks up to a tick of what the workers have just spent, and has it 2 s later.
void idle(report& out) {
  const auto ours = [] {
    const auto wq = make_wq(two_workers());
    sluice_single pool(*wq, in_flight);
    drive(pool, in_flight, few);  // some milliseconds, so that no worker is still being started when they are over
    const std::chrono::nanoseconds before = cpu_time_of_threads();
    std::this_thread::sleep_for(idle_span);
    const std::chrono::duration<double, std::milli> spent = cpu_time_of_threads() - before;
    return sample{.value = spent.count()};
  };
  const comparison& found = out.compare({.name = "CPU time of 2 s without work", .unit = "ms", .rounds = 3},
                                        {{"io_wq", side::ours, ours, {}}});
  // What is left is this thread: its sleep and the two readings.
  out.target("CPU ms of an idle pool in 2 s", found.median("io_wq"), at_most(0.5));
}

}  // namespace

report run_dispatch() {
  report out("dispatch");
  idle(out);  // first: no peer has a thread yet
  throughput(out);
  keyed_throughput(out);
  submitters(out);
  hand_overs(out);
  return out;
}

}  // namespace bench
