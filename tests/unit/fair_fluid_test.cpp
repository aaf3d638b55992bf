// Goal: the elevator `fair` keeps to the shares of a fluid server in any mix of weights, sizes, limits, idle times
// and depths.
// Method: random scenes in simulated time. The elevator is called as request_queue.cpp calls it; a device of `depth`
// slots takes exactly the cost of a piece for it. What goes is compared with a reference that is computed here and
// knows nothing of tags.
//
// The reference is generalized processor sharing (GPS): the flows that want have service at rates in proportion to
// their shares, and what a flow does not want goes to the others. Its clock is the work that the elevator lets go:
// for each piece that goes the fluid serves as much work. So all flows together have the same in both at all times.
// In time, the device lags by what is under way, a piece per slot, and by no more: a slot is never free while a flow
// may go (checked).
//
// A flow wants what it has waiting in the elevator, while its limits let it go. If it wants nothing when another flow
// goes, it gives back what the fluid served and the elevator did not, and begins anew: neither saves anything up. A
// quantum that ends and comes back before another flow goes is no interruption.
//
// Bounds. c(f) is the cost of f's largest piece, a quantum or less; F(f) its shares; v the elevator's virtual time. A
// flow that wants has its tag in [v, v + c(f)/F(f)], and the pieces that go while v moves from v1 to v2 have theirs
// in [v1, v2]:
//
//   work of f >= F(f) (v2 - v1) - c(f)   if f wants all the while
//   work of g <= F(g) (v2 - v1) + c(g)   always
//
//   P  Between any two instants between which f wants all the while, no g gains more on it, in work per share, than
//      c(f)/F(f) + c(g)/F(g): two quanta, one of each, at any depth and whatever g and the others do (Goyal, Vin and
//      Cheng 1996, theorem 1, where both want all the while). Scenes reach it exactly.
//   S  The sum of P over all g: among n flows that want all the while, f is behind the fluid by at most
//      c (1 + s (n - 2)), where s is its part of all shares. That is two quanta or less where s <= 1 / (n - 2): so for
//      flows of equal weight. A flow with nearly all the shares may be n - 1 quanta behind, a piece of each other flow:
//      start-time fair queueing does that (OnePieceOfEachOtherFlow).
//   G  Flows come and go: no flow is behind the fluid, or ahead of it, by more than one piece of each flow. Let V be
//      the fluid's virtual time, and d = V - v. A flow that is ahead was not ahead when the fluid began to serve it,
//      at s, and has been served since then: it is ahead by at most c(g) + F(g) (d(s) - d). Where d is not below any
//      such d(s), f is therefore behind by at most one piece of each other flow. For the other instants this is
//      measured and not proved: 300 000 scenes came to 0.89 of the bound.
//
// What a piece moved more or less than it was let go with is settled with a later piece. For a flow to which that
// happens c(f) is larger: by a piece of each slot if pieces fail, by twice the rest of each slot's block if a block
// is larger than the quantum.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/ioc/fair.h"

#include "support/io_helpers.h"

namespace fair_fluid_test {
namespace {

using namespace sluice;

constexpr std::size_t most_flows = 8;
constexpr std::size_t most_slots = 8;
constexpr std::size_t most_under_way = 16;  // requests of one flow
constexpr std::uint64_t kib = 1 << 10;
constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint64_t never = std::numeric_limits<std::uint64_t>::max();
constexpr double ns_per_s = 1e9;
// Faster limits are not kept to the nanosecond (rate_gate.h).
constexpr double exact_rate = 0x1p33;
// The elevator rounds the times of its limits down to a nanosecond.
constexpr double rounding_ns = 2;
// Of a bound: what rounding of tags and of doubles may come to.
constexpr double tolerance = 1e-6;

// What a scene is made of.
struct flow_plan {
  fair_terms terms;
  std::uint64_t least_bytes = 0;
  std::uint64_t most_bytes = 0;
  std::uint64_t begins_ns = 0;
  std::size_t depth = 1;          // requests at once, at most
  std::uint64_t interval_ns = 0;  // one comes every so often; 0: one comes when another one is over
  unsigned idle_percent = 0;      // of requests, after which the flow wants nothing for a while
  std::uint64_t idle_ns = 0;      // for so long on average
  unsigned failing_percent = 0;   // of pieces, which move less than they were let go for
};

struct scene_plan {
  fair_options options;
  std::size_t depth = 1;
  std::uint64_t quantum = 0;
  std::uint64_t block = 0;  // the least that a piece moves
  std::size_t pieces = 0;
  std::vector<flow_plan> flows;
};

// Seeded, and the same on each platform: the standard's distributions are not.
class dice {
 public:
  explicit dice(std::uint64_t seed) : random_(seed) {}
  // 0 … below - 1.
  std::uint64_t under(std::uint64_t below) { return random_() % below; }
  std::uint64_t between(std::uint64_t least, std::uint64_t most) { return least + under(most - least + 1); }
  bool percent(unsigned part) { return under(100) < part; }
  double unit() { return static_cast<double>(random_() >> 11U) * 0x1p-53; }
  // Each order of magnitude is as likely as another one.
  double scaled(double least, double most) { return least * std::exp2(unit() * std::log2(most / least)); }
  std::uint64_t scaled(std::uint64_t least, std::uint64_t most) {
    const double drawn = scaled(static_cast<double>(least), static_cast<double>(most));
    return std::clamp(static_cast<std::uint64_t>(drawn), least, most);
  }

