// The bug: the first object that a process retired needed memory for the reclaimer. Retiring cannot fail, so a server whose
// first file was closed when it had no memory left ended with std::bad_alloc.
// Method: this program's operator new fails while the test says so.
#include <atomic>
#include <cstdlib>

#include <gtest/gtest.h>

#include "sluice/rcu/rcu.h"

#include "support/own_new.h"

namespace {

std::atomic<bool> no_memory{false};

}  // namespace

void* test::block_of(std::size_t bytes) noexcept {
  return no_memory.load(std::memory_order_seq_cst) ? nullptr : std::malloc(bytes);
}

namespace {

struct counts_its_end {
  void operator()(struct retired* one) const noexcept;
};
struct retired : sluice::rcu_obj_base<retired, counts_its_end> {
  std::atomic<int>* ends{};
};
void counts_its_end::operator()(retired* one) const noexcept {
  one->ends->fetch_add(1, std::memory_order_seq_cst);
}

// R7: with no memory at all the first retired object is deleted after a grace period, as any other.
TEST(RcuNoMemory, TheFirstRetireOfAProcessNeedsNone) {
  std::atomic<int> ended{0};
  retired one;
  one.ends = &ended;
  no_memory.store(true, std::memory_order_seq_cst);
  one.retire();
  sluice::rcu_barrier();
  no_memory.store(false, std::memory_order_seq_cst);
  EXPECT_EQ(ended.load(std::memory_order_seq_cst), 1);
}

}  // namespace
