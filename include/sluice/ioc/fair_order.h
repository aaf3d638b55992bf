// fair_order: which flow goes next: start-time fair queueing with depth, SFQ(D), in three classes, under rate limits.
// The algorithm of the elevator `fair`, without requests, locks and clocks.
//
// A flow is one context on one queue. What goes is charged at once, with a cost from its size; a flow's tag is the
// virtual time at which its next may start, and moves on by cost / (weight * level factor). The flow with the smallest
// tag goes. A flow that had nothing to send comes back at the virtual time of now, so it saves up nothing, and it
// stands before all who have the same tag.
//
// | a flow is | wake            | refile          | sleep | next, serve                         |
// |-----------|-----------------|-----------------|-------|-------------------------------------|
// | out       | ready, capped   | not allowed     | out   |                                     |
// | ready     | not allowed     | ready, capped   | out   | chosen: ready, capped or out        |
// | capped    | not allowed     | ready, capped   | out   | when its time has come: take_due    |
//
// Classes: RT before BE before IDLE. But a class that waits lets only so many others by (be_after, idle_after).
//
// Ownership:      none: flows belong to the caller, and are out before they end.
// Thread safety:  none: the caller's lock.
// Blocking:       never; no allocation.
// Limits:         2^63 wakes. Virtual time does not end (fair_tree.h).
// Cost:           O(log n) in the flows that are not out. A flow is 136 bytes.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "sluice/base/ioprio.h"
#include "sluice/ioc/fair_tree.h"
#include "sluice/ioc/io_limits.h"
#include "sluice/ioc/rate_gate.h"

namespace sluice {

// Costs are relative: only op_cost_ns against mib_cost_ns matters. The defaults are those of a fast flash disk, for
// which a request costs as much as 40 KiB.
struct fair_options {
  std::uint32_t op_cost_ns = 10'000;
  std::uint32_t mib_cost_ns = 250'000;
  std::uint32_t be_after = 16;                                     // BE waits while at most so many others go
  std::uint32_t idle_after = 128;                                  // the same for IDLE
  io_limits limits{};                                              // of all flows together
  std::chrono::nanoseconds burst = std::chrono::milliseconds(10);  // how early a limit lets through
};

// What a flow is entitled to, as its context says now.
struct fair_terms {
  ioprio prio{};
  std::uint32_t weight = 100;  // 1…10 000
  io_limits limits{};
};

class fair_flow : private fair_node {
 public:
  fair_flow() = default;

  // In the order, ready or capped.
  [[nodiscard]] bool in() const noexcept { return place_ != place::out; }
  // Changes with the flow's limits: what was charged under other ones is not given back to these.
  [[nodiscard]] std::uint16_t limits_version() const noexcept { return limits_version_; }

 protected:
  ~fair_flow() = default;

 private:
  friend class fair_order;

  enum class place : std::uint8_t { out, ready, capped };

  virtual_time tag_;          // when its next may start
  std::int64_t owes_ns_ = 0;  // cost to settle with its next; negative: it is owed
  std::uint64_t rest_ = 0;    // of a unit of virtual time, in 1/shares
  std::uint32_t shares_ = 1;  // weight * level factor
  std::uint8_t class_ = 1;    // index of its class
  place place_ = place::out;
  std::uint16_t limits_version_ = 0;
  rate_gate ops_;
  rate_gate bytes_;
  io_limits limits_;
};

class fair_order {
 public:
  static constexpr std::uint64_t never_ns = std::numeric_limits<std::uint64_t>::max();
  // A capped flow is due again after this at the latest, so that a limit that was raised meanwhile is noticed.
  static constexpr std::uint64_t look_again_ns = 250'000'000;
  static constexpr std::uint32_t max_weight = 10'000;

  // start: of the virtual time; any will do.
  explicit fair_order(const fair_options& options = {}, virtual_time start = {}) noexcept;
  fair_order(const fair_order&) = delete;
  fair_order& operator=(const fair_order&) = delete;
  ~fair_order();

