// wq_probe: a pool, a work that notes what happens to it, and threads that cannot be created; for tests of io_wq.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <future>
#include <latch>
#include <semaphore>
#include <string_view>
#include <thread>
#include <utility>

#include <gtest/gtest.h>

#include "sluice/base/clock.h"
#include "sluice/base/thread.h"
#include "sluice/wq/blocking_region.h"
#include "sluice/wq/io_wq.h"
#include "sluice/wq/work.h"
#include "sluice/wq/wq_timer.h"

namespace test {

inline sluice::ref<sluice::io_wq> make_wq(const sluice::io_wq_options& options = {}) {
  auto made = sluice::io_wq::create(options);
  EXPECT_TRUE(made.has_value());
  return *made;
}

// A work whose run and release are the test's functions, and which notes what happened to it.
class probe : public sluice::work {
 public:
  explicit probe(std::function<void(sluice::work_context&)> body = {},
                 sluice::work_class cls = sluice::work_class::bound,
                 sluice::work_flags flags = sluice::work_flags::none)
      : work(operations, cls, flags), body_(std::move(body)) {}

  void on_release(std::function<void()> f) { release_ = std::move(f); }
  void on_cancelled_run(std::function<void()> f) { give_up_ = std::move(f); }
  void wait_released() { done_.acquire(); }
  [[nodiscard]] bool released_within(std::chrono::seconds most) { return done_.try_acquire_for(most); }
  // C3: a cancel that does not find a work comes after this.
  [[nodiscard]] bool run_is_over() const { return over_.load(std::memory_order_seq_cst); }
  int runs() const { return runs_; }
  int releases() const { return releases_; }
  bool was_cancelled() const { return cancelled_; }
  std::thread::id ran_on() const { return thread_; }

 private:
  static void do_run(work& w, sluice::work_context& ctx) noexcept {
    auto& self = static_cast<probe&>(w);
    ++self.runs_;
    self.thread_ = std::this_thread::get_id();
    if (ctx.cancelled()) {
      self.cancelled_ = true;
      if (self.give_up_) {
        self.give_up_();
      }
    } else if (self.body_) {
      self.body_(ctx);
    }
    self.over_.store(true, std::memory_order_seq_cst);
  }
  static void do_release(work& w) noexcept {
    auto& self = static_cast<probe&>(w);
    ++self.releases_;
    if (self.release_) {
      self.release_();
    }
    self.done_.release();
  }
  static constexpr sluice::work_ops operations{do_run, do_release};

  std::function<void(sluice::work_context&)> body_;
  std::function<void()> release_;
  std::function<void()> give_up_;
  std::counting_semaphore<> done_{0};
  int runs_ = 0;
  int releases_ = 0;
  bool cancelled_ = false;
  std::atomic<bool> over_{false};
  std::thread::id thread_;
};

// A work that deletes itself in its release, and counts that.
struct fleeting : sluice::work {
  explicit fleeting(std::atomic<int>& count) : work(operations), released(count) {}
  static void do_run(work&, sluice::work_context&) noexcept {}
  static void do_release(work& w) noexcept {
    auto& self = static_cast<fleeting&>(w);
    std::atomic<int>& count = self.released;
    delete &self;
    count.fetch_add(1, std::memory_order_seq_cst);
  }
  static constexpr sluice::work_ops operations{do_run, do_release};
  std::atomic<int>& released;
};

// Long enough for anything that does come; a test that waits as long has failed.
inline constexpr std::chrono::seconds generous{10};

// Returns whether the condition holds within the generous time.
template <class Condition>
bool comes_true(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + generous;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= end) {
      return false;
    }
    std::this_thread::yield();
  }
  return true;
}

// Runs the scene on a thread of its own. One that is not over in a minute would hang: the process ends, which fails the test.
inline void within_a_minute(std::function<void()> scene) {
  std::packaged_task<void()> task(std::move(scene));
  std::future<void> over = task.get_future();
  std::thread runner(std::move(task));
  if (over.wait_for(std::chrono::minutes(1)) != std::future_status::ready) {
    ADD_FAILURE() << "the scene did not end within a minute: a thread waits forever";
    std::abort();
  }
  runner.join();
}

// Time stands still, an hour from now: the sampler has its first turn, and never another. The manager sleeps meanwhile.
struct clock_without_sampler final : sluice::clock_seam {
  sluice::steady_time now() noexcept override { return at; }
  const sluice::steady_time at = std::chrono::steady_clock::now() + std::chrono::hours(1);
};

// Keeps one bound worker of the pool in a blocking region, from the constructor on until unblock().
class held_worker : public probe {
 public:
  explicit held_worker(sluice::io_wq& wq)
      : probe([this](sluice::work_context&) {
          const sluice::blocking_region region;
          started_.count_down();
          go_.wait();
        }) {
    EXPECT_TRUE(wq.submit(*this));
    started_.wait();
  }
  void unblock() { go_.count_down(); }

 private:
  std::latch started_{1};
  std::latch go_{1};
};

// Uses up the one turn that the sampler has by a clock_without_sampler: from here on a worker is started only by a thread that knows why.
inline void use_up_sampler(sluice::io_wq& wq) {
  // The manager fires at most 64 timers at a turn, so between the first and the last of these it has done all else.
  struct repeating : sluice::wq_timer {
    explicit repeating(sluice::io_wq& of) : wq_timer(of, fire) {}
    static void fire(sluice::wq_timer& timer) noexcept {
      auto& self = static_cast<repeating&>(timer);
      if (--self.left == 0) {
        self.over.count_down();
      } else {
        self.arm(sluice::steady_time{});
      }
    }
    int left = 200;
    std::latch over{1};
  };
  std::latch started(1);
  std::latch go(1);
  probe busy([&](sluice::work_context&) {
    started.count_down();
    go.wait();
  });
  EXPECT_TRUE(wq.submit(busy));
  started.wait();
  probe waits;  // work waits while another runs: that is what the sampler looks at
  EXPECT_TRUE(wq.submit(waits));
  repeating timer(wq);
  timer.arm(sluice::steady_time{});
  timer.over.wait();
  timer.disarm_and_wait();
  go.count_down();
  busy.wait_released();
  waits.wait_released();
}

// Creates as many threads as it is allowed to, then fails.
class failing_threads : public sluice::thread_seam {
 public:
  sluice::result<sluice::named_thread> start(std::string_view name, std::move_only_function<void()> body,
                                             std::size_t stack) override {
    if (allowed.fetch_sub(1, std::memory_order_seq_cst) <= 0) {
      return sluice::fail(EAGAIN);
    }
    return sluice::thread_seam::real().start(name, std::move(body), stack);
  }
  std::atomic<int> allowed{1 << 30};
};

}  // namespace test
