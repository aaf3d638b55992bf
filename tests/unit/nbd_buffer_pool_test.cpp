// Goal: buffers are re-used by size class and what is kept is bounded. Method: addresses and the pool's own count.
#include <cstdint>
#include <utility>

#include <gtest/gtest.h>

#include "nbd/buffer_pool.h"

namespace sluice::nbd {
namespace nbd_buffer_pool_test {
namespace {

TEST(BufferPool, ABufferHasRoomAndIsPageAligned) {
  buffer_pool pool(1U << 20U);
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{4096}, std::size_t{4097}, buffer_pool::largest_bytes}) {
    const buffer one = pool.get(bytes);
    ASSERT_TRUE(one);
    EXPECT_GE(one.capacity(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(one.data()) % buffer_pool::smallest_bytes, 0U);
  }
}

TEST(BufferPool, AReturnedBufferServesTheNextOfItsClass) {
  buffer_pool pool(1U << 20U);
  buffer one = pool.get(5000);
  std::byte* const address = one.data();
  pool.put(std::move(one));
  EXPECT_EQ(pool.kept(), 8192U);
  EXPECT_NE(pool.get(4096).data(), address);
  EXPECT_EQ(pool.get(8192).data(), address);
  EXPECT_EQ(pool.kept(), 0U);
}

TEST(BufferPool, KeepsNoMoreThanItsLimit) {
  buffer_pool pool(10'000);
  buffer one = pool.get(8192);
  buffer two = pool.get(8192);
  pool.put(std::move(one));
  pool.put(std::move(two));
  EXPECT_EQ(pool.kept(), 8192U);
  pool.put(buffer{});
  EXPECT_EQ(pool.kept(), 8192U);
}

}  // namespace
}  // namespace nbd_buffer_pool_test
}  // namespace sluice::nbd
