// Workers that block: how soon the next work starts, and whether works that wait for ever disturb those that do not.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>

#include "sluice/base/park.h"
#include "sluice/wq/blocking_region.h"
#include "sluice/wq/io_wq.h"

#include "dead_device.h"
#include "descriptors.h"
#include "experiments.h"
#include "peers/dead_device.h"
#include "peers/uring.h"
#include "peers/uv_pool.h"
#include "sluice_pool.h"

namespace bench {
namespace {

using clock = std::chrono::steady_clock;

enum class manners : std::uint8_t { says_so, says_nothing };

// A work around a function, used again and again.
template <class Function>
struct call : sluice::work {
  call(sluice::work_class cls, Function function) : work(ops, cls), run(std::move(function)) {}
  static void do_run(sluice::work& w, sluice::work_context& /*ctx*/) noexcept { static_cast<call&>(w).run(); }
  static void do_release(sluice::work& w) noexcept { static_cast<call&>(w).released.wake(); }
  static constexpr sluice::work_ops ops{do_run, do_release};

  Function run;
  sluice::parker released;
};

// One work runs; a second is queued behind it; then the first blocks. How long until the second runs?
class scene {
 public:
  // The first work.
  void block(manners how) noexcept {
    running_.wake();
    while (!queued_.load(std::memory_order_acquire)) {  // pairs with behind()
      std::this_thread::yield();
    }
    blocked_at_ = clock::now();
    if (how == manners::says_so) {
      const sluice::blocking_region region;
      pipe_.block();
    } else {
      pipe_.block();
    }
  }
  // The second work.
  void start() noexcept {
    started_at_ = clock::now();
    started_.wake();
  }

  // Queues the second work with `submit` once the first runs, and lets the first go on when the second has started.
  template <class Submit>
  void behind(Submit submit) {
    running_.park();
    submit();
    queued_.store(true, std::memory_order_release);
    started_.park();
    pipe_.let_go(1);
  }
  // A pool that starts the second before the first blocks did not let it wait at all: what is left is one clock reading.
  // Requires: both works are over.
  [[nodiscard]] double waited_us() const noexcept {
    constexpr double one_reading = 0.02;
    return std::max(one_reading, std::chrono::duration<double, std::micro>(started_at_ - blocked_at_).count());
  }

 private:
  barrier_pipe pipe_;
  sluice::parker running_;
  sluice::parker started_;
  std::atomic<bool> queued_{false};
  clock::time_point blocked_at_;
  clock::time_point started_at_;
};

// `turns` times `one_turn`, which returns µs.
template <class OneTurn>
sample percentiles(unsigned turns, OneTurn one_turn) {
  std::vector<double> waited;
  const std::chrono::nanoseconds before = cpu_time();
  for (unsigned i = 0; i < turns; ++i) {
    waited.push_back(one_turn());
  }
  const std::chrono::nanoseconds cpu = cpu_time() - before;
  return {.value = percentile_of(waited, 0.5),
          .cpu_ns = static_cast<double>(cpu.count()) / turns,
          .p99 = percentile_of(waited, 0.99)};
}

sluice::io_wq_options options() {
  return {.max_bound = bound_workers, .max_unbound = unbound_workers, .name = "bench"};
}

double one_block(sluice::io_wq& wq, manners how) {
  scene all;
  call first(sluice::work_class::bound, [&] { all.block(how); });
  call second(sluice::work_class::bound, [&] { all.start(); });
  submit(wq, first);
  all.behind([&] { submit(wq, second); });
  second.released.park();
  first.released.park();
  return all.waited_us();
}

// The worker that takes over is there already, asleep.
sample reaction(manners how, unsigned turns) {
  const auto wq = make_wq(options());
  static_cast<void>(one_block(*wq, how));
  return percentiles(turns, [&] { return one_block(*wq, how); });
}

// There is only the first worker: the one that takes over is made.
sample reaction_with_new_worker(unsigned turns) {
  return percentiles(turns, [] { return one_block(*make_wq(options()), manners::says_so); });
}

// The pools of others have all their threads from the start and react to nothing: floors, no peers. As long as one is
// left the next work does not wait at all; after that it waits until somebody returns.
sample reaction_of_asio(unsigned turns) {
  boost::asio::thread_pool pool(pool_threads);
  const sample found = percentiles(turns, [&] {
    scene all;
    sluice::parker over;
    boost::asio::post(pool, [&] {
      all.block(manners::says_nothing);
      over.wake();
    });
    all.behind([&] { boost::asio::post(pool, [&] { all.start(); }); });
    over.park();
    return all.waited_us();
  });
  pool.join();
  return found;
}

sample reaction_of_uv(unsigned turns) {
  peers::set_uv_threads(pool_threads);
  peers::uv_loop loop;
  return percentiles(turns, [&] {
    scene all;
    peers::uv_call first([&] { all.block(manners::says_nothing); });
    peers::uv_call second([&] { all.start(); });
    first.post(loop);
    all.behind([&] { second.post(loop); });
    ::uv_run(loop.get(), UV_RUN_DEFAULT);
    return all.waited_us();
  });
}

// Two splices out of pipes in one submit: the first pipe is empty. From the submit to the second's completion.
sample reaction_of_kernel(unsigned turns) {
  peers::uring ring(64, 128, {bound_workers, unbound_workers});
  const descriptor null(::open("/dev/null", O_WRONLY | O_CLOEXEC), "/dev/null");
  const barrier_pipe empty;
  const barrier_pipe filled;
  const auto add = [&](std::uint64_t tag, const barrier_pipe& from) {
    ring.add(tag, [&](io_uring_sqe* entry) { ::io_uring_prep_splice(entry, from.reader(), -1, null.get(), -1, 1, 0); });
  };
  std::array<bool, 2> over{};
  const auto wait_for = [&](std::size_t which) {
    while (!over[which]) {
      ring.reap(1, [&](std::uint64_t tag, int /*result*/) { over[tag] = true; });
    }
  };
  return percentiles(turns, [&] {
    over = {};
    filled.let_go(1);
    const clock::time_point begin = clock::now();
    add(0, empty);
    add(1, filled);
    ring.submit();
    wait_for(1);
    const std::chrono::duration<double, std::micro> waited = clock::now() - begin;
    empty.let_go(1);
    wait_for(0);
    return waited.count();
  });
}

void reactions(report& out) {
  constexpr unsigned turns = 500;
  constexpr unsigned few_turns = 100;
  const comparison& found = out.compare(
      {.name = "a worker blocks: until the next work starts", .unit = "us p50", .rounds = 5},
      {{"io_wq, it says so", side::ours, [] { return reaction(manners::says_so, turns); }, {}},
       {"io_wq, it says so, no spare worker", side::ours, [] { return reaction_with_new_worker(few_turns); }, {}},
       {"io_wq, it says nothing", side::ours, [] { return reaction(manners::says_nothing, turns); }, {}},
       {"Boost.Asio, a thread to spare", side::floor, [] { return reaction_of_asio(turns); }, {}},
       {"libuv, a thread to spare", side::floor, [] { return reaction_of_uv(turns); }, {}},
       {"kernel io-wq, splice, to completion", side::peer, [] { return reaction_of_kernel(turns); },
        peers::uring::missing()}});
  out.target("it says so: p99, us", found.p99("io_wq, it says so"), at_most(100));
  out.target("it says nothing: p99, us", found.p99("io_wq, it says nothing"), at_most(3000));
}

struct read_work : sluice::work {
  read_work(sluice::io_wq& pool, readers& all, reader& one)
      : work(ops, sluice::work_class::bound), wq(pool), reading(all), self(one) {}
  static void do_run(sluice::work& w, sluice::work_context& /*ctx*/) noexcept {
    const read_work& it = static_cast<read_work&>(w);
    it.self.read(it.reading.file.get());
  }
  static void do_release(sluice::work& w) noexcept {
    read_work& it = static_cast<read_work&>(w);
    if (it.reading.stopping() || !it.wq.submit(it)) {
      it.over.wake();
    }
  }
  static constexpr sluice::work_ops ops{do_run, do_release};

