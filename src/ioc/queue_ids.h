// queue_ids: where the ids of request queues come from.
//
// A counter: 2^64 queues are never made, so no id comes twice. Tests set it back, to see what two queues of one id
// would do.
//
// Thread safety:  any thread.
// Ordering:       none: relaxed will do, only the values must differ.
#pragma once

#include <atomic>
#include <cstdint>

namespace sluice::detail {

inline constinit std::atomic<std::uint64_t> next_queue_id{1};

}  // namespace sluice::detail
