// io_cq: made once per pair, ended by whichever side ends first, told to the elevator once. One thread; races in
// tests/race.
#include "sluice/ioc/io_cq.h"

#include <array>
#include <vector>

#include <gtest/gtest.h>

#include "ioc/queue_ids.h"
#include "support/io_helpers.h"

namespace io_cq_test {
namespace {

using namespace sluice;

struct counts {
  std::atomic<int> made{0};
  std::atomic<int> exited{0};
  std::atomic<int> destroyed{0};
};

struct counted_io_cq : io_cq {
  explicit counted_io_cq(counts& into) : figures(into) { figures.made.fetch_add(1, std::memory_order_seq_cst); }
  ~counted_io_cq() override { figures.destroyed.fetch_add(1, std::memory_order_seq_cst); }
  counts& figures;
};

// A FIFO that wants an io_cq per context.
class counting_elevator final : public elevator {
 public:
  explicit counting_elevator(counts& into) : elevator(io_cq_use::wanted), figures_(into) {}
  ref<io_context> dropped_under_lock;  // put when the next request comes

  [[nodiscard]] std::string_view name() const noexcept override { return "counting"; }
  [[nodiscard]] std::unique_ptr<io_cq> make_io_cq() noexcept override {
    return std::make_unique<counted_io_cq>(figures_);
  }
  void exit_io_cq_locked(io_cq& pair) noexcept override {
    static_cast<counted_io_cq&>(pair).figures.exited.fetch_add(1, std::memory_order_seq_cst);
  }
  [[nodiscard]] bool may_go_locked(request&, io_cq* pair, steady_time) noexcept override {
    SLUICE_CHECK(pair != nullptr);
    dropped_under_lock.reset();
    return true;
  }
  void insert_locked(request& waiting, io_cq*) noexcept override { fifo_.push(waiting); }
  void insert_again_locked(request& waiting, io_cq*) noexcept override { fifo_.push(waiting); }
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

struct pair_bench : test::io_bench {
  explicit pair_bench(counts& into) : io_bench({}, 2, std::make_unique<counting_elevator>(into)) {}
};

// O4: one io_cq per pair.
TEST(IoCq, IsMadeOncePerPair) {
  counts figures;
  pair_bench bench(figures);
  EXPECT_EQ(bench.queue->lookup_io_cq(*bench.context), nullptr);
  io_cq* first = bench.queue->get_io_cq(*bench.context).value();
  EXPECT_EQ(bench.queue->get_io_cq(*bench.context).value(), first);
  EXPECT_EQ(bench.queue->lookup_io_cq(*bench.context), first);
  EXPECT_EQ(&first->context(), bench.context.get());
  EXPECT_EQ(&first->queue(), bench.queue.get());
  EXPECT_EQ(bench.context->nr_io_cqs(), 1U);
  task other;
  const ref<io_context> stranger = other.get_task_io_context(task_side::current).value();
  EXPECT_NE(bench.queue->get_io_cq(*stranger).value(), first);
  EXPECT_EQ(figures.made.load(std::memory_order_seq_cst), 2);
}

// O1: the context's side: exits when active_ref becomes 0, is destroyed with the memory.
TEST(IoCq, EndsWithItsContext) {
  counts figures;
  pair_bench bench(figures);
  ASSERT_TRUE(bench.queue->get_io_cq(*bench.context).has_value());
  bench.self.exit_io_context();
  EXPECT_EQ(figures.exited.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(figures.destroyed.load(std::memory_order_seq_cst), 0) << "we hold the memory";
  EXPECT_EQ(bench.queue->lookup_io_cq(*bench.context), nullptr);
  EXPECT_EQ(bench.queue->get_io_cq(*bench.context).error(), error_of(ESHUTDOWN)) << "a context that has exited";
  bench.context.reset();
  EXPECT_EQ(figures.destroyed.load(std::memory_order_seq_cst), figures.made.load(std::memory_order_seq_cst));
  EXPECT_TRUE(bench.queue->stop().has_value());
  EXPECT_EQ(figures.exited.load(std::memory_order_seq_cst), 1);
}

// O5: the queue's side.
TEST(IoCq, EndsWithItsQueue) {
  counts figures;
  {
    pair_bench bench(figures);
    ASSERT_TRUE(bench.queue->get_io_cq(*bench.context).has_value());
    EXPECT_TRUE(bench.queue->stop().has_value());
    EXPECT_EQ(figures.exited.load(std::memory_order_seq_cst), 1);
    EXPECT_EQ(figures.destroyed.load(std::memory_order_seq_cst), 1);
    EXPECT_EQ(bench.context->nr_io_cqs(), 0U);
    EXPECT_EQ(bench.queue->get_io_cq(*bench.context).error(), error_of(ESHUTDOWN));
  }
  EXPECT_EQ(figures.exited.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(figures.destroyed.load(std::memory_order_seq_cst), figures.made.load(std::memory_order_seq_cst));
}

// The ids of queues from `next` on, as if the counter had come round. It goes on where it was at the end.
class ids_again {
 public:
  explicit ids_again(std::uint64_t next) noexcept
      : before_(detail::next_queue_id.exchange(next, std::memory_order_seq_cst)) {}
  ~ids_again() { detail::next_queue_id.store(before_, std::memory_order_seq_cst); }
  ids_again(const ids_again&) = delete;
  ids_again& operator=(const ids_again&) = delete;

 private:
  std::uint64_t before_;
};

ref<request_queue> make_queue(io_wq& wq, counts& figures) {
  return request_queue::create(wq, {}, std::make_unique<counting_elevator>(figures)).value();
}

ref<request_queue> make_queue(io_wq& wq, counts& figures, std::uint64_t id) {
  const ids_again source(id);
  return make_queue(wq, figures);
}

void expect_pair_of(io_cq* pair, const request_queue& queue, const io_context& context) {
  ASSERT_NE(pair, nullptr);
  EXPECT_EQ(&pair->queue(), &queue);
  EXPECT_EQ(&pair->context(), &context);
}

// More contexts than a queue has hints. Whichever of them the hints name when a walk over all begins, the others are
// looked up in their trees.
struct many_contexts {
  static constexpr std::size_t count = 40;  // a queue has 16 hints
  many_contexts() {
    for (std::size_t i = 0; i < count; ++i) {
      contexts.push_back(tasks[i].get_task_io_context(task_side::current).value());
    }
  }
  std::array<task, count> tasks;
  std::vector<ref<io_context>> contexts;
};

// O6: the hint and the tree are asked for this queue, never for one that had its place before.
TEST(IoCq, LookupIsNeverMisledByAnotherQueue) {
  counts figures;
  pair_bench bench(figures);
  io_cq* ours = bench.queue->get_io_cq(*bench.context).value();
  for (int i = 0; i < 50; ++i) {
    const ref<request_queue> other = make_queue(*bench.wq, figures);
    EXPECT_EQ(other->lookup_io_cq(*bench.context), nullptr) << "a new queue, perhaps at an old one's address";
    io_cq* its = other->get_io_cq(*bench.context).value();
    EXPECT_EQ(&its->queue(), other.get());
    EXPECT_EQ(bench.queue->lookup_io_cq(*bench.context), ours);
    EXPECT_TRUE(other->stop().has_value());
  }
  EXPECT_EQ(figures.exited.load(std::memory_order_seq_cst), 50);
}

// O6 where an id comes twice, both queues alive: each finds its own, by its hints and in the trees, and ends its own.
TEST(IoCq, TwoQueuesOfOneIdAreNeverTakenForEachOther) {
  counts first_figures, second_figures;
  pair_bench bench(first_figures);
  request_queue& first = *bench.queue;
  many_contexts all;
  for (const ref<io_context>& each : all.contexts) {
    ASSERT_TRUE(first.get_io_cq(*each).has_value());
  }
  const ref<request_queue> other = make_queue(*bench.wq, second_figures, first.id());
  request_queue& second = *other;
  ASSERT_EQ(second.id(), first.id()) << "what this test is about";
  for (const ref<io_context>& each : all.contexts) {
    EXPECT_EQ(second.lookup_io_cq(*each), nullptr) << "it has none yet";
    expect_pair_of(second.get_io_cq(*each).value(), second, *each);
    EXPECT_EQ(each->nr_io_cqs(), 2U);
  }
  for (const ref<io_context>& each : all.contexts) {
    for (request_queue* queue : {&first, &second}) {
      io_cq* found = queue->lookup_io_cq(*each);  // mostly in the tree
      expect_pair_of(found, *queue, *each);
      EXPECT_EQ(queue->lookup_io_cq(*each), found) << "by the hint";
      EXPECT_EQ(queue->get_io_cq(*each).value(), found);
    }
  }
  // A context ends its pair on each of them once.
  all.tasks[0].exit_io_context();
  EXPECT_EQ(first_figures.exited.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(second_figures.exited.load(std::memory_order_seq_cst), 1);
  // The first queue ends its own and leaves the other's where they are.
  EXPECT_TRUE(first.stop().has_value());
  EXPECT_EQ(first_figures.destroyed.load(std::memory_order_seq_cst), static_cast<int>(many_contexts::count) - 1);
  EXPECT_EQ(second_figures.exited.load(std::memory_order_seq_cst), 1);
  for (std::size_t i = 1; i < many_contexts::count; ++i) {
    EXPECT_EQ(first.lookup_io_cq(*all.contexts[i]), nullptr);
    expect_pair_of(second.lookup_io_cq(*all.contexts[i]), second, *all.contexts[i]);
  }
  EXPECT_TRUE(second.stop().has_value());
}

// O6 where an id comes again after its queue has ended. In half of the rounds that queue is still there, in the
// others the new one may lie at its address.
TEST(IoCq, AQueueWithTheIdOfOneThatEndedFindsNothingOfIt) {
  counts figures;
  pair_bench bench(figures);
  many_contexts all;
  ref<request_queue> ended;
  std::uint64_t id = 0;
  for (int round = 0; round < 20; ++round) {
    if (round % 2 == 0) {
      ended.reset();
    }
    const ref<request_queue> fresh = id == 0 ? make_queue(*bench.wq, figures) : make_queue(*bench.wq, figures, id);
    ASSERT_TRUE(id == 0 || fresh->id() == id) << "what this test is about";
    id = fresh->id();
    for (const ref<io_context>& each : all.contexts) {
      EXPECT_EQ(fresh->lookup_io_cq(*each), nullptr) << "nothing of the one that ended";
      io_cq* made = fresh->get_io_cq(*each).value();
      expect_pair_of(made, *fresh, *each);
      EXPECT_EQ(fresh->lookup_io_cq(*each), made);
      EXPECT_EQ(each->nr_io_cqs(), 1U);
      if (ended) {
        EXPECT_EQ(ended->lookup_io_cq(*each), nullptr) << "nor the other way round";
      }
    }
    EXPECT_TRUE(fresh->stop().has_value());
    ended = fresh;
  }
  EXPECT_EQ(figures.destroyed.load(std::memory_order_seq_cst), figures.made.load(std::memory_order_seq_cst));
}

TEST(IoCq, RequestsThroughAnElevatorThatWantsPairsStillGo) {
  counts figures;
  auto [device, gated] = test::make_gated_device();
  pair_bench bench(figures);
  const ref<open_file> file = open_file::open(device, bench.queue, access_mode::read_write).value();
  test::awaited_request slow;
  test::fill(slow, io_op::write, 0, 512);
  ASSERT_EQ(file->submit(slow, *bench.context).value(), issued::queued);
  EXPECT_EQ(slow.wait(), 512);
  gated->inline_bytes.store(4096, std::memory_order_seq_cst);
  EXPECT_EQ(file->submit(slow, *bench.context).value(), issued::completed) << "it may be tried inside submit as well";
  EXPECT_EQ(figures.made.load(std::memory_order_seq_cst), 1);
}

// O8: the last put of a context, with the lock of a queue held that it had an io_cq on.
TEST(IoCq, TheLastPutUnderTheQueuesLockDoesNotDeadlock) {
  counts figures;
  auto made = std::make_unique<counting_elevator>(figures);
  counting_elevator& order = *made;
  test::io_bench bench({}, 1, std::move(made));
  {
    task other;
    order.dropped_under_lock = other.get_task_io_context(task_side::current).value();
    ASSERT_TRUE(bench.queue->get_io_cq(*order.dropped_under_lock).has_value());
  }
  EXPECT_EQ(figures.exited.load(std::memory_order_seq_cst), 1);
  EXPECT_EQ(figures.destroyed.load(std::memory_order_seq_cst), 0);
  auto [device, gated] = test::make_gated_device();
  const ref<open_file> file = open_file::open(device, bench.queue, access_mode::read_only).value();
  test::awaited_request read;
  test::fill(read, io_op::read, 0, 512);
  ASSERT_EQ(file->submit(read, *bench.context).value(), issued::queued);
  EXPECT_EQ(read.wait(), 512);
  EXPECT_EQ(figures.destroyed.load(std::memory_order_seq_cst), 1);
  ASSERT_TRUE(bench.queue->drain().has_value());
}

TEST(IoCqDeathTest, AQueueWithPairsMustBeStoppedBeforeItGoes) {
  counts figures;
  pair_bench bench(figures);
  ASSERT_TRUE(bench.queue->get_io_cq(*bench.context).has_value());
  EXPECT_DEATH(bench.queue->put(), "stop\\(\\) a queue");
}

}  // namespace
}  // namespace io_cq_test
