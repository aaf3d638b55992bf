// Goal: an identity is what was said and nothing else, equal ones are one value, and what this process may not do is
// refused by name. Method: builds and captures on threads that are root and on threads that are nobody.
#include "sluice/identity/identity.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/identity/identity_probe.h"

#include "support/identity_helpers.h"

namespace sluice {
namespace identity_test {
namespace {

ref<const identity> built(const identity_builder& builder) {
  identity_result made = builder.build();
  EXPECT_TRUE(made) << made.error().message();
  return made ? std::move(*made) : nullptr;
}

std::string refusal_of(const identity_result& made) {
  return made ? "built" : made.error().message();
}

TEST(Identity, I4_NothingCapturedIsTheNeutralOne) {
  EXPECT_EQ(built(identity_builder()), identity::neutral());
  EXPECT_TRUE(identity::neutral()->is_neutral());
  EXPECT_EQ(built(identity_builder().set_audit("")), identity::neutral());
  EXPECT_FALSE(built(identity_builder().set_umask(022))->is_neutral());
}

TEST(Identity, I4_EqualContextsAreOneValue) {
  const std::size_t before = identity::live();
  {
    const auto one = built(identity_builder().set_umask(027).set_file_size_limit(4096).set_audit("alice"));
    const auto two = built(identity_builder().set_audit("alice").set_file_size_limit(4096).set_umask(027));
    EXPECT_EQ(one, two);
    EXPECT_EQ(one->use_count(), 2U);
    EXPECT_EQ(identity::live(), before + 1);
    for (const auto& other : {built(identity_builder().set_umask(027).set_file_size_limit(4096)),
                              built(identity_builder().set_umask(026).set_file_size_limit(4096).set_audit("alice")),
                              built(identity_builder().set_umask(027).set_file_size_limit(4097).set_audit("alice")),
                              built(identity_builder().set_umask(027).set_audit("alice"))}) {
      EXPECT_NE(one, other);
    }
  }
  EXPECT_EQ(identity::live(), before);
}

TEST(Identity, I4_ZeroIsNotNeutral) {
  const auto none = built(identity_builder().set_audit("x"));
  EXPECT_NE(built(identity_builder().set_audit("x").set_umask(0)), none);
  EXPECT_NE(built(identity_builder().set_audit("x").set_file_size_limit(0)), none);
  EXPECT_NE(built(identity_builder().set_audit("x").set_priority(ioprio{})), none);
}

TEST(Identity, I4_TheSameDirectoryIsOneValueHoweverItIsNamed) {
  const test::open_directory there;
  const std::string below = there.make("below", 0, 0, 0755);
  const auto one = built(identity_builder().set_working_directory(below));
  EXPECT_EQ(one, built(identity_builder().set_working_directory(there.path("below/../below/."))));
  EXPECT_NE(one, built(identity_builder().set_working_directory(there.path())));
}

TEST(Identity, GroupsAreASet) {
  SLUICE_NEEDS_ROOT();
  const auto one = built(identity_builder().set_credentials({.uid = 1, .gid = 2, .groups = {9, 3, 9}}));
  const auto two = built(identity_builder().set_credentials({.uid = 1, .gid = 2, .groups = {3, 9}}));
  EXPECT_EQ(one, two);
  EXPECT_NE(one, built(identity_builder().set_credentials({.uid = 1, .gid = 2, .groups = {3}})));
  EXPECT_TRUE(one->fields().who->effective.empty());
}

TEST(Identity, I4_CarriedThingsGoWithTheLastCount) {
  static std::atomic<int> ends{0};
  class table final : public carried {
   public:
    ~table() override { ends.fetch_add(1, std::memory_order_relaxed); }  // relaxed: one thread
  };
  {
    const ref<const carried> mine = make_ref<table>();
    const auto one = built(identity_builder().set_file_table(mine));
    const auto two = built(identity_builder().set_file_table(mine));
    EXPECT_EQ(one, two);
    EXPECT_EQ(one->fields().file_table, mine);
    EXPECT_EQ(mine->use_count(), 2U);
    const ref<const carried> other = make_ref<table>();
    EXPECT_NE(one, built(identity_builder().set_file_table(other)));
  }
  EXPECT_EQ(ends.load(std::memory_order_relaxed), 2);
}

// I4: threads that build and drop the same few contexts at once end with none alive, and never see a dead one.
TEST(Identity, I4_BuiltAndDroppedByManyThreads) {
  const std::size_t before = identity::live();
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (unsigned i = 0; i < 3000; ++i) {
        const mode_t mask = i % 3;
        const auto made = identity_builder().set_umask(mask).set_audit("race").build();
        ASSERT_TRUE(made);
        ASSERT_EQ((*made)->fields().umask, mask);
      }
    });
  }
  threads.clear();
  EXPECT_EQ(identity::live(), before);
}

