// Goal: real threads that switch among 16 identities at random do everything as the right one, every time (I1), end as
// themselves (I2), and no other thread is touched (I5). Method: four threads, each with a wardrobe, create, open, stat and
// read files by relative names and check owner, mode, group, denials; one thread watches all that are not theirs.
#include <array>
#include <atomic>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "sluice/base/mutex.h"
#include "sluice/identity/wardrobe.h"

#include "support/identity_helpers.h"
#include "support/stress.h"

namespace sluice {
namespace {

constexpr unsigned identities = 16;
constexpr unsigned workers = 4;
constexpr unsigned shared_groups = 4;
constexpr uid_t first_uid = 20000;
constexpr gid_t first_gid = 30000;
constexpr gid_t first_group = 40000;
constexpr std::array<mode_t, 4> masks{022, 027, 077, 002};

struct person {
  unsigned number;
  uid_t uid;
  gid_t gid;
  gid_t group;  // supplementary, shared with every fourth
  mode_t mask;
  ref<const identity> who;
};

// One directory per person with his files, one per shared group.
std::vector<person> make_people(const test::open_directory& there) {
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

void create_and_stat(const person& me, const std::string& name, gid_t expected_group) {
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

void check_open(const std::string& name, bool allowed) {
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
void work_as(const person& me, const person& other, const std::string& tag) {
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

TEST(IdentityStress, I1_I2_I5_SixteenIdentitiesOnFourThreads) {
  SLUICE_NEEDS_ROOT();
  const test::open_directory there;
  const std::vector<person> people = make_people(there);
  bystanders others;
  std::atomic<unsigned> ready{0};
  std::atomic<bool> over{false};
  std::atomic<std::uint64_t> works{0};
  const std::string before = test::thread_facts();
  // A worker counts as one before it changes anything, and the watcher begins when all of them do.
  const auto worker = [&](unsigned number) {
    others.add_worker();
    ready.fetch_add(1, std::memory_order_release);  // pairs with the watcher's acquire
    std::mt19937 random(number);
    wardrobe clothes;
    const std::string mine = test::own_facts();
    std::uint64_t done = 0;
    for (const test::stress_time time; !time.over() && !testing::Test::HasFatalFailure(); ++done) {
      const person& me = people[random() % identities];
      ASSERT_TRUE(clothes.put_on(me.who.get())) << clothes.failed_call();
      work_as(me, people[random() % identities], std::to_string(number) + "-" + std::to_string(done));
      if (random() % 8 == 0) {
        ASSERT_TRUE(clothes.take_off()) << clothes.failed_call();
        ASSERT_EQ(test::own_facts(), mine);
      }
    }
    ASSERT_TRUE(clothes.take_off());
    EXPECT_EQ(test::own_facts(), mine);
    works.fetch_add(done, std::memory_order_relaxed);  // relaxed: read after the join
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < workers; ++i) {
    threads.emplace_back(worker, i);
  }
  std::thread watcher([&] {
    while (ready.load(std::memory_order_acquire) < workers) {
      std::this_thread::yield();
    }
    while (!over.load(std::memory_order_relaxed)) {
      others.look();
    }
  });
  for (std::thread& each : threads) {
    each.join();
  }
  over.store(true, std::memory_order_relaxed);
  watcher.join();
  EXPECT_EQ(test::thread_facts(), before);
  EXPECT_GT(works.load(std::memory_order_relaxed), 0U);
  for (const person& each : people) {
    EXPECT_EQ(each.who->use_count(), 1U);
  }
  RecordProperty("works", std::to_string(works.load(std::memory_order_relaxed)));
  std::printf("%llu works\n", static_cast<unsigned long long>(works.load(std::memory_order_relaxed)));
}

}  // namespace
}  // namespace sluice
