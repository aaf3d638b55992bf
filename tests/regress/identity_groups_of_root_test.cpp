// I1: marfs #79 (and noobaa #7256): user and group were switched, root's supplementary groups stayed: any user could read what belongs
// to the group root.
// Goal: a user without groups cannot list a directory of root:root with mode 0770, even if the server is in group 0.
#include <dirent.h>

#include <gtest/gtest.h>

#include "sluice/identity/wardrobe.h"

#include "support/identity_helpers.h"

namespace sluice {
namespace identity_groups_of_root_test {
namespace {

bool can_list(const std::string& path) {
  DIR* const open = ::opendir(path.c_str());
  if (open != nullptr) {
    ::closedir(open);
  }
  return open != nullptr;
}

TEST(IdentityGroupsOfRoot, I1_AreNotLeftOnTheUser) {
  SLUICE_NEEDS_ROOT();
  const test::open_directory there;
  const std::string of_root = there.make("of-root", 0, 0, 0770);
  test::on_a_thread([&] {
    constexpr std::array<gid_t, 2> groups{0, 4};
    ASSERT_EQ(::syscall(SYS_setgroups, groups.size(), groups.data()), 0);
    const std::string before = test::own_facts();
    const identity_result who = identity_builder().set_credentials({.uid = 500, .gid = 500}).build();
    ASSERT_TRUE(who) << who.error().message();
    ASSERT_TRUE(can_list(of_root));
    wardrobe clothes;
    ASSERT_TRUE(clothes.put_on(who->get()));
    EXPECT_FALSE(can_list(of_root));
    EXPECT_EQ(errno, EACCES);
    ASSERT_TRUE(clothes.take_off());
    EXPECT_TRUE(can_list(of_root));
    EXPECT_EQ(test::own_facts(), before);
  });
}

}  // namespace
}  // namespace identity_groups_of_root_test
}  // namespace sluice
