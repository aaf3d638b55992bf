// I1: fuse-backend-rs #208: the user's own supplementary groups were not put on: he was refused what his group may do.
// Goal: user 501 in groups 0 and 100 makes a directory in one of root:root with mode 0775, and a file in a directory
// with the setgid bit gets the directory's group.
#include <gtest/gtest.h>

#include "sluice/identity/wardrobe.h"

#include "support/identity_helpers.h"

namespace sluice {
namespace identity_supplementary_groups_test {
namespace {

TEST(IdentitySupplementaryGroups, I1_ArePutOn) {
  SLUICE_NEEDS_ROOT();
  const test::open_directory there;
  const std::string of_root = there.make("of-root", 0, 0, 0775);
  const std::string shared = there.make("shared", 0, 100, 02770);
  test::on_a_thread([&] {
    const auto build = [](std::vector<gid_t> groups) {
      return identity_builder()
          .set_credentials({.uid = 501, .gid = 501, .groups = std::move(groups)})
          .set_umask(022)
          .build();
    };
    const identity_result member = build({0, 100});
    const identity_result stranger = build({});
    ASSERT_TRUE(member && stranger);
    wardrobe clothes;
    ASSERT_TRUE(clothes.put_on(stranger->get()));
    EXPECT_EQ(::mkdir((of_root + "/mine").c_str(), 0777), -1);
    EXPECT_EQ(errno, EACCES);
    ASSERT_TRUE(clothes.put_on(member->get()));
    EXPECT_EQ(::mkdir((of_root + "/mine").c_str(), 0777), 0);
    const int fd = ::open((shared + "/file").c_str(), O_CREAT | O_WRONLY, 0666);
    ASSERT_GE(fd, 0);
    struct stat about{};
    ASSERT_EQ(::fstat(fd, &about), 0);
    ::close(fd);
    EXPECT_EQ(about.st_uid, 501U);
    EXPECT_EQ(about.st_gid, 100U);
    EXPECT_EQ(about.st_mode & 07777, 0644U);
    ASSERT_TRUE(clothes.take_off());
  });
}

}  // namespace
}  // namespace identity_supplementary_groups_test
}  // namespace sluice
