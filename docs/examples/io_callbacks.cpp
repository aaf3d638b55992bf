// Four reads at once with callbacks. What need not block is done inside the call; the rest calls back from a worker.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>

#include "sluice/io/file.h"

int main(int argc, char** argv) {
  const auto wq = sluice::io_wq::create({.max_bound = 2, .name = "example"});
  sluice::task self;
  if (!wq) {
    return 1;
  }
  auto file = sluice::file::open(**wq, self, argc > 1 ? argv[1] : argv[0], sluice::access_mode::read_only);
  if (!file) {
    return 1;
  }
  const std::size_t piece = std::min<std::size_t>(4096, file->size() / 4);
  std::array<std::array<std::byte, 4096>, 4> buffers{};
  std::array<sluice::file_operation, 4> operations;
  std::atomic<std::size_t> total{0};
  const auto count = [&total](sluice::result<std::size_t> moved) noexcept {
    total.fetch_add(moved.value_or(0), std::memory_order_relaxed);
  };
  for (std::size_t i = 0; i < operations.size(); ++i) {
    const auto how = file->async_read(operations[i], i * piece, std::span(buffers[i]).first(piece), count);
    if (how && *how == sluice::issued::completed) {
      count(operations[i].transferred());  // no callback comes for this one
    }
  }
  file->close();  // waits for the callbacks
  std::printf("%zu of %zu bytes\n", total.load(std::memory_order_relaxed), 4 * piece);
  return total.load(std::memory_order_relaxed) == 4 * piece ? 0 : 1;
}
