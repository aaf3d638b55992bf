// pool: the engine behind io_wq, as the composition of its parts. Each part owns its members and has its contract in its header; a
// part reaches another one through the pool.
//
// | folder  | parts                                          | what they own                                        | invariants  |
// |---------|------------------------------------------------|------------------------------------------------------|-------------|
// | item/   | work_access, work_fifo, handle_table           | links, lists, where a tracked work is                | W3 C1 C3    |
// | ready/  | admission, account_works, ready_queue, crowd   | what is accepted; works without a key, by priority   | W1 W6 W7 X3 |
// | keyed/  | key_table, keys, account_keys, domains         | which keys may run, and their works in order         | H1 … H7     |
// | crew/   | worker, account, growth, roster, affinity      | workers: running, free, reserved; which runs what     | P1 … P10    |
// | loop/   | work_loop, execution, blocking                 | what a worker does: take, dress, run, release, chain | W2 W4 I1 …  |
// | cancel/ | scan, cancel                                   | taking works back                                    | C1 … C8 W5  |
// | watch/  | manager, sampler, interrupts, rescuer,         | what is done beside the workers                      | P5 P10 C5   |
// |         | canceller, deadlines, timer_heap               |                                                      |             |
// | stop/   | lifecycle, reports, callback_scope, wq_ending  | begin, end, report                                   | X1 … X6     |
// | os/     | os_pool, interrupt, topology, call_cache       | the machine: its signal, its nodes, its threads      |             |
//
// All of it is a template over Sync, so that the race tests run this code: a test makes a pool, adds workers and calls the loops on
// its own fibers. Programs use the instance over os_sync (os/os_pool.h).
//
// Lock order: moves → the domain list's → a key table's order → a shard's → an account's → a worker's → a slot's, or the run token's. The
// deadlines' → a slot's. The roster's, the timer heap's and the canceller's are leaves. No callback, no wake, no allocation and no thread
// creation under a spin lock or a nap lock; a signal is sent under a worker's. The affinity's and stop's are held for system calls.
#pragma once

#include <string>

#include "sluice/wq/io_wq.h"

#include "wq/cancel/cancel.h"
#include "wq/crew/affinity.h"
#include "wq/loop/blocking.h"
#include "wq/os/topology.h"
#include "wq/ready/admission.h"
#include "wq/stop/callback_scope.h"
#include "wq/stop/lifecycle.h"
#include "wq/stop/reports.h"

namespace sluice::detail {

// What a pool was made with. The seams and the topology outlive it.
template <class Sync>
struct pool_environment {
  pool_environment(const io_wq_options& chosen, const topology& on, interrupt_seam& by)
      : options(chosen),
        name(chosen.name),
        nodes(on),
        threads(chosen.threads != nullptr ? *chosen.threads : thread_seam::real()),
        clock(chosen.clock != nullptr ? *chosen.clock : clock_seam::real()),
        signals(by),
        identities(chosen.identities != nullptr ? *chosen.identities : identity_calls::real()) {}

  // A quarter of what may be queued, divided among the nodes: what lies in inboxes, uncounted, is not much beside the rest.
  [[nodiscard]] std::size_t share() const noexcept {
    const std::size_t share = options.queue_limit / 4 / nodes.nodes();
    return share >= pool_traits<Sync>::roomy_from ? share : 0;
  }

  const io_wq_options options;
  const std::string name;
  const unsigned lane_mask = pool_traits<Sync>::lanes() - 1;
  const topology& nodes;
  thread_seam& threads;
  clock_seam& clock;
  interrupt_seam& signals;
  identity_calls& identities;
};

template <class Sync>
class basic_pool {
 public:
  using traits = pool_traits<Sync>;
  using account = basic_account<Sync>;
  using worker = basic_worker<Sync>;

  // Throws std::bad_alloc, and leaves nothing behind. The caller starts it: life.start().
  basic_pool(const io_wq_options& options, const topology& nodes, interrupt_seam& signals)
      : env(options, nodes, signals),
        engines(*this, nodes, env.share()),
        roster(*this),
        growth(*this, options),
        life(*this) {
    roster.rescuer().home = &engines.at(0, work_class::bound);
  }
  basic_pool(const basic_pool&) = delete;
  basic_pool& operator=(const basic_pool&) = delete;
  // Stops (cancel_queued) if it has not been stopped. Requires: not inside().
  ~basic_pool() {
    SLUICE_CHECK(!inside(), "a pool is destroyed on one of its own threads, or in one of its callbacks");
    const stop_report report = life.stop(stop_policy::cancel_queued, no_deadline);
    SLUICE_CHECK(report.finished, "a pool ends with all its threads joined");
  }

  [[nodiscard]] bool on_worker() const noexcept {
    const worker* const self = traits::this_worker();
    return self != nullptr && &self->pool == this;
  }
  // Whether the calling thread would wait for itself if it waited for this pool (X5).
  [[nodiscard]] bool inside() const noexcept { return callback_scope::within(traits::callbacks(), this); }

  // The handle of the chain that this slot names; an index of 0: none.
  [[nodiscard]] work_handle name_of(std::uint32_t index) noexcept {
    return index != 0 ? work_handle(index, handles.generation(index), number) : work_handle();
  }

  const std::uint32_t number = traits::next_number();

  // In the order in which they are made. Those that hold memory or threads come first and are destroyed last.
  const pool_environment<Sync> env;
  basic_engines<Sync> engines;
  basic_roster<Sync> roster;
  basic_handle_table<Sync> handles;
  basic_growth<Sync> growth;
  basic_lifecycle<Sync> life;
  basic_keys<Sync> keys{*this};
  basic_admission<Sync> admission{*this};
  basic_scan<Sync> scan{*this};
  basic_blocking<Sync> blocking{*this};
  basic_execution<Sync> execution{*this};
  basic_linger<Sync> linger{*this};
  basic_work_loop<Sync> work_loop{*this};
  basic_deadlines<Sync> deadlines{*this};
  basic_interrupts<Sync> interrupts{*this};
  basic_cancel<Sync> cancels{*this};
  basic_canceller<Sync> canceller{*this};
  basic_sampler<Sync> sampler{*this};
  basic_rescuer<Sync> rescuer{*this};
  basic_manager<Sync> manager{*this};
  basic_affinity<Sync> affinity;
  basic_reports<Sync> reports{*this};
};

}  // namespace sluice::detail
