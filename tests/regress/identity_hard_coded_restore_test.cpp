// I6: libkrun #723: the way back led to user 0 instead of to whom the thread was. A server that is no root but holds
// CAP_SETUID was parked as root, then lost its capabilities with the next switch, and was stuck as the user after that.
// Goal: a thread that is user 1000 with two capabilities serves many users and is user 1000 with both of them each time.
#include <gtest/gtest.h>

#include "sluice/identity/wardrobe.h"

#include "support/identity_helpers.h"

namespace sluice {
namespace identity_hard_coded_restore_test {
namespace {

constexpr uid_t server = 1000;

// Makes the calling thread user `server` with CAP_SETUID and CAP_SETGID, as a service manager would start it.
void become_server() {
  ASSERT_EQ(::prctl(PR_SET_KEEPCAPS, 1), 0);
  ASSERT_EQ(::syscall(SYS_setgroups, 0, nullptr), 0);
  ASSERT_EQ(::syscall(SYS_setresgid, server, server, server), 0);
  ASSERT_EQ(::syscall(SYS_setresuid, server, server, server), 0);
  ASSERT_EQ(::prctl(PR_SET_KEEPCAPS, 0), 0);
  const auto both = capability_set{}.with(capability::setuid).with(capability::setgid);
  ASSERT_EQ(identity_calls::real().capset({.effective = both, .permitted = both, .inheritable = {}}), 0);
}

TEST(IdentityHardCodedRestore, I6_AServerThatIsNotRootStaysItself) {
  SLUICE_NEEDS_ROOT();
  test::on_a_thread([] {
    become_server();
    const std::string before = test::own_facts();
    ASSERT_NE(before.find("Uid:\t1000\t1000\t1000\t1000\n"), std::string::npos) << before;
    wardrobe clothes;
    for (uid_t user = 2000; user < 2050; ++user) {
      const identity_result who =
          identity_builder().set_credentials({.uid = user, .gid = user, .groups = {user + 1}}).build();
      ASSERT_TRUE(who) << who.error().message();
      ASSERT_TRUE(clothes.put_on(who->get())) << clothes.failed_call();
      ASSERT_EQ(::geteuid(), user);
      if (user % 2 == 0) {
        ASSERT_TRUE(clothes.take_off()) << clothes.failed_call();
        ASSERT_EQ(test::own_facts(), before);
      }
    }
    ASSERT_TRUE(clothes.take_off());
    EXPECT_EQ(test::own_facts(), before);
  });
}

// Root's requests: coming back from user 0 would take the server's capabilities, so they are refused, and in time.
TEST(IdentityHardCodedRestore, I6_AServerThatIsNotRootDoesNotBecomeRoot) {
  SLUICE_NEEDS_ROOT();
  const identity_result root = identity_builder().set_credentials({.uid = 0, .gid = 0}).build();
  ASSERT_TRUE(root) << root.error().message();
  test::on_a_thread([&] {
    become_server();
    const std::string before = test::own_facts();
    const identity_result who = identity_builder().set_credentials({.uid = 0, .gid = 0}).build();
    ASSERT_FALSE(who);
    EXPECT_EQ(who.error().code, std::errc::operation_not_permitted);
    wardrobe clothes;
    EXPECT_FALSE(clothes.put_on(root->get()));
    EXPECT_FALSE(clothes.broken());
    EXPECT_EQ(test::own_facts(), before);
  });
}

}  // namespace
}  // namespace identity_hard_coded_restore_test
}  // namespace sluice
