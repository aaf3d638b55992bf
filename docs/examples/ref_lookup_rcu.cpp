// Rule 3 without a lock: the lookup is a read section, the count is taken with get_unless_zero inside it, and the
// memory of a released entry waits for a grace period.
#include <array>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include "sluice/rcu/rcu.h"
#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"

namespace {

constexpr std::uint32_t good = 0x600d;

// The last put retires instead of deleting.
class entry : public sluice::kref<entry, sluice::rcu_release>, public sluice::rcu_obj_base<entry> {
 public:
  ~entry() { mark = 0; }
  std::uint32_t mark = good;
};

class table {
 public:
  sluice::ref<entry> find(std::size_t slot) {
    const std::scoped_lock section(sluice::rcu_default_domain());
    // acquire: pairs with put_in. Empty if the slot is, or if the last count has gone in the meantime.
    return sluice::ref<entry>::try_get(slots_[slot].load(std::memory_order_acquire));
  }

  // The table owns a count of what it holds. Unlinking comes before the put.
  void put_in(std::size_t slot, sluice::ref<entry> fresh) {
    // adopt: the count that the slot owned.
    const auto old = sluice::ref<entry>::adopt(slots_[slot].exchange(fresh.release(), std::memory_order_acq_rel));
  }

 private:
  std::array<std::atomic<entry*>, 4> slots_{};
};

}  // namespace

int main() {
  table files;
  std::atomic<int> bad{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      for (std::size_t turn = 0; !stop.load(std::memory_order_relaxed); ++turn) {
        const sluice::ref<entry> found = files.find(turn % 4);
        if (found && found->mark != good) {
          bad.fetch_add(1, std::memory_order_relaxed);
        }
      }
    });
  }
  for (std::size_t turn = 0; turn < 2000; ++turn) {
    files.put_in(turn % 4, turn % 3 == 0 ? nullptr : sluice::make_ref<entry>());
  }
  stop.store(true, std::memory_order_relaxed);
  for (std::thread& reader : readers) {
    reader.join();
  }
  for (std::size_t slot = 0; slot < 4; ++slot) {
    files.put_in(slot, nullptr);
  }
  sluice::rcu_barrier();  // every entry is deleted
  return bad.load(std::memory_order_relaxed) == 0 && sluice::rcu_get_statistics().pending() == 0 ? EXIT_SUCCESS
                                                                                                 : EXIT_FAILURE;
}
