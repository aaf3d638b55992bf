// identity_people: sixteen users with homes, groups and masks, and a work that each of them can do in only one way.
#pragma once

#include <array>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/base/mutex.h"
#include "sluice/identity/identity.h"

#include "support/identity_helpers.h"

namespace test {

using namespace sluice;

inline constexpr unsigned identities = 16;
inline constexpr unsigned shared_groups = 4;
inline constexpr uid_t first_uid = 20000;
inline constexpr gid_t first_gid = 30000;
inline constexpr gid_t first_group = 40000;
inline constexpr std::array<mode_t, 4> masks{022, 027, 077, 002};

struct person {
  unsigned number;
  uid_t uid;
  gid_t gid;
  gid_t group;  // supplementary, shared with every fourth
  mode_t mask;
  ref<const identity> who;
};

// One directory per person with his files, one per shared group.
inline std::vector<person> make_people(const test::open_directory& there) {
  for (unsigned g = 0; g < shared_groups; ++g) {
    const std::string name = "group" + std::to_string(g);
    const std::string made = there.make(name, 0, first_group + g, 02770);
    std::ofstream(made + "/for-the-group") << "group " << g;
    EXPECT_EQ(::chown((made + "/for-the-group").c_str(), 0, first_group + g), 0);
    EXPECT_EQ(::chmod((made + "/for-the-group").c_str(), 0640), 0);
  }
  std::vector<person> people;
  for (unsigned i = 0; i < identities; ++i) {
    person one{.number = i,
               .uid = first_uid + i,
               .gid = first_gid + i,
               .group = first_group + i % shared_groups,
               .mask = masks[(i / shared_groups) % masks.size()],
               .who = nullptr};
    const std::string home = there.make("home" + std::to_string(i), one.uid, one.gid, 0755);
    static_cast<void>(there.file("home" + std::to_string(i) + "/secret", one.uid, one.gid, 0600));
    const identity_result made = identity_builder()
                                     .set_credentials({.uid = one.uid, .gid = one.gid, .groups = {one.group}})
                                     .set_working_directory(home)
                                     .set_umask(one.mask)
                                     .set_priority(ioprio(ioprio_class::be, i % ioprio::levels))
                                     .set_audit("person " + std::to_string(i))
                                     .build();
    EXPECT_TRUE(made) << made.error().message();
    one.who = *made;
    people.push_back(std::move(one));
  }
  return people;
}

inline void create_and_stat(const person& me, const std::string& name, gid_t expected_group) {
  const int fd = ::open(name.c_str(), O_CREAT | O_EXCL | O_RDWR, 0666);
  ASSERT_GE(fd, 0) << name << " as " << me.number << ": " << errno;
  struct stat about{};
  ASSERT_EQ(::fstat(fd, &about), 0);
  ::close(fd);
  ASSERT_EQ(about.st_uid, me.uid);
  ASSERT_EQ(about.st_gid, expected_group);
  ASSERT_EQ(about.st_mode & 07777, 0666U & ~me.mask);
  ASSERT_EQ(::unlink(name.c_str()), 0);
}

inline void check_open(const std::string& name, bool allowed) {
  const int fd = ::open(name.c_str(), O_RDONLY);
  const int err = errno;
  if (!allowed) {
    ASSERT_EQ(fd, -1) << name;
    ASSERT_EQ(err, EACCES) << name;
    return;
  }
  ASSERT_GE(fd, 0) << name << ": " << err;
  char byte = 0;
  ASSERT_EQ(::read(fd, &byte, 1), 1);
  ::close(fd);
}

// A work: all of it by relative names, from the home that only this identity has as its directory.
inline void work_as(const person& me, const person& other, const std::string& tag) {
  create_and_stat(me, "file-" + tag, me.gid);
  check_open("secret", true);
  check_open("../home" + std::to_string(other.number) + "/secret", me.number == other.number);
  const unsigned mine = me.group - first_group;
  const unsigned theirs = other.group - first_group;
  create_and_stat(me, "../group" + std::to_string(mine) + "/file-" + tag, me.group);
  check_open("../group" + std::to_string(theirs) + "/for-the-group", mine == theirs);
  ASSERT_EQ(::syscall(SYS_ioprio_get, 1, 0), (ioprio(ioprio_class::be, me.number % ioprio::levels).raw()));
  ASSERT_EQ(current_identity(), me.who.get());
}

class bystanders {
 public:
  void add_worker() {
    mutex_lock hold(lock_);
    workers_.insert(::gettid());
  }
  // Compares every thread of the process that is no worker with what it was at first.
  void look() {
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
      const std::string path = entry.path();
      const pid_t id = std::stoi(entry.path().filename());
      {
        mutex_lock hold(lock_);
        if (workers_.contains(id)) {
          continue;
        }
      }
      const std::string now = test::thread_facts(path);
      const auto [known, fresh] = first_.emplace(id, now);
      EXPECT_EQ(now, known->second) << "thread " << id;
    }
  }

 private:
  mutex lock_;
  std::set<pid_t> workers_ SLUICE_GUARDED_BY(lock_);
  std::map<pid_t, std::string> first_;  // the watcher's own
};

}  // namespace test
