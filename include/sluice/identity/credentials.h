// credentials: the user, group, supplementary groups and effective capabilities that a work is done with.
//
// One field of an identity, captured whole or not at all: credentials without their groups are how servers gave clients
// the groups of root, or took their own away from them.
//
// uid and gid are the effective ids, set with setresuid(2) and setresgid(2) on the thread alone; the kernel makes the
// file-system ids follow. The real and the saved ids stay the process's. Why not setfsuid(2): it cannot report failure;
// it leaves out what looks at the effective id (quotactl, System V IPC, peer credentials of sockets); and it
// keeps capabilities effective that are not about files. Because the real and saved ids stay, the user may
// neither signal nor trace the thread that works for him, no process limit of his is touched, and the way back is open.
//
// Thread safety:  values.
// Blocking:       never.
#pragma once

#include <sys/types.h>

#include <vector>

#include "sluice/base/error.h"
#include "sluice/identity/capability.h"
#include "sluice/identity/identity_calls.h"

namespace sluice {

struct credentials {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups = {};
  capability_set effective = {};  // empty unless said: root's power is asked for, never inherited

  friend bool operator==(const credentials&, const credentials&) = default;
};

// All of a thread's credentials, as far as a switch can touch them.
struct thread_credentials {
  uid_t real_uid = 0, uid = 0, saved_uid = 0, fs_uid = 0;
  gid_t real_gid = 0, gid = 0, saved_gid = 0, fs_gid = 0;
  std::vector<gid_t> groups = {};  // as the kernel lists them
  capability_sets capabilities = {};

  friend bool operator==(const thread_credentials&, const thread_credentials&) = default;
};

// Those of the calling thread. Errors: what the calls report (they fail only where a filter forbids them), ENOMEM.
[[nodiscard]] result<thread_credentials> credentials_of_this_thread(
    identity_calls& calls = identity_calls::real()) noexcept;
// The same into memory that is there already.
[[nodiscard]] result<void> read_credentials(thread_credentials& into, identity_calls& calls) noexcept;

// A list of groups, sorted and without doubles.
void normalize_groups(std::vector<gid_t>& groups) noexcept;

// False if a thread with these ids that makes `uid` its effective one, and then its own again, loses its permitted
// capabilities on the way: they go when the last of the three ids that is 0 changes (capabilities(7)).
[[nodiscard]] bool keeps_capabilities(const thread_credentials& own, uid_t uid) noexcept;

}  // namespace sluice
