#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <ostream>
#include <string_view>
#include <utility>
#include <vector>

#include "sluice/base/check.h"

#include "race/harness/engine.h"
#include "race/harness/last_words.h"
#include "race/harness/race.h"
#include "race/harness/sanitizers.h"

namespace race {
namespace {

std::uint64_t seed_of(std::uint64_t base, std::uint64_t index) {
  // Seeds of neighbouring explorations do not overlap: the generator scrambles, this only has to differ.
  return base * 0x9e3779b97f4a7c15U + index;
}

std::string_view from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view{} : std::string_view{value};
}

std::uint64_t number(std::string_view text, const char* advice) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  SLUICE_CHECK(error == std::errc{} && end == text.data() + text.size(), advice);
  return value;
}

// ThreadSanitizer has nothing to find in fibers that take turns: it only shows that the harness itself runs there. What
// AddressSanitizer can find the first thousands of schedules show; the rest is the release build's.
#if defined(RACE_TSAN) || defined(RACE_ASAN)
constexpr std::uint64_t usual_percentage = 3;
#else
constexpr std::uint64_t usual_percentage = 100;
#endif

std::uint64_t scaled(std::uint64_t schedules) {
  const std::string_view text = from_environment("SLUICE_RACE_SCHEDULES");
  const std::uint64_t percentage =
      text.empty() ? usual_percentage : number(text, "SLUICE_RACE_SCHEDULES is a percentage");
  // Tests that must find something ask for a few thousand: a small percentage of those would find nothing.
  constexpr std::uint64_t fewest = 500;
  return std::max(std::min(schedules, fewest), schedules * percentage / 100);
}

// Runs the schedule that the chooser has begun. Returns false if it failed, with the report filled in.
bool run_one(detail::engine& engine, const std::function<void(run&)>& scenario, report& out) {
  engine.run_schedule(scenario);
  ++out.schedules;
  if (!engine.failed()) {
    return true;
  }
  out.failed = true;
  // A step may take a decision or two besides the one about who makes it.
  std::vector<char> name(std::size_t{4} * engine.how().max_steps + 64);
  out.seed.assign(name.data(), engine.choices().name(name.data(), name.size()));
  out.message = engine.message();
  out.trace = engine.history().text();
  return false;
}

void explore_tree(detail::engine& engine, const std::function<void(run&)>& scenario, report& out) {
  while (out.schedules < engine.how().schedules) {
    if (!engine.choices().begin_path()) {
      out.complete = true;
      return;
    }
    if (!run_one(engine, scenario, out)) {
      return;
    }
  }
}

void explore_seeds(detail::engine& engine, const std::function<void(run&)>& scenario, report& out) {
  const std::uint64_t wanted = scaled(engine.how().schedules);
  for (std::uint64_t i = 0; i < wanted; ++i) {
    engine.choices().begin_random(seed_of(engine.how().seed, i));
    if (!run_one(engine, scenario, out)) {
      return;
    }
  }
}

}  // namespace

void run::thread(std::function<void()> body) {
  engine_.add_thread(std::move(body));
}

void run::after(std::function<void()> check) {
  engine_.set_after(std::move(check));
}

void check(bool condition, const char* message, std::source_location at) {
  if (condition) {
    return;
  }
  detail::engine* engine = detail::engine::active();
  SLUICE_CHECK(engine != nullptr, "race::check outside of a schedule failed");
  engine->fail(detail::joined({"check failed: ", message}), at);
}

report explore(const options& how, const std::function<void(run&)>& scenario) {
  const auto engine = std::make_unique<detail::engine>(how);
  const detail::last_words words(*engine);
  report out;
  if (const std::string_view seed = from_environment("SLUICE_RACE_SEED"); !seed.empty()) {
    engine->choices().begin_replay(seed);
    static_cast<void>(run_one(*engine, scenario, out));
  } else if (how.how == mode::exhaustive) {
    explore_tree(*engine, scenario, out);
  } else {
    explore_seeds(*engine, scenario, out);
  }
  return out;
}

std::ostream& operator<<(std::ostream& out, const report& what) {
  if (!what.failed) {
    return out << what.schedules << " schedules, no failure" << (what.complete ? " (all there are)" : "");
  }
  return out << "schedule " << what.schedules << " failed: " << what.message
             << "\nreplay it with SLUICE_RACE_SEED=" << what.seed << " and a --gtest_filter for this test\n"
             << what.trace;
}

}  // namespace race
