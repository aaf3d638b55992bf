// Goal: racing creators of one io_cq get the same; a context's exit against the queue's stop ends every io_cq once, in
// either order, without deadlock; a request meets its own queue's and context's io_cq only; the last put of a context may
// happen under a queue's lock. Method: time-boxed rounds of new queues and contexts, real threads that start together.
#include "sluice/ioc/io_cq.h"

#include <barrier>

#include <gtest/gtest.h>

#include "sluice/device/memory_device.h"

#include "support/io_helpers.h"
#include "support/stress.h"

namespace io_cq_test {
namespace {

using namespace sluice;

struct counts {
  std::atomic<int> made{0}, exited{0}, destroyed{0};
};

struct counted_io_cq : io_cq {
  explicit counted_io_cq(counts& into) : figures(into) { figures.made.fetch_add(1, std::memory_order_seq_cst); }
  ~counted_io_cq() override {
    figures.destroyed.fetch_add(1, std::memory_order_seq_cst);
    alive = 0;
  }
  counts& figures;
  int alive = 1;
  int exits = 0;  // guarded by the queue's lock
};

class counting_elevator final : public elevator {
 public:
  explicit counting_elevator(counts& into) : elevator(io_cq_use::wanted), figures_(into) {}
  ~counting_elevator() override {
    if (io_context* left = dropped_under_lock.exchange(nullptr, std::memory_order_seq_cst)) {
      left->put();
    }
  }

  const request_queue* queue = nullptr;                  // whose it is
  const io_context* issuer = nullptr;                    // who issues all requests
  std::atomic<io_context*> dropped_under_lock{nullptr};  // a count that the next insert puts
  [[nodiscard]] std::string_view name() const noexcept override { return "counting"; }
  [[nodiscard]] std::unique_ptr<io_cq> make_io_cq() noexcept override {
    return std::make_unique<counted_io_cq>(figures_);
  }
  void exit_io_cq_locked(io_cq& pair) noexcept override {
    auto& mine = static_cast<counted_io_cq&>(pair);
    SLUICE_CHECK_OP(mine.alive, ==, 1);
    SLUICE_CHECK_OP(++mine.exits, ==, 1);
    figures_.exited.fetch_add(1, std::memory_order_seq_cst);
  }
  void insert_locked(request& waiting, io_cq* pair) noexcept override {
    SLUICE_CHECK_OP(static_cast<counted_io_cq*>(pair)->alive, ==, 1);
    SLUICE_CHECK_OP(static_cast<counted_io_cq*>(pair)->exits, ==, 0);
    SLUICE_CHECK(&pair->queue() == queue && &pair->context() == issuer, "another pair's");
    if (io_context* left = dropped_under_lock.exchange(nullptr, std::memory_order_seq_cst)) {
      left->put();
    }
    fifo_.push(waiting);
  }
  void insert_again_locked(request& waiting, io_cq* pair) noexcept override { insert_locked(waiting, pair); }
  [[nodiscard]] elevator_pick next_locked(steady_time) noexcept override { return {.next = fifo_.pop()}; }
  [[nodiscard]] bool empty_locked() const noexcept override { return fifo_.empty(); }
  std::size_t extract_owner_locked(std::uint64_t owner, request_fifo& into) noexcept override {
    return fifo_.extract_owner(owner, into);
  }
  std::size_t extract_all_locked(request_fifo& into) noexcept override { return fifo_.extract_all(into); }

 private:
  counts& figures_;
  request_fifo fifo_;
};

constexpr std::size_t queues = 2;

// One context and its queues, new in each round.
struct round {
  round(io_wq& wq, counts& figures) : context(self.get_task_io_context(task_side::current).value()) {
    for (auto& each : all) {
      each = request_queue::create(wq, {}, std::make_unique<counting_elevator>(figures)).value();
    }
  }
  void create(std::size_t who) {
    for (std::size_t i = 0; i < queues; ++i) {
      const result<io_cq*> made = all[i]->get_io_cq(*context);
      EXPECT_TRUE(made.has_value() || made.error() == error_of(ESHUTDOWN));
      got[who][i] = made.value_or(nullptr);
    }
  }
  void stop() {
    for (auto& each : all) {
      EXPECT_TRUE(each->stop().has_value());
    }
  }

  task self;
  ref<io_context> context;
  std::array<ref<request_queue>, queues> all;
  std::array<std::array<io_cq*, queues>, 2> got{};
};

// Runs each part in a thread of its own, once per turn, all together.
class crew {
 public:
  explicit crew(std::vector<std::function<void()>> parts) : together_(std::ssize(parts) + 1) {
    for (auto& part : parts) {
      threads_.emplace_back([this, act = std::move(part)] {
        for (together_.arrive_and_wait(); !over_.load(std::memory_order_seq_cst); together_.arrive_and_wait()) {
          act();
          together_.arrive_and_wait();
        }
      });
    }
  }
  ~crew() {
    over_.store(true, std::memory_order_seq_cst);
    together_.arrive_and_wait();
    for (std::thread& each : threads_) {
      each.join();
    }
  }
  crew(const crew&) = delete;
  crew& operator=(const crew&) = delete;
  void turn() {
    together_.arrive_and_wait();
    together_.arrive_and_wait();
  }