TEST(Identity, WrongValuesAreRefused) {
  EXPECT_NE(refusal_of(identity_builder().set_audit(std::string(65, 'a')).build()).find("audit tag"),
            std::string::npos);
  EXPECT_EQ(built(identity_builder().set_audit(std::string(64, 'a')))->audit().size(), 64U);
  EXPECT_NE(refusal_of(identity_builder().set_priority(ioprio(ioprio_class::be, 8)).build()).find("I/O priority"),
            std::string::npos);
  const identity_result missing = identity_builder().set_working_directory("/no/such/place").build();
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().field, identity_field::working_directory);
  EXPECT_EQ(missing.error().code, std::errc::no_such_file_or_directory);
  EXPECT_NE(missing.error().message().find("/no/such/place"), std::string::npos);
  EXPECT_EQ(identity_builder().set_working_directory("/proc/version").build().error().code, std::errc::not_a_directory);
  const identity_result no_group = identity_builder().set_cgroup("/").build();
  ASSERT_FALSE(no_group);
  EXPECT_EQ(no_group.error().message(), "cgroup: '/' is no control group");
}

// An ordinary user hears at once which capability is missing, for each thing he may not do.
TEST(Identity, RefusalsNameTheMissingCapability) {
  test::as_ordinary_user([] {
    const auto own = credentials_of_this_thread();
    ASSERT_TRUE(own);
    const credentials mine{.uid = own->uid, .gid = own->gid, .groups = own->groups, .effective = {}};
    credentials other = mine;
    other.uid = mine.uid + 1;
    EXPECT_EQ(refusal_of(identity_builder().set_credentials(other).build()),
              "credentials: changing the user needs CAP_SETUID");
    other = mine;
    other.gid = mine.gid + 1;
    EXPECT_EQ(refusal_of(identity_builder().set_credentials(other).build()),
              "credentials: changing the group needs CAP_SETGID");
    other = mine;
    other.groups.push_back(mine.gid + 1);
    const identity_result groups = identity_builder().set_credentials(other).build();
    EXPECT_EQ(refusal_of(groups), "credentials: changing the supplementary groups needs CAP_SETGID");
    EXPECT_EQ(groups.error().code, std::errc::operation_not_permitted);
    other = mine;
    other.effective = capability_set{}.with(capability::sys_admin);
    EXPECT_EQ(refusal_of(identity_builder().set_credentials(other).build()),
              "credentials: granting what this process does not hold needs CAP_SYS_ADMIN");
    EXPECT_NE(refusal_of(identity_builder().set_priority(ioprio(ioprio_class::rt, 0)).build()).find("CAP_SYS_NICE"),
              std::string::npos);
    EXPECT_EQ(refusal_of(identity_builder().set_credentials(mine).build()), "built");
    EXPECT_EQ(refusal_of(identity_builder().set_priority(ioprio(ioprio_class::idle, 0)).build()), "built");
  });
}

// A process that is not root but holds CAP_SETUID would lose its capabilities on the way back from being root.
TEST(Identity, ARootThatCannotComeBackIsRefused) {
  const thread_credentials user{
      .real_uid = 1000,
      .uid = 1000,
      .saved_uid = 1000,
      .capabilities = {.effective = {}, .permitted = capability_set::from_bits(0xC0), .inheritable = {}}};
  EXPECT_FALSE(keeps_capabilities(user, 0));
  EXPECT_TRUE(keeps_capabilities(user, 1001));
  thread_credentials root = user;
  root.real_uid = root.uid = root.saved_uid = 0;
  EXPECT_TRUE(keeps_capabilities(root, 1001));
  root.real_uid = root.saved_uid = 1000;
  EXPECT_FALSE(keeps_capabilities(root, 1001));
  EXPECT_TRUE(keeps_capabilities(root, 0));
}

TEST(Identity, I1_CaptureSeesTheCallingThread) {
  const test::open_directory there;
  test::on_a_thread([&] {
    ASSERT_EQ(::unshare(CLONE_FS), 0);
    ASSERT_EQ(::chdir(there.path().c_str()), 0);
    ::umask(053);
    const ioprio low(ioprio_class::be, 6);
    ASSERT_EQ(::syscall(SYS_ioprio_set, 1, 0, int{low.raw()}), 0);
    using enum identity_field;
    const identity_result seen = identity::capture(credentials | working_directory | umask | priority | audit);
    ASSERT_TRUE(seen) << seen.error().message();
    const identity_fields& fields = (*seen)->fields();
    EXPECT_EQ(fields.who->uid, ::geteuid());
    EXPECT_EQ(fields.who->gid, ::getegid());
    EXPECT_EQ(fields.umask, 053U);
    EXPECT_EQ(fields.priority, low);
    EXPECT_FALSE(fields.file_size_limit);
    EXPECT_FALSE(fields.group);
    EXPECT_TRUE(fields.audit.empty());
    EXPECT_EQ(fields.working_directory->key(), (*directory::open(there.path().c_str()))->key());
    const identity_result part = identity::capture(umask);
    ASSERT_TRUE(part);
    EXPECT_FALSE((*part)->fields().who);
    EXPECT_FALSE((*part)->fields().working_directory);
  });
}

