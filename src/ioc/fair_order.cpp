#include "sluice/ioc/fair_order.h"

#include <algorithm>

#include "sluice/base/check.h"

namespace sluice {
namespace {

constexpr std::size_t rt = 0;
constexpr std::size_t be = 1;
constexpr std::size_t idle = 2;

// Virtual time is finer than a cost by this, so that the tags of the greatest weights differ too.
constexpr unsigned tag_bits = 20;
// No piece costs more than a second or counts for more than a GiB: cost << tag_bits stays below 2^50.
constexpr std::int64_t most_cost_ns = 1'000'000'000;
constexpr std::uint64_t most_bytes = 1ULL << 30U;

// Who woke stands before those who went on, among equals: it had no turn at this tag.
constexpr std::uint64_t woken = 0;
constexpr std::uint64_t went_on = 1ULL << 63U;
// Two tags that should be equal differ by less than this, a remainder each. Heavy flows of one weight all stand at one
// tag: without this a light one would now and then wait for all of them, for the sake of a remainder.
constexpr std::uint64_t rounding = 2;

std::size_t class_of(ioprio prio) noexcept {
  switch (prio.effective().cls()) {
    case ioprio_class::rt:
      return rt;
    case ioprio_class::idle:
      return idle;
    default:
      return be;
  }
}

}  // namespace

fair_order::fair_order(const fair_options& options, virtual_time start) noexcept
    : options_(options), burst_ns_(static_cast<std::uint64_t>(std::max<std::int64_t>(options.burst.count(), 0))) {
  SLUICE_CHECK(options.be_after != 0 && options.idle_after != 0, "a class that waits for nobody is no lower one");
  for (level& each : levels_) {
    each.now = start;
  }
}

fair_order::~fair_order() {
  SLUICE_CHECK(empty(), "a fair order ends while flows are in it");
}

bool fair_order::nothing_ready() const noexcept {
  return std::ranges::all_of(levels_, [](const level& each) { return each.ready.empty(); });
}

bool fair_order::none_waits(std::uint64_t now_ns) const noexcept {
  // A capped flow whose time has come is taken out by the next pick only.
  const fair_node* first = capped_.first();
  return nothing_ready() && (first == nullptr || first->key().at.low > now_ns);
}

bool fair_order::empty() const noexcept {
  return capped_.empty() && nothing_ready();
}

std::uint64_t fair_order::cost_of(std::uint64_t bytes) const noexcept {
  constexpr unsigned mib_bits = 20;
  const std::uint64_t moved = (std::min(bytes, most_bytes) * options_.mib_cost_ns) >> mib_bits;
  return std::clamp<std::uint64_t>(options_.op_cost_ns + moved, 1, static_cast<std::uint64_t>(most_cost_ns));
}

std::uint32_t fair_order::shares_of(const fair_terms& terms) noexcept {
  const unsigned behind = std::min(terms.prio.effective().level(), ioprio::levels - 1);
  return std::clamp<std::uint32_t>(terms.weight, 1, max_weight) * (ioprio::levels - behind);
}

void fair_order::take_terms(fair_flow& flow, const fair_terms& terms) noexcept {
  if (const std::uint32_t shares = shares_of(terms); shares != flow.shares_) {
    flow.shares_ = shares;
    flow.rest_ = 0;
  }
  if (const std::size_t cls = class_of(terms.prio); cls != flow.class_) {
    // Each class has a time of its own. What the flow owes goes along: else changing to and fro would wipe it out.
    const level& old = levels_[flow.class_];
    const std::uint64_t owes = flow.tag_ > old.now ? flow.tag_.since(old.now) : 0;
    flow.tag_ = levels_[cls].now.plus(owes);
    flow.class_ = static_cast<std::uint8_t>(cls);
  }
  if (terms.limits != flow.limits_) {
    flow.limits_ = terms.limits;
    ++flow.limits_version_;
    flow.ops_.reset();
    flow.bytes_.reset();
  }
}

std::uint64_t fair_order::ready_ns(const fair_flow& flow) const noexcept {
  // A gate without a limit was never charged and is open.
  return lifted_ ? 0 : std::max(flow.ops_.ready_ns(burst_ns_), flow.bytes_.ready_ns(burst_ns_));
}

std::uint64_t fair_order::common_ready_ns() const noexcept {
  return lifted_ ? 0 : std::max(ops_.ready_ns(burst_ns_), bytes_.ready_ns(burst_ns_));
}

void fair_order::file(fair_flow& flow, std::uint64_t now_ns, std::uint64_t standing) noexcept {
  SLUICE_DCHECK(flow.place_ == fair_flow::place::out, "a flow is filed twice");
  const std::uint64_t turn = turns_++;
  if (const std::uint64_t at = ready_ns(flow); at > now_ns) {
    flow.place_ = fair_flow::place::capped;
    capped_.insert(flow, {.at = {.high = 0, .low = std::min(at, now_ns + look_again_ns)}, .turn = turn});
    return;
  }
  level& own = levels_[flow.class_];
  // Somebody who could not go saves nothing up.
  flow.tag_ = std::max(flow.tag_, own.now);
  const bool now_already = standing == woken && flow.tag_ <= own.now.plus(rounding);
  flow.place_ = fair_flow::place::ready;
  own.ready.insert(flow, {.at = now_already ? own.now : flow.tag_, .turn = turn | standing});
}

void fair_order::take_out(fair_flow& flow) noexcept {
  if (flow.place_ == fair_flow::place::ready) {
    levels_[flow.class_].ready.erase(flow);
  } else if (flow.place_ == fair_flow::place::capped) {
    capped_.erase(flow);
  }
  flow.place_ = fair_flow::place::out;
}

void fair_order::wake(fair_flow& flow, const fair_terms& terms, std::uint64_t now_ns) noexcept {
  SLUICE_CHECK(!flow.in(), "a flow is woken twice");
  take_terms(flow, terms);
  file(flow, now_ns, woken);
}

void fair_order::refile(fair_flow& flow, const fair_terms& terms, std::uint64_t now_ns) noexcept {
  SLUICE_CHECK(flow.in(), "a flow that is out has no place to change");
  if (class_of(terms.prio) == flow.class_ && terms.limits == flow.limits_) {
    return;  // a new weight counts from the next charge
  }
  take_out(flow);
  take_terms(flow, terms);
  file(flow, now_ns, went_on);
}

void fair_order::sleep(fair_flow& flow) noexcept {
  take_out(flow);
}

fair_flow* fair_order::take_due(std::uint64_t now_ns) noexcept {
  fair_node* first = capped_.first();
  if (first == nullptr || first->key().at.low > now_ns) {
    return nullptr;
  }
  auto* flow = static_cast<fair_flow*>(first);
  take_out(*flow);
  return flow;
}

std::size_t fair_order::class_to_go() const noexcept {
  // The lowest class is asked first, so that its bound holds whatever the others owe each other.
  if (!levels_[idle].ready.empty() && levels_[idle].passed >= options_.idle_after) {
    return idle;
  }
  if (!levels_[be].ready.empty() && levels_[be].passed >= options_.be_after) {
    return be;
  }
  std::size_t best = rt;
  while (best < classes && levels_[best].ready.empty()) {
    ++best;
  }
  return best;
}

fair_order::choice fair_order::next(std::uint64_t now_ns) const noexcept {
  const std::size_t chosen = class_to_go();
  if (chosen == classes) {
    const fair_node* first = capped_.first();
    return {.flow = nullptr, .ask_again_ns = first == nullptr ? never_ns : first->key().at.low};
  }
  const std::uint64_t open = common_ready_ns();
  if (open > now_ns) {
    return {.flow = nullptr, .ask_again_ns = open};
  }
  return {.flow = static_cast<fair_flow*>(levels_[chosen].ready.first()), .ask_again_ns = never_ns};
}

void fair_order::count(fair_flow& flow, std::uint64_t pieces, std::uint64_t bytes, std::uint64_t now_ns) noexcept {
  const auto through = [=](const io_limits& limits, rate_gate& ops, rate_gate& moved) {
    if (limits.iops != 0) {
      ops.charge(pieces, limits.iops, now_ns);
    }
    if (limits.bytes_per_second != 0) {
      moved.charge(bytes, limits.bytes_per_second, now_ns);
    }
  };
  through(flow.limits_, flow.ops_, flow.bytes_);
  through(options_.limits, ops_, bytes_);
}

void fair_order::charge(fair_flow& flow, std::uint64_t bytes, std::uint64_t now_ns) noexcept {
  const std::int64_t due = static_cast<std::int64_t>(cost_of(bytes)) + flow.owes_ns_;
  const auto cost = static_cast<std::uint64_t>(std::clamp<std::int64_t>(due, 0, most_cost_ns));
  flow.owes_ns_ = due - static_cast<std::int64_t>(cost);
  const std::uint64_t sum = (cost << tag_bits) + flow.rest_;
  flow.tag_ = flow.tag_.plus(sum / flow.shares_);
  flow.rest_ = sum % flow.shares_;
  count(flow, 1, bytes, now_ns);
}

void fair_order::settle(fair_flow& flow, std::uint64_t served_bytes, std::uint64_t moved_bytes,
                        std::uint64_t now_ns) noexcept {
  const auto served = static_cast<std::int64_t>(cost_of(served_bytes));
  const auto moved = static_cast<std::int64_t>(cost_of(moved_bytes));
  if (moved <= served || !none_waits(now_ns)) {
    // Bounded: what is owed for longer than a second of work is nobody's fair share.
    flow.owes_ns_ = std::clamp<std::int64_t>(flow.owes_ns_ + moved - served, -most_cost_ns, most_cost_ns);
  }
  if (moved_bytes > served_bytes) {
    count(flow, 0, moved_bytes - served_bytes, now_ns);
  }
}

void fair_order::take_back(fair_flow& flow, std::uint64_t bytes, std::uint16_t limits_version,
                           std::uint64_t now_ns) noexcept {
  const bool was_in = flow.in();
  take_out(flow);
  // Not before the time of now: that is where it would be filed anyhow, and its shares may have changed meanwhile.
  const virtual_time now = levels_[flow.class_].now;
  const std::uint64_t span = (cost_of(bytes) << tag_bits) / flow.shares_;
  flow.tag_ = flow.tag_ < now.plus(span) ? std::min(flow.tag_, now) : flow.tag_.minus(span);
  const auto back = [bytes](const io_limits& limits, rate_gate& ops, rate_gate& moved) {
    if (limits.iops != 0) {
      ops.take_back(1, limits.iops);
    }
    if (limits.bytes_per_second != 0) {
      moved.take_back(bytes, limits.bytes_per_second);
    }
  };
  if (limits_version == flow.limits_version_) {
    back(flow.limits_, flow.ops_, flow.bytes_);
  }
  back(options_.limits, ops_, bytes_);
  if (was_in) {
    file(flow, now_ns, woken);
  }
}

void fair_order::count_pass(std::size_t went) noexcept {
  for (std::size_t i = 0; i < classes; ++i) {
    level& each = levels_[i];
    each.passed = i == went || each.ready.empty() ? 0 : each.passed + 1;
  }
}

void fair_order::serve(fair_flow& flow, const fair_terms& terms, std::uint64_t bytes, more rest,
                       std::uint64_t now_ns) noexcept {
  SLUICE_CHECK(flow.place_ == fair_flow::place::ready, "only a flow that is ready is served");
  level& own = levels_[flow.class_];
  own.now = std::max(own.now, flow.key().at);
  take_out(flow);
  count_pass(flow.class_);
  // It goes by the terms under which it was chosen; a new weight counts from here, a new class for what comes after.
  charge(flow, bytes, now_ns);
  take_terms(flow, terms);
  if (rest == more::yes) {
    file(flow, now_ns, went_on);
  }
}

bool fair_order::try_pass(fair_flow& flow, const fair_terms& terms, std::uint64_t bytes,
                          std::uint64_t now_ns) noexcept {
  SLUICE_CHECK(!flow.in(), "who waits does not pass");
  take_terms(flow, terms);
  if (std::max(ready_ns(flow), common_ready_ns()) > now_ns) {
    return false;
  }
  level& own = levels_[flow.class_];
  flow.tag_ = std::max(flow.tag_, own.now);
  if (own.ready.empty()) {  // else it runs ahead of those who are in: they have not been late
    own.now = flow.tag_;
  }
  charge(flow, bytes, now_ns);
  return true;
}

}  // namespace sluice
