// put() against get_unless_zero(): a lookup never gets a dead object, and the release runs once. And the proof that the
// harness would notice: lookups with a seeded bug are found within a thousand schedules, whatever the base seed.
#include <algorithm>

#include <gtest/gtest.h>

#include "sluice/ref/kref.h"

#include "race/harness/race.h"

namespace get_unless_zero_seeded_bug_test {
namespace {

// The object stays in its scenario's memory, as it would for a read section; its release only marks it.
struct found_object;
struct mark_released {
  void operator()(found_object* object) const noexcept;
};
struct found_object : sluice::kref<found_object, mark_released, race::sync> {
  race::plain<int> contents{7};
  race::plain<int> releases{0};
};
void mark_released::operator()(found_object* object) const noexcept {
  object->contents.write(0);
  object->releases.update([](int& count) { ++count; });
}

// The owner uses and puts; the finders look the object up, use it and put. Every use but the release's is a read, so a
// data race is a use that the release is not ordered after.
template <class Lookup>
void put_against(race::run& run, int finders, Lookup lookup) {
  auto object = std::make_shared<found_object>();
  const auto use_and_put = [](const found_object& used) {
    race::check(used.contents.read() == 7, "whoever holds a count uses a living object");
    used.put();
  };
  run.thread([=] { use_and_put(*object); });
  for (int i = 0; i < finders; ++i) {
    run.thread([=] {
      if (lookup(*object)) {
        use_and_put(*object);
      }
    });
  }
  run.after([=] { race::check(object->releases.read() == 1, "released exactly once"); });
}

constexpr auto get_unless_zero = [](const found_object& object) { return object.get_unless_zero(); };

// Seeded bug: takes the count without looking whether there is one.
constexpr auto plain_get = [](const found_object& object) {
  object.get();
  return true;
};

// Seeded bug: looks, and then takes it.
constexpr auto look_then_get = [](const found_object& object) {
  if (object.use_count() == 0) {
    return false;
  }
  object.get();
  return true;
};

void fail_on_fault(const sluice::refcount_fault_report& report) noexcept {
  race::check(false, sluice::to_string(report.fault));
}

void ignore_fault(const sluice::refcount_fault_report& /*report*/) noexcept {}

class fault_handler_guard {
 public:
  explicit fault_handler_guard(sluice::refcount_fault_handler handler)
      : before_(sluice::set_refcount_fault_handler(handler)) {}
  ~fault_handler_guard() { sluice::set_refcount_fault_handler(before_); }
  fault_handler_guard(const fault_handler_guard&) = delete;
  fault_handler_guard& operator=(const fault_handler_guard&) = delete;

 private:
  sluice::refcount_fault_handler before_;
};

// R1 R3 R4 R6: random schedules with one and with two finders.
TEST(RaceGetUnlessZero, NeverYieldsADeadObject) {
  const fault_handler_guard faults(&fail_on_fault);
  for (const int finders : {1, 2}) {
    const race::report found =
        race::explore({.schedules = 50'000}, [=](race::run& run) { put_against(run, finders, get_unless_zero); });
    EXPECT_TRUE(found.ok()) << found;
  }
}

// R1 R3 R4 R6: every schedule of one put against one lookup, with every value that a load may return.
TEST(RaceGetUnlessZero, NeverYieldsADeadObjectInAnySchedule) {
  const fault_handler_guard faults(&fail_on_fault);
  const race::report found = race::explore({.schedules = 500'000, .how = race::mode::exhaustive},
                                           [](race::run& run) { put_against(run, 1, get_unless_zero); });
  EXPECT_TRUE(found.ok() && found.complete) << found;
}

// The most schedules that any of these base seeds needed to find the bug; fails if one of them finds nothing.
template <class Lookup>
std::uint64_t schedules_to_find(Lookup lookup, const char* expected) {
  std::uint64_t most = 0;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    const race::report found =
        race::explore({.seed = seed, .schedules = 1'000}, [=](race::run& run) { put_against(run, 1, lookup); });
    EXPECT_TRUE(found.failed) << "base seed " << seed << " finds nothing";
    EXPECT_NE(found.message.find(expected), std::string::npos) << found;
    most = std::max(most, found.schedules);
  }
  return most;
}

TEST(RaceGetUnlessZero, SeededPlainGetIsFoundByItsConsequences) {
  // The count's own report is switched off: the use of a released object has to show.
  const fault_handler_guard faults(&ignore_fault);
  EXPECT_LE(schedules_to_find(plain_get, "data race"), 1'000U);
}

TEST(RaceGetUnlessZero, SeededPlainGetIsFoundByTheCount) {
  const fault_handler_guard faults(&fail_on_fault);
  EXPECT_LE(schedules_to_find(plain_get, to_string(sluice::refcount_fault::add_from_zero)), 1'000U);
}

TEST(RaceGetUnlessZero, SeededLookThenGetIsFound) {
  const fault_handler_guard faults(&fail_on_fault);
  EXPECT_LE(schedules_to_find(look_then_get, to_string(sluice::refcount_fault::add_from_zero)), 1'000U);
}

}  // namespace
}  // namespace get_unless_zero_seeded_bug_test
