// Goal: I3 and I6 at the wardrobe: whatever system call of a switch or of a restore fails or lies, the thread then wears
// what was asked for, or is itself again, or says that it is broken; never a wrong identity without saying so.
// Method: a walk of put_on and take_off is run once for every call that it makes, with that call failing (once, or from
// then on) or pretending; after each step the thread is compared with what /proc said in a walk without faults.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/identity/wardrobe.h"

#include "support/identity_helpers.h"

namespace sluice {
namespace wardrobe_faults_test {
namespace {

using test::unruly_calls;
using mischief = unruly_calls::mischief;

struct walk {
  std::vector<ref<const identity>> steps;  // null: take off
  std::vector<std::string> facts;          // after each, without faults
  std::string original;
};

// Learns what each step looks like, and how many calls the walk makes.
int rehearse(walk& path) {
  int calls_made = 0;
  test::on_a_thread([&] {
    path.original = test::own_facts();
    unruly_calls calls;
    calls.plan(mischief::none, 0);
    wardrobe clothes(calls);
    for (const auto& who : path.steps) {
      ASSERT_TRUE(clothes.put_on(who.get())) << clothes.failed_call();
      path.facts.push_back(test::own_facts());
    }
    calls_made = calls.made();
  });
  return calls_made;
}

struct outcome {
  int refused = 0;
  int broken = 0;
};

void walk_with_fault(const walk& path, mischief what, int at, outcome& sum) {
  test::on_a_thread([&] {
    unruly_calls calls;
    calls.plan(what, at);
    wardrobe clothes(calls);
    for (std::size_t i = 0; i < path.steps.size() && !clothes.broken(); ++i) {
      const identity* who = path.steps[i].get();
      const result<void> done = clothes.put_on(who);
      if (done) {
        EXPECT_EQ(test::own_facts(), path.facts[i]) << "step " << i << ", call " << at;
        EXPECT_EQ(current_identity(), who);
        continue;
      }
      EXPECT_NE(clothes.failed_call(), nullptr);
      EXPECT_EQ(clothes.worn(), nullptr);
      EXPECT_EQ(current_identity(), nullptr);
      ++sum.refused;
      if (!clothes.broken()) {
        EXPECT_EQ(test::own_facts(), path.original) << "step " << i << ", call " << at << ": " << clothes.failed_call();
      }
    }
    if (clothes.broken()) {
      ++sum.broken;
      // For good: nobody may be put on a thread that may be anybody.
      calls.plan(mischief::none, 0);
      EXPECT_EQ(clothes.put_on(path.steps.front().get()).error(), std::errc::state_not_recoverable);
      EXPECT_FALSE(clothes.put_on(nullptr));
      EXPECT_FALSE(clothes.take_off());
      EXPECT_EQ(calls.made(), 0);
    }
  });
}

outcome every_fault(walk& path, mischief what) {
  const std::string bystander = test::thread_facts();
  const std::size_t live = identity::live();
  const auto descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator());
  };
  const auto open_before = descriptors();
  path.facts.clear();
  const int count = rehearse(path);
  outcome sum;
  for (int at = 0; at < count; ++at) {
    walk_with_fault(path, what, at, sum);
  }
  EXPECT_EQ(test::thread_facts(), bystander);
  EXPECT_EQ(identity::live(), live);
  EXPECT_EQ(descriptors(), open_before);
  return sum;
}

ref<const identity> built(const identity_builder& builder) {
  identity_result made = builder.build();
  EXPECT_TRUE(made) << made.error().message();
  return made ? std::move(*made) : nullptr;
}

// Everything that changes, in several orders: original to worn, worn to worn, back, and again.
walk long_walk(const test::open_directory& there) {
  using groups = std::vector<gid_t>;
  const std::string first = there.make("first", 0, 0, 0755);
  const std::string second = there.make("second", 0, 0, 0755);
  const auto all = built(identity_builder()
                             .set_credentials({.uid = 20001, .gid = 30001, .groups = groups{40001, 40002}})
                             .set_working_directory(first)
                             .set_umask(0123)
                             .set_priority(ioprio(ioprio_class::be, 6)));
  const auto who = built(identity_builder().set_credentials(
      {.uid = 20002, .gid = 30002, .groups = groups{}, .effective = capability_set{}.with(capability::fowner)}));
  const auto where = built(identity_builder().set_working_directory(second).set_umask(0));
  return {.steps = {all, who, where, nullptr, who, all, nullptr}, .facts = {}, .original = {}};
}

// The same without what needs root.
walk short_walk(const test::open_directory& there) {
  const std::string first = there.make("first", 0, 0, 0755);
  const std::string second = there.make("second", 0, 0, 0755);
  const auto one = built(identity_builder().set_working_directory(first).set_umask(0123));
  const auto two = built(identity_builder().set_working_directory(second).set_priority(ioprio(ioprio_class::idle, 0)));
  return {.steps = {one, two, one, nullptr, two, nullptr}, .facts = {}, .original = {}};
}

TEST(WardrobeFaults, I3_AFailedCallLeavesTheOriginal) {
  SLUICE_NEEDS_ROOT();
  const test::open_directory there;
  walk path = long_walk(there);
  const outcome sum = every_fault(path, mischief::fail_once);
  EXPECT_GT(sum.refused, 20);
  // Those that fail while restoring: nothing is tried twice.
  EXPECT_GT(sum.broken, 5);
}

TEST(WardrobeFaults, I6_CallsThatFailForGoodBreakIt) {
  SLUICE_NEEDS_ROOT();
  const test::open_directory there;
  walk path = long_walk(there);
  const outcome sum = every_fault(path, mischief::fail_from);
  EXPECT_GT(sum.refused, 20);
  EXPECT_GT(sum.broken, 20);
}

TEST(WardrobeFaults, I3_ACallThatPretendsIsFoundOut) {
  SLUICE_NEEDS_ROOT();
  const test::open_directory there;
  walk path = long_walk(there);
  const outcome sum = every_fault(path, mischief::pretend_once);
  EXPECT_GT(sum.refused, 10);
}

TEST(WardrobeFaults, I6_CallsThatPretendForGoodAreFoundOut) {
  SLUICE_NEEDS_ROOT();
  const test::open_directory there;
  walk path = long_walk(there);
  const outcome sum = every_fault(path, mischief::pretend_from);
  EXPECT_GT(sum.refused, 10);
  EXPECT_GT(sum.broken, 5);
}

TEST(WardrobeFaults, I3_I6_AnOrdinaryUsersFields) {
  const test::open_directory there;
  walk path = short_walk(there);
  test::as_ordinary_user([&path] {
    for (const mischief what :
         {mischief::fail_once, mischief::fail_from, mischief::pretend_once, mischief::pretend_from}) {
      const outcome sum = every_fault(path, what);
      EXPECT_GT(sum.refused, 5);
    }
  });
}

// I3: the same with a control group, whose switch reads and writes files.
TEST(WardrobeFaults, I3_I6_AControlGroup) {
  SLUICE_NEEDS_ROOT();
  const std::string path = "/sys/fs/cgroup/blkio/sluice-fault-" + std::to_string(::getpid());
  if (::mkdir(path.c_str(), 0755) != 0) {
    GTEST_SKIP() << "needs a cgroup v1 blkio hierarchy that can be written";
  }
  {
    const auto group = built(identity_builder().set_cgroup(path).set_umask(077));
    walk steps{.steps = {group, nullptr, group, nullptr}, .facts = {}, .original = {}};
    for (const mischief what : {mischief::fail_once, mischief::fail_from, mischief::pretend_once}) {
      const outcome sum = every_fault(steps, what);
      EXPECT_GT(sum.refused, 5);
    }
  }
  EXPECT_EQ(::rmdir(path.c_str()), 0);
}

}  // namespace
}  // namespace wardrobe_faults_test
}  // namespace sluice
