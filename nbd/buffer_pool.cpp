#include "nbd/buffer_pool.h"

#include <algorithm>
#include <utility>

#include "sluice/base/check.h"

namespace sluice::nbd {
namespace {

std::size_t class_of(std::size_t capacity) {
  return static_cast<std::size_t>(std::countr_zero(capacity) - std::countr_zero(buffer_pool::smallest_bytes));
}

}  // namespace

buffer_pool::buffer_pool(std::size_t kept_bytes) : kept_limit_(kept_bytes) {
  for (std::size_t i = 0; i < classes; ++i) {
    // All the room a class can ever need, so that put() never allocates.
    free_.at(i).reserve(std::min<std::size_t>(kept_limit_ / (smallest_bytes << i) + 1, 4096));
  }
}

buffer buffer_pool::get(std::size_t bytes) noexcept {
  SLUICE_CHECK(bytes > 0 && bytes <= largest_bytes, "a request's size is checked before its buffer is taken");
  const std::size_t capacity = std::max(std::bit_ceil(bytes), smallest_bytes);
  std::vector<buffer>& shelf = free_.at(class_of(capacity));
  buffer out;
  if (!shelf.empty()) {
    out = std::move(shelf.back());
    shelf.pop_back();
    kept_ -= capacity;
    return out;
  }
  out.bytes_.reset(static_cast<std::byte*>(std::aligned_alloc(smallest_bytes, capacity)));
  out.capacity_ = out.bytes_ ? capacity : 0;
  return out;
}

void buffer_pool::put(buffer&& back) noexcept {
  buffer mine = std::exchange(back, buffer{});
  if (!mine) {
    return;
  }
  std::vector<buffer>& shelf = free_.at(class_of(mine.capacity()));
  if (kept_ + mine.capacity() > kept_limit_ || shelf.size() == shelf.capacity()) {
    return;  // destroyed here
  }
  kept_ += mine.capacity();
  shelf.push_back(std::move(mine));
}

}  // namespace sluice::nbd
