// fair: an elevator that gives each context its share of a device, by weight, and no more than its limits.
//
// A flow is one context on one queue. Of flows that wait the one goes next that had least for its weight (io_context's
// weight, times 8 - level of its ioprio); RT before BE before IDLE, but none waits for ever; a flow over its limits stands
// aside until its time has come. The algorithm is fair_order's, and docs/fair.md says why it is this one.
//
// Within a flow requests go in the order in which they came; one whose quantum is over goes before those that have not
// begun. What is charged is a quantum at most, when it goes; what it then moved more or less is settled with the next.
//
// Ownership, thread safety, blocking: an elevator's.
// Errors:         none. No memory for a new pair is make_io_cq's null.
// Limits:         the queue's. In any span t a context, or the queue, goes over its limits by its burst and one quantum
//                 (rate_gate.h). A changed ioprio or limit is noticed at the flow's next request or turn, and at the
//                 latest a quarter of a second later if the flow stands aside.
// Cost:           O(log n) in the contexts that have requests waiting; extract_owner_locked looks at each of those, and
//                 at the requests of the ones that may have some of that owner. A pair is 200 bytes more than an io_cq.
// Invariants:     O1
#pragma once

#include <memory>

#include "sluice/ioc/elevator.h"
#include "sluice/ioc/fair_order.h"

namespace sluice {

// Throws bad_alloc (set-up). Requires: be_after and idle_after are not 0.
[[nodiscard]] std::unique_ptr<elevator> make_fair_elevator(const fair_options& options = {});

}  // namespace sluice
