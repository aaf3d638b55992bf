// Goal: R1 and R6 on whole objects: a lookup with get_unless_zero against the last put yields a live object or nothing.
// Method: the deterministic scheduler; the object is really deleted, so a late touch is a report.
#include "sluice/ref/kref.h"

#include <memory>
#include <mutex>

#include <gtest/gtest.h>

#include "sluice/ref/ref.h"
#include "sluice/ref/spin_lock.h"

#include "race/harness/race.h"
#include "race/race_rcu.h"

namespace kref_test {
namespace {

constexpr race::options all_of_two{.schedules = 5'000'000, .how = race::mode::exhaustive};
constexpr race::options seeds{.schedules = 10'000};

struct counts {
  race::plain<int> ends{0};
};

struct shared_object : sluice::kref<shared_object, sluice::delete_release, race::sync> {
  explicit shared_object(std::shared_ptr<counts> where) : where_(std::move(where)) {}
  ~shared_object() {
    value.write(-1);
    where_->ends.update([](int& ends) { ++ends; });
  }
  race::plain<int> value{7};

 private:
  std::shared_ptr<counts> where_;
};

using object_ref = sluice::ref<shared_object>;

TEST(RaceKref, R1_HandOffToAThreadReleasesOnce) {
  const race::report found = race::explore(all_of_two, [](race::run& run) {
    auto where = std::make_shared<counts>();
    auto first = std::make_shared<object_ref>(sluice::make_ref<shared_object>(where));
    auto second = std::make_shared<object_ref>(*first);
    for (const auto& mine : {first, second}) {
      run.thread([mine] {
        race::check((*mine)->value.read() == 7, "alive while a count is held");
        object_ref copy = *mine;
        copy.reset();
        mine->reset();
      });
    }
    run.after([=] { race::check(where->ends.read() == 1, "released exactly once"); });
  });
  EXPECT_TRUE(found.ok()) << found;
  EXPECT_TRUE(found.complete) << found.schedules;
}

TEST(RaceKref, R5_SpinLockedTableAgainstTheLastPut) {
  struct table {
    sluice::basic_spin_lock<race::sync> lock;
    race::plain<shared_object*> slot{nullptr};
  };
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto where = std::make_shared<counts>();
    auto state = std::make_shared<table>();
    state->slot.write(sluice::make_ref<shared_object>(where).release());
    const auto put = [state](shared_object* object) {
      object->put_and_lock(state->lock, [&](shared_object&) noexcept { state->slot.write(nullptr); });
    };
    auto* owned = state->slot.read();
    run.thread([=] { put(owned); });
    for (int i = 0; i < 2; ++i) {
      run.thread([=] {
        shared_object* object = nullptr;
        {
          const std::unique_lock held(state->lock);
          object = state->slot.read();
          if (object != nullptr) {
            object->get();
          }
        }
        if (object != nullptr) {
          race::check(object->value.read() == 7, "a lookup yields a live object");
          put(object);
        }
      });
    }
    run.after([=] { race::check(where->ends.read() == 1, "released exactly once"); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// The same object, found without a lock: the memory waits for a grace period.
struct rcu_object : sluice::kref<rcu_object, sluice::rcu_release, race::sync>, sluice::rcu_obj_base<rcu_object> {
  rcu_object(std::shared_ptr<counts> where, race::rcu& dom) : where_(std::move(where)), dom_(dom) {}
  ~rcu_object() {
    value.write(-1);
    where_->ends.update([](int& ends) { ++ends; });
  }
  // rcu_release calls this; the domain is the schedule's.
  void retire() noexcept { sluice::rcu_obj_base<rcu_object>::retire({}, dom_); }
  race::plain<int> value{7};

 private:
  std::shared_ptr<counts> where_;
  race::rcu& dom_;
};

struct rcu_table {
  race::rcu dom;
  race::atomic<rcu_object*> slot{nullptr};
};

void lookup(rcu_table& state) {
  sluice::ref<rcu_object> found;
  {
    const std::scoped_lock section(static_cast<sluice::rcu_domain&>(state.dom));
    // acquire: pairs with the publication.
    found = sluice::ref<rcu_object>::try_get(state.slot.load(std::memory_order_acquire));
  }
  if (found) {
    race::check(found->value.read() == 7, "a lookup yields a live object");
  }
}

void remove(rcu_table& state) {
  rcu_object* object = state.slot.exchange(nullptr, std::memory_order_acq_rel);  // unlink first
  object->put();
  state.dom.reclaim();
}

TEST(RaceKref, R6_RcuLookupAgainstTheLastPut) {
  const race::report found = race::explore(seeds, [](race::run& run) {
    auto where = std::make_shared<counts>();
    auto state = std::make_shared<rcu_table>();
    state->slot.store(new rcu_object(where, state->dom), std::memory_order_release);
    run.thread([=] { lookup(*state); });
    run.thread([=] { remove(*state); });
    run.thread([=] {
      lookup(*state);
      state->dom.reclaim();
    });
    run.after([=] {
      state->dom.finish();
      race::check(where->ends.read() == 1, "deleted exactly once");
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

TEST(RaceKref, R6_RcuLookupAgainstTheLastPutAllSchedulesOfTwo) {
  const race::report found = race::explore(all_of_two, [](race::run& run) {
    auto where = std::make_shared<counts>();
    auto state = std::make_shared<rcu_table>();
    state->slot.store(new rcu_object(where, state->dom), std::memory_order_release);
    run.thread([=] { lookup(*state); });
    run.thread([=] { remove(*state); });
    run.after([=] {
      state->dom.finish();
      race::check(where->ends.read() == 1, "deleted exactly once");
    });
  });
  EXPECT_TRUE(found.ok()) << found;
  EXPECT_TRUE(found.complete) << found.schedules;
}

}  // namespace
}  // namespace kref_test
