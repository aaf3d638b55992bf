// I5: noobaa #7287: setgroups of the C library changed the groups of every thread, not of the one that served a user.
// Goal: while one thread changes all that an identity has, what /proc says of the other threads never changes.
#include <latch>

#include <gtest/gtest.h>

#include "sluice/identity/wardrobe.h"

#include "support/identity_helpers.h"

namespace sluice {
namespace identity_groups_of_every_thread_test {
namespace {

TEST(IdentityGroupsOfEveryThread, I5_OtherThreadsKeepTheirs) {
  SLUICE_NEEDS_ROOT();
  const test::open_directory there;
  pid_t bystander = 0;
  std::latch begun{1};
  std::latch over{1};
  std::thread other([&] {
    bystander = ::gettid();
    begun.count_down();
    over.wait();
  });
  begun.wait();
  const std::string path = "/proc/self/task/" + std::to_string(bystander);
  const std::string first = test::thread_facts("/proc/self");
  const std::string second = test::thread_facts(path);
  test::on_a_thread([&] {
    wardrobe clothes;
    for (gid_t group = 40000; group < 40050; ++group) {
      const identity_result who = identity_builder()
                                      .set_credentials({.uid = group, .gid = group + 1, .groups = {group, group + 2}})
                                      .set_working_directory(there.path())
                                      .set_umask(group % 0777)
                                      .build();
      ASSERT_TRUE(who) << who.error().message();
      ASSERT_TRUE(clothes.put_on(who->get())) << clothes.failed_call();
      ASSERT_EQ(test::thread_facts("/proc/self"), first);
      ASSERT_EQ(test::thread_facts(path), second);
    }
    ASSERT_TRUE(clothes.take_off());
  });
  EXPECT_EQ(test::thread_facts("/proc/self"), first);
  EXPECT_EQ(test::thread_facts(path), second);
  over.count_down();
  other.join();
}

}  // namespace
}  // namespace identity_groups_of_every_thread_test
}  // namespace sluice
