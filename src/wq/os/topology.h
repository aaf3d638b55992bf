// topology: the NUMA nodes that a wq has engines on, and which of them a thread is on.
//
// Nodes without a CPU that the creator may use are left out. A synthetic topology (hwloc's syntax, "node:4 pu:4") is for
// tests on machines without nodes: threads are dealt out to its nodes in turn, and nothing is bound.
//
// Thread safety:  constant after construction.
#pragma once

#include <sched.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "sluice/base/error.h"

namespace sluice::detail {

class topology {
 public:
  // The machine's for an empty description. Errors: EINVAL not a description; ENOMEM. A machine whose nodes cannot be
  // read has one.
  [[nodiscard]] static result<topology> discover(std::string_view synthetic);

  [[nodiscard]] unsigned nodes() const noexcept { return static_cast<unsigned>(cpus_.size()); }
  // The calling thread's node.
  [[nodiscard]] unsigned here() const noexcept { return cpus_.size() == 1 ? 0 : here_among_many(); }
  // How many CPUs a node has for us; at least 1.
  [[nodiscard]] unsigned cpus_of(unsigned node) const noexcept { return cpus_[node].count; }
  // Keeps the calling thread on a node's CPUs, where there is more than one node. A preference: failure is no error.
  void bind_here(unsigned node) const noexcept;

 private:
  struct node_cpus {
    cpu_set_t set;
    unsigned count;
  };

  [[nodiscard]] unsigned here_among_many() const noexcept;

  std::vector<node_cpus> cpus_;
  std::vector<std::uint16_t> node_of_cpu_;
  bool synthetic_ = false;
};

}  // namespace sluice::detail
