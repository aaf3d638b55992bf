// hand_over: what it costs at least to have another thread do something and say so: the floors of a round trip.
//
// One place (drive.h). The threads are not pinned, as those of the pools are not.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>

#include "sluice/base/sync.h"

namespace bench::peers {

// Two words, two threads asleep in futex(2): the requester writes one and wakes the server, which answers with the other
// in the same way.
class futex_hand_over {
 public:
  futex_hand_over() : server_([this] { serve(); }) {}
  ~futex_hand_over() {
    // relaxed: read after the request's acquire.
    stopping_.store(true, std::memory_order_relaxed);
    post(0);
  }
  futex_hand_over(const futex_hand_over&) = delete;
  futex_hand_over& operator=(const futex_hand_over&) = delete;

  void post(std::size_t /*place*/) noexcept {
    request_.store(++sent_, std::memory_order_release);  // pairs with serve()'s acquire
    sluice::os_sync::wake(request_, 1);
  }
  void wait(std::size_t /*place*/) noexcept {
    while (answer_.load(std::memory_order_acquire) != sent_) {
      sluice::os_sync::wait(answer_, sent_ - 1);
    }
  }

 private:
  void serve() noexcept {
    for (std::uint32_t seen = 0;;) {
      while (request_.load(std::memory_order_acquire) == seen) {
        sluice::os_sync::wait(request_, seen);
      }
      if (stopping_.load(std::memory_order_relaxed)) {
        return;
      }
      ++seen;
      answer_.store(seen, std::memory_order_release);  // pairs with wait()'s acquire
      sluice::os_sync::wake(answer_, 1);
    }
  }

  static constexpr std::size_t line = 64;
  alignas(line) std::atomic<std::uint32_t> request_{0};
  alignas(line) std::atomic<std::uint32_t> answer_{0};
  alignas(line) std::uint32_t sent_ = 0;
  std::atomic<bool> stopping_{false};
  std::jthread server_;  // last: joined before what it uses is gone
};

// The same with two threads that never sleep.
class spinning_hand_over {
 public:
  spinning_hand_over() : server_([this] { serve(); }) {}
  ~spinning_hand_over() {
    stopping_.store(true, std::memory_order_relaxed);
    post(0);
  }
  spinning_hand_over(const spinning_hand_over&) = delete;
  spinning_hand_over& operator=(const spinning_hand_over&) = delete;

  void post(std::size_t /*place*/) noexcept { request_.store(++sent_, std::memory_order_release); }
  void wait(std::size_t /*place*/) noexcept { spin(answer_, sent_ - 1); }

 private:
  // Returns once the word has left `old`. Where somebody else has the other CPU, spinning on would wait for a whole time
  // slice at each turn.
  static void spin(const std::atomic<std::uint32_t>& word, std::uint32_t old) noexcept {
    constexpr unsigned patience = 20'000;
    unsigned turns = 0;
    while (word.load(std::memory_order_acquire) == old) {
      if (++turns % patience == 0) {
        std::this_thread::yield();
      }
    }
  }

  void serve() noexcept {
    for (std::uint32_t seen = 0;;) {
      spin(request_, seen);
      if (stopping_.load(std::memory_order_relaxed)) {
        return;
      }
      answer_.store(++seen, std::memory_order_release);
    }
  }

  static constexpr std::size_t line = 64;
  alignas(line) std::atomic<std::uint32_t> request_{0};
  alignas(line) std::atomic<std::uint32_t> answer_{0};
  alignas(line) std::uint32_t sent_ = 0;
  std::atomic<bool> stopping_{false};
  std::jthread server_;  // last: joined before what it uses is gone
};

}  // namespace bench::peers
