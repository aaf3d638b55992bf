#include "wq/os/os_pool.h"

#include <atomic>
#include <utility>

namespace sluice::detail {
namespace {

void run_call(work& w, work_context& ctx) noexcept {
  auto& node = static_cast<call_node&>(w);
  node.invoke(node.callable, ctx);
}

void release_call(work& w) noexcept {
  auto& node = static_cast<call_node&>(w);
  node.destroy(node.callable);
  node.home->calls.give_back(node);
}

constexpr work_ops call_ops{run_call, release_call};

}  // namespace

basic_worker<os_sync>*& pool_traits<os_sync>::this_worker() noexcept {
  thread_local basic_worker<os_sync>* mine = nullptr;
  return mine;
}

std::uint32_t pool_traits<os_sync>::next_number() noexcept {
  static constinit std::atomic<std::uint32_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;  // relaxed: only that it is another one matters
}

const callback_scope*& pool_traits<os_sync>::callbacks() noexcept {
  thread_local const callback_scope* innermost = nullptr;
  return innermost;
}

call_cache::~call_cache() {
  const scoped_lock held(lock_);
  while (free_ != nullptr) {
    delete std::exchange(free_, free_->next_free);
  }
}

call_node& call_cache::take() {
  {
    const scoped_lock held(lock_);
    if (free_ != nullptr) {
      --kept_;
      return *std::exchange(free_, free_->next_free);
    }
  }
  auto* const fresh = new call_node;
  fresh->set_ops(call_ops);
  return *fresh;
}

void call_cache::give_back(call_node& node) noexcept {
  {
    const scoped_lock held(lock_);
    if (kept_ < most) {
      node.next_free = free_;
      free_ = &node;
      ++kept_;
      return;
    }
  }
  delete &node;
}

template class basic_pool<os_sync>;

}  // namespace sluice::detail
