// I1: gocryptfs #327: a file was created by root and then given to its user; in between it was root's, with the set-user-id
// bit that the user had asked for.
// Goal: what is created under an identity is the user's from the start. Method: a second thread looks at the name all the
// time and must never see another owner, while many such files come and go.
#include <atomic>

#include <gtest/gtest.h>

#include "sluice/identity/wardrobe.h"

#include "support/identity_helpers.h"

namespace sluice {
namespace identity_create_then_chown_test {
namespace {

TEST(IdentityCreateThenChown, I1_AFileIsItsUsersFromTheStart) {
  SLUICE_NEEDS_ROOT();
  const test::open_directory there;
  const std::string name = there.make("open-to-all", 0, 0, 01777) + "/tool";
  constexpr uid_t user = 20007;
  std::atomic<bool> over{false};
  std::atomic<int> seen{0};
  std::atomic<int> of_others{0};
  // relaxed throughout: counters, read after the join.
  std::thread watcher([&] {
    while (!over.load(std::memory_order_relaxed)) {
      struct stat about{};
      if (::lstat(name.c_str(), &about) == 0) {
        seen.fetch_add(1, std::memory_order_relaxed);
        of_others.fetch_add(about.st_uid != user || about.st_gid != user ? 1 : 0, std::memory_order_relaxed);
      }
    }
  });
  test::on_a_thread([&] {
    const identity_result who = identity_builder().set_credentials({.uid = user, .gid = user}).set_umask(0).build();
    ASSERT_TRUE(who) << who.error().message();
    wardrobe clothes;
    // Until the watcher has seen enough of them.
    for (int i = 0; i < 200 || seen.load(std::memory_order_relaxed) < 20; ++i) {
      ASSERT_TRUE(clothes.put_on(who->get()));
      const int fd = ::open(name.c_str(), O_CREAT | O_EXCL | O_WRONLY, 04777);
      ASSERT_GE(fd, 0);
      struct stat about{};
      ASSERT_EQ(::fstat(fd, &about), 0);
      ASSERT_EQ(about.st_uid, user);
      ASSERT_EQ(about.st_mode & 07777, 04777U);
      ::close(fd);
      ASSERT_TRUE(clothes.take_off());
      ASSERT_EQ(::unlink(name.c_str()), 0);
    }
  });
  over.store(true, std::memory_order_relaxed);
  watcher.join();
  EXPECT_EQ(of_others.load(std::memory_order_relaxed), 0);
}

}  // namespace
}  // namespace identity_create_then_chown_test
}  // namespace sluice
