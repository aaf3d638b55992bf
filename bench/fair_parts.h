// fair_parts: the parts of the experiment `fair`. One part, one file.
#pragma once

#include "harness.h"

namespace bench {

// bench/fair_cost.cpp: what the elevator costs where it has nothing to decide, and what a decision costs.
void fair_costs(report& out);
// bench/fair_first.cpp: one that was alone when others come, and one that is capped and sends large requests.
void fair_first(report& out);
void fair_caps(report& out);
// bench/fair_isolation.cpp: files beside a device that never answers.
void fair_isolation(report& out);

}  // namespace bench
