// wardrobe: puts identities on one thread and takes them off again.
//
// A worker owns one. It calls put_on() with the identity of each work before run, and take_off() before it idles and
// before it ends. What is worn already costs one comparison; a change makes only the system calls whose fields differ.
//
//   state      put_on(worn)   put_on(other)          take_off()          after a failed call
//   original   -              worn                   original            original, and the error
//   worn       worn           worn (other)           original            original, and the error
//   broken     ENOTRECOVERABLE, always                                   broken
//
// Order of a change: cgroup, ioprio, directory, umask, with the thread's own rights (what it wears is taken off for
// that); then capabilities up, groups, gid, uid, capabilities down. The way back is the reverse, to what the thread had
// before its first change, never to assumed values. After either, what was changed is read back and compared.
//
// A change that fails puts the thread back to its original: a work is never run under half an identity. If that fails
// too, or cannot be verified, the wardrobe is broken: nobody knows as whom the thread acts, so it must run nothing more
// and end.
//
// Side effects that no thread can have alone: the first switch of the user clears the "dumpable" mark of the process
// (prctl(2), PR_SET_DUMPABLE), and a thread's parent-death signal is forgotten. A program that calls setuid(2) and the
// like of the C library changes its workers with them: drop privileges before the pool is made.
//
// Ownership:      holds a count on what is worn; nothing of an identity while nothing is worn.
// Thread safety:  one thread: the one that made the first change.
// Blocking:       fchdir into a network file system may; moving between cgroups takes tens of microseconds. Else never.
// Errors:         errno of the call that failed (failed_call() names it); EPERM where a call claims success and did
//                 nothing, as filters of some containers make them; ENOMEM; ENOTRECOVERABLE once broken.
// Limits:         about 200 bytes, the list of the original's groups, one descriptor for its directory.
// Invariants:     I1 I2 I3 I5 I6
#pragma once

#include <pthread.h>

#include <cstdint>
#include <vector>

#include "sluice/base/error.h"
#include "sluice/identity/identity.h"

namespace sluice {

class wardrobe {
 public:
  // Makes no system call.
  explicit wardrobe(identity_calls& calls = identity_calls::real()) noexcept : calls_(calls) {}
  wardrobe(const wardrobe&) = delete;
  wardrobe& operator=(const wardrobe&) = delete;
  // Takes off what is worn.
  ~wardrobe();

  // Makes the thread wear `who`; null and the neutral identity stand for the original. Requires: the caller holds a
  // count on who for the length of the call. On error the thread is back to its original, or broken().
  [[nodiscard]] result<void> put_on(const identity* who) noexcept {
    if (who == worn_.get() && !broken_) [[likely]] {
      return {};
    }
    return change(who);
  }

  // Back to the original. On error: broken().
  [[nodiscard]] result<void> take_off() noexcept { return put_on(nullptr); }

  // The thread may be anybody. It must run nothing more.
  [[nodiscard]] bool broken() const noexcept { return broken_; }
  // Null: the original.
  [[nodiscard]] const identity* worn() const noexcept { return worn_.get(); }
  // The system call that made the last error, or "verify …"; null if there was none. For logs.
  [[nodiscard]] const char* failed_call() const noexcept { return failed_; }

 private:
  // What may differ from the original: set before a call is made, cleared when the restore is verified.
  enum part : std::uint8_t {
    part_uid = 1U << 0U,
    part_gid = 1U << 1U,
    part_groups = 1U << 2U,
    part_capabilities = 1U << 3U,
    part_directory = 1U << 4U,
    part_umask = 1U << 5U,
    part_priority = 1U << 6U,
    part_cgroup = 1U << 7U,
  };
  static constexpr unsigned parts_of_credentials = part_uid | part_gid | part_groups | part_capabilities;

  [[nodiscard]] result<void> change(const identity* who) noexcept;
  [[nodiscard]] result<void> dress(const identity_fields& next);
  [[nodiscard]] result<void> dress_surroundings(const identity_fields& now, const identity_fields& next);
  [[nodiscard]] result<void> dress_group(const cgroup* next);
  [[nodiscard]] result<void> dress_priority(ioprio next);
  [[nodiscard]] result<void> dress_directory(const directory& next);
  [[nodiscard]] result<void> dress_umask(mode_t next);
  [[nodiscard]] result<void> dress_credentials(const credentials* now, const credentials& next);
  [[nodiscard]] result<void> change_ids(const credentials* now, const credentials& next);

  // After a call that failed: what is as it was needs no restoring, which the thread may have no right to.
  void forget_unchanged();
  [[nodiscard]] result<void> restore();
  [[nodiscard]] result<void> restore_credentials();
  [[nodiscard]] result<void> restore_directory();
  [[nodiscard]] result<void> restore_umask();
  [[nodiscard]] result<void> restore_priority();
  [[nodiscard]] result<void> restore_group();

  [[nodiscard]] result<void> learn_credentials();
  [[nodiscard]] result<void> leave_shared_fs();
  [[nodiscard]] result<void> verify(const credentials& expected);
  [[nodiscard]] result<void> make_effective(capability_set wanted);
  // The result of a system call, with its name kept for failed_call().
  [[nodiscard]] result<void> step(const char* call, int rc) noexcept;
  [[nodiscard]] std::unexpected<std::error_code> failed(const char* what, std::error_code error) noexcept;

  void remember(const identity* who) noexcept;
  [[nodiscard]] bool differs(unsigned parts) const noexcept { return (changed_ & parts) != 0; }

  identity_calls& calls_;
  ref<const identity> worn_;
  bool broken_ = false;
  bool own_fs_ = false;  // has left the fs context that the threads share
  std::uint8_t changed_ = 0;
  const char* failed_ = nullptr;
  pthread_t thread_{};
  bool bound_ = false;

  // The original, each part learnt when it is about to be changed for the first time.
  bool learnt_credentials_ = false;
  thread_credentials own_;
  std::vector<gid_t> own_groups_;  // sorted, without doubles
  ref<const directory> own_directory_;
  mode_t own_umask_ = 0;
  std::uint16_t own_priority_ = 0;
  ref<const cgroup> own_group_;
  thread_credentials seen_;  // what was read back last; kept for its memory
};

}  // namespace sluice
