// dead_device: the reads and the sleepers of dead_device.h in the pools of others: one queue for both, but for the
// kernel's.
#pragma once

#include <fcntl.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <thread>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>

#include "../dead_device.h"
#include "uring.h"
#include "uv_pool.h"

namespace bench::peers {

inline sample isolation_of_asio() {
  const auto reading = std::make_unique<readers>();
  dead_device device;
  boost::asio::thread_pool pool(pool_threads);
  const auto read = [&](const auto& again, reader& one) -> void {
    boost::asio::post(pool, [&reading, &again, &one] {
      one.read(reading->file.get());
      if (!reading->stopping()) {
        again(again, one);
      }
    });
  };
  const auto sleep = [&](const auto& again) -> void {
    boost::asio::post(pool, [&device, &again] {
      std::this_thread::sleep_for(nap);
      if (!device.stopping()) {
        again(again);
      }
    });
  };
  for (reader& one : reading->each) {
    read(read, one);
  }
  const sample found = share_kept(
      *reading, [](auto span) { std::this_thread::sleep_for(span); },
      [&] {
        for (std::size_t i = 0; i < sleepers; ++i) {
          sleep(sleep);
        }
      });
  reading->stop();
  device.stop();
  pool.join();
  return found;
}

// A request to libuv's pool that is made again until `stopping` says no.
template <class Function, class Stopping>
struct uv_repeated {
  uv_repeated(uv_loop& on, Function function, Stopping until)
      : loop(on), run(std::move(function)), stopping(std::move(until)) {
    request.data = this;
  }
  void post() {
    const auto work = [](uv_work_t* it) { static_cast<uv_repeated*>(it->data)->run(); };
    const auto after = [](uv_work_t* it, int /*status*/) {
      uv_repeated& self = *static_cast<uv_repeated*>(it->data);
      if (!self.stopping()) {
        self.post();
      }
    };
    if (::uv_queue_work(loop.get(), &request, work, after) != 0) {
      throw std::runtime_error("uv_queue_work failed");
    }
  }

  uv_loop& loop;
  Function run;
  Stopping stopping;
  uv_work_t request{};
};

inline sample isolation_of_uv() {
  set_uv_threads(pool_threads);
  const auto reading = std::make_unique<readers>();
  dead_device device;
  uv_loop loop;
  const auto read = [&reading](reader& one) { return [&] { one.read(reading->file.get()); }; };
  const auto sleep = [] { std::this_thread::sleep_for(nap); };
  const auto reads_stop = [&reading] { return reading->stopping(); };
  const auto sleepers_stop = [&device] { return device.stopping(); };
  std::deque<uv_repeated<decltype(read(reading->each[0])), decltype(reads_stop)>> reads;
  std::deque<uv_repeated<decltype(sleep), decltype(sleepers_stop)>> sleeping;
  for (reader& one : reading->each) {
    reads.emplace_back(loop, read(one), reads_stop).post();
  }
  const auto pass = [&loop](auto span) {
    for (const auto until = std::chrono::steady_clock::now() + span; std::chrono::steady_clock::now() < until;) {
      ::uv_run(loop.get(), UV_RUN_ONCE);
    }
  };
  const sample found = share_kept(*reading, pass, [&] {
    for (std::size_t i = 0; i < sleepers; ++i) {
      sleeping.emplace_back(loop, sleep, sleepers_stop).post();
    }
  });
  reading->stop();
  device.stop();
  ::uv_run(loop.get(), UV_RUN_DEFAULT);  // until all have left
  return found;
}

// Works for the kernel's two classes. Forced to io-wq, a read of any file counts as unbounded (the file is looked up too
// late to tell), so the sleepers must be the bounded ones: each opens a FIFO, which waits for a writer, and a thread is
// that writer every 10 ms.
class kernel_isolation {
 public:
  sample round() {
    for (std::size_t i = 0; i < depth; ++i) {
      add_read(i);
    }
    ring_.submit();
    const auto pass = [this](auto span) {
      for (const auto until = std::chrono::steady_clock::now() + span; std::chrono::steady_clock::now() < until;) {
        turn();
      }
    };
    const std::jthread letting_go([this](const std::stop_token& over) {
      while (!over.stop_requested()) {
        std::this_thread::sleep_for(nap);
        fifo_.let_go();
      }
    });
    const sample found = share_kept(reading_, pass, [this] {
      for (std::size_t i = 0; i < sleepers; ++i) {
        add_sleeper();
      }
      ring_.submit();
    });
    reading_.stop();
    device_.stop();
    while (under_way_ != 0) {
      turn();
    }
    return found;
  }

 private:
  static constexpr std::uint64_t sleeper_tag = depth;

  void add_read(std::uint64_t which) {
    reader& one = reading_.each[which];
    ring_.add(which, [&](io_uring_sqe* entry) {
      ::io_uring_prep_read(entry, reading_.file.get(), one.buffer.data(), block_bytes,
                           static_cast<std::uint64_t>(one.next_offset()));
    });
    ++under_way_;
  }
  void add_sleeper() {
    ring_.add(sleeper_tag, [&](io_uring_sqe* entry) {
      ::io_uring_prep_openat(entry, AT_FDCWD, fifo_.path(), O_RDONLY | O_CLOEXEC, 0);
    });
    ++under_way_;
  }
  void turn() {
    ring_.reap(1, [this](std::uint64_t tag, int result) {
      --under_way_;
      if (tag == sleeper_tag) {
        const descriptor opened(result, "open of a FIFO");
        if (!device_.stopping()) {
          add_sleeper();
        }
        return;
      }
      reading_.each[tag].counted();
      if (!reading_.stopping()) {
        add_read(tag);
      }
    });
    ring_.submit();
  }

  readers reading_;
  dead_device device_;
  barrier_fifo fifo_;
  uring ring_{2048, 4096, {unbound_workers, bound_workers}};
  std::size_t under_way_ = 0;
};

inline sample isolation_of_kernel() {
  return std::make_unique<kernel_isolation>()->round();
}

}  // namespace bench::peers
