#include "sluice/identity/identity_calls.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "sluice/base/immortal.h"

namespace sluice {
namespace {

// Where the plain numbers are those of 16-bit ids (32-bit x86 and ARM), the others carry this suffix.
#ifdef SYS_setresuid32
constexpr long nr_getresuid = SYS_getresuid32, nr_getresgid = SYS_getresgid32, nr_getgroups = SYS_getgroups32;
constexpr long nr_setresuid = SYS_setresuid32, nr_setresgid = SYS_setresgid32, nr_setgroups = SYS_setgroups32;
constexpr long nr_setfsuid = SYS_setfsuid32, nr_setfsgid = SYS_setfsgid32;
#else
constexpr long nr_getresuid = SYS_getresuid, nr_getresgid = SYS_getresgid, nr_getgroups = SYS_getgroups;
constexpr long nr_setresuid = SYS_setresuid, nr_setresgid = SYS_setresgid, nr_setgroups = SYS_setgroups;
constexpr long nr_setfsuid = SYS_setfsuid, nr_setfsgid = SYS_setfsgid;
#endif

constexpr int ioprio_who_process = 1;  // of ioprio_set(2); 0 is then the calling thread
constexpr unsigned word_bits = 32;

template <class... Args>
int call(long number, Args... args) noexcept {
  return static_cast<int>(::syscall(number, args...));
}

class real_calls final : public identity_calls {
 public:
  int getresuid(uid_t* real, uid_t* effective, uid_t* saved) noexcept override {
    return call(nr_getresuid, real, effective, saved);
  }
  int getresgid(gid_t* real, gid_t* effective, gid_t* saved) noexcept override {
    return call(nr_getresgid, real, effective, saved);
  }
  uid_t fsuid() noexcept override { return static_cast<uid_t>(call(nr_setfsuid, -1)); }
  gid_t fsgid() noexcept override { return static_cast<gid_t>(call(nr_setfsgid, -1)); }
  int getgroups(int count, gid_t* groups) noexcept override { return call(nr_getgroups, count, groups); }
  int capget(capability_sets* into) noexcept override {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> words{};
    const int rc = call(SYS_capget, &header, words.data());
    const auto join = [&words](auto member) {
      return capability_set::from_bits((std::uint64_t{words[1].*member} << word_bits) | words[0].*member);
    };
    *into = {.effective = join(&__user_cap_data_struct::effective),
             .permitted = join(&__user_cap_data_struct::permitted),
             .inheritable = join(&__user_cap_data_struct::inheritable)};
    return rc;
  }

  int setgroups(std::size_t count, const gid_t* groups) noexcept override { return call(nr_setgroups, count, groups); }
  int setresgid(gid_t real, gid_t effective, gid_t saved) noexcept override {
    return call(nr_setresgid, real, effective, saved);
  }
  int setresuid(uid_t real, uid_t effective, uid_t saved) noexcept override {
    return call(nr_setresuid, real, effective, saved);
  }
  int capset(const capability_sets& sets) noexcept override {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> words{};
    for (unsigned i = 0; i < words.size(); ++i) {
      const auto part = [i](capability_set set) { return static_cast<std::uint32_t>(set.bits() >> (i * word_bits)); };
      words[i] = {
          .effective = part(sets.effective), .permitted = part(sets.permitted), .inheritable = part(sets.inheritable)};
    }
    return call(SYS_capset, &header, words.data());
  }

  // unshare(2) and umask(2) of the C library are the bare system calls, as are those below.
  int unshare(int flags) noexcept override { return ::unshare(flags); }
  int shares_fs() noexcept override {
    const pid_t first = ::getpid();
    const pid_t self = ::gettid();
    const int order = first == self ? -1 : call(SYS_kcmp, first, self, KCMP_FS, 0, 0);
    return order < 0 ? -1 : static_cast<int>(order == 0);
  }
  int fchdir(int fd) noexcept override { return ::fchdir(fd); }
  mode_t umask(mode_t mask) noexcept override { return ::umask(mask); }
  int statx(int fd, struct ::statx* into) noexcept override {
    return ::statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_INO | STATX_MNT_ID,
                   into);
  }

  int ioprio_get() noexcept override { return call(SYS_ioprio_get, ioprio_who_process, 0); }
  int ioprio_set(std::uint16_t raw) noexcept override {
    return call(SYS_ioprio_set, ioprio_who_process, 0, static_cast<int>(raw));
  }

  int open(const char* path, int flags) noexcept override { return ::open(path, flags); }
  ssize_t read(int fd, void* into, std::size_t bytes) noexcept override { return ::read(fd, into, bytes); }
  ssize_t write(int fd, const void* from, std::size_t bytes) noexcept override { return ::write(fd, from, bytes); }
};

}  // namespace

identity_calls& identity_calls::real() noexcept {
  // Never destroyed: threads that still run at exit may use it. Holds nothing.
  static immortal<real_calls> calls;
  return *calls;
}

const char* to_string(capability one) noexcept {
  switch (one) {
    case capability::chown:
      return "CAP_CHOWN";
    case capability::dac_override:
      return "CAP_DAC_OVERRIDE";
    case capability::dac_read_search:
      return "CAP_DAC_READ_SEARCH";
    case capability::fowner:
      return "CAP_FOWNER";
    case capability::fsetid:
      return "CAP_FSETID";
    case capability::setgid:
      return "CAP_SETGID";
    case capability::setuid:
      return "CAP_SETUID";
    case capability::setpcap:
      return "CAP_SETPCAP";
    case capability::sys_admin:
      return "CAP_SYS_ADMIN";
    case capability::sys_nice:
      return "CAP_SYS_NICE";
    case capability::sys_resource:
      return "CAP_SYS_RESOURCE";
  }
  return "CAP_?";
}

}  // namespace sluice
