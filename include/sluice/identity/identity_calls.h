// identity_calls: every system call that reads or changes as whom a thread works, so that tests make each of them fail
// or lie.
//
// Each function is the system call of its name for the calling thread alone: same arguments, same return, errno set on
// -1. Raw system calls, never the C library's functions of the same name: those change every thread of the process, as
// POSIX wants it (nptl(7), "NPTL and user and group ID credentials"). Nothing is retried here.
//
// Thread safety:  any thread.
// Blocking:       as the system call; none of these waits for a device, but fchdir and open on a network file system.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "sluice/identity/capability.h"

struct statx;

namespace sluice {

class identity_calls {
 public:
  identity_calls() = default;
  identity_calls(const identity_calls&) = delete;
  identity_calls& operator=(const identity_calls&) = delete;
  virtual ~identity_calls() = default;

  [[nodiscard]] virtual int getresuid(uid_t* real, uid_t* effective, uid_t* saved) noexcept = 0;
  [[nodiscard]] virtual int getresgid(gid_t* real, gid_t* effective, gid_t* saved) noexcept = 0;
  // setfsuid(2) and setfsgid(2) with -1: they change nothing and return what is.
  [[nodiscard]] virtual uid_t fsuid() noexcept = 0;
  [[nodiscard]] virtual gid_t fsgid() noexcept = 0;
  [[nodiscard]] virtual int getgroups(int count, gid_t* groups) noexcept = 0;
  [[nodiscard]] virtual int capget(capability_sets* into) noexcept = 0;

  [[nodiscard]] virtual int setgroups(std::size_t count, const gid_t* groups) noexcept = 0;
  // -1: stays as it is.
  [[nodiscard]] virtual int setresgid(gid_t real, gid_t effective, gid_t saved) noexcept = 0;
  [[nodiscard]] virtual int setresuid(uid_t real, uid_t effective, uid_t saved) noexcept = 0;
  [[nodiscard]] virtual int capset(const capability_sets& sets) noexcept = 0;

  [[nodiscard]] virtual int unshare(int flags) noexcept = 0;
  // Whether the thread shares directory and umask with the process's first thread, by kcmp(2): 1 or 0; -1 where that
  // cannot be told, and on the first thread itself.
  [[nodiscard]] virtual int shares_fs() noexcept = 0;
  [[nodiscard]] virtual int fchdir(int fd) noexcept = 0;
  [[nodiscard]] virtual mode_t umask(mode_t mask) noexcept = 0;
  // statx(2) of the open file fd, or of the working directory for AT_FDCWD, from what the kernel has cached.
  [[nodiscard]] virtual int statx(int fd, struct ::statx* into) noexcept = 0;

  // The thread's own.
  [[nodiscard]] virtual int ioprio_get() noexcept = 0;
  [[nodiscard]] virtual int ioprio_set(std::uint16_t raw) noexcept = 0;

  [[nodiscard]] virtual int open(const char* path, int flags) noexcept = 0;
  [[nodiscard]] virtual ssize_t read(int fd, void* into, std::size_t bytes) noexcept = 0;
  [[nodiscard]] virtual ssize_t write(int fd, const void* from, std::size_t bytes) noexcept = 0;

  // The kernel's. Lives for the whole process.
  [[nodiscard]] static identity_calls& real() noexcept;
};

}  // namespace sluice
