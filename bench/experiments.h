// experiments: what sluice-bench can run. One experiment, one file, one line here.
#pragma once

#include <array>
#include <string_view>

#include "harness.h"

namespace bench {

// bench/fair.cpp
report run_fair();
// bench/identity.cpp
report run_identity();
// bench/ref.cpp
report run_ref();
// bench/dispatch.cpp
report run_dispatch();
// bench/blocked.cpp
report run_blocked();
// bench/scale.cpp
report run_scale();
// bench/storm.cpp
report run_storm();

struct experiment {
  std::string_view name;
  std::string_view summary;
  report (*run)();
};

inline constexpr std::array experiments{
    experiment{"identity", "working as somebody else, beside no identity, the C library's calls and fork (needs root)",
               &run_identity},
    experiment{"ref", "reference counts, gate and RCU beside bare atomics, Boost, the standard library and liburcu",
               &run_ref},
    experiment{"dispatch", "a work that does nothing, two workers: io_wq beside five pools, io_uring and bare futexes",
               &run_dispatch},
    experiment{"blocked", "workers that block: who takes over, and whether others notice; beside pools and io_uring",
               &run_blocked},
    experiment{"scale", "ten million works, a million keys, ten thousand workers, sixteen submitters, eight nodes",
               &run_scale},
    experiment{"fair",
               "a light client beside heavy ones, shares by weight, a dead device beside files: elevator fair and none",
               &run_fair},
    experiment{"storm", "a hundred million works of every kind, cancels and faults; ten thousand reads taken back",
               &run_storm},
};

}  // namespace bench
