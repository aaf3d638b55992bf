// Goal: no internal lock is held in a callback: it may call whatever the pool offers, and the pool goes on meanwhile (W2).
// Method: each kind of callback makes every call, twice nested. A scene that is not over in a minute fails its test: a call
// that waits for a lock that its own thread holds would wait forever.
#include <array>
#include <chrono>
#include <functional>
#include <future>
#include <latch>
#include <memory>
#include <stop_token>

#include <gtest/gtest.h>

#include "sluice/wq/blocking_region.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"
#include "sluice/wq/wq_timer.h"

#include "support/wq_probe.h"

namespace sluice {
namespace io_wq_callbacks_test {
namespace {

using namespace std::chrono_literals;
using test::fleeting;
using test::held_worker;
using test::make_wq;
using test::probe;
using test::within_a_minute;

constexpr std::uint64_t nobodys = 99;
constexpr std::uint64_t fleeting_owner = 98;

struct quiet_timer : wq_timer {
  explicit quiet_timer(io_wq& wq) : wq_timer(wq, [](wq_timer&) noexcept {}) {}
};

// Makes every call of the pool's interface, and says how often.
class caller {
 public:
  explicit caller(const io_wq_options& options = {.max_bound = 2})
      : wq(make_wq(options)), domain(*hash_domain::create()), timer_(std::make_unique<quiet_timer>(*wq)) {}
  ~caller() {
    timer_->disarm_and_wait();
    timer_.reset();
  }
  caller(const caller&) = delete;
  caller& operator=(const caller&) = delete;

  void call_everything() {
    submit_some();
    wq->cancel_owner(fleeting_owner);
    wq->cancel_owner(nobodys);
    const auto none = wq->cancel_if([this](const work_view&) {
      static_cast<void>(wq->stats());
      return false;
    });
    EXPECT_TRUE(none);
    static_cast<void>(wq->stats());
    wq->set_max_workers(work_class::unbound, 1 + static_cast<unsigned>(calls.load(std::memory_order_seq_cst)) % 2);
    timer_->arm(std::chrono::steady_clock::now() + 1h);
    static_cast<void>(timer_->disarm());
    calls.fetch_add(1, std::memory_order_seq_cst);
  }

  // Stops, and checks that every accepted work is over and at least `least` callbacks made their calls.
  void expect_over(int least) {
    EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
    EXPECT_GE(calls.load(std::memory_order_seq_cst), least);
    EXPECT_EQ(released_.load(std::memory_order_seq_cst), accepted_.load(std::memory_order_seq_cst));
    EXPECT_EQ(wq->stats().bound.accepted, wq->stats().bound.released);
    EXPECT_EQ(domain->live_keys(), 0U);
  }

  const ref<io_wq> wq;
  const ref<hash_domain> domain;
  std::atomic<int> calls{0};

 private:
  // Refused once the pool stops: then the work is still the caller's.
  void submit_one(fleeting& one) {
    if (wq->submit(one)) {
      accepted_.fetch_add(1, std::memory_order_seq_cst);
    } else {
      delete &one;
    }
  }
  void submit_some() {
    submit_one(*new fleeting(released_));
    auto* const keyed = new fleeting(released_);
    keyed->set_key(*domain, 1);
    submit_one(*keyed);
    auto* const tracked = new fleeting(released_);
    tracked->set_owner(fleeting_owner);
    tracked->set_deadline(std::chrono::steady_clock::now() + 1h);
    if (const auto handle = wq->submit_tracked(*tracked)) {
      accepted_.fetch_add(1, std::memory_order_seq_cst);
      static_cast<void>(wq->cancel(*handle));
    } else {
      delete tracked;
    }
  }