  sluice::io_wq& wq;
  readers& reading;
  reader& self;
  sluice::parker over;
};

struct sleep_work : sluice::work {
  sleep_work(sluice::io_wq& pool, dead_device& device, manners manner)
      : work(ops, sluice::work_class::unbound), wq(pool), on(device), how(manner) {}
  static void do_run(sluice::work& w, sluice::work_context& /*ctx*/) noexcept {
    if (static_cast<sleep_work&>(w).how == manners::says_so) {
      const sluice::blocking_region region;
      std::this_thread::sleep_for(nap);
    } else {
      std::this_thread::sleep_for(nap);
    }
  }
  static void do_release(sluice::work& w) noexcept {
    sleep_work& it = static_cast<sleep_work&>(w);
    if (it.on.stopping() || !it.wq.submit(it)) {
      it.on.leave();
    }
  }
  static constexpr sluice::work_ops ops{do_run, do_release};

  sluice::io_wq& wq;
  dead_device& on;
  const manners how;
};

sample isolation(manners how) {
  const auto reading = std::make_unique<readers>();
  dead_device device;
  const auto wq = make_wq(options());
  std::deque<read_work> reads;
  for (reader& one : reading->each) {
    submit(*wq, reads.emplace_back(*wq, *reading, one));
  }
  std::deque<sleep_work> sleeping;
  const sample found = share_kept(
      *reading, [](auto span) { std::this_thread::sleep_for(span); },
      [&] {
        for (std::size_t i = 0; i < sleepers; ++i) {
          submit(*wq, sleeping.emplace_back(*wq, device, how));
        }
      });
  reading->stop();
  for (read_work& one : reads) {
    one.over.park();
  }
  device.stop();
  device.wait();
  return found;
}

void isolations(report& out) {
  const comparison& found = out.compare(
      {.name = "4 KiB reads beside 1000 works of 10 ms", .unit = "% of solo", .direction = better::more, .rounds = 7},
      {{"io_wq, they say so", side::ours, [] { return isolation(manners::says_so); }, {}},
       {"io_wq, they say nothing", side::ours, [] { return isolation(manners::says_nothing); }, {}},
       {"Boost.Asio thread_pool", side::peer, [] { return peers::isolation_of_asio(); }, {}},
       {"libuv", side::peer, [] { return peers::isolation_of_uv(); }, {}},
       {"kernel io-wq", side::peer, [] { return peers::isolation_of_kernel(); }, peers::uring::missing()}});
  for (const char* const name : {"io_wq, they say so", "io_wq, they say nothing"}) {
    out.target("reads kept, % of their solo rate: " + std::string(name), found.median(name), at_least(90));
  }
}

}  // namespace

report run_blocked() {
  report out("blocked");
  reactions(out);
  isolations(out);
  return out;
}

}  // namespace bench
