// A drill: a disk that fails every third write and then does not come back, and what its user sees.
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>

#include "sluice/device/delay_device.h"
#include "sluice/device/error_device.h"
#include "sluice/device/memory_device.h"
#include "sluice/device/open_file.h"
#include "sluice/ioc/task.h"

namespace {

struct my_write : sluice::io_request {
  std::atomic<bool> over{false};
};

// The answer, whether it came inside submit or later.
std::int64_t finish(sluice::open_file& file, my_write& request, sluice::io_context& context) {
  request.over.store(false, std::memory_order_relaxed);
  const auto how = file.submit(request, context);
  if (how && *how == sluice::issued::queued) {
    request.over.wait(false, std::memory_order_acquire);
  }
  return how ? request.result() : -how.error().value();
}

}  // namespace

int main() {
  const auto wq = sluice::io_wq::create({.name = "drill"});
  const auto queue = sluice::request_queue::create(**wq);
  sluice::task self;
  const auto context = self.get_task_io_context(sluice::task_side::current);

  // Filters stand on each other: error on delay on memory.
  const auto memory = sluice::memory_device::create(1 << 20);
  const auto slow = sluice::delay_device::create(*memory);
  const auto bad = sluice::error_device::create(*slow);
  const auto file = sluice::open_file::open(*bad, *queue, sluice::access_mode::read_write);

  std::array<std::byte, 512> data{};
  my_write write;
  write.op = sluice::io_op::write;
  write.buffer = data.data();
  write.length = data.size();
  write.done = [](sluice::io_request& request) noexcept {
    auto& mine = static_cast<my_write&>(request);
    mine.over.store(true, std::memory_order_release);
    mine.over.notify_one();
  };

  if (!(*bad)->add({.ops = sluice::io_op::write, .every = 3, .err = ENOSPC})) {
    return 1;
  }
  int failed = 0;
  for (int i = 0; i < 9; ++i) {
    failed += finish(**file, write, **context) == -ENOSPC ? 1 : 0;
  }
  std::printf("%d of 9 writes failed\n", failed);

  (*bad)->clear();
  (*slow)->set_delay(sluice::io_op::write, sluice::delay_time::for_ever());
  write.over.store(false, std::memory_order_relaxed);
  const auto how = (*file)->submit(write, **context);
  const bool stuck = how && *how == sluice::issued::queued && (*slow)->await_waiting(1);
  const bool refused = (*file)->close() && (*file)->submit(write, **context).error() == sluice::error_of(EBADF);
  (*slow)->release_all();  // it was under way before the close: it finishes
  write.over.wait(false, std::memory_order_acquire);
  const bool finished = write.result() == 512;

  const bool stopped = (*queue)->stop().has_value();
  return failed == 3 && stuck && refused && finished && stopped ? 0 : 1;
}
