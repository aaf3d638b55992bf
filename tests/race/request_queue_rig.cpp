// The core of the request queue over race::sync, compiled once for all race tests of it; and the loops of the rig.
#include "race/request_queue_rig.h"

template class sluice::detail::basic_request_queue<request_queue_race::raced_types>;

namespace request_queue_race {

void raced_release::operator()(raced_queue* last) const noexcept {
  ++now->queues_freed;
  delete static_cast<raced_core*>(last);
}

void raced_queue::io_cq_exits_locked(raced_pair& pair) noexcept {
  static_cast<raced_core&>(*this).io_cq_exits_locked(pair);
}

void raced_pool::worker_loop() {
  for (;;) {
    entry mine;
    detail::run_token token;
    {
      const scoped_lock held(lock);
      // Works of one key run one at a time, as in the io_wq.
      const auto may_run = [this](const entry& each) {
        return each.key == 0 || std::ranges::find(busy, each.key) == busy.end();
      };
      auto next = std::ranges::find_if(queued, may_run);
      while (next == queued.end() && !closed) {
        changed.wait_until(lock, no_deadline);
        next = std::ranges::find_if(queued, may_run);
      }
      if (next == queued.end()) {
        return;
      }
      mine = *next;
      queued.erase(next);
      if (mine.key != 0) {
        busy.push_back(mine.key);
      }
      mine.token = &token;
      running.push_back(&mine);
      static_cast<raced_request&>(*mine.what).taken_up = world.stillness;
    }
    work_context scope = detail::work_access::context(&token);
    mine.ops->run(*mine.what, scope);
    {
      const scoped_lock held(lock);
      std::erase(running, &mine);
    }
    const std::uint64_t key = mine.key;
    mine.ops->release(*mine.what);
    if (key != 0) {
      const scoped_lock held(lock);
      std::erase(busy, key);
      changed.notify_all();
    }
  }
}

void raced_pool::timer_loop() {
  for (;;) {
    raced_timer* mine = nullptr;
    {
      const scoped_lock held(timer_lock);
      while (armed == nullptr && !timer_closed) {
        timer_changed.wait_until(timer_lock, no_deadline);
      }
      if (armed == nullptr) {
        return;
      }
      mine = std::exchange(armed, nullptr);
      firing = mine;
      firing_fiber = race::detail::engine::active()->self_index();
      world.clock.time = std::max(world.clock.time, at);
      ++fired;
    }
    mine->fire(*mine);
    const scoped_lock held(timer_lock);
    firing = nullptr;
    timer_changed.notify_all();
  }
}

}  // namespace request_queue_race
