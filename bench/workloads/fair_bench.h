// fair_bench: flows over a fair_order in simulated time: who went, how often, how much.
#pragma once

#include <cstdint>
#include <vector>

#include "sluice/ioc/fair_order.h"

namespace test {

struct sent_flow : sluice::fair_flow {
  sluice::fair_terms terms;
  std::uint64_t bytes = 4096;   // of each of its pieces
  std::uint64_t waiting = 0;    // pieces
  std::uint64_t pieces = 0;     // that went
  std::uint64_t sum_bytes = 0;  // the same
  std::uint64_t last_turn = 0;  // the number of the pick that was its last
};

class fair_bench {
 public:
  static constexpr std::uint64_t for_ever = 1ULL << 40U;

  explicit fair_bench(const sluice::fair_options& options = {}, sluice::virtual_time start = {})
      : order(options, start) {}

  void add(sent_flow& flow, std::uint64_t pieces) {
    flow.waiting += pieces;
    if (!flow.in()) {
      order.wake(flow, flow.terms, now_ns);
    } else {
      order.refile(flow, flow.terms, now_ns);
    }
  }
  // Ends what a test leaves behind.
  void clear(sent_flow& flow) {
    flow.waiting = 0;
    order.sleep(flow);
  }

  // Lets one go, or says when to ask again.
  sent_flow* pick() {
    while (sluice::fair_flow* due = order.take_due(now_ns)) {
      order.wake(*due, static_cast<sent_flow*>(due)->terms, now_ns);
    }
    const sluice::fair_order::choice found = order.next(now_ns);
    ask_again_ns = found.ask_again_ns;
    auto* flow = static_cast<sent_flow*>(found.flow);
    if (flow == nullptr) {
      return nullptr;
    }
    --flow->waiting;
    ++flow->pieces;
    flow->sum_bytes += flow->bytes;
    flow->last_turn = ++picks;
    using enum sluice::fair_order::more;
    order.serve(*flow, flow->terms, flow->bytes, flow->waiting == 0 ? no : yes, now_ns);
    return flow;
  }
  void pick(unsigned times) {
    for (unsigned i = 0; i < times; ++i) {
      pick();
    }
  }
  // An unlimited device until `end`: everything goes as soon as it may.
  void run_until(std::uint64_t end_ns) {
    while (now_ns <= end_ns) {
      if (pick() == nullptr) {
        now_ns = ask_again_ns;
      }
    }
    now_ns = end_ns;
  }

  sluice::fair_order order;
  std::uint64_t now_ns = 1'000'000'000;
  std::uint64_t ask_again_ns = 0;
  std::uint64_t picks = 0;
};

}  // namespace test
