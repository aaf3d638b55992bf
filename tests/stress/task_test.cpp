// Goal: however many threads create, share, copy, use and leave contexts at once, a task has one, an active count
// implies a refcount, nr_tasks counts the tasks that point at it, and every context exits once and is freed once.
// Method: time-boxed rounds over a few tasks, real threads, with a context that counts itself.
#include "sluice/ioc/task.h"

#include <barrier>

#include <gtest/gtest.h>

#include "support/stress.h"

namespace task_test {
namespace {

using namespace sluice;

std::atomic<std::int64_t> made{0}, exited{0}, freed{0};

struct counted_context : io_context_counts<counted_context> {
  static result<counted_context*> create() noexcept {
    made.fetch_add(1, std::memory_order_relaxed);
    return new counted_context;
  }
  ~counted_context() {
    SLUICE_CHECK_OP(exits, ==, 1);  // a plain int: ThreadSanitizer sees an exit that the end is not ordered after
    freed.fetch_add(1, std::memory_order_relaxed);
  }
  void exit_io_cqs() noexcept {
    SLUICE_CHECK_OP(use_count(), >, 0U);  // O2
    SLUICE_CHECK_OP(active_ref(), ==, 0);
    SLUICE_CHECK_OP(++exits, ==, 1);
    exited.fetch_add(1, std::memory_order_relaxed);
  }
  void set_ioprio(ioprio value) noexcept { priority.store(value.raw(), std::memory_order_relaxed); }
  [[nodiscard]] ioprio get_ioprio() const noexcept {
    return ioprio::from_raw(priority.load(std::memory_order_relaxed));
  }

  int exits = 0;
  std::atomic<std::uint16_t> priority{0};
};

using counted_task = basic_task<counted_context, os_sync>;
using context_ref = ref<counted_context>;

constexpr std::size_t crowd = 4;
constexpr ioprio chosen{ioprio_class::be, 3};

// One round: a parent, and a child per thread.
struct round {
  counted_task parent;
  std::array<counted_task, crowd> children;
  std::array<context_ref, crowd> got;
};

// Every thread of the crowd does its part of each round, all together; then `judge` looks.
template <class Prepare, class Part, class Judge>
void rounds_of(Prepare prepare, Part part, Judge judge) {
  std::barrier<> together(static_cast<std::ptrdiff_t>(crowd) + 1);
  std::unique_ptr<round> now;
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (std::size_t who = 0; who < crowd; ++who) {
    threads.emplace_back([&, who] {
      for (together.arrive_and_wait(); !over.load(std::memory_order_seq_cst); together.arrive_and_wait()) {
        part(*now, who);
        together.arrive_and_wait();
      }
    });
  }
  int rounds = 0;
  for (const test::stress_time time; !time.over(); ++rounds) {
    now = std::make_unique<round>();
    prepare(*now);
    together.arrive_and_wait();
    together.arrive_and_wait();
    judge(*now);
    now.reset();
    EXPECT_EQ(freed.load(std::memory_order_relaxed), made.load(std::memory_order_relaxed));
    EXPECT_EQ(exited.load(std::memory_order_relaxed), made.load(std::memory_order_relaxed));
  }
  over.store(true, std::memory_order_seq_cst);
  together.arrive_and_wait();
  for (std::thread& each : threads) {
    each.join();
  }
  std::cout << rounds << " rounds\n";
}

// O7: all install at once, one of them for the task itself while it exits.
TEST(StressTask, InstallRaceOfAnExitingTask) {
  rounds_of([](round&) {},
            [](round& now, std::size_t who) {
              if (who == 0) {
                now.parent.set_exiting();
              }
              result<context_ref> found =
                  now.parent.get_task_io_context(who == 0 ? task_side::current : task_side::remote);
              EXPECT_TRUE(found.has_value() || (who != 0 && found.error() == error_of(EBUSY)));
              now.got[who] = found ? std::move(*found) : nullptr;
            },
            [](round& now) {
              ASSERT_TRUE(now.got[0]);
              for (const context_ref& each : now.got) {
                EXPECT_TRUE(!each || each == now.got[0]) << "exactly one context";
              }
              EXPECT_EQ(now.got[0]->nr_tasks(), 1);
              EXPECT_EQ(now.got[0]->active_ref(), 1);
            });
}

// O1 O2 O3 O9: children share or copy while the parent leaves and others take and give up the right to issue.
TEST(StressTask, CopiesExitsAndActiveCounts) {
  rounds_of(
      [](round& now) {
        EXPECT_TRUE(now.parent.set_task_ioprio(chosen, ioprio_privilege::none, task_side::current).has_value());
        now.got[0] = now.parent.peek_io_context();
      },
      [](round& now, std::size_t who) {
        counted_task& mine = now.children[who];
        if (who == 0) {
          now.parent.exit_io_context();
        } else if (who == 1) {
          EXPECT_TRUE(mine.copy_io(now.parent, clone_io::separate).has_value());
        } else if (mine.copy_io(now.parent, clone_io::share)) {
          if (const context_ref shared = mine.peek_io_context()) {
            shared->get_active();  // legal: our task points at it
            EXPECT_GT(shared->use_count(), 0U);
            shared->put_active();
          }
          if (who == 3) {
            mine.exit_io_context();
          }
        }
      },
      [](round& now) {
        const context_ref copy = now.children[1].peek_io_context();
        EXPECT_TRUE(!copy || (copy != now.got[0] && copy->get_ioprio() == chosen));
        const context_ref shared = now.children[2].peek_io_context();
        EXPECT_TRUE(!shared || shared == now.got[0]);
        EXPECT_EQ(now.got[0]->nr_tasks(), shared ? 1 : 0);
        EXPECT_EQ(now.got[0]->active_ref(), shared ? 1 : 0);
      });
}

}  // namespace
}  // namespace task_test
