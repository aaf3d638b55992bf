// Goal: what is written against a rcu_domain keeps R7 under every interleaving, and the model that the race tests use
// finds the three classic mistakes. Method: the deterministic domain of race_rcu.h; objects are really deleted.
#include "sluice/rcu/rcu.h"

#include <memory>
#include <mutex>

#include <gtest/gtest.h>

#include "race/harness/race.h"
#include "race/race_rcu.h"

namespace rcu_test {
namespace {

struct node : sluice::rcu_obj_base<node> {
  explicit node(int initial) : value(initial) {}
  ~node() { value.write(-1); }
  race::plain<int> value;
};

struct place {
  race::rcu dom;
  race::atomic<node*> current{nullptr};

  explicit place(int value) { current.store(new node(value), std::memory_order_release); }
  ~place() { delete current.load(std::memory_order_relaxed); }

  [[nodiscard]] sluice::rcu_domain& domain() noexcept { return dom; }
  void read() {
    const std::scoped_lock section(domain());
    const node* seen = current.load(std::memory_order_acquire);
    race::check(seen->value.read() >= 0, "a reader never sees a dead node");
  }
};

constexpr race::options all_of_two{.schedules = 5'000'000, .how = race::mode::exhaustive};
constexpr race::options seeds{.schedules = 10'000};

TEST(RaceRcu, R7_RetireAgainstAReaderAllSchedules) {
  const race::report found = race::explore(all_of_two, [](race::run& run) {
    auto state = std::make_shared<place>(1);
    run.thread([=] { state->read(); });
    run.thread([=] {
      state->current.exchange(new node(2), std::memory_order_acq_rel)->retire({}, state->domain());
      state->dom.reclaim();
    });
    run.after([=] { state->dom.finish(); });
  });
  EXPECT_TRUE(found.ok()) << found;
  EXPECT_TRUE(found.complete) << found.schedules;
}

TEST(RaceRcu, R7_TwoReadersAWriterAndTheWeakModel) {
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<place>(1);
    for (int i = 0; i < 2; ++i) {
      run.thread([=] {
        state->read();
        state->dom.reclaim();
        state->read();
      });
    }
    run.thread([=] {
      for (int value = 2; value < 4; ++value) {
        state->current.exchange(new node(value), std::memory_order_acq_rel)->retire({}, state->domain());
        state->dom.reclaim();
      }
    });
    run.after([=] { state->dom.finish(); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RaceRcu, R7_SynchronizeThenDelete) {
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<place>(1);
    for (int i = 0; i < 2; ++i) {
      run.thread([=] { state->read(); });
    }
    run.thread([=] {
      node* old = state->current.exchange(new node(2), std::memory_order_acq_rel);
      sluice::rcu_synchronize(state->domain());
      delete old;
    });
    run.after([=] { state->dom.finish(); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RaceRcu, R7_BarrierWaitsForTheDeleter) {
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<place>(1);
    auto ran = std::make_shared<race::plain<bool>>(false);
    run.thread([=] { state->read(); });
    run.thread([=] {
      node* old = state->current.exchange(new node(2), std::memory_order_acq_rel);
      const auto deleter = [ran](node* object) noexcept {
        ran->write(true);
        delete object;
      };
      sluice::rcu_retire(old, deleter, state->domain());
      sluice::rcu_barrier(state->domain());
      race::check(ran->read(), "the deleter has returned");
    });
    run.after([=] { state->dom.finish(); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// The model must be able to fail: each mistake is found. Here "deleted" is a mark in memory that stays, so that
// AddressSanitizer does not find it first.

struct mark_dead {
  template <class Node>
  void operator()(Node* object) const noexcept {
    object->value.write(-1);
  }
};

struct kept_node : sluice::rcu_obj_base<kept_node, mark_dead> {
  race::plain<int> value{1};
};

struct kept_place {
  race::rcu dom;
  kept_node first;
  kept_node second;
  race::atomic<kept_node*> current{&first};

  [[nodiscard]] sluice::rcu_domain& domain() noexcept { return dom; }
  void read() {
    const std::scoped_lock section(domain());
    race::check(current.load(std::memory_order_acquire)->value.read() >= 0, "dead");
  }
  kept_node* replace() { return current.exchange(&second, std::memory_order_acq_rel); }
};

TEST(RaceRcu, TheModelAcceptsTheRightOrder) {
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<kept_place>();
    run.thread([=] { state->read(); });
    run.thread([=] {
      state->replace()->retire({}, state->domain());
      state->dom.reclaim();
    });
    run.after([=] { state->dom.finish(); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RaceRcu, TheModelFindsADeleteWithoutAGracePeriod) {
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<kept_place>();
    run.thread([=] { state->read(); });
    run.thread([=] { mark_dead{}(state->replace()); });
  });
  EXPECT_FALSE(found.ok());
}

TEST(RaceRcu, TheModelFindsARetireBeforeTheUnlink) {
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<kept_place>();
    run.thread([=] { state->read(); });
    run.thread([=] {
      state->current.load(std::memory_order_acquire)->retire({}, state->domain());
      state->dom.reclaim();
      static_cast<void>(state->replace());
    });
    run.after([=] { state->dom.finish(); });
  });
  EXPECT_FALSE(found.ok());
}

TEST(RaceRcu, TheModelFindsAReaderThatKeepsThePointer) {
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto state = std::make_shared<kept_place>();
    run.thread([=] {
      const kept_node* kept = nullptr;
      {
        const std::scoped_lock section(state->domain());
        kept = state->current.load(std::memory_order_acquire);
      }
      race::check(kept->value.read() >= 0, "dead");
    });
    run.thread([=] {
      state->replace()->retire({}, state->domain());
      state->dom.reclaim();
    });
    run.after([=] { state->dom.finish(); });
  });
  EXPECT_FALSE(found.ok());
}

}  // namespace
}  // namespace rcu_test