TEST(Identity, CaptureUnderAnIdentityGivesThatIdentity) {
  test::on_a_thread([] {
    wardrobe clothes;
    const auto who = built(identity_builder().set_umask(071).set_audit("bob").set_file_size_limit(77));
    ASSERT_TRUE(clothes.put_on(who.get()));
    using enum identity_field;
    const identity_result again = identity::capture(umask | audit | file_size_limit | file_table);
    ASSERT_TRUE(again) << again.error().message();
    EXPECT_EQ(*again, who);
    ASSERT_TRUE(clothes.take_off());
  });
}

// I3: a capture in which any system call fails is refused, with the field; nothing is half captured.
TEST(Identity, I3_CaptureFailsAsAWhole) {
  using enum identity_field;
  test::unruly_calls calls;
  auto all = credentials | working_directory | umask | priority;
  if (test::may_switch()) {
    all = all | cgroup;  // to capture it is to open it for moving threads
  }
  calls.plan(test::unruly_calls::mischief::none, 0);
  const identity_result fine = identity::capture(all, calls);
  ASSERT_TRUE(fine) << fine.error().message();
  const int count = calls.made();
  int refused = 0;
  for (int at = 0; at < count; ++at) {
    calls.plan(test::unruly_calls::mischief::fail_once, at);
    const identity_result seen = identity::capture(all, calls);
    if (seen) {
      EXPECT_EQ(*seen, *fine) << "call " << at;  // something looked at that may be absent
    } else {
      EXPECT_NE(seen.error().message(), "");
      ++refused;
    }
  }
  EXPECT_GT(refused, count / 2);
}

TEST(Fsize, TheRuleOfWrite) {
  const auto limited = built(identity_builder().set_file_size_limit(1000));
  const identity* who = limited.get();
  EXPECT_EQ(fsize_allows(who, 0, 1000).value(), 1000U);
  EXPECT_EQ(fsize_allows(who, 0, 1001).value(), 1000U);
  EXPECT_EQ(fsize_allows(who, 999, 512).value(), 1U);
  EXPECT_EQ(fsize_allows(who, 1000, 1).error(), std::errc::file_too_large);
  EXPECT_EQ(fsize_allows(who, ~std::uint64_t{0}, 1).error(), std::errc::file_too_large);
  EXPECT_EQ(fsize_allows(who, 5000, 0).value(), 0U);
  EXPECT_EQ(fsize_allows(nullptr, 5000, 7).value(), 7U);
  EXPECT_EQ(fsize_allows(identity::neutral().get(), 5000, 7).value(), 7U);
  EXPECT_TRUE(fsize_allows_growth(who, 1000));
  EXPECT_EQ(fsize_allows_growth(who, 1001).error(), std::errc::file_too_large);
  EXPECT_TRUE(fsize_allows_growth(nullptr, ~std::uint64_t{0}));
  EXPECT_EQ(fsize_allows(built(identity_builder().set_file_size_limit(0)).get(), 0, 1).error(),
            std::errc::file_too_large);
}

TEST(IdentityProbe, SaysWhatWorksHere) {
  const std::string before = test::own_facts();
  const auto found = identity_probe();
  ASSERT_TRUE(found);
  EXPECT_EQ(test::own_facts(), before);
  EXPECT_GE(found->size(), 9U);
  for (const identity_support& each : *found) {
    EXPECT_FALSE(each.detail.empty()) << each.name;
  }
  const auto works = [&found](std::string_view name) {
    return std::ranges::any_of(*found,
                               [name](const identity_support& each) { return each.name == name && each.works; });
  };
  EXPECT_TRUE(works("umask"));
  EXPECT_EQ(works("user"), test::may_switch());
  EXPECT_EQ(works("supplementary groups"), test::may_switch());
}

TEST(IdentityProbe, AnOrdinaryUserHearsWhatIsMissing) {
  test::as_ordinary_user([] {
    // The probe's threads inherit the credentials of this one.
    const auto found = identity_probe();
    ASSERT_TRUE(found);
    EXPECT_FALSE(found->at(0).works);
    EXPECT_EQ(found->at(0).detail, "changing the user needs CAP_SETUID");
    for (const identity_support& each : identity_capabilities()) {
      EXPECT_FALSE(each.works) << each.name;
    }
  });
}

}  // namespace
}  // namespace identity_test
}  // namespace sluice
