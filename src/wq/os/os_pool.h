// os_pool: the pool that programs use: basic_pool over the machine, with its signal, its topology and its callables.
//
// Compiled once, in os_pool.cpp.
#pragma once

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <new>

#include "sluice/ref/gate.h"
#include "sluice/ref/spin_lock.h"
#include "sluice/ref/this_core.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"

#include "wq/os/interrupt.h"
#include "wq/os/topology.h"
#include "wq/pool.h"

namespace sluice::detail {

class key_table final : public basic_key_table<os_sync> {
 public:
  using basic_key_table<os_sync>::basic_key_table;
};

template <>
struct pool_traits<os_sync> {
  using door = gate;
  static constexpr unsigned linger_turns = 48;
  [[nodiscard]] static std::uint32_t core() noexcept { return this_core::index(); }
  [[nodiscard]] static std::uint32_t lanes() noexcept {
    return std::min(this_core::stripes(), std::uint32_t{ready_queue::most_lanes});
  }
  static void yield() noexcept { ::sched_yield(); }
  static constexpr std::chrono::microseconds dense{1};  // a server that hands over a write each 2 us is no stream
  static constexpr std::size_t stream = 32;
  static constexpr std::size_t roomy_from = 16 * 1024;
  [[nodiscard]] static basic_key_table<os_sync>& table(hash_domain& domain) noexcept { return domain.table(); }
  static void hold(hash_domain& domain) noexcept { domain.hold_by_pool(); }
  static void drop(hash_domain& domain) noexcept { domain.drop_by_pool(); }
  [[nodiscard]] static bool unused(hash_domain& domain) noexcept { return domain.held_by_pools_only(); }
  [[nodiscard]] static std::uint32_t next_number() noexcept;
  [[nodiscard]] static basic_worker<os_sync>*& this_worker() noexcept;
  [[nodiscard]] static const callback_scope*& callbacks() noexcept;
};

extern template class basic_pool<os_sync>;
static_assert(sizeof(basic_key_entry<os_sync>) <= 96,
              "with its buckets and the allocator's own, 128 bytes per live key");

// Nodes of callables that were submitted by value: up to `most` are kept for the next ones.
class call_cache {
 public:
  call_cache() = default;
  call_cache(const call_cache&) = delete;
  call_cache& operator=(const call_cache&) = delete;
  ~call_cache();

  // Throws std::bad_alloc.
  [[nodiscard]] call_node& take();
  void give_back(call_node& node) noexcept;

 private:
  static constexpr std::size_t most = 1024;

  spin_lock lock_;
  call_node* free_ SLUICE_GUARDED_BY(lock_) = nullptr;
  std::size_t kept_ SLUICE_GUARDED_BY(lock_) = 0;
};

class wq_core {
 public:
  // Takes over the seam if there is one; else the signal.
  wq_core(const io_wq_options& options, topology nodes, interrupt_signal signal)
      : nodes_(std::move(nodes)),
        signal_(std::move(signal)),
        pool(options, nodes_, options.interrupts != nullptr ? *options.interrupts : signal_) {}

 private:
  const topology nodes_;
  interrupt_signal signal_;

 public:
  call_cache calls;  // outlives the pool: its works go back into it
  basic_pool<os_sync> pool;
};

}  // namespace sluice::detail
