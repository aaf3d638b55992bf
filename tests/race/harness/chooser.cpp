#include "race/harness/chooser.h"

#include <bit>
#include <charconv>
#include <system_error>

#include "sluice/base/check.h"

namespace race::detail {
namespace {

constexpr agents fibers_and_buffers = (agents{1} << timer_bit) - 1;
constexpr agents fibers_only = (agents{1} << buffer_bit) - 1;

// A schedule of the tree is named by its decisions. One has at most 32 alternatives: the agents.
constexpr std::string_view path_prefix = "path:";
constexpr std::string_view digits = "0123456789abcdefghijklmnopqrstuvwxyz";

agents bit(unsigned index) noexcept {
  return agents{1} << index;
}

// A few bits are set, and the baseline x86-64 has no instruction for std::popcount: it would be a call at every step.
std::uint32_t count(agents set) noexcept {
  std::uint32_t found = 0;
  for (; set != 0; set &= set - 1) {
    ++found;
  }
  return found;
}

bool has_one_bit(agents set) noexcept {
  return set != 0 && (set & (set - 1)) == 0;
}

}  // namespace

std::uint64_t chooser::next_random() noexcept {
  // splitmix64: every seed is as good as another, also 0, 1, 2, ...
  random_ += 0x9e3779b97f4a7c15U;
  std::uint64_t z = random_;
  z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31U);
}

std::uint32_t chooser::below(std::uint32_t count) noexcept {
  return static_cast<std::uint32_t>(((next_random() >> 32U) * count) >> 32U);
}

void chooser::begin_random(std::uint64_t seed) {
  source_ = source::seed;
  seed_ = seed;
  random_ = seed;
  steps_ = 0;
  preemptions_left_ = options_.max_preemptions;
  switch (below(4)) {
    case 0:
      temper_ = temper::uniform;
      break;
    case 1:
      temper_ = temper::sticky;
      stickiness_ = 4;
      break;
    case 2:
      temper_ = temper::sticky;
      stickiness_ = 16;
      break;
    default:
      temper_ = temper::priorities;
      break;
  }
  if (temper_ == temper::priorities) {
    for (std::int32_t& priority : priority_) {
      priority = static_cast<std::int32_t>(1 + below(1U << 20U));
    }
    lowest_ = 0;
    // The length of the schedule is not known beforehand, and must not be learnt: guess it, from the seed.
    const std::uint32_t length = 8U << below(5);
    for (std::uint32_t& point : change_points_) {
      point = below(length);
    }
  }
}

bool chooser::begin_path() {
  source_ = source::tree;
  preemptions_left_ = options_.max_preemptions;
  depth_ = 0;
  if (!started_) {
    started_ = true;
    return true;
  }
  while (!path_.empty() && path_.back().taken + 1 == path_.back().count) {
    path_.pop_back();
  }
  if (path_.empty()) {
    return false;
  }
  ++path_.back().taken;
  return true;
}

void chooser::begin_replay(std::string_view name) {
  if (!name.starts_with(path_prefix)) {
    std::uint64_t seed = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), seed);
    SLUICE_CHECK(error == std::errc{} && end == name.data() + name.size(), "SLUICE_RACE_SEED is what a report printed");
    begin_random(seed);
    return;
  }
  source_ = source::tree;
  preemptions_left_ = options_.max_preemptions;
  depth_ = 0;
  path_.clear();
  for (const char c : name.substr(path_prefix.size())) {
    const std::size_t digit = digits.find(c);
    SLUICE_CHECK(digit != std::string_view::npos, "SLUICE_RACE_SEED is what a report printed");
    path_.push_back({.taken = static_cast<std::uint8_t>(digit), .count = 0});
  }
}

std::size_t chooser::name(char* out, std::size_t bytes) const noexcept {
  if (source_ == source::seed) {
    return static_cast<std::size_t>(std::to_chars(out, out + bytes, seed_).ptr - out);
  }
  std::size_t used = path_prefix.copy(out, bytes);
  for (std::size_t i = 0; i < depth_ && used < bytes; ++i) {
    out[used++] = digits[path_[i].taken % digits.size()];
  }
  return used;
}

std::uint32_t chooser::decide(std::uint32_t count) {
  if (count <= 1) {
    return 0;
  }
  if (source_ == source::seed) {
    return below(count);
  }
  if (depth_ == path_.size()) {
    path_.push_back({.taken = 0, .count = static_cast<std::uint8_t>(count)});
  }
  branch& here = path_[depth_++];
  if (here.count == 0) {
    here.count = static_cast<std::uint8_t>(count);
  }
  if (here.count != count || here.taken >= count) {
    diverged_ = true;
    return 0;
  }
  return here.taken;
}

bool chooser::rarely(std::uint32_t rarity) {
  return source_ == source::seed ? below(rarity) == 0 : decide(2) == 1;
}

void chooser::yielded(unsigned fiber) {
  priority_[fiber] = --lowest_;
}

unsigned chooser::nth_bit(agents set, std::uint32_t n) const noexcept {
  for (; n > 0; --n) {
    set &= set - 1;
  }
  return static_cast<unsigned>(std::countr_zero(set));
}

unsigned chooser::pick(agents enabled, unsigned current) {
  const bool may_go_on = (enabled & bit(current)) != 0;
  if (may_go_on && preemptions_left_ == 0) {
    enabled &= ~fibers_only | bit(current);
  }
  ++steps_;
  if (has_one_bit(enabled)) {
    return static_cast<unsigned>(std::countr_zero(enabled));
  }
  const unsigned chosen = source_ == source::seed ? pick_random(enabled, current) : pick_in_tree(enabled, current);
  if (may_go_on && chosen < max_fibers && chosen != current && preemptions_left_ != unlimited) {
    --preemptions_left_;
  }
  return chosen;
}

unsigned chooser::pick_random(agents enabled, unsigned current) {
  const agents extras = enabled & ~fibers_and_buffers;
  const agents core = enabled & fibers_and_buffers;
  if (core == 0 || (extras != 0 && below(8) == 0)) {
    return nth_bit(extras, below(count(extras)));
  }
  if (temper_ == temper::priorities) {
    return pick_by_priority(core, current);
  }
  if (temper_ == temper::sticky && (core & bit(current)) != 0 && below(stickiness_) != 0) {
    return current;
  }
  return nth_bit(core, below(count(core)));
}

unsigned chooser::pick_by_priority(agents enabled, unsigned current) {
  for (const std::uint32_t point : change_points_) {
    if (point == steps_) {
      priority_[current] = --lowest_;
    }
  }
  unsigned best = static_cast<unsigned>(std::countr_zero(enabled));
  for (agents rest = enabled; rest != 0; rest &= rest - 1) {
    const auto index = static_cast<unsigned>(std::countr_zero(rest));
    if (priority_[index] > priority_[best]) {
      best = index;
    }
  }
  return best;
}

unsigned chooser::pick_in_tree(agents enabled, unsigned current) {
  // The current fiber first, so that the first path is the one without preemptions.
  const std::uint32_t taken = decide(count(enabled));
  if ((enabled & bit(current)) == 0) {
    return nth_bit(enabled, taken);
  }
  return taken == 0 ? current : nth_bit(enabled & ~bit(current), taken - 1);
}

}  // namespace race::detail
