// Goal: a context is one block of at most 96 bytes, an io_cq one block of its own size and nothing beside it, and finding
// one allocates nothing; without memory each call says ENOMEM and leaves all as it was. Method: this program's operator
// new counts, or refuses; one thread.
#include <cstdlib>
#include <new>

#include <gtest/gtest.h>

#include "support/io_helpers.h"
#include "support/own_new.h"

namespace {

std::uint64_t blocks = 0;
std::uint64_t bytes_in_all = 0;
std::atomic<bool> no_memory{false};
std::atomic<bool> counting{false};  // by the test's thread alone: the pool's threads do nothing then

}  // namespace

void* test::block_of(std::size_t bytes) noexcept {
  if (counting.load(std::memory_order_relaxed)) {
    ++blocks;
    bytes_in_all += bytes;
  }
  return no_memory.load(std::memory_order_relaxed) ? nullptr : std::malloc(bytes);
}

namespace {

using namespace sluice;

// A FIFO that wants an io_cq per context, and keeps 16 bytes in each.
class pairing_elevator final : public elevator {
 public:
  struct pair : io_cq {
    std::array<std::uint64_t, 2> kept{};
  };

  pairing_elevator() : elevator(io_cq_use::wanted) {}
  [[nodiscard]] std::string_view name() const noexcept override { return "pairing"; }
  [[nodiscard]] std::unique_ptr<io_cq> make_io_cq() noexcept override {
    return std::unique_ptr<io_cq>(new (std::nothrow) pair);
  }
  void insert_locked(request& waiting, io_cq*) noexcept override { fifo_.push(waiting); }
  void insert_again_locked(request& waiting, io_cq* mine) noexcept override { insert_locked(waiting, mine); }
  [[nodiscard]] elevator_pick next_locked(steady_time) noexcept override { return {.next = fifo_.pop()}; }
  [[nodiscard]] bool empty_locked() const noexcept override { return fifo_.empty(); }
  std::size_t extract_owner_locked(std::uint64_t owner, request_fifo& into) noexcept override {
    return fifo_.extract_owner(owner, into);
  }
  std::size_t extract_all_locked(request_fifo& into) noexcept override { return fifo_.extract_all(into); }

 private:
  request_fifo fifo_;
};

struct pairing_bench : test::io_bench {
  pairing_bench() : io_bench({}, 1, std::make_unique<pairing_elevator>()) {}
};

struct taken {
  std::uint64_t blocks = 0;
  std::uint64_t bytes = 0;
};

template <class Act>
taken allocated_by(Act act) {
  blocks = 0;
  bytes_in_all = 0;
  counting.store(true, std::memory_order_seq_cst);
  act();
  counting.store(false, std::memory_order_seq_cst);
  return {.blocks = blocks, .bytes = bytes_in_all};
}

// While it lives there is no memory.
struct starved {
  starved() { no_memory.store(true, std::memory_order_seq_cst); }
  ~starved() { no_memory.store(false, std::memory_order_seq_cst); }
  starved(const starved&) = delete;
  starved& operator=(const starved&) = delete;
};

TEST(IoCqAllocation, AContextIsOneBlock) {
#if SLUICE_REF_TRACKER
  GTEST_SKIP() << "the reference tracker allocates a record per count";
#endif
  task self;
  const taken first = allocated_by([&] { EXPECT_TRUE(self.create_task_io_context(task_side::current).has_value()); });
  EXPECT_EQ(first.blocks, 1U);
  EXPECT_LE(first.bytes, 96U);
  const taken later = allocated_by([&] {
    for (int i = 0; i < 100; ++i) {
      const ref<io_context> again = self.get_task_io_context(task_side::current).value();
      task child;
      EXPECT_TRUE(child.copy_io(self, clone_io::share).has_value());
    }
  });
  EXPECT_EQ(later.blocks, 0U) << "finding and sharing it takes none";
}

TEST(IoCqAllocation, AnIoCqIsOneBlockAndFindingItNone) {
#if SLUICE_REF_TRACKER
  GTEST_SKIP() << "the reference tracker allocates a record per count";
#endif
  pairing_bench bench;
  const taken first = allocated_by([&] { EXPECT_TRUE(bench.queue->get_io_cq(*bench.context).has_value()); });
  EXPECT_EQ(first.blocks, 1U) << "neither side keeps anything beside it";
  EXPECT_EQ(first.bytes, sizeof(pairing_elevator::pair));
  EXPECT_LE(first.bytes, sizeof(io_cq) + 16U) << "and what the elevator adds";
  const taken later = allocated_by([&] {
    for (int i = 0; i < 100; ++i) {
      EXPECT_TRUE(bench.queue->get_io_cq(*bench.context).has_value());
      EXPECT_NE(bench.queue->lookup_io_cq(*bench.context), nullptr);
    }
  });
  EXPECT_EQ(later.blocks, 0U);
}

TEST(IoCqAllocation, WithoutMemoryATaskSaysSoAndKeepsWhatItHas) {
  task parent;
  const ioprio chosen{ioprio_class::be, 1};
  ASSERT_TRUE(parent.set_task_ioprio(chosen, ioprio_privilege::none, task_side::current).has_value());
  task child;
  {
    const starved now;
    EXPECT_EQ(child.create_task_io_context(task_side::current).error(), error_of(ENOMEM));
    EXPECT_EQ(child.get_task_io_context(task_side::remote).error(), error_of(ENOMEM));
    EXPECT_EQ(child.set_task_ioprio(chosen, ioprio_privilege::none, task_side::current).error(), error_of(ENOMEM));
    EXPECT_EQ(child.copy_io(parent, clone_io::separate).error(), error_of(ENOMEM));
    EXPECT_EQ(parent.get_task_ioprio(), chosen) << "what is there needs no memory";
  }
  EXPECT_FALSE(child.peek_io_context());
  EXPECT_TRUE(child.copy_io(parent, clone_io::separate).has_value()) << "and it can be tried again";
  EXPECT_EQ(child.get_task_ioprio(), chosen);
}

TEST(IoCqAllocation, WithoutMemoryThereIsNoIoCqAndTheRequestStaysTheCallers) {
  pairing_bench bench;
  auto [device, gated] = test::make_gated_device();
  gated->inline_bytes.store(4096, std::memory_order_seq_cst);
  const ref<open_file> file = open_file::open(device, bench.queue, access_mode::read_only).value();
  test::awaited_request read;
  test::fill(read, io_op::read, 0, 512);
  {
    const starved now;
    EXPECT_EQ(bench.queue->get_io_cq(*bench.context).error(), error_of(ENOMEM));
    EXPECT_EQ(file->submit(read, *bench.context).error(), error_of(ENOMEM));
  }
  EXPECT_EQ(bench.context->nr_io_cqs(), 0U);
  EXPECT_EQ(read.calls.load(std::memory_order_seq_cst), 0);
  EXPECT_EQ(file->submit(read, *bench.context).value(), issued::completed) << "and it can be tried again";
  EXPECT_EQ(bench.context->nr_io_cqs(), 1U);
}

}  // namespace
