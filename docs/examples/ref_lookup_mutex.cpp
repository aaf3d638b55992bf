// Rule 3 with a lock: a table that owns a count of each entry. A lookup gets under the lock, so the table's own count
// is there to copy from.
#include <cstdlib>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "sluice/base/mutex.h"
#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"

namespace {

struct session : sluice::kref<session> {
  int requests = 0;  // only the owner of the example's last count reads it
};

class sessions {
 public:
  sluice::ref<session> find(const std::string& name) {
    const sluice::mutex_lock held(lock_);
    const auto at = by_name_.find(name);
    return at == by_name_.end() ? nullptr : at->second;  // a copy: a get under the lock
  }
  void add(const std::string& name, sluice::ref<session> entry) {
    const sluice::mutex_lock held(lock_);
    by_name_[name] = std::move(entry);
  }
  void remove(const std::string& name) {
    sluice::ref<session> last;  // goes after the lock: a release never runs under it
    const sluice::mutex_lock held(lock_);
    const auto at = by_name_.find(name);
    if (at != by_name_.end()) {
      last = std::move(at->second);
      by_name_.erase(at);
    }
  }

 private:
  sluice::mutex lock_;
  std::map<std::string, sluice::ref<session>> by_name_ SLUICE_GUARDED_BY(lock_);
};

}  // namespace

int main() {
  sessions table;
  table.add("client", sluice::make_ref<session>());
  std::vector<std::thread> users;
  for (int i = 0; i < 4; ++i) {
    users.emplace_back([&table] {
      for (int turn = 0; turn < 1000; ++turn) {
        if (const sluice::ref<session> found = table.find("client")) {
          static_cast<void>(found->use_count());
        }
      }
    });
  }
  table.remove("client");
  for (std::thread& user : users) {
    user.join();
  }
  return table.find("client") == nullptr ? EXIT_SUCCESS : EXIT_FAILURE;
}
