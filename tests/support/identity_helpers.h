// identity_helpers: who a thread is, read from /proc and not through the code under test; threads to spoil; system calls
// that fail or lie on demand.
#pragma once

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/identity/identity.h"
#include "sluice/identity/wardrobe.h"

namespace test {

// What /proc says of a thread ("self" or a number), one line per fact. Two are equal iff nothing of an identity differs.
inline std::string thread_facts(const std::string& thread = "/proc/thread-self") {
  std::ifstream status(thread + "/status");
  std::string facts;
  for (std::string line; std::getline(status, line);) {
    for (const char* label : {"Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapAmb:", "Umask:"}) {
      if (line.starts_with(label)) {
        facts += line + "\n";
      }
    }
  }
  std::error_code ignored;
  facts += "cwd " + std::filesystem::read_symlink(thread + "/cwd", ignored).string() + "\n";
  return facts;
}

// The calling thread's, with what /proc does not show of others.
inline std::string own_facts() {
  std::ifstream groups("/proc/thread-self/cgroup");
  std::stringstream text;
  text << groups.rdbuf();
  return thread_facts() + "ioprio " + std::to_string(::syscall(SYS_ioprio_get, 1, 0)) + "\n" + text.str();
}

// Whether this process may be anybody: root with its capabilities.
inline bool may_switch() {
  const auto own = sluice::credentials_of_this_thread();
  return own && own->uid == 0 && own->capabilities.effective.has(sluice::capability::setuid) &&
         own->capabilities.effective.has(sluice::capability::setgid);
}

// In a test's body: what follows needs root.
#define SLUICE_NEEDS_ROOT()                                                   \
  if (!test::may_switch()) {                                                  \
    GTEST_SKIP() << "needs root (CAP_SETUID and CAP_SETGID) to switch users"; \
  }                                                                           \
  static_assert(true)

// Runs on a thread that ends with it, so that whatever it becomes dies with it.
inline void on_a_thread(const std::function<void()>& body) {
  std::thread(body).join();
}

constexpr unsigned nobody = 65534;

// The same as an ordinary user without any capability: the thread becomes one if it is root.
inline void as_ordinary_user(const std::function<void()>& body) {
  on_a_thread([&body] {
    if (may_switch()) {
      ASSERT_EQ(::syscall(SYS_setgroups, 0, nullptr), 0);
      ASSERT_EQ(::syscall(SYS_setresgid, nobody, nobody, nobody), 0);
      ASSERT_EQ(::syscall(SYS_setresuid, nobody, nobody, nobody), 0);
    }
    body();
  });
}

// A directory that every user may enter, removed in the end.
class open_directory {
 public:
  open_directory() {
    std::string name = std::filesystem::temp_directory_path() / "sluice-identity-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) {
      throw std::system_error(errno, std::system_category(), "mkdtemp");
    }
    path_ = name;
    std::filesystem::permissions(path_, std::filesystem::perms(0755));
  }
  open_directory(const open_directory&) = delete;
  open_directory& operator=(const open_directory&) = delete;
  ~open_directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string path(const std::string& below = "") const {
    return below.empty() ? path_ : path_ + "/" + below;
  }
  // A directory in it.
  [[nodiscard]] std::string make(const std::string& name, uid_t uid, gid_t gid, mode_t mode) const {
    const std::string full = path(name);
    EXPECT_EQ(::mkdir(full.c_str(), 0700), 0) << full;
    if (may_switch()) {
      EXPECT_EQ(::chown(full.c_str(), uid, gid), 0) << full;
    }
    EXPECT_EQ(::chmod(full.c_str(), mode), 0) << full;
    return full;
  }
  // A file in it.
  [[nodiscard]] std::string file(const std::string& name, uid_t uid, gid_t gid, mode_t mode) const {
    const std::string full = path(name);
    std::ofstream(full) << "bytes";
    if (may_switch()) {
      EXPECT_EQ(::chown(full.c_str(), uid, gid), 0) << full;
    }
    EXPECT_EQ(::chmod(full.c_str(), mode), 0) << full;
    return full;
  }

 private:
  std::string path_;
};

// The kernel's calls, of which some fail or only pretend.
class unruly_calls : public sluice::identity_calls {
 public:
  enum class mischief : std::uint8_t {
    none,
    fail_once,     // call number `at` fails with EPERM
    fail_from,     // that one and all later
    pretend_once,  // a change that claims success and is not made
    pretend_from,
  };