  std::atomic<int> accepted_{0};
  std::atomic<int> released_{0};
  std::unique_ptr<quiet_timer> timer_;
};

// W2: in a run, and in the release after it; with and without a key, and as members of a chain.
TEST(IoWqCallbacks, RunAndReleaseMayCallThePool) {
  within_a_minute([] {
    caller at;
    std::vector<std::unique_ptr<probe>> all;
    for (int i = 0; i < 6; ++i) {
      all.push_back(std::make_unique<probe>([&](work_context&) { at.call_everything(); }));
      all.back()->on_release([&] { at.call_everything(); });
    }
    all[1]->set_key(*at.domain, 1);
    all[2]->set_deadline(std::chrono::steady_clock::now() + 1h);
    all[4]->set_key(*at.domain, 2);
    all[5]->set_class(work_class::unbound);
    const std::array<work*, 3> chain{all[3].get(), all[4].get(), all[5].get()};
    ASSERT_TRUE(at.wq->submit(*all[0]));
    ASSERT_TRUE(at.wq->submit(*all[1]));
    ASSERT_TRUE(at.wq->submit_tracked(*all[2]));
    ASSERT_TRUE(at.wq->submit_chain(chain));
    for (const auto& one : all) {
      one->wait_released();
    }
    at.expect_over(12);
  });
}

// W2: a run cancels every work there is, its own too.
TEST(IoWqCallbacks, ARunMayCancelAll) {
  within_a_minute([] {
    caller at;
    probe again([&](work_context& ctx) {
      at.wq->cancel_all();
      EXPECT_TRUE(ctx.cancelled());
      at.call_everything();
    });
    ASSERT_TRUE(at.wq->submit(again));
    again.wait_released();
    at.expect_over(1);
  });
}

// How works that wait are taken back.
enum class cancel_kind : std::uint8_t { by_handle, by_owner, by_predicate, all, by_deadline, by_stop };

constexpr std::array all_kinds{cancel_kind::by_handle, cancel_kind::by_owner,    cancel_kind::by_predicate,
                               cancel_kind::all,       cancel_kind::by_deadline, cancel_kind::by_stop};

// W2: in a cancelled run and in the release after it, however the work was cancelled.
TEST(IoWqCallbacks, CancelledRunAndItsReleaseMayCallThePool) {
  for (const cancel_kind how : all_kinds) {
    within_a_minute([how] {
      caller at({.max_bound = 1, .max_unbound = 2});
      std::latch started(1);
      std::latch go(1);
      probe blocker([&](work_context&) {
        started.count_down();
        const blocking_region region;
        go.wait();
      });
      blocker.set_flags(work_flags::no_cancel);
      ASSERT_TRUE(at.wq->submit(blocker));
      started.wait();
      constexpr std::uint64_t victims = 7;
      std::vector<std::unique_ptr<probe>> all;
      for (int i = 0; i < 4; ++i) {
        all.push_back(std::make_unique<probe>());
        all.back()->on_cancelled_run([&] { at.call_everything(); });
        all.back()->on_release([&] { at.call_everything(); });
        all.back()->set_owner(victims);
      }
      all[1]->set_key(*at.domain, 3);
      all[2]->then(all[3].get());
      std::vector<work_handle> handles;
      for (int i = 0; i < 3; ++i) {
        if (how == cancel_kind::by_deadline) {
          all[static_cast<std::size_t>(i)]->set_deadline(std::chrono::steady_clock::now() - 1s);
        }
        const auto handle = at.wq->submit_tracked(*all[static_cast<std::size_t>(i)]);
        ASSERT_TRUE(handle);
        handles.push_back(*handle);
      }
      std::jthread stopper;
      switch (how) {
        case cancel_kind::by_handle:
          for (const work_handle handle : handles) {
            static_cast<void>(at.wq->cancel(handle));
          }
          break;
        case cancel_kind::by_owner:
          at.wq->cancel_owner(victims);
          break;
        case cancel_kind::by_predicate:
          ASSERT_TRUE(at.wq->cancel_if([&](const work_view& v) {
            at.call_everything();
            return v.owner == victims;
          }));
          break;
        case cancel_kind::all:
          at.wq->cancel_all();
          break;
        case cancel_kind::by_deadline:
          break;
        case cancel_kind::by_stop:
          stopper = std::jthread([&] { at.wq->stop(stop_policy::cancel_queued); });
          break;
      }
      for (const auto& one : all) {
        one->wait_released();
        EXPECT_TRUE(one->was_cancelled());
      }
      go.count_down();
      blocker.wait_released();
      at.expect_over(8);
    });
  }
}

// W2: in a stop callback, and in the cancel that calls it.
TEST(IoWqCallbacks, StopCallbackMayCallThePool) {
  for (const cancel_kind how : all_kinds) {
    within_a_minute([how] {
      caller at;
      constexpr std::uint64_t victim = 7;
      std::latch ready(1);
      std::latch heard(1);
      probe listens([&](work_context& ctx) {
        const std::stop_callback hears(ctx.stop_token(), [&] {
          at.call_everything();
          heard.count_down();
        });
        ready.count_down();
        const blocking_region region;
        heard.wait();
      });
      listens.set_owner(victim);
      if (how == cancel_kind::by_deadline) {
        listens.set_deadline(std::chrono::steady_clock::now() + 50ms);
      }
      const auto handle = at.wq->submit_tracked(listens);
      ASSERT_TRUE(handle);
      if (how != cancel_kind::by_deadline) {
        ready.wait();
      }
      switch (how) {
        case cancel_kind::by_handle:
          EXPECT_EQ(at.wq->cancel(*handle), cancel_result::running);
          break;
        case cancel_kind::by_owner:
          EXPECT_EQ(at.wq->cancel_owner(victim).running, 1U);
          break;
        case cancel_kind::by_predicate:
          EXPECT_EQ(at.wq->cancel_if([](const work_view& v) { return v.owner == victim; })->running, 1U);
          break;
        case cancel_kind::all:
          EXPECT_EQ(at.wq->cancel_all().running, 1U);
          break;
        case cancel_kind::by_deadline:
          break;
        case cancel_kind::by_stop:
          EXPECT_TRUE(at.wq->stop(stop_policy::cancel_queued).finished);
          break;
      }
      listens.wait_released();
      at.expect_over(listens.was_cancelled() ? 0 : 1);  // a slow machine may meet the deadline before the run
    });
  }
}

// W2: in the predicate of cancel_if, which is asked about works that wait and works that run.
TEST(IoWqCallbacks, PredicateMayCallThePool) {
  within_a_minute([] {
    caller at({.max_bound = 1});
    held_worker blocker(*at.wq);
    probe pending;
    ASSERT_TRUE(at.wq->submit(pending));
    const auto counts = at.wq->cancel_if([&](const work_view& v) {
      at.call_everything();
      return v.address == &pending;
    });
    ASSERT_TRUE(counts);
    EXPECT_EQ(counts->cancelled, 1U);
    blocker.unblock();
    blocker.wait_released();
    at.expect_over(2);
  });
}

// W2: in a timer function, which arms and disarms other timers and itself as well.
TEST(IoWqCallbacks, TimerFunctionMayCallThePool) {
  within_a_minute([] {
    caller at;
    struct calling_timer : wq_timer {
      explicit calling_timer(caller& of) : wq_timer(*of.wq, fire), at(of) {}
      static void fire(wq_timer& timer) noexcept {
        auto& self = static_cast<calling_timer&>(timer);
        self.at.call_everything();
        if (self.fired.fetch_add(1, std::memory_order_seq_cst) < 10) {
          self.arm(std::chrono::steady_clock::now());
        } else {
          self.done.count_down();
        }
      }
      caller& at;
      std::atomic<int> fired{0};
      std::latch done{1};
    } timer(at);
    timer.arm(std::chrono::steady_clock::now());
    timer.done.wait();
    timer.disarm_and_wait();
    at.expect_over(11);
  });
}

}  // namespace
}  // namespace io_wq_callbacks_test
}  // namespace sluice
