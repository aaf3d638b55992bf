#include "wq/os/topology.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>

#include <hwloc.h>

#include "sluice/ref/gate.h"

namespace sluice::detail {
namespace {

struct destroy_topology {
  void operator()(hwloc_topology_t it) const noexcept { ::hwloc_topology_destroy(it); }
};
using loaded_topology = std::unique_ptr<hwloc_topology, destroy_topology>;

result<loaded_topology> load(std::string_view synthetic) {
  hwloc_topology_t raw = nullptr;
  if (::hwloc_topology_init(&raw) != 0) {
    return fail(ENOMEM);
  }
  loaded_topology made(raw);
  if (!synthetic.empty() && ::hwloc_topology_set_synthetic(raw, std::string(synthetic).c_str()) != 0) {
    return fail(EINVAL);
  }
  if (::hwloc_topology_load(raw) != 0) {
    return fail(synthetic.empty() ? ENOMEM : EINVAL);
  }
  return made;
}

cpu_set_t allowed_cpus() noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) {
    CPU_SET(0, &set);
  }
  return set;
}

// Threads are dealt out to synthetic nodes in the order in which they come.
unsigned dealt_number() noexcept {
  static std::atomic<unsigned> next{0};
  thread_local const unsigned mine = next.fetch_add(1, std::memory_order_relaxed);  // relaxed: a number, no more
  return mine;
}

}  // namespace

result<topology> topology::discover(std::string_view synthetic) {
  result<loaded_topology> loaded = load(synthetic);
  if (!loaded) {
    return std::unexpected(loaded.error());
  }
  topology out;
  out.synthetic_ = !synthetic.empty();
  out.node_of_cpu_.resize(CPU_SETSIZE);
  const cpu_set_t allowed = allowed_cpus();
  const int nodes = std::max(0, ::hwloc_get_nbobjs_by_type(loaded->get(), HWLOC_OBJ_NUMANODE));
  for (unsigned i = 0; i < static_cast<unsigned>(nodes); ++i) {
    const hwloc_obj_t node = ::hwloc_get_obj_by_type(loaded->get(), HWLOC_OBJ_NUMANODE, i);
    node_cpus mine{};
    CPU_ZERO(&mine.set);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      const bool ours = ::hwloc_bitmap_isset(node->cpuset, cpu) != 0 && (out.synthetic_ || CPU_ISSET(cpu, &allowed));
      if (ours) {
        CPU_SET(cpu, &mine.set);
        ++mine.count;
        out.node_of_cpu_[cpu] = static_cast<std::uint16_t>(out.cpus_.size());
      }
    }
    if (mine.count != 0) {
      out.cpus_.push_back(mine);
    }
  }
  if (out.cpus_.empty()) {
    out.cpus_.push_back({allowed, static_cast<unsigned>(std::max(1, CPU_COUNT(&allowed)))});
  }
  return out;
}

unsigned topology::here_among_many() const noexcept {
  if (synthetic_) {
    return dealt_number() % nodes();
  }
  return node_of_cpu_[this_core::index() % CPU_SETSIZE];
}

void topology::bind_here(unsigned node) const noexcept {
  if (nodes() > 1 && !synthetic_) {
    static_cast<void>(::sched_setaffinity(0, sizeof(cpu_set_t), &cpus_[node].set));
  }
}

}  // namespace sluice::detail
