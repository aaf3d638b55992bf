// buffer_pool: page-aligned buffers for requests, kept for the next one instead of given back to the allocator.
//
// Sizes are powers of two from 4 KiB to 64 MiB, so that a buffer that was returned serves any request of its class. What
// is kept is bounded; beyond that a returned buffer is freed. Contents are not cleared: whoever sends a buffer has
// filled all that it sends.
//
// Ownership:      the pool owns what is in it; a buffer belongs to its holder and comes back to the pool that it is from,
//                 or is freed by destroying it.
// Thread safety:  one thread at a time (each reactor has a pool).
// Blocking:       only in the allocator.
// Errors:         get() gives an empty buffer when there is no memory.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

namespace sluice::nbd {

class buffer {
 public:
  buffer() = default;

  [[nodiscard]] explicit operator bool() const noexcept { return bytes_ != nullptr; }
  [[nodiscard]] std::byte* data() const noexcept { return bytes_.get(); }
  // Bytes there is room for; 0 if empty.
  [[nodiscard]] std::size_t capacity() const noexcept { return bytes_ ? capacity_ : 0; }

 private:
  friend class buffer_pool;
  struct freeing {
    void operator()(std::byte* bytes) const noexcept { std::free(bytes); }
  };

  std::unique_ptr<std::byte, freeing> bytes_;
  std::size_t capacity_ = 0;
};

class buffer_pool {
 public:
  static constexpr std::size_t smallest_bytes = std::size_t{4} << 10U;
  static constexpr std::size_t largest_bytes = std::size_t{64} << 20U;

  // Keeps at most `kept_bytes` for re-use.
  explicit buffer_pool(std::size_t kept_bytes);

  // A buffer with room for at least `bytes`; empty if there is no memory. Requires: 0 < bytes <= largest_bytes.
  [[nodiscard]] buffer get(std::size_t bytes) noexcept;
  // Takes a buffer back. An empty one is ignored.
  void put(buffer&& back) noexcept;

  // Bytes kept for re-use now.
  [[nodiscard]] std::size_t kept() const noexcept { return kept_; }

 private:
  static constexpr std::size_t classes = std::countr_zero(largest_bytes) - std::countr_zero(smallest_bytes) + 1;

  std::array<std::vector<buffer>, classes> free_;
  const std::size_t kept_limit_;
  std::size_t kept_ = 0;
};

}  // namespace sluice::nbd
