// Goal: a thread wears exactly the fields of an identity, nothing of the one before, and is itself again afterwards.
// Method: /proc is asked before, during and after; as root and as an ordinary user.
#include "sluice/identity/wardrobe.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "support/identity_helpers.h"

namespace sluice {
namespace wardrobe_test {
namespace {

ref<const identity> built(const identity_builder& builder) {
  identity_result made = builder.build();
  EXPECT_TRUE(made) << made.error().message();
  return made ? std::move(*made) : nullptr;
}

credentials user(uid_t uid, gid_t gid, std::vector<gid_t> groups = {}, capability_set effective = {}) {
  return {.uid = uid, .gid = gid, .groups = std::move(groups), .effective = effective};
}

bool contains(const std::string& facts, const std::string& line) {
  return facts.find(line + "\n") != std::string::npos;
}

TEST(Wardrobe, I1_WearsTheUserAndIsItselfAgain) {
  SLUICE_NEEDS_ROOT();
  test::on_a_thread([] {
    const std::string before = test::own_facts();
    const auto who = built(identity_builder().set_credentials(user(20001, 30001, {40001, 40000})));
    wardrobe clothes;
    ASSERT_TRUE(clothes.put_on(who.get()));
    EXPECT_EQ(clothes.worn(), who.get());
    EXPECT_EQ(current_identity(), who.get());
    const std::string worn = test::own_facts();
    EXPECT_TRUE(contains(worn, "Uid:\t0\t20001\t0\t20001")) << worn;
    EXPECT_TRUE(contains(worn, "Gid:\t0\t30001\t0\t30001")) << worn;
    EXPECT_TRUE(contains(worn, "Groups:\t40000 40001 ")) << worn;
    EXPECT_TRUE(contains(worn, "CapEff:\t0000000000000000")) << worn;
    ASSERT_TRUE(clothes.take_off());
    EXPECT_EQ(current_identity(), nullptr);
    EXPECT_EQ(test::own_facts(), before);
  });
}

TEST(Wardrobe, I1_WearsDirectoryAndUmaskAlone) {
  const test::open_directory there;
  const std::string others = test::thread_facts();
  test::on_a_thread([&] {
    const std::string before = test::own_facts();
    const auto who = built(identity_builder().set_working_directory(there.path()).set_umask(0137));
    wardrobe clothes;
    ASSERT_TRUE(clothes.put_on(who.get()));
    const std::string worn = test::own_facts();
    EXPECT_TRUE(contains(worn, "Umask:\t0137")) << worn;
    EXPECT_TRUE(contains(worn, "cwd " + there.path())) << worn;
    ASSERT_TRUE(clothes.take_off());
    EXPECT_EQ(test::own_facts(), before);
  });
  EXPECT_EQ(test::thread_facts(), others);
}

TEST(Wardrobe, I1_PriorityIsVisibleWhileWorn) {
  test::on_a_thread([] {
    const std::string before = test::own_facts();
    const ioprio low(ioprio_class::be, 7);
    const auto one = built(identity_builder().set_priority(low));
    const auto two = built(identity_builder().set_priority(ioprio(ioprio_class::idle, 0)));
    wardrobe clothes;
    ASSERT_TRUE(clothes.put_on(one.get()));
    EXPECT_EQ(::syscall(SYS_ioprio_get, 1, 0), low.raw());
    ASSERT_TRUE(clothes.put_on(two.get()));
    EXPECT_EQ(::syscall(SYS_ioprio_get, 1, 0) >> 13, 3);
    ASSERT_TRUE(clothes.take_off());
    EXPECT_EQ(test::own_facts(), before);
  });
}

TEST(Wardrobe, I1_RealTimePriorityOutlastsTheDropOfPrivilege) {
  SLUICE_NEEDS_ROOT();
  test::on_a_thread([] {
    const std::string before = test::own_facts();
    const ioprio urgent(ioprio_class::rt, 3);
    const auto who = built(identity_builder().set_priority(urgent).set_credentials(user(20001, 30001)));
    const auto other = built(identity_builder().set_credentials(user(20002, 30002)));
    wardrobe clothes;
    for (int round = 0; round < 3; ++round) {
      ASSERT_TRUE(clothes.put_on(who.get())) << clothes.failed_call();
      EXPECT_EQ(::syscall(SYS_ioprio_get, 1, 0), urgent.raw());
      EXPECT_EQ(::geteuid(), 20001U);
      ASSERT_TRUE(clothes.put_on(other.get())) << clothes.failed_call();
      EXPECT_NE(::syscall(SYS_ioprio_get, 1, 0), urgent.raw());
      EXPECT_EQ(::geteuid(), 20002U);
    }
    ASSERT_TRUE(clothes.take_off());
    EXPECT_EQ(test::own_facts(), before);
  });
}

// I1: whatever was worn before, what is worn now is a function of the identity alone.
TEST(Wardrobe, I1_NothingOfTheIdentityBeforeStays) {
  SLUICE_NEEDS_ROOT();
  const test::open_directory there;
  std::vector<ref<const identity>> all{identity::neutral()};
  for (unsigned bits = 1; bits < 16; ++bits) {
    identity_builder builder;
    if ((bits & 1U) != 0) {
      builder.set_credentials(user(20000 + bits, 30000 + bits % 3, {40000 + bits % 2},
                                   bits > 8 ? capability_set{}.with(capability::fowner) : capability_set{}));
    }
    if ((bits & 2U) != 0) {
      builder.set_working_directory(there.make("d" + std::to_string(bits), 0, 0, 0700));
    }
    if ((bits & 4U) != 0) {
      builder.set_umask(bits);
    }
    if ((bits & 8U) != 0) {
      builder.set_priority(ioprio(ioprio_class::be, bits % 8));
    }
    all.push_back(built(builder));
  }
  std::vector<std::string> alone;
  for (const auto& each : all) {
    test::on_a_thread([&] {
      wardrobe clothes;
      ASSERT_TRUE(clothes.put_on(each.get())) << clothes.failed_call();
      alone.push_back(test::own_facts());
    });
  }
  test::on_a_thread([&] {
    wardrobe clothes;
    for (std::size_t before = 0; before < all.size(); ++before) {
      for (std::size_t now = 0; now < all.size(); ++now) {
        ASSERT_TRUE(clothes.put_on(all[before].get())) << clothes.failed_call();
        ASSERT_TRUE(clothes.put_on(all[now].get())) << clothes.failed_call();
        ASSERT_EQ(test::own_facts(), alone[now]) << "after " << before << ": " << now;
      }
    }
  });
}

TEST(Wardrobe, WhatIsWornCostsNoSystemCall) {
  test::on_a_thread([] {
    test::unruly_calls calls;
    const auto who = built(identity_builder().set_umask(027));
    wardrobe clothes(calls);
    EXPECT_EQ(calls.made(), 0);
    ASSERT_TRUE(clothes.put_on(nullptr));
    ASSERT_TRUE(clothes.put_on(identity::neutral().get()));
    EXPECT_EQ(calls.made(), 0);
    ASSERT_TRUE(clothes.put_on(who.get()));
    const int once = calls.made();
    EXPECT_GT(once, 0);
    for (int i = 0; i < 100; ++i) {
      ASSERT_TRUE(clothes.put_on(who.get()));
    }
    EXPECT_EQ(calls.made(), once);
  });
}

TEST(Wardrobe, OnlyWhatDiffersIsChanged) {
  test::on_a_thread([] {
    test::unruly_calls calls;
    const auto one = built(identity_builder().set_umask(027).set_audit("one"));
    const auto two = built(identity_builder().set_umask(027).set_audit("two").set_file_size_limit(1));
    wardrobe clothes(calls);
    ASSERT_TRUE(clothes.put_on(one.get()));
    calls.plan(test::unruly_calls::mischief::none, 0);
    ASSERT_TRUE(clothes.put_on(two.get()));
    EXPECT_EQ(calls.made(), 0);
    EXPECT_EQ(current_identity()->audit(), "two");
    ASSERT_TRUE(clothes.take_off());
    EXPECT_GT(calls.made(), 0);
  });
}

// I2: a wardrobe that wears nothing holds no count of any identity.
TEST(Wardrobe, I2_HoldsNothingOnceTakenOff) {
  test::on_a_thread([] {
    const auto one = built(identity_builder().set_umask(027));
    const auto two = built(identity_builder().set_umask(022));
    wardrobe clothes;
    ASSERT_TRUE(clothes.put_on(one.get()));
    EXPECT_EQ(one->use_count(), 2U);
    ASSERT_TRUE(clothes.put_on(two.get()));
    EXPECT_EQ(one->use_count(), 1U);
    EXPECT_EQ(two->use_count(), 2U);
    ASSERT_TRUE(clothes.take_off());
    EXPECT_EQ(two->use_count(), 1U);
    {
      wardrobe other;
      ASSERT_TRUE(other.put_on(one.get()));
    }
    EXPECT_EQ(one->use_count(), 1U);
    EXPECT_EQ(current_identity(), nullptr);
  });
}

// Without the count a freed identity's address could come back as another one, taken for worn already.
TEST(Wardrobe, KeepsWhatItWearsAlive) {
  test::on_a_thread([] {
    const std::size_t before = identity::live();
    wardrobe clothes;
    {
      const auto brief = built(identity_builder().set_umask(011));
      ASSERT_TRUE(clothes.put_on(brief.get()));
    }
    EXPECT_EQ(identity::live(), before + 1);
    ASSERT_TRUE(clothes.take_off());
    EXPECT_EQ(identity::live(), before);
  });
}

TEST(Wardrobe, AnOrdinaryUserWearsWhatNeedsNoPrivilege) {
  const test::open_directory there;
  test::as_ordinary_user([&] {
    const std::string before = test::own_facts();
    const identity_result captured = identity::capture(identity_field::credentials);
    ASSERT_TRUE(captured) << captured.error().message();
    const auto who = built(identity_builder()
                               .set_credentials(*(*captured)->fields().who)
                               .set_working_directory(there.path())
                               .set_umask(0177)
                               .set_priority(ioprio(ioprio_class::be, 5)));
    wardrobe clothes;
    for (int round = 0; round < 3; ++round) {
      ASSERT_TRUE(clothes.put_on(who.get())) << clothes.failed_call();
      EXPECT_TRUE(contains(test::own_facts(), "cwd " + there.path()));
      ASSERT_TRUE(clothes.put_on(captured->get()));
      ASSERT_TRUE(clothes.take_off());
      EXPECT_EQ(test::own_facts(), before);
    }
  });
}

// A switch that the process may not make fails and changes nothing: an identity built while it was root, worn by a
// thread that is not.
TEST(Wardrobe, I3_ASwitchThatIsForbiddenChangesNothing) {
  SLUICE_NEEDS_ROOT();
  const auto who = built(identity_builder().set_umask(012).set_credentials(user(20001, 30001, {40001})));
  test::as_ordinary_user([&] {
    const std::string before = test::own_facts();
    wardrobe clothes;
    const auto done = clothes.put_on(who.get());
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error(), std::errc::operation_not_permitted);
    EXPECT_STREQ(clothes.failed_call(), "setgroups");
    EXPECT_FALSE(clothes.broken());
    EXPECT_EQ(clothes.worn(), nullptr);
    EXPECT_EQ(test::own_facts(), before);
  });
}

TEST(Wardrobe, I1_KeepsTheCapabilitiesThatWereAskedFor) {
  SLUICE_NEEDS_ROOT();
  const test::open_directory there;
  const std::string secret = there.file("secret", 0, 0, 0600);
  test::on_a_thread([&] {
    const auto plain = built(identity_builder().set_credentials(user(20001, 30001)));
    const auto reader = built(
        identity_builder().set_credentials(user(20001, 30001, {}, capability_set{}.with(capability::dac_read_search))));
    const auto weak_root = built(identity_builder().set_credentials(user(0, 0)));
    wardrobe clothes;
    for (int round = 0; round < 2; ++round) {
      ASSERT_TRUE(clothes.put_on(plain.get()));
      EXPECT_EQ(::open(secret.c_str(), O_RDONLY), -1);
      EXPECT_EQ(errno, EACCES);
      ASSERT_TRUE(clothes.put_on(reader.get()));
      const int fd = ::open(secret.c_str(), O_RDONLY);
      EXPECT_GE(fd, 0);
      ::close(fd);
      ASSERT_TRUE(clothes.put_on(weak_root.get()));
      EXPECT_TRUE(contains(test::own_facts(), "CapEff:\t0000000000000000"));
    }
  });
}

// A v1 group made for the test; moving the thread needs no more than root and a mounted hierarchy.
class scratch_cgroup {
 public:
  explicit scratch_cgroup(const std::string& name) : path_("/sys/fs/cgroup/blkio/" + name) {
    made_ = ::mkdir(path_.c_str(), 0755) == 0;
  }
  scratch_cgroup(const scratch_cgroup&) = delete;
  scratch_cgroup& operator=(const scratch_cgroup&) = delete;
  ~scratch_cgroup() { ::rmdir(path_.c_str()); }
  [[nodiscard]] bool made() const { return made_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool made_ = false;
};

TEST(Wardrobe, I1_MovesTheThreadAloneIntoACgroup) {
  SLUICE_NEEDS_ROOT();
  const std::string pid = std::to_string(::getpid());
  const scratch_cgroup a("sluice-test-a-" + pid);
  const scratch_cgroup b("sluice-test-b-" + pid);
  if (!a.made() || !b.made()) {
    GTEST_SKIP() << "needs a cgroup v1 blkio hierarchy that can be written";
  }
  const std::string others = test::own_facts();
  test::on_a_thread([&] {
    const std::string before = test::own_facts();
    const auto one = built(identity_builder().set_cgroup(a.path()).set_credentials(user(20001, 30001)));
    const auto same = built(identity_builder().set_cgroup(a.path() + "/").set_credentials(user(20001, 30001)));
    const auto two = built(identity_builder().set_cgroup(b.path()));
    EXPECT_EQ(one, same);
    wardrobe clothes;
    for (int round = 0; round < 2; ++round) {
      ASSERT_TRUE(clothes.put_on(one.get())) << clothes.failed_call();
      EXPECT_NE(test::own_facts().find(":/sluice-test-a-" + pid), std::string::npos) << test::own_facts();
      ASSERT_TRUE(clothes.put_on(two.get())) << clothes.failed_call();
      EXPECT_NE(test::own_facts().find(":/sluice-test-b-" + pid), std::string::npos) << test::own_facts();
      EXPECT_EQ(::geteuid(), 0U);
      const identity_result captured = identity::capture(identity_field::cgroup);
      ASSERT_TRUE(captured) << captured.error().message();
      EXPECT_EQ(*captured, two);
      ASSERT_TRUE(clothes.take_off());
      EXPECT_EQ(test::own_facts(), before);
    }
  });
  EXPECT_EQ(test::own_facts(), others);
}

TEST(Wardrobe, AnUnthreadedGroupIsRefusedWithTheReason) {
  SLUICE_NEEDS_ROOT();
  const std::string path = "/sys/fs/cgroup/unified/sluice-test-" + std::to_string(::getpid());
  if (::mkdir(path.c_str(), 0755) != 0) {
    GTEST_SKIP() << "needs a cgroup v2 hierarchy at /sys/fs/cgroup/unified that can be written";
  }
  const identity_result made = identity_builder().set_cgroup(path).build();
  EXPECT_FALSE(made);
  if (!made) {
    EXPECT_EQ(made.error().code, std::errc::operation_not_supported);
    EXPECT_NE(made.error().why.find("whole processes"), std::string::npos) << made.error().why;
  }
  const std::string type = path + "/cgroup.type";
  std::ofstream(type) << "threaded";
  test::on_a_thread([&] {
    const std::string before = test::own_facts();
    const auto who = built(identity_builder().set_cgroup(path));
    wardrobe clothes;
    ASSERT_TRUE(clothes.put_on(who.get())) << clothes.failed_call();
    EXPECT_NE(test::own_facts().find("0::/sluice-test-"), std::string::npos);
    ASSERT_TRUE(clothes.take_off()) << clothes.failed_call();
    EXPECT_EQ(test::own_facts(), before);
  });
  EXPECT_EQ(::rmdir(path.c_str()), 0);
}

TEST(WardrobeDeathTest, BelongsToOneThread) {
  const auto who = built(identity_builder().set_audit("x"));
  EXPECT_DEATH(
      {
        wardrobe clothes;
        static_cast<void>(clothes.put_on(who.get()));
        test::on_a_thread([&] { static_cast<void>(clothes.take_off()); });
      },
      "belongs to one thread");
}

}  // namespace
}  // namespace wardrobe_test
}  // namespace sluice
