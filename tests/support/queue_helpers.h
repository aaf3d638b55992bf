// queue_helpers: requests of several quanta, and an elevator that keeps pairs, for tests of the request queue.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <semaphore>
#include <vector>

#include "sluice/ioc/request_queue.h"
#include "sluice/wq/wq_timer.h"

#include "support/io_helpers.h"

namespace test {

// A request that is done inside submit, or passes a gate in each run, and moves bytes if it has any.
struct probe_request : sluice::request {
  static sluice::attempt try_run(sluice::request& base) noexcept {
    auto& mine = static_cast<probe_request&>(base);
    mine.tries.fetch_add(1, std::memory_order_seq_cst);
    if (mine.in_try) {
      mine.in_try();
    }
    if (mine.inline_ok) {
      mine.set_bytes_left(0);
      mine.set_result(1);
      return sluice::attempt::done;
    }
    return sluice::attempt::would_block;
  }
  static void run(sluice::request& base, std::uint64_t budget, sluice::cancel_probe probe) noexcept {
    auto& mine = static_cast<probe_request&>(base);
    mine.runs.fetch_add(1, std::memory_order_seq_cst);
    if (mine.gate != nullptr) {
      mine.gate->pass();
    }
    if (mine.in_run) {
      mine.in_run(probe);
    }
    if (probe.cancelled() && mine.obeys) {
      mine.set_result(-ECANCELED);
      return;
    }
    mine.set_bytes_left(mine.bytes_left() - std::min(budget, mine.bytes_left()));
    mine.set_result(2);
  }
  static void complete(sluice::request& base) noexcept {
    auto& mine = static_cast<probe_request&>(base);
    mine.completions.fetch_add(1, std::memory_order_seq_cst);
    if (mine.then) {
      mine.then(mine);
    }
    mine.sleeper.wake();
  }
  static constexpr sluice::request_ops ops{.try_run = try_run, .run = run, .complete = complete};

  explicit probe_request(barrier_gate* hold = nullptr, std::uint64_t owner = 0) : gate(hold) {
    set_request_ops(ops);
    set_owner(owner);
  }
  void has_bytes(std::uint64_t bytes) noexcept { set_bytes_left(bytes); }
  std::int64_t wait() {
    sleeper.park();
    return result();
  }

  barrier_gate* gate;
  bool inline_ok = false;
  bool obeys = false;  // a run that is told to stop does
  std::function<void()> in_try;
  std::function<void(sluice::cancel_probe)> in_run;
  std::function<void(probe_request&)> then;
  std::atomic<int> tries{0};
  std::atomic<int> runs{0};
  std::atomic<int> completions{0};
  sluice::parker sleeper;
};

// Time that the test moves; the manager looks when a timer that is first wakes it.
struct moved_clock final : sluice::clock_seam {
  sluice::steady_time now() noexcept override {
    return sluice::steady_time(sluice::steady_time::duration(at.load(std::memory_order_seq_cst)));
  }
  void move(std::chrono::nanoseconds by) noexcept { at.fetch_add(by.count(), std::memory_order_seq_cst); }

  std::atomic<std::int64_t> at{std::chrono::steady_clock::now().time_since_epoch().count()};
};

// Twice: the first may be fired by a turn of the manager that has read the time before the test moved it.
inline void make_manager_look(sluice::io_wq& wq) {
  struct poke : sluice::wq_timer {
    explicit poke(sluice::io_wq& on)
        : wq_timer(on, [](wq_timer& timer) noexcept { static_cast<poke&>(timer).over.release(); }) {}
    std::binary_semaphore over{0};
  };
  for (int i = 0; i < 2; ++i) {
    poke one(wq);
    one.arm({});
    one.over.acquire();
    one.disarm_and_wait();
  }
}

// What an elevator was told. Guarded by the queue's lock; read when the queue is idle.
struct elevator_log {
  int asked = 0, picked = 0, served = 0, inserted = 0, inserted_again = 0, exits = 0;
  std::uint64_t bytes = 0;
  std::vector<sluice::io_cq*> pairs;  // of the inserts
};

// A FIFO that wants pairs, checks the protocol that elevator.h states, and may hold everybody back until a time.
class watching_elevator final : public sluice::elevator {
 public:
  explicit watching_elevator(elevator_log& into, sluice::io_cq_use use = sluice::io_cq_use::wanted)
      : elevator(use), log_(into) {}
  ~watching_elevator() override { SLUICE_CHECK(under_way_ == 0 && fifo_.empty(), "an elevator ends idle"); }

  std::atomic<bool> refuses{false};                 // may_go_locked says no
  std::atomic<sluice::steady_time> not_before{{}};  // next_locked gives nobody before it

  [[nodiscard]] std::string_view name() const noexcept override { return "watching"; }
  void exit_io_cq_locked(sluice::io_cq&) noexcept override { ++log_.exits; }
  [[nodiscard]] bool may_go_locked(sluice::request& coming, sluice::io_cq* pair,
                                   sluice::steady_time) noexcept override {
    SLUICE_CHECK(pair != nullptr && coming.pair() == pair, "a wanted pair is there");
    ++log_.asked;
    under_way_ += refuses.load(std::memory_order_seq_cst) ? 0 : 1;
    return !refuses.load(std::memory_order_seq_cst);
  }
  void insert_locked(sluice::request& waiting, sluice::io_cq* pair) noexcept override {
    ++log_.inserted;
    put(waiting, pair);
  }
  void insert_again_locked(sluice::request& waiting, sluice::io_cq* pair) noexcept override {
    ++log_.inserted_again;
    put(waiting, pair);
  }
  [[nodiscard]] sluice::elevator_pick next_locked(sluice::steady_time now) noexcept override {
    const sluice::steady_time allowed = not_before.load(std::memory_order_seq_cst);
    if (!fifo_.empty() && use() == sluice::io_cq_use::wanted && now < allowed) {
      return {.ask_again = allowed};
    }
    sluice::request* next = fifo_.pop();
    log_.picked += next != nullptr ? 1 : 0;
    under_way_ += next != nullptr && use() == sluice::io_cq_use::wanted ? 1 : 0;
    return {.next = next};
  }
  void served_locked(sluice::request&, sluice::io_cq* pair, std::uint64_t bytes,
                     sluice::steady_time) noexcept override {
    SLUICE_CHECK(pair != nullptr && under_way_ > 0, "what was let go is served, once");
    --under_way_;
    ++log_.served;
    log_.bytes += bytes;
  }
  [[nodiscard]] bool goes_on_locked(sluice::request&, sluice::io_cq* pair, std::uint64_t bytes,
                                    sluice::steady_time) noexcept override {
    SLUICE_CHECK(pair != nullptr && under_way_ > 0, "what was let go goes on");
    log_.bytes += bytes;
    return true;
  }
  [[nodiscard]] bool empty_locked() const noexcept override { return fifo_.empty(); }
  std::size_t extract_owner_locked(std::uint64_t owner, sluice::request_fifo& into) noexcept override {
    return fifo_.extract_owner(owner, into);
  }
  std::size_t extract_all_locked(sluice::request_fifo& into) noexcept override { return fifo_.extract_all(into); }

 private:
  void put(sluice::request& waiting, sluice::io_cq* pair) noexcept {
    SLUICE_CHECK((pair != nullptr) == (use() == sluice::io_cq_use::wanted), "a pair if it wants one");
    fifo_.push(waiting);
  }

  elevator_log& log_;
  int under_way_ = 0;
  sluice::request_fifo fifo_;
};

}  // namespace test
