// joined_threads: the threads of a test, which end with it, however it ends.
//
// The destructor stops and joins them: an ASSERT that returns early, or a value() that throws, leaves no thread
// behind and does not end the process. A thread whose body throws fails the test and ends.
//
//   std::atomic<bool> over{false};
//   test::joined_threads crowd(over);       // after all that the threads use
//   crowd.start([&] { while (!over.load(std::memory_order_seq_cst)) { … } });
//   …
//   crowd.stop_and_join();
//
// Whoever waits for what a thread does must give up when the test has failed: the thread may have ended.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace test {

class joined_threads {
 public:
  // stop: after it the threads end soon. It may be called more than once.
  explicit joined_threads(std::function<void()> stop) : stop_(std::move(stop)) {}
  // Stops by setting `over`.
  explicit joined_threads(std::atomic<bool>& over)
      : joined_threads([&over] { over.store(true, std::memory_order_seq_cst); }) {}
  ~joined_threads() { stop_and_join(); }
  joined_threads(const joined_threads&) = delete;
  joined_threads& operator=(const joined_threads&) = delete;

  template <class Body>
  void start(Body body) {
    threads_.emplace_back([act = std::move(body)]() mutable {
      try {
        act();
      } catch (const std::exception& thrown) {
        ADD_FAILURE() << "a thread of the test threw: " << thrown.what();
      }
    });
  }
  // For threads that end by themselves.
  void join() {
    for (std::thread& each : threads_) {
      each.join();
    }
    threads_.clear();
  }
  void stop_and_join() {
    stop_();
    join();
  }

 private:
  std::function<void()> stop_;
  std::vector<std::thread> threads_;
};

}  // namespace test
