// Goal: the domain has the shape of C++26 [saferecl.rcu] and keeps each promise of rcu.h that needs no race: who runs a
// deleter, when, in which order, and what dies with which message. Method: real threads, hand-overs by atomics that
// wait.
#include "sluice/rcu/rcu.h"

#include <pthread.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"

namespace sluice {
namespace rcu_test {
namespace {

// ---- The synopsis: [rcu.syn], [saferecl.rcu.base], [saferecl.rcu.domain] ----

struct stateless {
  template <class T>
  void operator()(T* /*object*/) const noexcept {}
};
struct stateful {
  stateful() = default;
  stateful(const stateful& other) = default;
  stateful& operator=(const stateful& other) = default;
  ~stateful() {}  // NOLINT(modernize-use-equals-default): not trivially copyable, on purpose
  template <class T>
  void operator()(T* /*object*/) const noexcept {}
};
struct plain_object : rcu_obj_base<plain_object> {
  int value = 0;
};
struct custom_object : rcu_obj_base<custom_object, stateless> {};
struct stateful_object : rcu_obj_base<stateful_object, stateful> {};

static_assert(std::is_same_v<decltype(&rcu_domain::lock), void (rcu_domain::*)() noexcept>);
static_assert(std::is_same_v<decltype(&rcu_domain::try_lock), bool (rcu_domain::*)() noexcept>);
static_assert(std::is_same_v<decltype(&rcu_domain::unlock), void (rcu_domain::*)() noexcept>);
static_assert(!std::is_copy_constructible_v<rcu_domain> && !std::is_copy_assignable_v<rcu_domain>);
static_assert(!std::is_default_constructible_v<rcu_domain>);
static_assert(std::is_same_v<decltype(&rcu_default_domain), rcu_domain& (*)() noexcept>);
static_assert(std::is_same_v<decltype(&rcu_synchronize), void (*)(rcu_domain&) noexcept>);
static_assert(std::is_same_v<decltype(&rcu_barrier), void (*)(rcu_domain&) noexcept>);
static_assert(noexcept(rcu_synchronize()) && noexcept(rcu_barrier()));
static_assert(std::is_same_v<decltype(&rcu_retire<int>), void (*)(int*, std::default_delete<int>, rcu_domain&)>);
static_assert(!noexcept(rcu_retire(static_cast<int*>(nullptr))));
static_assert(
    std::is_same_v<decltype(&plain_object::retire),
                   void (rcu_obj_base<plain_object>::*)(std::default_delete<plain_object>, rcu_domain&) noexcept>);
static_assert(noexcept(std::declval<custom_object&>().retire()));
static_assert(std::is_trivially_copyable_v<plain_object> && std::is_trivially_copyable_v<custom_object>);
static_assert(!std::is_trivially_copyable_v<stateful_object>);
// Construction, assignment and destruction are for derived classes only.
static_assert(!std::is_default_constructible_v<rcu_obj_base<plain_object>>);
static_assert(!std::is_copy_constructible_v<rcu_obj_base<plain_object>>);
static_assert(!std::is_copy_assignable_v<rcu_obj_base<plain_object>>);
static_assert(!std::is_destructible_v<rcu_obj_base<plain_object>>);
static_assert(std::is_default_constructible_v<plain_object> && std::is_copy_constructible_v<plain_object>);
static_assert(sizeof(rcu_obj_base<custom_object, stateless>) == 3 * sizeof(void*), "an empty deleter costs nothing");

class incomplete;
using incomplete_base [[maybe_unused]] = rcu_obj_base<incomplete>;  // T may be incomplete here

// ---- Behaviour ----

struct noted : rcu_obj_base<noted> {
  explicit noted(std::atomic<int>& ends) : ends_(ends) {}
  ~noted() { ends_.fetch_add(1, std::memory_order_seq_cst); }
  std::atomic<int>& ends_;
};

TEST(Rcu, TheDefaultDomainIsOne) {
  EXPECT_EQ(&rcu_default_domain(), &rcu_default_domain());
}

TEST(Rcu, SectionsNest) {
  rcu_domain& dom = rcu_default_domain();
  const std::scoped_lock outer(dom);
  {
    const std::scoped_lock inner(dom);
    EXPECT_TRUE(dom.try_lock());
    dom.unlock();
  }
}

TEST(Rcu, R7_BarrierWaitsForTheDeleters) {
  std::atomic<int> ends{0};
  for (int i = 0; i < 100; ++i) {
    (new noted(ends))->retire();
  }
  rcu_barrier();
  EXPECT_EQ(ends.load(std::memory_order_seq_cst), 100);
}

TEST(Rcu, R7_ADeleterWaitsForTheSectionThatWasOpen) {
  std::atomic<int> ends{0};
  std::atomic<int> step{0};
  std::thread reader([&step, &ends] {
    {
      const std::scoped_lock section(rcu_default_domain());
      step.store(1, std::memory_order_seq_cst);
      step.notify_all();
      step.wait(1, std::memory_order_seq_cst);
      EXPECT_EQ(ends.load(std::memory_order_seq_cst), 0);
    }
    step.store(3, std::memory_order_seq_cst);
  });
  step.wait(0, std::memory_order_seq_cst);
  (new noted(ends))->retire();
  // Also an inner section's end must not count as the end.
  EXPECT_EQ(ends.load(std::memory_order_seq_cst), 0);
  step.store(2, std::memory_order_seq_cst);
  step.notify_all();
  rcu_barrier();
  EXPECT_EQ(ends.load(std::memory_order_seq_cst), 1);
  reader.join();
}

TEST(Rcu, R7_SynchronizeWaitsForTheSectionThatWasOpen) {
  std::atomic<int> step{0};
  int plain = 0;  // not atomic: the grace period alone orders it (ThreadSanitizer checks)
  std::thread reader([&step, &plain] {
    const std::scoped_lock section(rcu_default_domain());
    step.store(1, std::memory_order_seq_cst);
    step.notify_all();
    for (int turn = 0; turn < 1000; ++turn) {
      std::this_thread::yield();  // gives a synchronize that does not wait the time to be wrong
    }
    plain = 42;
  });
  step.wait(0, std::memory_order_seq_cst);
  rcu_synchronize();
  EXPECT_EQ(plain, 42);
  reader.join();
}

TEST(Rcu, DeletersRunOnOneNamedThreadInTheOrderOfTheirRetires) {
  struct seen {
    std::vector<int> order;
    std::thread::id where;
    std::array<char, 16> name{};
    bool signals_blocked = false;
  };
  struct ordered : rcu_obj_base<ordered, std::default_delete<ordered>> {
    ordered(seen& notes, int number) : notes_(notes), number_(number) {}
    ~ordered() {
      notes_.order.push_back(number_);
      notes_.where = std::this_thread::get_id();
      ::pthread_getname_np(::pthread_self(), notes_.name.data(), notes_.name.size());
      sigset_t mask;
      ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
      notes_.signals_blocked = ::sigismember(&mask, SIGTERM) == 1 && ::sigismember(&mask, SIGUSR1) == 1;
    }
    seen& notes_;
    int number_;
  };
  seen notes;
  {
    const std::scoped_lock section(rcu_default_domain());  // nothing may run before all are there
    for (int i = 0; i < 50; ++i) {
      (new ordered(notes, i))->retire();
    }
  }
  rcu_barrier();
  ASSERT_EQ(notes.order.size(), 50U);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(notes.order[static_cast<std::size_t>(i)], i);
  }
  EXPECT_NE(notes.where, std::this_thread::get_id());
  EXPECT_STREQ(notes.name.data(), "sluice-rcu");
  EXPECT_TRUE(notes.signals_blocked);
}

TEST(Rcu, RetireNeverRunsTheDeleterInTheCallerAndMayBeCalledUnderALock) {
  std::mutex lock;
  int ended = 0;
  const std::thread::id caller = std::this_thread::get_id();
  bool elsewhere = false;
  for (int i = 0; i < 20; ++i) {
    const std::scoped_lock held(lock);  // the deleter wants it too
    rcu_retire(new int(i), [&](int* value) noexcept {
      const std::scoped_lock inner(lock);
      elsewhere = std::this_thread::get_id() != caller;
      ++ended;
      delete value;
    });
  }
  rcu_barrier();
  const std::scoped_lock held(lock);
  EXPECT_EQ(ended, 20);
  EXPECT_TRUE(elsewhere);
}

TEST(Rcu, ADeleterMayRetireMoreAndOpenSections) {
  std::atomic<int> ends{0};
  rcu_retire(new int(1), [&ends](int* value) noexcept {
    delete value;
    const std::scoped_lock section(rcu_default_domain());
    (new noted(ends))->retire();
  });
  rcu_barrier();  // the outer deleter has run, so its own retire happens before the next line
  rcu_barrier();
  EXPECT_EQ(ends.load(std::memory_order_seq_cst), 1);
}

TEST(Rcu, TheDeleterIsMovedInAndUsed) {
  struct custom {
    std::atomic<int>* calls = nullptr;
    void operator()(int* value) const noexcept {
      calls->fetch_add(1, std::memory_order_seq_cst);
      delete value;
    }
  };
  std::atomic<int> calls{0};
  rcu_retire(new int(3), custom{&calls});
  rcu_barrier();
  EXPECT_EQ(calls.load(std::memory_order_seq_cst), 1);
}

TEST(Rcu, ACopyOfARetiredObjectIsNotRetired) {
  struct kept : rcu_obj_base<kept, stateless> {
    int value = 5;
  };
  kept original;
  original.retire();
  rcu_barrier();
  kept copy(original);
  copy.retire();
  rcu_barrier();
  EXPECT_EQ(copy.value, 5);
}

TEST(Rcu, R6_RcuReleaseRetiresAtTheLastPut) {
  struct entry : kref<entry, rcu_release>, rcu_obj_base<entry> {
    explicit entry(std::atomic<int>& ends) : ends_(ends) {}
    ~entry() { ends_.fetch_add(1, std::memory_order_seq_cst); }
    std::atomic<int>& ends_;
  };
  std::atomic<int> ends{0};
  ref<entry> held = make_ref<entry>(ends);
  entry* seen = held.get();
  {
    const std::scoped_lock section(rcu_default_domain());
    held.reset();
    EXPECT_FALSE(ref<entry>::try_get(seen));  // still memory, already dead
    EXPECT_EQ(ends.load(std::memory_order_seq_cst), 0);
  }
  rcu_barrier();
  EXPECT_EQ(ends.load(std::memory_order_seq_cst), 1);
}

TEST(Rcu, StatisticsCountWhatIsPendingAndHowOldItIs) {
  rcu_barrier();
  const rcu_statistics before = rcu_get_statistics();
  EXPECT_EQ(before.pending(), 0U);
  EXPECT_EQ(before.oldest_age.count(), 0);
  std::atomic<int> ends{0};
  {
    const std::scoped_lock section(rcu_default_domain());
    (new noted(ends))->retire();
    (new noted(ends))->retire();
    const rcu_statistics during = rcu_get_statistics();
    EXPECT_EQ(during.pending(), 2U);
    EXPECT_GT(during.oldest_age.count(), 0);
  }
  rcu_barrier();
  const rcu_statistics after = rcu_get_statistics();
  EXPECT_EQ(after.retired, before.retired + 2);
  EXPECT_EQ(after.deleted, before.deleted + 2);
  EXPECT_GT(after.grace_periods, before.grace_periods);
}

TEST(Rcu, AThreadThatReadAndEndedIsForgotten) {
  std::atomic<int> ends{0};
  for (int i = 0; i < 20; ++i) {
    std::thread([] { const std::scoped_lock section(rcu_default_domain()); }).join();
    (new noted(ends))->retire();
    rcu_barrier();
  }
  EXPECT_EQ(ends.load(std::memory_order_seq_cst), 20);
}

// ---- Ends of the process, each in a process of its own ----

class RcuDeathTest : public testing::Test {
 protected:
  RcuDeathTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

class no_threads final : public thread_seam {
 public:
  result<named_thread> start(std::string_view /*name*/, std::move_only_function<void()> /*body*/,
                             std::size_t /*stack*/) override {
    return fail(EAGAIN);
  }
};

TEST_F(RcuDeathTest, WithoutAThreadTheBarrierRunsTheDeletersAndTheExitTheRest) {
  const auto program = [] {
    static no_threads none;
    static std::atomic<int> ends{0};
    std::atexit([] {  // after RCU's own handler: registered before its first use
      ::_exit(ends.load(std::memory_order_seq_cst) == 7 ? 0 : 3);
    });
    rcu_use_threads(none);
    for (int i = 0; i < 3; ++i) {
      (new noted(ends))->retire();
    }
    if (ends.load(std::memory_order_seq_cst) != 0) {
      ::_exit(4);
    }
    rcu_barrier();
    if (ends.load(std::memory_order_seq_cst) != 3) {
      ::_exit(5);
    }
    for (int i = 0; i < 4; ++i) {
      (new noted(ends))->retire();
    }
    std::exit(1);
  };
  EXPECT_EXIT(program(), testing::ExitedWithCode(0), "");
}

TEST_F(RcuDeathTest, R7_TenThousandPendingRetiresAllRunAtExit) {
  const auto program = [] {
    static std::atomic<int> ends{0};
    std::atexit([] { ::_exit(ends.load(std::memory_order_seq_cst) == 10000 ? 0 : 3); });
    {
      const std::scoped_lock section(rcu_default_domain());
      for (int i = 0; i < 10000; ++i) {
        (new noted(ends))->retire();
      }
      if (ends.load(std::memory_order_seq_cst) != 0) {
        ::_exit(4);
      }
    }
    std::exit(1);
  };
  EXPECT_EXIT(program(), testing::ExitedWithCode(0), "");
}

TEST_F(RcuDeathTest, R7_ARetireInAStaticDestructorAfterTheJoinStillRuns) {
  const auto program = [] {
    static std::atomic<int> ends{0};
    std::atexit([] { ::_exit(ends.load(std::memory_order_seq_cst) == 2 ? 0 : 3); });
    std::atexit([] { (new noted(ends))->retire(); });  // runs after the first join, starts the thread once more
    (new noted(ends))->retire();
    std::exit(1);
  };
  EXPECT_EXIT(program(), testing::ExitedWithCode(0), "");
}

TEST_F(RcuDeathTest, RetireTwiceNamesTheObject) {
  const auto misuse = [] {
    const std::scoped_lock section(rcu_default_domain());
    auto* object = new plain_object;
    object->retire();
    object->retire();
  };
  EXPECT_DEATH(misuse(), "plain_object at 0x[0-9a-f]+ was retired twice");
}

TEST_F(RcuDeathTest, AThreadThatEndsInsideASectionDies) {
  EXPECT_DEATH(std::thread([] { rcu_default_domain().lock(); }).join(), "a thread ended inside an RCU read section");
}

TEST_F(RcuDeathTest, AProcessThatEndsInsideASectionDies) {
  const auto misuse = [] {
    rcu_default_domain().lock();
    std::exit(0);
  };
  EXPECT_DEATH(misuse(), "the process ends inside an RCU read section");
}

TEST_F(RcuDeathTest, UnlockWithoutLockDies) {
  EXPECT_DEATH(rcu_default_domain().unlock(), "not open");
}

TEST_F(RcuDeathTest, WaitingInsideASectionDies) {
  const auto inside = [](void (*wait)(rcu_domain&) noexcept) {
    const std::scoped_lock section(rcu_default_domain());
    wait(rcu_default_domain());
  };
  EXPECT_DEATH(inside(&rcu_synchronize), "inside a read section");
  EXPECT_DEATH(inside(&rcu_barrier), "inside a read section");
}

TEST_F(RcuDeathTest, BarrierInADeleterDies) {
  const auto misuse = [] {
    rcu_retire(new int(1), [](int* value) noexcept {
      delete value;
      rcu_barrier();
    });
    rcu_barrier();
  };
  EXPECT_DEATH(misuse(), "rcu_barrier\\(\\) in a deleter");
}

}  // namespace
}  // namespace rcu_test
}  // namespace sluice