 private:
  std::mt19937_64 random_;
};

std::uint64_t cost_of(const fair_options& options, std::uint64_t bytes) {
  return options.op_cost_ns + ((bytes * options.mib_cost_ns) >> 20U);
}

double shares_of(const fair_terms& terms) {
  constexpr unsigned levels = 8;
  constexpr unsigned of_none = 4;
  const unsigned behind = terms.prio.cls() == ioprio_class::idle   ? 0
                          : terms.prio.cls() == ioprio_class::none ? of_none
                                                                   : terms.prio.level();
  return static_cast<double>(terms.weight) * (levels - behind);
}

enum class limited : bool { no, yes };

flow_plan plan_flow(dice& random, const scene_plan& scene, double piece_ns, limited limits) {
  constexpr std::uint64_t sector = 512;
  const std::uint64_t largest = 32 * mib;
  flow_plan made;
  made.least_bytes = random.scaled(sector, largest);
  made.most_bytes = random.percent(50) ? made.least_bytes : random.scaled(made.least_bytes, largest);
  made.depth = random.percent(30) ? 1 : static_cast<std::size_t>(random.between(1, most_under_way));
  if (random.percent(25)) {
    made.interval_ns = static_cast<std::uint64_t>(piece_ns * random.scaled(0.1, 30.0));
  }
  if (random.percent(50)) {
    made.idle_percent = static_cast<unsigned>(random.scaled(std::uint64_t{2}, std::uint64_t{100}));
    made.idle_ns = static_cast<std::uint64_t>(piece_ns * random.scaled(0.05, 30.0));
  }
  if (limits == limited::yes) {
    const double per_second = ns_per_s / piece_ns;
    if (random.percent(60)) {
      made.terms.limits.bytes_per_second = static_cast<std::uint64_t>(
          std::clamp(per_second * static_cast<double>(scene.quantum) * random.scaled(0.01, 1.5), 1.0, exact_rate));
    }
    if (random.percent(60)) {
      made.terms.limits.iops = static_cast<std::uint64_t>(std::max(1.0, per_second * random.scaled(0.01, 1.5)));
    }
  }
  return made;
}

scene_plan plan_scene(std::uint64_t seed) {
  dice random(seed);
  scene_plan made;
  made.depth = random.percent(35) ? 1 : static_cast<std::size_t>(random.between(1, most_slots));
  made.quantum = random.between(32, 512) * 512;  // 16 to 256 KiB, of sectors
  made.block = random.percent(8) ? random.between(2, 4) * made.quantum : 0;
  made.pieces = static_cast<std::size_t>(random.between(100, 400));
  made.options.op_cost_ns = static_cast<std::uint32_t>(random.scaled(std::uint64_t{1'000}, std::uint64_t{100'000}));
  made.options.mib_cost_ns =
      static_cast<std::uint32_t>(random.scaled(std::uint64_t{100'000}, std::uint64_t{4'000'000}));
  const double piece_ns = static_cast<double>(cost_of(made.options, made.quantum)) / static_cast<double>(made.depth);
  made.options.burst =
      std::chrono::nanoseconds(random.percent(30) ? 0 : static_cast<std::int64_t>(piece_ns * random.scaled(0.1, 50.0)));
  if (random.percent(8)) {
    made.options.limits.iops = static_cast<std::uint64_t>(std::max(1.0, ns_per_s / piece_ns * random.scaled(0.2, 1.5)));
  }
  const bool equal = random.percent(30);
  const bool limits = random.percent(50);
  const bool failing = random.percent(8);
  const ioprio_class cls = random.percent(80)   ? ioprio_class::be
                           : random.percent(50) ? ioprio_class::rt
                                                : ioprio_class::idle;
  const auto alone_ns = static_cast<std::uint64_t>(piece_ns * static_cast<double>(random.between(0, 100)));
  const bool at_once = random.percent(30);
  const std::size_t count = 1 + static_cast<std::size_t>(random.between(1, most_flows - 1));
  for (std::size_t i = 0; i < count; ++i) {
    flow_plan& each = made.flows.emplace_back(
        plan_flow(random, made, piece_ns, limits && random.percent(50) ? limited::yes : limited::no));
    each.terms.weight = equal ? io_context::default_weight : static_cast<std::uint32_t>(random.between(1, 1'000));
    each.terms.prio = {
        cls, equal || cls == ioprio_class::idle ? std::uint8_t{0} : static_cast<std::uint8_t>(random.under(8))};
    if (failing && random.percent(50)) {
      each.failing_percent = static_cast<unsigned>(random.between(1, 60));
    }
    if (i != 0) {
      each.begins_ns = alone_ns + (at_once ? 0 : static_cast<std::uint64_t>(piece_ns * random.scaled(0.1, 60.0)));
    }
  }
  if (random.percent(50)) {
    // The first has one long request after the other, and the device to itself.
    flow_plan& first = made.flows.front();
    first.least_bytes = first.most_bytes = 32 * mib;
    first.interval_ns = 0;
    first.idle_percent = 0;
  }
  return made;
}

// A limit: in any span t at most rate * (t + burst) and one piece. And as the time from which on the next may go.
class limit_model {
 public:
  limit_model() = default;
  limit_model(std::uint64_t rate, double burst_ns, double piece)
      : rate_(static_cast<double>(rate) / ns_per_s), burst_ns_(burst_ns), piece_(piece) {}

  [[nodiscard]] bool open(double now) const { return rate_ == 0 || paid_ - burst_ns_ <= now; }
  // Returns whether the bound holds.
  [[nodiscard]] bool count(double amount, double now) {
    if (rate_ == 0) {
      return true;
    }
    paid_ = std::max(paid_, now) + amount / rate_;
    least_ = std::min(least_, sum_ - rate_ * now);
    sum_ += amount;
    const double most = rate_ * (burst_ns_ + rounding_ns) + piece_;
    return sum_ - rate_ * now - least_ <= most * (1 + tolerance);
  }

 private:
  double rate_ = 0;  // per nanosecond; 0: none
  double burst_ns_ = 0;
  double piece_ = 0;
  double paid_ = 0;
  double sum_ = 0;
  double least_ = std::numeric_limits<double>::max();
};

// How near the bounds the scenes came: of each bound the largest part that was reached.
struct extremes {
  double pair = 0;
  double behind = 0;
  double ahead = 0;
  double behind_quanta = 0;
};

// The fluid server, and the comparison.
class fluid_model {
 public:
  explicit fluid_model(const scene_plan& scene) : scene_(scene), flows_(scene.flows.size()) {
    const auto burst = static_cast<double>(scene.options.burst.count());
    for (std::size_t i = 0; i < flows_.size(); ++i) {
      const flow_plan& plan = scene.flows[i];
      flow& each = flows_[i];
      each.shares = shares_of(plan.terms);
      const std::uint64_t piece = std::min(plan.most_bytes, scene.quantum);
      const std::uint64_t moved = std::min(plan.most_bytes, std::max(scene.quantum, scene.block));
      const auto piece_cost = static_cast<double>(cost_of(scene.options, piece));
      const auto under_way = static_cast<double>(std::min(plan.depth, scene.depth));
      double unsettled = 2 * (static_cast<double>(cost_of(scene.options, moved)) - piece_cost);
      if (plan.failing_percent != 0) {
        unsettled += piece_cost;
      }
      each.slack = piece_cost + under_way * unsettled;
      const double late = 2 * under_way * static_cast<double>(moved - piece);
      each.bytes = {plan.terms.limits.bytes_per_second, burst, static_cast<double>(piece) + late};
      each.ops = {plan.terms.limits.iops, burst, 1};
      all_slack_ += each.slack;
    }
    common_ = {scene.options.limits.iops, burst, 1};
    quantum_cost_ = static_cast<double>(cost_of(scene.options, scene.quantum));
  }

  // A request waits in the elevator, or does not any more.
  void waits(std::size_t of, std::uint64_t bytes) { flows_[of].waiting += whole(bytes); }
  void waits_no_more(std::size_t of, std::uint64_t bytes) { flows_[of].waiting -= whole(bytes); }

  // A piece of a request with `left` bytes goes.
  void goes(std::size_t of, std::uint64_t left, std::uint64_t now_ns) {
    const auto now = static_cast<double>(now_ns);
    const std::uint64_t piece = std::min(left, scene_.quantum);
    const auto cost = static_cast<double>(cost_of(scene_.options, piece));
    flow& mine = flows_[of];
    note(scene_.block != 0 || (mine.ops.open(now + rounding_ns) && mine.bytes.open(now + rounding_ns)), of, now_ns,
         "goes before its limit allows it");
    note(common_.open(now + rounding_ns), of, now_ns, "goes before the limit of all allows it");
    note(mine.bytes.count(static_cast<double>(piece), now), of, now_ns, "has more bytes in a span than its limit");
    note(mine.ops.count(1, now), of, now_ns, "has more pieces in a span than its limit");
    note(common_.count(1, now), of, now_ns, "all flows have more pieces in a span than their limit");
    for (std::size_t i = 0; i < flows_.size(); ++i) {
      if (i != of) {
        cut(flows_[i], now);
      }
    }
    mine.work += cost;
    mine.wants = mine.work + mine.waiting + whole(left) - cost;
    pool_ += cost;
    pour();
    compare(of, now_ns);
  }

  // A piece moved more or less than it was let go with.
  void moved(std::size_t of, std::uint64_t piece, std::uint64_t bytes, std::uint64_t now_ns) {
    if (piece == bytes) {
      return;
    }
    const auto now = static_cast<double>(now_ns);
    flow& mine = flows_[of];
    const double more =
        static_cast<double>(cost_of(scene_.options, bytes)) - static_cast<double>(cost_of(scene_.options, piece));
    mine.work += more;
    mine.wants += more;
    if (more > 0 && nothing_waits(now)) {
      mine.fluid += more;  // no other wanted it
      mine.free += more;
    } else {
      pool_ += more;
    }
    if (bytes > piece) {
      note(mine.bytes.count(static_cast<double>(bytes - piece), now), of, now_ns,
           "has more bytes in a span than its limit");
    }
  }

  // A slot of the device is free.
  void idles(std::uint64_t now_ns) {
    const auto now = static_cast<double>(now_ns) - rounding_ns;
    if (!common_.open(now)) {
      return;
    }
    for (std::size_t i = 0; i < flows_.size(); ++i) {
      note(!wants(flows_[i], now), i, now_ns, "waits while a slot is free");
    }
  }

  void note(bool holds, std::size_t of, std::uint64_t now_ns, const char* what) {
    if (!holds && wrong_.empty()) {
      wrong_ = "flow " + std::to_string(of) + " " + what + ", at " + std::to_string(now_ns) + " ns";
    }
  }

  [[nodiscard]] const std::string& wrong() const { return wrong_; }
  [[nodiscard]] const extremes& reached() const { return reached_; }

 private:
  struct flow {
    double shares = 0;
    double slack = 0;    // c(f)
    double waiting = 0;  // work, in the elevator
    double work = 0;     // let go
    double fluid = 0;    // the same, by the reference
    double wants = 0;    // up to which the fluid serves it
    double free = 0;     // work that counts for no comparison
    limit_model bytes;
    limit_model ops;
    // Of each other flow: how far it was ahead of this one, in work per share, at the least since this one wants.
    std::array<double, most_flows> least_ahead{};
    bool wanted = false;
  };

  // The cost of a request in pieces.
  [[nodiscard]] double whole(std::uint64_t bytes) const {
    const std::uint64_t quanta = bytes / scene_.quantum;
    const std::uint64_t rest = bytes % scene_.quantum;
    return static_cast<double>(quanta) * quantum_cost_ +
           (rest == 0 ? 0 : static_cast<double>(cost_of(scene_.options, rest)));
  }
  [[nodiscard]] static bool wants(const flow& each, double now) {
    return each.waiting > 0 && each.ops.open(now) && each.bytes.open(now);
  }
  [[nodiscard]] bool nothing_waits(double now) const {
    return std::ranges::none_of(flows_, [now](const flow& each) { return wants(each, now); });
  }
  [[nodiscard]] static double per_share(const flow& each) { return (each.work - each.free) / each.shares; }

  // While another one goes the flow wants what it has waiting, and has no claim to more.
  void cut(flow& each, double now) {
    each.wanted = wants(each, now - rounding_ns);
    each.wants = each.work + (each.wanted ? each.waiting : 0);
    if (each.fluid > each.wants) {
      pool_ += std::exchange(each.fluid, each.wants) - each.wants;
    }
  }

  // Gives what is in the pool to those that want, by their shares.
  void pour() {
    while (pool_ > 0) {
      double shares = 0;
      double first = std::numeric_limits<double>::max();  // who is content first: at which work per share
      for (const flow& each : flows_) {
        if (each.wants > each.fluid) {
          shares += each.shares;
          first = std::min(first, (each.wants - each.fluid) / each.shares);
        }
      }
      if (shares == 0) {
        return;
      }
      const double step = std::min(first, pool_ / shares);
      for (flow& each : flows_) {
        if (each.wants > each.fluid) {
          const double most = each.wants - each.fluid;
          const double part = step * each.shares;
          each.fluid = part >= most * (1 - 1e-12) ? each.wants : each.fluid + part;
        }
      }
      pool_ = step < first ? 0 : pool_ - step * shares;
    }
  }

  void compare(std::size_t went, std::uint64_t now_ns) {
    const flow& mine = flows_[went];
    const double my_work = per_share(mine);
    for (std::size_t i = 0; i < flows_.size(); ++i) {
      flow& each = flows_[i];
      if (i == went) {
        for (std::size_t j = 0; j < flows_.size(); ++j) {
          each.least_ahead[j] = std::min(each.least_ahead[j], per_share(flows_[j]) - my_work);
        }
      } else if (each.wanted) {
        const double ahead = my_work - per_share(each);
        each.least_ahead[went] = std::min(each.least_ahead[went], ahead);
        const double bound = each.slack / each.shares + mine.slack / mine.shares;
        reach(reached_.pair, ahead - each.least_ahead[went], bound, i, now_ns, "is too far behind another one");
        const double behind = each.fluid - each.work;
        reached_.behind_quanta = std::max(reached_.behind_quanta, behind / quantum_cost_);
        reach(reached_.behind, behind, all_slack_, i, now_ns, "is too far behind its fluid share");
      } else {
        const double own = per_share(each);
        for (std::size_t j = 0; j < flows_.size(); ++j) {
          each.least_ahead[j] = per_share(flows_[j]) - own;
        }
      }
    }
    reach(reached_.ahead, mine.work - mine.fluid, all_slack_, went, now_ns, "is too far ahead of its fluid share");
  }

  void reach(double& most, double value, double bound, std::size_t of, std::uint64_t now_ns, const char* what) {
    most = std::max(most, value / bound);
    note(value <= bound * (1 + tolerance), of, now_ns, what);
  }

  const scene_plan& scene_;
  std::vector<flow> flows_;
  limit_model common_;
  double quantum_cost_ = 0;
  double all_slack_ = 0;
  double pool_ = 0;  // work that the fluid has yet to give; negative: has given too much
  std::string wrong_;
  extremes reached_;
};

struct sized_request : request {
  using request::set_bytes_left;
  std::size_t flow = 0;
};

// What is wrong on purpose.
enum class fault : std::uint8_t {
  none,
  fifo,           // first come, first served
  equal_weights,  // of contexts whose weights differ
  no_limits,      // of contexts that have some
  unasked,        // a request that is alone goes on without a word to the elevator, and is settled as one piece
};

// The pairs come from a queue that is never used: what waits in the elevator under test is up to the scene alone.
class pair_source {
 public:
  pair_source() : pairs_({}, 1, make_fair_elevator()) {}

  io_cq* make(const fair_terms& terms) {
    const ref<io_context> made = tasks_.emplace_back().get_task_io_context(task_side::current).value();
    EXPECT_TRUE(made->set_weight(terms.weight).has_value());
    made->set_ioprio(terms.prio);
    made->set_limits(terms.limits);
    return pairs_.queue->get_io_cq(*made).value();
  }
  void clear() { tasks_.clear(); }

 private:
  test::io_bench pairs_;
  std::deque<task> tasks_;
};

// A queue and its device. Its functions stand for those of request_queue.cpp that are named beside them.
class simulation {
 public:
  simulation(const scene_plan& scene, std::uint64_t seed, pair_source& pairs, fault wrong)
      : scene_(scene),
        wrong_(wrong),
        random_(~seed),
        model_(scene),
        order_(wrong == fault::fifo ? make_none_elevator() : make_fair_elevator(scene.options)),
        flows_(scene.flows.size()),
        requests_(scene.flows.size() * most_under_way) {
    order_->set_quantum_locked(scene.quantum);
    for (std::size_t i = 0; i < flows_.size(); ++i) {
      fair_terms terms = scene.flows[i].terms;
      if (wrong == fault::equal_weights) {
        terms.weight = io_context::default_weight;
        terms.prio = {terms.prio.cls(), 0};
      } else if (wrong == fault::no_limits) {
        terms.limits = {};
      }
      flows_[i].pair = pairs.make(terms);
      flows_[i].comes_ns = scene.flows[i].begins_ns;
    }
    for (sized_request& each : requests_) {
      unused_.push_back(&each);
    }
  }
  ~simulation() {
    request_fifo rest;
    static_cast<void>(order_->extract_all_locked(rest));
    while (rest.pop() != nullptr) {
    }
  }
  simulation(const simulation&) = delete;
  simulation& operator=(const simulation&) = delete;

  const fluid_model& run() {
    while (went_ < scene_.pieces && model_.wrong().empty() && step()) {
    }
    return model_;
  }
  [[nodiscard]] std::size_t went() const { return went_; }

 private:
  struct flow {
    io_cq* pair = nullptr;
    std::uint64_t comes_ns = never;  // the next request by itself
    std::size_t under_way = 0;       // requests, waiting or on the device
  };
  struct slot {
    sized_request* runs = nullptr;
    std::uint64_t ends_ns = never;
    std::uint64_t moves = 0;
    std::uint64_t untold = 0;  // moved before, of which the elevator knows nothing
    bool fails = false;
  };

  [[nodiscard]] steady_time now() const {
    constexpr std::chrono::seconds start{1'000};
    return steady_time(start + std::chrono::nanoseconds(static_cast<std::int64_t>(now_ns_)));
  }
  [[nodiscard]] std::uint64_t since_start(steady_time at) const {
    return at == no_deadline ? never : now_ns_ + static_cast<std::uint64_t>((at - now()).count());
  }

  // What happens next. Returns false if nothing does.
  bool step() {
    std::uint64_t next = asks_ns_;
    for (std::size_t i = 0; i < scene_.depth; ++i) {
      next = std::min(next, slots_[i].ends_ns);
    }
    for (const flow& each : flows_) {
      next = std::min(next, each.comes_ns);
    }
    if (next == never) {
      model_.note(waiting_ == 0, 0, now_ns_, "or another one waits, and the elevator names no time");
      return false;
    }
    now_ns_ = next;
    for (std::size_t i = 0; i < scene_.depth; ++i) {
      if (slots_[i].ends_ns == now_ns_) {
        end(i);
      }
    }
    for (std::size_t i = 0; i < flows_.size(); ++i) {
      if (flows_[i].comes_ns == now_ns_) {
        come(i);
      }
    }
    if (asks_ns_ == now_ns_) {
      asks_ns_ = never;
      collect();
    }
    if (busy_ < scene_.depth) {
      model_.idles(now_ns_);
    }
    return true;
  }

  // Requests come by themselves.
  void come(std::size_t of) {
    const flow_plan& plan = scene_.flows[of];
    flow& each = flows_[of];
    each.comes_ns = never;
    if (plan.interval_ns == 0) {
      fill(of);
      return;
    }
    const bool idles = random_.percent(plan.idle_percent);
    each.comes_ns = now_ns_ + 1 + random_.under(2 * (plan.interval_ns + (idles ? plan.idle_ns : 0)) + 1);
    if (each.under_way < plan.depth) {
      submit(of);
    }
  }
  void fill(std::size_t of) {
    while (flows_[of].under_way < scene_.flows[of].depth) {
      submit(of);
    }
  }

  // submit_slow, enter_locked.
  void submit(std::size_t of) {
    const flow_plan& plan = scene_.flows[of];
    flow& mine = flows_[of];
    ++mine.under_way;
    sized_request& coming = *unused_.back();
    unused_.pop_back();
    coming.flow = of;
    coming.set_bytes_left(plan.least_bytes == plan.most_bytes ? plan.most_bytes
                                                              : random_.scaled(plan.least_bytes, plan.most_bytes));
    if (busy_ < scene_.depth && waiting_ == 0 &&
        (order_->use() == io_cq_use::unused || order_->may_go_locked(coming, mine.pair, now()))) {
      start(coming);
      return;
    }
    order_->insert_locked(coming, mine.pair);
    wait(coming);
    collect();
  }
  void wait(const sized_request& coming) {
    ++waiting_;
    model_.waits(coming.flow, coming.bytes_left());
  }

  // collect_locked.
  void collect() {
    while (waiting_ != 0 && busy_ < scene_.depth) {
      const elevator_pick pick = order_->next_locked(now());
      if (pick.next == nullptr) {
        if (pick.ask_again <= now()) {
          model_.note(false, 0, now_ns_,
                      "or another one waits, and the elevator is to be asked at a time that is over");
          return;
        }
        asks_ns_ = std::min(asks_ns_, since_start(pick.ask_again));
        return;
      }
      auto& next = static_cast<sized_request&>(*pick.next);
      --waiting_;
      model_.waits_no_more(next.flow, next.bytes_left());
      start(next);
    }
  }

  void start(sized_request& goes) {
    ++busy_;
    run_piece(goes, *std::ranges::find(slots_, nullptr, &slot::runs));
  }
  void run_piece(sized_request& goes, slot& on) {
    ++went_;
    model_.goes(goes.flow, goes.bytes_left(), now_ns_);
    on.runs = &goes;
    on.moves = std::min(goes.bytes_left(), std::max(scene_.quantum, scene_.block));
    on.fails = random_.percent(scene_.flows[goes.flow].failing_percent);
    if (on.fails) {
      on.moves = random_.percent(50) ? 0 : random_.under(std::min(goes.bytes_left(), scene_.quantum));
    }
    on.ends_ns = now_ns_ + cost_of(scene_.options, on.moves);
  }

  // run_quanta, next_quantum, put_back, answer.
  void end(std::size_t which) {
    slot& mine = slots_[which];
    sized_request& over = *mine.runs;
    flow& whose = flows_[over.flow];
    const std::uint64_t charged = std::min(over.bytes_left(), scene_.quantum);
    over.set_bytes_left(over.bytes_left() - mine.moves);
    model_.moved(over.flow, charged, mine.moves, now_ns_);
    if (mine.fails || over.bytes_left() == 0) {
      served(over, mine.untold + mine.moves);
      --whose.under_way;
      const std::size_t of = over.flow;
      unused_.push_back(&over);
      follow(of);
      give(mine);
    } else if (waiting_ == 0 && (wrong_ == fault::unasked || order_->use() == io_cq_use::unused ||
                                 order_->goes_on_locked(over, whose.pair, mine.moves, now()))) {
      mine.untold += wrong_ == fault::unasked ? mine.moves : 0;
      run_piece(over, mine);
    } else {
      served(over, mine.untold + mine.moves);
      order_->insert_again_locked(over, whose.pair);
      wait(over);
      give(mine);
    }
  }
  void served(sized_request& over, std::uint64_t bytes) {
    if (order_->use() == io_cq_use::wanted) {
      order_->served_locked(over, flows_[over.flow].pair, bytes, now());
    }
  }
  // A request is over: another one follows, at once or after a while.
  void follow(std::size_t of) {
    const flow_plan& plan = scene_.flows[of];
    if (plan.interval_ns != 0 || flows_[of].comes_ns != never) {
      return;
    }
    if (random_.percent(plan.idle_percent)) {
      flows_[of].comes_ns = now_ns_ + 1 + random_.under(2 * plan.idle_ns + 1);
    } else {
      submit(of);
    }
  }
  void give(slot& freed) {
    freed = {};
    --busy_;
    collect();
  }

  const scene_plan& scene_;
  const fault wrong_;
  dice random_;
  fluid_model model_;
  std::unique_ptr<elevator> order_;
  std::vector<flow> flows_;
  std::array<slot, most_slots> slots_;
  std::deque<sized_request> requests_;
  std::vector<sized_request*> unused_;
  std::size_t busy_ = 0;
  std::size_t waiting_ = 0;
  std::size_t went_ = 0;
  std::uint64_t now_ns_ = 0;
  std::uint64_t asks_ns_ = never;
};

std::string describe(const scene_plan& scene) {
  std::string text = "depth " + std::to_string(scene.depth) + ", quantum " + std::to_string(scene.quantum) +
                     ", block " + std::to_string(scene.block);
  for (const flow_plan& each : scene.flows) {
    text += "\n  shares " + std::to_string(static_cast<std::uint64_t>(shares_of(each.terms))) + ", " +
            std::to_string(each.depth) + " requests of " + std::to_string(each.least_bytes) + " to " +
            std::to_string(each.most_bytes) + " from " + std::to_string(each.begins_ns) + " ns on, limits " +
            std::to_string(each.terms.limits.iops) + " and " + std::to_string(each.terms.limits.bytes_per_second);
  }
  return text;
}

TEST(FairFluid, TenThousandScenesKeepToTheirShares) {
  constexpr std::uint64_t scenes = 10'000;
  constexpr int most_reports = 5;
  pair_source pairs;
  extremes most;
  int reports = 0;
  // In these two, work beyond a charge was free although a flow waited whose limit had just run out.
  constexpr std::array<std::uint64_t, 2> found_once{75'155, 291'300};
  for (std::uint64_t number = 0; number < scenes + found_once.size() && reports < most_reports; ++number) {
    const std::uint64_t seed = number < scenes ? number : found_once.at(number - scenes);
    const scene_plan scene = plan_scene(seed);
    {
      simulation each(scene, seed, pairs, fault::none);
      const fluid_model& model = each.run();
      if (!model.wrong().empty()) {
        ++reports;
        ADD_FAILURE() << "seed " << seed << ": " << model.wrong() << "\n" << describe(scene);
      }
      most.pair = std::max(most.pair, model.reached().pair);
      most.behind = std::max(most.behind, model.reached().behind);
      most.ahead = std::max(most.ahead, model.reached().ahead);
    }
    pairs.clear();
  }
  // A comparison that never comes near its bound would hold for any elevator.
  EXPECT_GT(most.pair, 0.99);
  EXPECT_GT(most.behind, 0.7);
  EXPECT_GT(most.ahead, 0.7);
  RecordProperty("pair", std::to_string(most.pair));
  RecordProperty("behind", std::to_string(most.behind));
  RecordProperty("ahead", std::to_string(most.ahead));
}

// Bound S for a flow with nearly all the shares: seven others that come at once stand before it, and each has a piece.
TEST(FairFluid, OnePieceOfEachOtherFlow) {
  constexpr std::uint64_t once = never / 4;
  scene_plan scene{.options = {}, .depth = 1, .quantum = 64 * kib, .block = 0, .pieces = 100, .flows = {}};
  scene.flows.push_back({.terms = {.weight = 1'000}, .least_bytes = 32 * mib, .most_bytes = 32 * mib});
  for (std::size_t i = 1; i < most_flows; ++i) {
    scene.flows.push_back({.terms = {.weight = 1},
                           .least_bytes = scene.quantum,
                           .most_bytes = scene.quantum,
                           .begins_ns = cost_of(scene.options, scene.quantum) + 1,
                           .interval_ns = once});
  }
  pair_source pairs;
  simulation each(scene, 0, pairs, fault::none);
  const fluid_model& model = each.run();
  EXPECT_EQ(model.wrong(), "");
  EXPECT_NEAR(model.reached().behind_quanta, most_flows - 1, 0.1);
}

// The comparison sees an elevator that is not fair.
TEST(FairFluid, FindsWhatIsWrong) {
  struct control {
    fault wrong;
    const char* what;
    int least_percent;  // of scenes in which it must be found
  };
  constexpr std::array controls{control{fault::fifo, "too far behind another one", 50},
                                control{fault::equal_weights, "too far behind another one", 50},
                                control{fault::no_limits, "limit", 30}, control{fault::unasked, "limit", 10},
                                control{fault::unasked, "too far behind another one", 10}};
  constexpr int scenes = 300;
  constexpr int whole_percent = 100;
  pair_source pairs;
  for (const control& each : controls) {
    int found = 0;
    for (std::uint64_t seed = 0; seed < scenes; ++seed) {
      const scene_plan scene = plan_scene(seed);
      {
        simulation bad(scene, seed, pairs, each.wrong);
        found += bad.run().wrong().find(each.what) != std::string::npos ? 1 : 0;
      }
      pairs.clear();
    }
    EXPECT_GE(found * whole_percent, scenes * each.least_percent) << each.what << ": " << found;
  }
}

}  // namespace
}  // namespace fair_fluid_test