  // The flow has something to send. Requires: it is out.
  void wake(fair_flow& flow, const fair_terms& terms, std::uint64_t now_ns) noexcept;
  // Its terms may have changed: stands where they put it. Requires: it is in.
  void refile(fair_flow& flow, const fair_terms& terms, std::uint64_t now_ns) noexcept;
  // It has nothing to send any more. Idempotent.
  void sleep(fair_flow& flow) noexcept;

  // Takes a capped flow out whose time has come, for the caller to wake it; null if there is none.
  [[nodiscard]] fair_flow* take_due(std::uint64_t now_ns) noexcept;

  struct choice {
    fair_flow* flow;             // goes next; it stays where it is until it is served
    std::uint64_t ask_again_ns;  // flow is null: when to ask again; never_ns: after a wake only
  };
  // Requires: take_due has none.
  [[nodiscard]] choice next(std::uint64_t now_ns) const noexcept;

  // What the flow sends next has this size, and goes. `more`: it has more to send. Requires: it is ready.
  enum class more : bool { no, yes };
  void serve(fair_flow& flow, const fair_terms& terms, std::uint64_t bytes, more rest, std::uint64_t now_ns) noexcept;

  // Limits count what goes and hold back nothing, until they are put back. It holds for a flow from its next wake or
  // refile: the caller takes out and wakes those that are in.
  void lift_limits(bool lifted) noexcept { lifted_ = lifted; }

  // What it was served with moved more or less than that: counts with what it sends next. More counts for limits too,
  // and costs nothing where no flow waited for it. Less does not count for limits: they are of what was let go.
  void settle(fair_flow& flow, std::uint64_t served_bytes, std::uint64_t moved_bytes, std::uint64_t now_ns) noexcept;

  // What it was served with, of this size, did not go after all: as if it had not been served. limits_version: the
  // flow's when it was.
  void take_back(fair_flow& flow, std::uint64_t bytes, std::uint16_t limits_version, std::uint64_t now_ns) noexcept;

  // A flow that is out wants to send at once, past those who are in but cannot go now: true if it may; it is served
  // then.
  [[nodiscard]] bool try_pass(fair_flow& flow, const fair_terms& terms, std::uint64_t bytes,
                              std::uint64_t now_ns) noexcept;

  // Nobody is in.
  [[nodiscard]] bool empty() const noexcept;

  [[nodiscard]] std::uint64_t cost_of(std::uint64_t bytes) const noexcept;
  // weight * (8 - level): the kernel's BFQ gives its levels the weights 80, 70 … 10 by the same rule.
  [[nodiscard]] static std::uint32_t shares_of(const fair_terms& terms) noexcept;

 private:
  static constexpr std::size_t classes = 3;

  struct level {
    fair_tree ready;
    virtual_time now;          // the tag of who went last
    std::uint64_t passed = 0;  // how many others went since, while somebody waited here
  };

  void count(fair_flow& flow, std::uint64_t pieces, std::uint64_t bytes, std::uint64_t now_ns) noexcept;
  void take_terms(fair_flow& flow, const fair_terms& terms) noexcept;
  void file(fair_flow& flow, std::uint64_t now_ns, std::uint64_t standing) noexcept;
  void take_out(fair_flow& flow) noexcept;
  [[nodiscard]] bool nothing_ready() const noexcept;
  // No flow waits that could go now.
  [[nodiscard]] bool none_waits(std::uint64_t now_ns) const noexcept;
  // When the gates of all flows together are open.
  [[nodiscard]] std::uint64_t common_ready_ns() const noexcept;
  // Moves the flow's tag and the gates on.
  void charge(fair_flow& flow, std::uint64_t bytes, std::uint64_t now_ns) noexcept;
  [[nodiscard]] std::uint64_t ready_ns(const fair_flow& flow) const noexcept;
  [[nodiscard]] std::size_t class_to_go() const noexcept;
  void count_pass(std::size_t went) noexcept;

  const fair_options options_;
  const std::uint64_t burst_ns_;
  std::array<level, classes> levels_;
  fair_tree capped_;  // by the time at which they may go
  std::uint64_t turns_ = 0;
  rate_gate ops_;
  rate_gate bytes_;
  bool lifted_ = false;
};

}  // namespace sluice
