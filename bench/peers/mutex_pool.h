// mutex_pool: the pool that everybody writes first: a mutex, a condition variable, std::function.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "places.h"

namespace bench::peers {

class mutex_pool {
 public:
  mutex_pool(std::size_t count, unsigned threads) : places_(count) {
    for (unsigned i = 0; i < threads; ++i) {
      workers_.emplace_back([this] { work(); });
    }
  }
  ~mutex_pool() {
    {
      const std::scoped_lock held(lock_);
      stopping_ = true;
    }
    more_.notify_all();
  }
  mutex_pool(const mutex_pool&) = delete;
  mutex_pool& operator=(const mutex_pool&) = delete;

  void post(std::size_t place) {
    submit([done = &places_.at(place)] { done->set(); });
  }
  void flush() noexcept {}
  void wait(std::size_t place) noexcept { places_.wait(place); }

 private:
  void submit(std::function<void()> call) {
    {
      const std::scoped_lock held(lock_);
      queue_.push_back(std::move(call));
    }
    more_.notify_one();
  }

  void work() {
    for (;;) {
      std::function<void()> call;
      {
        std::unique_lock held(lock_);
        more_.wait(held, [this] { return stopping_ || !queue_.empty(); });
        if (queue_.empty()) {
          return;
        }
        call = std::move(queue_.front());
        queue_.pop_front();
      }
      call();
    }
  }

  places places_;
  std::mutex lock_;
  std::condition_variable more_;
  std::deque<std::function<void()>> queue_;
  bool stopping_ = false;
  std::vector<std::jthread> workers_;  // last: joined before what they use is gone
};

}  // namespace bench::peers
