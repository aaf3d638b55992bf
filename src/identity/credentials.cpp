#include "sluice/identity/credentials.h"

#include <algorithm>
#include <new>

namespace sluice {

result<void> read_credentials(thread_credentials& into, identity_calls& calls) noexcept try {
  if (calls.getresuid(&into.real_uid, &into.uid, &into.saved_uid) != 0 ||
      calls.getresgid(&into.real_gid, &into.gid, &into.saved_gid) != 0 || calls.capget(&into.capabilities) != 0) {
    return fail_errno();
  }
  into.fs_uid = calls.fsuid();
  into.fs_gid = calls.fsgid();
  const int count = calls.getgroups(0, nullptr);
  if (count < 0) {
    return fail_errno();
  }
  into.groups.resize(static_cast<std::size_t>(count));
  // With a size of 0 the second call would only count again.
  const int got = count == 0 ? 0 : calls.getgroups(count, into.groups.data());
  if (got < 0) {
    return fail_errno();
  }
  into.groups.resize(static_cast<std::size_t>(got));
  return {};
} catch (const std::bad_alloc&) {
  return fail(ENOMEM);
}

result<thread_credentials> credentials_of_this_thread(identity_calls& calls) noexcept {
  thread_credentials found;
  if (const result<void> done = read_credentials(found, calls); !done) {
    return std::unexpected(done.error());
  }
  return found;
}

void normalize_groups(std::vector<gid_t>& groups) noexcept {
  std::ranges::sort(groups);
  groups.erase(std::ranges::unique(groups).begin(), groups.end());
}

bool keeps_capabilities(const thread_credentials& own, uid_t uid) noexcept {
  const bool others_are_root = own.real_uid == 0 || own.saved_uid == 0;
  return own.capabilities.permitted.empty() || others_are_root || (own.uid == 0) == (uid == 0);
}

}  // namespace sluice
