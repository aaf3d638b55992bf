#include "sluice/wq/io_wq.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <new>
#include <utility>

#include "wq/os/os_pool.h"
#include "wq/stop/wq_ending.h"

namespace sluice {
namespace {

constexpr std::size_t name_bytes = 8;
constexpr unsigned bound_per_cpu = 4;
constexpr unsigned default_unbound = 512;

unsigned usable_cpus() noexcept {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) {
    return 1;
  }
  return std::max(1U, static_cast<unsigned>(CPU_COUNT(&set)));
}

}  // namespace

io_wq::io_wq(std::unique_ptr<detail::wq_core> core, std::unique_ptr<detail::wq_ending> ending) noexcept
    : core_(std::move(core)), ending_(std::move(ending)) {}

io_wq::~io_wq() {
  if (core_->pool.inside()) {  // X5: this thread would wait for itself
    ending_->core = std::move(core_);
    detail::end_elsewhere(std::move(ending_));
  }
}

result<ref<io_wq>> io_wq::create(const io_wq_options& options) {
  if (options.name.size() > name_bytes || options.idle_timeout.count() <= 0 || options.queue_limit == 0 ||
      options.full_wait.count() < 0) {
    return fail(EINVAL);
  }
  io_wq_options chosen = options;
  chosen.max_bound = options.max_bound != 0 ? options.max_bound : bound_per_cpu * usable_cpus();
  chosen.max_unbound = options.max_unbound != 0 ? options.max_unbound : default_unbound;
  try {
    result<detail::topology> nodes = detail::topology::discover(options.topology);
    if (!nodes) {
      return std::unexpected(nodes.error());
    }
    auto signal = detail::interrupt_signal::acquire(options.interrupt_signal);
    if (!signal) {
      return std::unexpected(signal.error());
    }
    auto ending = std::make_unique<detail::wq_ending>();
    auto core = std::make_unique<detail::wq_core>(chosen, std::move(*nodes), std::move(*signal));
    if (result<void> started = core->pool.life.start(); !started) {
      return std::unexpected(started.error());
    }
    return ref<io_wq>::adopt(new io_wq(std::move(core), std::move(ending)));
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
}

result<void> io_wq::submit(work& head) noexcept {
  return core_->pool.admission.submit(head, nullptr);
}

result<work_handle> io_wq::submit_tracked(work& head) noexcept {
  work_handle handle;
  if (const result<void> accepted = core_->pool.admission.submit(head, &handle); !accepted) {
    return std::unexpected(accepted.error());
  }
  return handle;
}

result<std::size_t> io_wq::submit(std::span<work* const> works) noexcept {
  return core_->pool.admission.submit(works);
}

result<void> io_wq::submit_chain(std::span<work* const> works) noexcept {
  SLUICE_CHECK(!works.empty(), "submit_chain(): the span is empty; a chain has a head");
  // A refused chain is given back as it was (W6).
  std::array<work*, 32> few;
  std::unique_ptr<work*[]> many;
  work** before = few.data();
  if (works.size() > few.size()) {
    many.reset(new (std::nothrow) work*[works.size()]);
    before = many.get();
    if (before == nullptr) {
      return fail(ENOMEM);
    }
  }
  for (std::size_t i = 0; i < works.size(); ++i) {
    before[i] = works[i]->link();
    works[i]->then(i + 1 < works.size() ? works[i + 1] : nullptr);
  }
  const result<void> accepted = submit(*works.front());
  for (std::size_t i = 0; !accepted && i < works.size(); ++i) {
    works[i]->then(before[i]);
  }
  return accepted;
}

detail::call_node& io_wq::take_call(work_class cls) {
  detail::call_node& node = core_->calls.take();
  node.set_class(cls);
  node.home = core_.get();
  return node;
}

result<void> io_wq::submit_call(detail::call_node& node) noexcept {
  result<void> accepted = submit(node);
  if (!accepted) {
    node.destroy(node.callable);
    core_->calls.give_back(node);
  }
  return accepted;
}

// A cancelled run or a release may drop the caller's own reference: each of the four keeps one until it returns.
cancel_result io_wq::cancel(work_handle handle) noexcept {
  const ref<io_wq> keep = ref<io_wq>::retain(this);
  return core_->pool.cancels.cancel(handle);
}

cancel_counts io_wq::cancel_owner(std::uint64_t owner) noexcept {
  const ref<io_wq> keep = ref<io_wq>::retain(this);
  return core_->pool.cancels.cancel_owner(owner);
}

cancel_counts io_wq::cancel_all() noexcept {
  const ref<io_wq> keep = ref<io_wq>::retain(this);
  return core_->pool.cancels.cancel_all();
}

result<cancel_counts> io_wq::cancel_chosen(bool (*choose)(void*, const work_view&), void* chooser) {
  const ref<io_wq> keep = ref<io_wq>::retain(this);
  return core_->pool.cancels.cancel_chosen(choose, chooser);
}

stop_report io_wq::stop(stop_policy policy, steady_time deadline) noexcept {
  return core_->pool.life.stop(policy, deadline);
}

unsigned io_wq::set_max_workers(work_class cls, unsigned max) noexcept {
  return core_->pool.growth.set_max(cls, max);
}

unsigned io_wq::max_workers(work_class cls) const noexcept {
  return core_->pool.growth.max(cls);
}

when_full io_wq::full() const noexcept {
  return core_->pool.env.options.full;
}

result<void> io_wq::set_affinity(std::span<const unsigned> cpus) noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const unsigned cpu : cpus) {
    if (cpu >= CPU_SETSIZE) {
      return fail(EINVAL);
    }
    CPU_SET(cpu, &set);
  }
  return CPU_COUNT(&set) != 0 ? core_->pool.affinity.choose(set, core_->pool.roster) : fail(EINVAL);
}

wq_stats io_wq::stats() const noexcept {
  return core_->pool.reports.stats();
}

bool io_wq::on_worker() const noexcept {
  return core_->pool.on_worker();
}

}  // namespace sluice