 private:
  std::barrier<> together_;
  std::atomic<bool> over_{false};
  std::vector<std::thread> threads_;
};

// O1 O4 O5: two create on all queues, one ends the context, one stops the queues.
TEST(StressIoCq, CreateExitAndStopAtOnce) {
  const ref<io_wq> wq = io_wq::create({.max_bound = 1, .max_unbound = 1, .name = "test"}).value();
  counts figures;
  std::unique_ptr<round> now;
  int rounds = 0;
  // In some rounds nothing ends while the creators run: then they must agree.
  const auto peaceful = [&] { return rounds % 4 == 0; };
  {
    crew all({[&] { now->create(0); }, [&] { now->create(1); },
              [&] {
                if (!peaceful()) {
                  now->self.exit_io_context();
                }
              },
              [&] {
                if (!peaceful()) {
                  now->stop();
                }
              }});
    for (const test::stress_time time; !time.over(); ++rounds) {
      now = std::make_unique<round>(*wq, figures);
      all.turn();
      if (peaceful()) {
        EXPECT_EQ(now->got[0], now->got[1]) << "racing creators get the same";
        now->stop();
      }
      now.reset();
      EXPECT_EQ(figures.destroyed.load(std::memory_order_seq_cst), figures.made.load(std::memory_order_seq_cst));
    }
  }
  std::cout << rounds << " rounds, " << figures.exited.load(std::memory_order_seq_cst) << " io_cqs ended\n";
  static_cast<void>(wq->stop(stop_policy::run_queued));
}

// A queue that lives for one round, at the place of the one of the round before, and a context that lives as long.
struct short_life {
  short_life(io_wq& wq, counts& figures, io_context& issuer, const ref<device>& target)
      : leaving(other.get_task_io_context(task_side::current).value()) {
    auto made = std::make_unique<counting_elevator>(figures);
    order = made.get();
    queue = request_queue::create(wq, {}, std::move(made)).value();
    order->queue = queue.get();
    order->issuer = &issuer;
    file = open_file::open(target, queue, access_mode::read_only).value();
    EXPECT_TRUE(queue->get_io_cq(*leaving).has_value());
    order->dropped_under_lock.store(leaving.release(), std::memory_order_seq_cst);
  }
  void submit(test::awaited_request& read, io_context& issuer) {
    const result<issued> how = file->submit(read, issuer);
    EXPECT_TRUE(how.has_value() || how.error() == error_of(ESHUTDOWN));
    if (how && *how == issued::queued) {
      EXPECT_EQ(read.wait(), 512);
    }
  }

  task other;
  ref<io_context> leaving;
  counting_elevator* order = nullptr;
  ref<request_queue> queue;
  ref<open_file> file;
};

// O6 O8: one context issues on queues that come and go at the same addresses, in two threads, while another context's
// task exits and its last put happens in an elevator, and at last the queue stops.
TEST(StressIoCq, QueuesComeAndGoUnderOneContext) {
  const ref<io_wq> wq = io_wq::create({.max_bound = 1, .max_unbound = 1, .name = "test"}).value();
  const ref<device> target = memory_device::create(1 << 16).value();
  counts figures;
  int rounds = 0;
  {
    task stayer;
    const ref<io_context> issuer = stayer.get_task_io_context(task_side::current).value();
    std::unique_ptr<short_life> now;
    std::array<test::awaited_request, 2> reads;
    for (test::awaited_request& each : reads) {
      test::fill(each, io_op::read, 0, 512);
    }
    crew all({[&] { now->submit(reads[0], *issuer); }, [&] { now->submit(reads[1], *issuer); },
              [&] { now->other.exit_io_context(); }, [&] { EXPECT_TRUE(now->queue->stop().has_value()); }});
    for (const test::stress_time time; !time.over(); ++rounds) {
      now = std::make_unique<short_life>(*wq, figures, *issuer, target);
      all.turn();
      EXPECT_EQ(issuer->nr_io_cqs(), 0U) << "a queue that has stopped has left it";
      now.reset();
      EXPECT_EQ(figures.destroyed.load(std::memory_order_seq_cst), figures.made.load(std::memory_order_seq_cst));
    }
  }
  std::cout << rounds << " rounds\n";
  static_cast<void>(wq->stop(stop_policy::run_queued));
}

}  // namespace
}  // namespace io_cq_test
