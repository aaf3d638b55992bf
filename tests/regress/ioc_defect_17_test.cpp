// Defect 17 of the original, in two halves: fork's copy of a priority returned success when the allocation had failed;
// and a queue's removal edited the lists of io_cqs without the queue's lock.
#include <cstdlib>

#include <gtest/gtest.h>

#include "support/io_helpers.h"
#include "support/own_new.h"

namespace {

std::atomic<bool> no_memory{false};

}  // namespace

void* test::block_of(std::size_t bytes) noexcept {
  return no_memory.load(std::memory_order_seq_cst) ? nullptr : std::malloc(bytes);
}

namespace {

using namespace sluice;

TEST(IocDefect17, APriorityThatCouldNotBeCopiedIsAnError) {
  task parent;
  ASSERT_TRUE(parent.set_task_ioprio({ioprio_class::idle, 0}, ioprio_privilege::none, task_side::current).has_value());
  task child;
  no_memory.store(true, std::memory_order_seq_cst);
  const result<void> copied = child.copy_io(parent, clone_io::separate);
  no_memory.store(false, std::memory_order_seq_cst);
  ASSERT_FALSE(copied.has_value());
  EXPECT_EQ(copied.error(), error_of(ENOMEM)) << "not a child that runs before its parent's idle class";
  EXPECT_FALSE(child.peek_io_context());
}

// Whenever an io_cq leaves, another thread asks the queue for one, which takes the queue's lock.
class probing_elevator final : public elevator {
 public:
  probing_elevator() : elevator(io_cq_use::wanted) {}

  request_queue* queue = nullptr;
  io_context* other = nullptr;  // not the one that ends
  int exits = 0;
  std::atomic<bool> got_in{false};
  std::thread prober;

  [[nodiscard]] std::string_view name() const noexcept override { return "probing"; }
  void exit_io_cq_locked(io_cq&) noexcept override {
    ++exits;
    std::atomic<bool> at_the_door{false};
    prober = std::thread([&] {
      at_the_door.store(true, std::memory_order_seq_cst);
      static_cast<void>(queue->lookup_io_cq(*other));
      got_in.store(true, std::memory_order_seq_cst);
    });
    // It cannot get in, however long this takes; without the lock it would get in soon.
    for (int turns = 0; turns < 2000 || !at_the_door.load(std::memory_order_seq_cst); ++turns) {
      std::this_thread::yield();
    }
    EXPECT_FALSE(got_in.load(std::memory_order_seq_cst)) << "the queue's lock is held while an io_cq leaves";
  }
  void insert_locked(request& waiting, io_cq*) noexcept override { fifo_.push(waiting); }
  void insert_again_locked(request& waiting, io_cq* pair) noexcept override { insert_locked(waiting, pair); }
  [[nodiscard]] elevator_pick next_locked(steady_time) noexcept override { return {.next = fifo_.pop()}; }
  [[nodiscard]] bool empty_locked() const noexcept override { return fifo_.empty(); }
  std::size_t extract_owner_locked(std::uint64_t owner, request_fifo& into) noexcept override {
    return fifo_.extract_owner(owner, into);
  }
  std::size_t extract_all_locked(request_fifo& into) noexcept override { return fifo_.extract_all(into); }

 private:
  request_fifo fifo_;
};

// Which side ends the io_cq.
enum class ended_by : std::uint8_t { queue, context };

void expect_the_queues_lock(ended_by side) {
  auto made = std::make_unique<probing_elevator>();
  probing_elevator& order = *made;
  test::io_bench bench({}, 1, std::move(made));
  task stranger;
  const ref<io_context> other = stranger.get_task_io_context(task_side::current).value();
  order.queue = bench.queue.get();
  order.other = other.get();
  ASSERT_TRUE(bench.queue->get_io_cq(*bench.context).has_value());
  if (side == ended_by::queue) {
    EXPECT_TRUE(bench.queue->stop().has_value());
  } else {
    bench.self.exit_io_context();
  }
  order.prober.join();
  EXPECT_EQ(order.exits, 1);
  EXPECT_TRUE(order.got_in.load(std::memory_order_seq_cst)) << "and let go of afterwards";
}

// O5.
TEST(IocDefect17, AQueuesRemovalHoldsItsLockWhileItsIoCqsLeave) {
  expect_the_queues_lock(ended_by::queue);
}

// O1: the same from the context's side.
TEST(IocDefect17, AContextsExitHoldsTheQueuesLockWhileItsIoCqLeaves) {
  expect_the_queues_lock(ended_by::context);
}

}  // namespace
