// queue_pool: moodycamel's ConcurrentQueue with threads that poll it: what a queue costs when nobody ever sleeps.
//
// A floor, no peer: it has no way to wait for work, so its threads burn their CPUs for as long as it lives.
#pragma once

#include <concurrentqueue/concurrentqueue.h>

#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

#include "places.h"

namespace bench::peers {

class queue_pool {
 public:
  queue_pool(std::size_t count, unsigned threads) : places_(count), queue_(count), producer_(queue_) {
    for (unsigned i = 0; i < threads; ++i) {
      workers_.emplace_back([this] { work(); });
    }
  }
  // relaxed: it orders nothing, the join does.
  ~queue_pool() { stopping_.store(true, std::memory_order_relaxed); }
  queue_pool(const queue_pool&) = delete;
  queue_pool& operator=(const queue_pool&) = delete;

  void post(std::size_t place) { queue_.enqueue(producer_, &places_.at(place)); }
  void flush() noexcept {}
  void wait(std::size_t place) noexcept { places_.wait(place); }

 private:
  void work() {
    moodycamel::ConsumerToken token(queue_);
    mark* done = nullptr;
    while (!stopping_.load(std::memory_order_relaxed)) {
      if (queue_.try_dequeue(token, done)) {
        done->set();
      } else {
        std::this_thread::yield();  // the submitter may need this CPU
      }
    }
  }

  places places_;
  moodycamel::ConcurrentQueue<mark*> queue_;
  moodycamel::ProducerToken producer_;
  std::atomic<bool> stopping_{false};
  std::vector<std::jthread> workers_;  // last: joined before what they use is gone
};

}  // namespace bench::peers
