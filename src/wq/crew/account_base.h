// account_base: what an account is: one class of work on one NUMA node of a pool, and the lock of its queues and workers.
//
// The parts of an account stand on it, each with its own members: account_works (ready/), account_keys (keyed/), account_crew
// (crew/), account (the whole).
//
// Thread safety:  constant after construction; the lock synchronises itself.
#pragma once

#include <cstdint>

#include "sluice/ref/spin_lock.h"
#include "sluice/wq/work.h"

#include "wq/pool_traits.h"

namespace sluice::detail {

template <class Sync>
class basic_account_base {
 public:
  basic_account_base(basic_pool<Sync>& owner, work_class of, unsigned on_node) noexcept
      : pool(owner), cls(of), node(on_node) {}
  basic_account_base(const basic_account_base&) = delete;
  basic_account_base& operator=(const basic_account_base&) = delete;

  basic_pool<Sync>& pool;
  const work_class cls;
  const unsigned node;
  std::uint16_t home = 0;  // the number of its engine (engine_numbers.h), written before the first submit

  // Alone on its line: submitters read what stands before and behind it.
  alignas(64) basic_spin_lock<Sync> lock;

 protected:
  ~basic_account_base() = default;
};

}  // namespace sluice::detail
