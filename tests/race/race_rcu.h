// race_rcu: an RCU domain on the deterministic scheduler, for code that takes a rcu_domain&.
//
// It promises exactly what the machine's domain promises and nothing more, so that a test fails where the promise would
// be needed: a section is waited for, or it sees what was unlinked; the end of a section is ordered before the deleter.
// It orders nothing between readers and nothing by the mere fact that two threads were in sections.
//
//   race::rcu dom;                     shared by the fibers of one schedule
//   run.thread([=] { const std::scoped_lock section(dom); … });
//   run.thread([=] { unlink; object->retire({}, dom); dom.reclaim(); });
//   run.after([=] { dom.finish(); });
//
// reclaim() runs the deleters that may run by now: the earliest moment at which the machine's reclaimer might. A fiber
// of its own may call it, or any fiber that could call rcu_synchronize().
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "sluice/rcu/rcu.h"

#include "race/harness/engine.h"
#include "race/harness/race.h"

namespace race {

namespace detail {

class rcu_model final : public sluice::detail::rcu_backend {
 public:
  void reclaim() noexcept {
    for (;;) {
      std::vector<sluice::detail::rcu_node*> ready;
      std::erase_if(pending_, [&ready](const retired& entry) {
        if (entry.sections != 0) {
          return false;
        }
        ready.push_back(entry.node);
        return true;
      });
      if (ready.empty()) {
        return;
      }
      // Only now, when it is decided whose ends these are: after them, and after what each retirer did before.
      static_cast<void>(ended_.fetch_add(0, std::memory_order_acquire));
      static_cast<void>(unlinked_.fetch_add(0, std::memory_order_acquire));
      for (sluice::detail::rcu_node* node : ready) {
        node->run(node->object);
      }
    }
  }

  void finish() noexcept {
    check(open_.load(std::memory_order_relaxed) == 0, "a read section was left open");
    reclaim();
    check(pending_.empty(), "a retired object waits for nobody");
  }

  // The bookkeeping beside the atomics is no part of the model: it changes only at the atomic operation before it,
  // since fibers change places only inside operations.
  void lock() noexcept override {
    const unsigned me = engine::active()->self_index();
    if (depth_[me]++ != 0) {
      return;
    }
    // relaxed: this operation alone decides, for every retire, whether it comes before or after.
    static_cast<void>(open_.fetch_or(1U << me, std::memory_order_relaxed));
    // A section that nobody waits for sees what had been unlinked: the reader's half of membarrier.
    static_cast<void>(unlinked_.fetch_add(0, std::memory_order_acquire));
  }

  void unlock() noexcept override {
    const unsigned me = engine::active()->self_index();
    check(depth_[me] != 0, "unlock() of a section that is not open");
    if (--depth_[me] != 0) {
      return;
    }
    static_cast<void>(ended_.fetch_add(1, std::memory_order_release));
    static_cast<void>(open_.fetch_and(~(1U << me), std::memory_order_relaxed));
    for (retired& entry : pending_) {
      entry.sections &= ~(1U << me);
    }
    bool woken = false;
    for (std::uint32_t* sections : waiters_) {
      const bool waited = *sections != 0;
      *sections &= ~(1U << me);
      woken = woken || (waited && *sections == 0);
    }
    if (woken) {
      static_cast<void>(turn_.fetch_add(1, std::memory_order_relaxed));
      sync::wake(turn_, sluice::wake_all);
    }
  }

  void retire(sluice::detail::rcu_node& node) noexcept override {
    const std::uint32_t sections = begin_grace_period();
    pending_.push_back({.node = &node, .sections = sections});
  }

  void synchronize() noexcept override {
    check(depth_[engine::active()->self_index()] == 0, "waiting for readers inside a section");
    std::uint32_t sections = begin_grace_period();
    waiters_.push_back(&sections);
    while (sections != 0) {
      const std::uint32_t seen = turn_.fetch_add(0, std::memory_order_relaxed);
      if (sections != 0) {
        sync::wait(turn_, seen);
      }
    }
    std::erase(waiters_, &sections);
    static_cast<void>(ended_.fetch_add(0, std::memory_order_acquire));
  }

  void barrier() noexcept override {
    synchronize();
    reclaim();
  }

 private:
  struct retired {
    sluice::detail::rcu_node* node;
    std::uint32_t sections;  // that were open when it was retired and have not closed
  };

  [[nodiscard]] std::uint32_t begin_grace_period() noexcept {
    static_cast<void>(unlinked_.fetch_add(1, std::memory_order_release));
    return open_.fetch_or(0, std::memory_order_relaxed);
  }

  atomic<std::uint32_t> open_{0};      // a bit per fiber that is in a section
  atomic<std::uint32_t> unlinked_{0};  // released by retire, acquired by lock and by deleters
  atomic<std::uint32_t> ended_{0};     // released by unlock, acquired by deleters
  atomic<std::uint32_t> turn_{0};      // where synchronize sleeps
  std::array<std::uint32_t, 8> depth_{};
  std::vector<retired> pending_;
  std::vector<std::uint32_t*> waiters_;
};

}  // namespace detail

class rcu : public sluice::rcu_domain {
 public:
  rcu() noexcept : sluice::rcu_domain(model_) {}

  // Runs the deleters whose grace period is over.
  void reclaim() noexcept { model_.reclaim(); }
  // The end of the test: every section is closed, everything runs.
  void finish() noexcept { model_.finish(); }

 private:
  detail::rcu_model model_;
};

}  // namespace race
