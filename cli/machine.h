// machine: what this kernel, machine and container offer, as lines for a reader.
//
// Blocking:       reads small files under /proc and /sys.
#pragma once

#include <string>
#include <vector>

namespace sluice::cli {

enum class verdict : char { yes, no, fact };

struct finding {
  verdict answer = verdict::fact;
  std::string name;
  std::string detail;
};

// Whether a ring can be made, by making one.
[[nodiscard]] finding find_io_uring();
// One per node of /sys/devices/system/node; one for the whole machine where the kernel has no NUMA.
[[nodiscard]] std::vector<finding> find_numa_nodes();
// One per mounted hierarchy: where it is, and where in it this process is.
[[nodiscard]] std::vector<finding> find_cgroups();
// Resource limits and the kernel's own that a pool or a server runs into.
[[nodiscard]] std::vector<finding> find_limits();
// Kernel, processors, user: one line.
[[nodiscard]] std::string describe_machine();

}  // namespace sluice::cli
