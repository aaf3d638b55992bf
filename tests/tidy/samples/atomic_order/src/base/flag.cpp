#include <atomic>

namespace sluice {

bool raise(std::atomic<bool>& flag) {
  flag.store(true);
  return flag.load();
}

bool swap(std::atomic<int>* value) {
  int seen = value->load(std::memory_order_acquire);
  return value->compare_exchange_strong(seen, 1);
}

}  // namespace sluice
