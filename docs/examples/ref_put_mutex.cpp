// Rule 3 with a lock, and a table that owns no count: an entry stays in it exactly as long as somebody uses it. The
// last put and the removal must be one step to a lookup: put_and_lock (the kernel's kref_put_mutex).
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "sluice/base/mutex.h"
#include "sluice/ref/kref.h"

namespace {

std::atomic<int> alive{0};

struct inode : sluice::kref<inode> {
  explicit inode(int with) : number(with) { alive.fetch_add(1, std::memory_order_relaxed); }
  ~inode() { alive.fetch_sub(1, std::memory_order_relaxed); }
  const int number;
};

class cache {
 public:
  // Finds or makes.
  inode* get(int number) {
    const std::unique_lock<std::mutex> held(lock_);
    inode*& slot = by_number_[number];
    if (slot == nullptr) {
      slot = new inode(number);
    } else {
      slot->get();  // never from 0: who takes the last count holds lock_
    }
    return slot;
  }

  // Wrong: `if (entry->put()) { lock; erase }`. Between the two a lookup finds an entry whose count is 0.
  void put(inode* entry) {
    entry->put_and_lock(lock_, [this](inode& last) noexcept { by_number_.erase(last.number); });
  }

  [[nodiscard]] bool empty() const { return by_number_.empty(); }

 private:
  std::mutex lock_;
  std::unordered_map<int, inode*> by_number_;  // under lock_
};

}  // namespace

int main() {
  cache inodes;
  std::vector<std::thread> users;
  for (int i = 0; i < 4; ++i) {
    users.emplace_back([&inodes] {
      for (int turn = 0; turn < 2000; ++turn) {
        inodes.put(inodes.get(turn % 3));
      }
    });
  }
  for (std::thread& user : users) {
    user.join();
  }
  return inodes.empty() && alive.load(std::memory_order_relaxed) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
