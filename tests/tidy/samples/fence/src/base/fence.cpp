#include <atomic>

namespace sluice {

void publish() {
  std::atomic_thread_fence(std::memory_order_release);
}

}  // namespace sluice
