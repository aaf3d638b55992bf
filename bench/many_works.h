// many_works: millions of works of 64 bytes that do nothing, and a closed gate to queue them behind.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <system_error>
#include <thread>

#include "sluice/base/park.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"

#include "sluice_pool.h"

namespace bench {

// Nothing but the work itself: whether it ran is seen by the one behind it.
struct bare_work : sluice::work {
  bare_work() : work(ops) {}
  static void do_run(sluice::work& /*w*/, sluice::work_context& /*ctx*/) noexcept {}
  static void do_release(sluice::work& /*w*/) noexcept {}
  static constexpr sluice::work_ops ops{do_run, do_release};
};

// In pages that are there before anything is measured, large ones where the kernel has them.
class many_works {
 public:
  explicit many_works(std::size_t count) : bytes_(count * sizeof(bare_work)) {
    constexpr int readable = PROT_READ | PROT_WRITE;
    void* const memory = ::mmap(nullptr, bytes_, readable, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      throw std::system_error(errno, std::system_category(), "mmap");
    }
    static_cast<void>(::madvise(memory, bytes_, MADV_HUGEPAGE));  // a wish
    auto* const first = static_cast<bare_work*>(memory);
    std::uninitialized_default_construct_n(first, count);
    works_ = {std::launder(first), count};
  }
  ~many_works() {
    std::destroy(works_.begin(), works_.end());
    ::munmap(static_cast<void*>(works_.data()), bytes_);
  }
  many_works(const many_works&) = delete;
  many_works& operator=(const many_works&) = delete;

  [[nodiscard]] std::span<bare_work> slice(std::size_t first, std::size_t count) noexcept {
    return works_.subspan(first, count);
  }

 private:
  std::size_t bytes_;
  std::span<bare_work> works_;
};

// A wq with one worker, and that worker stands at a gate: what is submitted stays queued until the gate opens.
//
// The worker's own CPU clock says what the drain costs: from where it passes the gate to where it meets the end, a work that
// was submitted last. No wake of a thread is in that, or a thousand works would seem dearer than millions; and nobody
// else's time slice, or millions would seem dearer than a thousand.
class gated_wq {
 public:
  using clock = std::chrono::steady_clock;

  explicit gated_wq(std::size_t queue_limit)
      : wq_(make_wq({.max_bound = 1, .max_unbound = 1, .name = "bench", .queue_limit = queue_limit + 1})) {}

  // Returns when the worker stands at the gate.
  void close() {
    submit(*wq_, gate_);
    gate_.here.park();
  }
  // The same for works with keys of a domain, each its own: keys have their turn in the order in which they came, and
  // beside works without. Requires: `key` is not one of theirs.
  [[nodiscard]] std::chrono::nanoseconds drain(sluice::hash_domain& domain, std::uint64_t key) {
    end_.set_key(domain, key);
    return drain();
  }
  // Requires: closed. Returns when all that was submitted is over: the worker's CPU time.
  [[nodiscard]] std::chrono::nanoseconds drain() {
    submit(*wq_, end_);
    gate_.open.wake();
    end_.released.park();
    // A release says nothing of the releases of others; the counts do, soon.
    for (sluice::wq_stats now = wq_->stats(); now.bound.released != now.bound.accepted; now = wq_->stats()) {
      std::this_thread::yield();
    }
    // Should another thread have met the end, its CPU clock tells nothing; the wall's does.
    return end_.who == gate_.who ? end_.passed_cpu - gate_.passed_cpu : end_.passed_at - gate_.passed_at;
  }
  [[nodiscard]] sluice::io_wq& operator*() const noexcept { return *wq_; }

 private:
  struct mark : sluice::work {
    explicit mark(const sluice::work_ops& kind) : work(kind) {}
    static void pass(sluice::work& w, sluice::work_context& /*ctx*/) noexcept {
      mark& self = static_cast<mark&>(w);
      self.who = std::this_thread::get_id();
      self.passed_at = clock::now();
      self.passed_cpu = thread_cpu_time();
    }
    static void stand(sluice::work& w, sluice::work_context& ctx) noexcept {
      mark& self = static_cast<mark&>(w);
      self.here.wake();
      self.open.park();
      pass(w, ctx);
    }
    static void tell(sluice::work& w) noexcept { static_cast<mark&>(w).released.wake(); }
    // Who waits, waits for the end, which the one worker meets later: a wake here would be in what is measured.
    static void say_nothing(sluice::work& /*w*/) noexcept {}
    static constexpr sluice::work_ops passing{pass, tell};
    static constexpr sluice::work_ops standing{stand, say_nothing};

    sluice::parker here;
    sluice::parker open;
    sluice::parker released;
    std::thread::id who;
    clock::time_point passed_at;
    std::chrono::nanoseconds passed_cpu{};
  };

  mark gate_{mark::standing};
  mark end_{mark::passing};
  sluice::ref<sluice::io_wq> wq_;  // last: its threads end before what they use is gone
};

}  // namespace bench
