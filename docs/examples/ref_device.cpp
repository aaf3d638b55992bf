// A device whose per-open info is read in one thread while another closes it. docs/ref.md tells the wrong versions;
// this is the right one: the number-to-file table is looked up under RCU, an operation holds a count of the open file,
// and close takes the file out of the table before it puts the table's count. Whoever puts last frees the info, once.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <expected>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "sluice/base/error.h"
#include "sluice/rcu/rcu.h"
#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"

namespace {

std::atomic<int> released{0};

// What open allocates and every operation needs.
class open_info : public sluice::kref<open_info, sluice::rcu_release>, public sluice::rcu_obj_base<open_info> {
 public:
  ~open_info() {
    text_ = "freed";
    released.fetch_add(1, std::memory_order_relaxed);
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_ = "data";
};

class device {
 public:
  void open() { current_.store(sluice::make_ref<open_info>().release(), std::memory_order_release); }

  sluice::result<std::string> read() {
    sluice::ref<open_info> info;
    {
      const std::scoped_lock section(sluice::rcu_default_domain());
      // Between the load and the get the info may lose its last count; its memory stays, and try_get says so.
      info = sluice::ref<open_info>::try_get(current_.load(std::memory_order_acquire));
    }
    if (!info) {
      return sluice::fail(EBADF);
    }
    std::this_thread::yield();  // close may come here; the info is ours until we put it
    return info->text();
  }

  // Later reads fail at once, earlier ones finish, and the last of all frees the info.
  void close() {
    const auto info = sluice::ref<open_info>::adopt(current_.exchange(nullptr, std::memory_order_acq_rel));
  }

 private:
  std::atomic<open_info*> current_{nullptr};
};

}  // namespace

int main() {
  std::atomic<int> wrong{0};
  constexpr int rounds = 200;
  for (int round = 0; round < rounds; ++round) {
    device disk;
    disk.open();
    std::vector<std::thread> readers;
    for (int i = 0; i < 2; ++i) {
      readers.emplace_back([&] {
        while (const sluice::result<std::string> text = disk.read()) {
          if (*text != "data") {
            wrong.fetch_add(1, std::memory_order_relaxed);
          }
        }
      });
    }
    disk.close();
    if (disk.read().has_value()) {
      wrong.fetch_add(1, std::memory_order_relaxed);
    }
    for (std::thread& reader : readers) {
      reader.join();
    }
  }
  sluice::rcu_barrier();
  std::printf("%d released, %d wrong\n", released.load(std::memory_order_relaxed),
              wrong.load(std::memory_order_relaxed));
  return wrong.load(std::memory_order_relaxed) == 0 && released.load(std::memory_order_relaxed) == rounds
             ? EXIT_SUCCESS
             : EXIT_FAILURE;
}