  void plan(mischief what, int at) noexcept {
    what_ = what;
    at_ = at;
    made_ = 0;
    struck_ = false;
  }
  // How many calls were made since the plan.
  [[nodiscard]] int made() const noexcept { return made_; }
  // Whether a call failed or pretended since the plan.
  [[nodiscard]] bool struck() const noexcept { return struck_; }

  int getresuid(uid_t* r, uid_t* e, uid_t* s) noexcept override {
    return read([&] { return real_.getresuid(r, e, s); });
  }
  int getresgid(gid_t* r, gid_t* e, gid_t* s) noexcept override {
    return read([&] { return real_.getresgid(r, e, s); });
  }
  // These cannot fail, only tell something wrong.
  uid_t fsuid() noexcept override { return due(false) ? nobody - 7 : real_.fsuid(); }
  gid_t fsgid() noexcept override { return due(false) ? nobody - 7 : real_.fsgid(); }
  int getgroups(int count, gid_t* groups) noexcept override {
    return read([&] { return real_.getgroups(count, groups); });
  }
  int capget(sluice::capability_sets* into) noexcept override {
    return read([&] { return real_.capget(into); });
  }
  int setgroups(std::size_t count, const gid_t* groups) noexcept override {
    return change([&] { return real_.setgroups(count, groups); });
  }
  int setresgid(gid_t r, gid_t e, gid_t s) noexcept override {
    return change([&] { return real_.setresgid(r, e, s); });
  }
  int setresuid(uid_t r, uid_t e, uid_t s) noexcept override {
    return change([&] { return real_.setresuid(r, e, s); });
  }
  int capset(const sluice::capability_sets& sets) noexcept override {
    return change([&] { return real_.capset(sets); });
  }
  int unshare(int flags) noexcept override {
    return change([&] { return real_.unshare(flags); });
  }
  int shares_fs() noexcept override { return real_.shares_fs(); }
  int fchdir(int fd) noexcept override {
    return change([&] { return real_.fchdir(fd); });
  }
  // umask(2) cannot fail; pretending, it does not change and returns what it should.
  mode_t umask(mode_t mask) noexcept override {
    if (!due(true)) {
      return real_.umask(mask);
    }
    const mode_t now = real_.umask(mask);
    static_cast<void>(real_.umask(now));
    return now;
  }
  int statx(int fd, struct ::statx* into) noexcept override {
    return read([&] { return real_.statx(fd, into); });
  }
  int ioprio_get() noexcept override {
    return read([&] { return real_.ioprio_get(); });
  }
  int ioprio_set(std::uint16_t raw) noexcept override {
    return change([&] { return real_.ioprio_set(raw); });
  }
  int open(const char* path, int flags) noexcept override {
    return read([&] { return real_.open(path, flags); });
  }
  ssize_t read(int fd, void* into, std::size_t bytes) noexcept override {
    return read([&] { return real_.read(fd, into, bytes); });
  }
  ssize_t write(int fd, const void* from, std::size_t bytes) noexcept override {
    return change([&] { return real_.write(fd, from, bytes); });
  }

 private:
  [[nodiscard]] bool pretends() const noexcept {
    return what_ == mischief::pretend_once || what_ == mischief::pretend_from;
  }
  [[nodiscard]] bool due(bool changes) noexcept {
    const int number = made_++;
    if (what_ == mischief::none || (pretends() && !changes)) {
      return false;
    }
    const bool from = what_ == mischief::fail_from || what_ == mischief::pretend_from;
    const bool now = from ? number >= at_ : number == at_;
    struck_ = struck_ || now;
    return now;
  }
  template <class Call>
  auto read(Call call) noexcept -> decltype(call()) {
    if (due(false)) {
      errno = EPERM;
      return -1;
    }
    return call();
  }
  template <class Call>
  auto change(Call call) noexcept -> decltype(call()) {
    if (due(true)) {
      errno = EPERM;
      return pretends() ? 0 : -1;
    }
    return call();
  }

  sluice::identity_calls& real_ = sluice::identity_calls::real();
  mischief what_ = mischief::none;
  int at_ = 0;
  int made_ = 0;
  bool struck_ = false;
};

}  // namespace test
