// Taking off: back to what was captured, read back afterwards. Each part does nothing if it was never changed.
#include <fcntl.h>

#include "sluice/identity/wardrobe.h"

namespace sluice {

result<void> wardrobe::restore() {
  // Credentials first: the rest is done with the thread's own rights.
  for (const auto restore_part :
       {&wardrobe::restore_credentials, &wardrobe::restore_umask, &wardrobe::restore_directory,
        &wardrobe::restore_priority, &wardrobe::restore_group}) {
    if (const result<void> done = (this->*restore_part)(); !done) {
      return done;
    }
  }
  return {};
}

void wardrobe::forget_unchanged() {
  const auto keep = [this](part one, bool other) {
    if (!other) {
      changed_ &= static_cast<std::uint8_t>(~one);
    }
  };
  // What cannot be read counts as changed.
  if (differs(parts_of_credentials) && read_credentials(seen_, calls_)) {
    keep(part_uid, seen_.uid != own_.uid || seen_.fs_uid != own_.fs_uid);
    keep(part_gid, seen_.gid != own_.gid || seen_.fs_gid != own_.fs_gid);
    keep(part_groups, seen_.groups != own_.groups);
    keep(part_capabilities, seen_.capabilities != own_.capabilities);
  }
  if (differs(part_directory)) {
    const result<directory_key> here = key_of_directory(AT_FDCWD, calls_);
    keep(part_directory, !here || *here != own_directory_->key());
  }
  if (differs(part_priority)) {
    keep(part_priority, calls_.ioprio_get() != own_priority_);
  }
  if (differs(part_cgroup)) {
    const result<bool> there = own_group_->holds_this_thread(calls_);
    keep(part_cgroup, !there || !*there);
  }
}

result<void> wardrobe::restore_credentials() {
  if (!differs(parts_of_credentials)) {
    return {};
  }
  // Groups and gid need capabilities; those that the thread wears may be none. Root that comes back by its real or saved
  // id gets them with it; else they come from the permitted set, which no switch has touched.
  constexpr auto as_it_is = static_cast<gid_t>(-1);
  const bool root_comes_back = differs(part_uid) && own_.uid == 0 && (own_.real_uid == 0 || own_.saved_uid == 0);
  if (!root_comes_back) {
    if (const auto done = make_effective(own_.capabilities.permitted); !done) {
      return done;
    }
  }
  if (differs(part_uid)) {
    if (const auto done = step("setresuid", calls_.setresuid(as_it_is, own_.uid, as_it_is)); !done) {
      return done;
    }
  }
  if (differs(part_gid | part_groups)) {
    if (const auto done = make_effective(own_.capabilities.permitted); !done) {
      return done;
    }
  }
  if (differs(part_gid)) {
    if (const auto done = step("setresgid", calls_.setresgid(as_it_is, own_.gid, as_it_is)); !done) {
      return done;
    }
  }
  if (differs(part_groups)) {
    if (const auto done = step("setgroups", calls_.setgroups(own_.groups.size(), own_.groups.data())); !done) {
      return done;
    }
  }
  if (const auto done = make_effective(own_.capabilities.effective); !done) {
    return done;
  }
  if (const auto done = read_credentials(seen_, calls_); !done) {
    return failed("read credentials back", done.error());
  }
  if (seen_ != own_) {
    return failed("verify credentials", error_of(EPERM));
  }
  changed_ &= static_cast<std::uint8_t>(~parts_of_credentials);
  return {};
}

result<void> wardrobe::restore_umask() {
  if (!differs(part_umask)) {
    return {};
  }
  static_cast<void>(calls_.umask(own_umask_));  // it cannot fail, and returns what was
  if (calls_.umask(own_umask_) != own_umask_) {
    return failed("verify umask", error_of(EPERM));
  }
  changed_ &= static_cast<std::uint8_t>(~part_umask);
  return {};
}

result<void> wardrobe::restore_directory() {
  if (!differs(part_directory)) {
    return {};
  }
  if (const auto done = step("fchdir", calls_.fchdir(own_directory_->fd())); !done) {
    return done;
  }
  const result<directory_key> here = key_of_directory(AT_FDCWD, calls_);
  if (!here || *here != own_directory_->key()) {
    return failed("verify directory", here ? error_of(EPERM) : here.error());
  }
  changed_ &= static_cast<std::uint8_t>(~part_directory);
  return {};
}

result<void> wardrobe::restore_priority() {
  if (!differs(part_priority)) {
    return {};
  }
  // NONE is not taken with the level that old kernels read it back with.
  const bool none = ioprio::from_raw(own_priority_).cls() == ioprio_class::none;
  if (const auto done = step("ioprio_set", calls_.ioprio_set(none ? ioprio{}.raw() : own_priority_)); !done) {
    return done;
  }
  const int seen = calls_.ioprio_get();
  if (const auto done = step("ioprio_get", seen); !done) {
    return done;
  }
  if (none ? ioprio::from_raw(static_cast<std::uint16_t>(seen)).cls() != ioprio_class::none : seen != own_priority_) {
    return failed("verify ioprio", error_of(EPERM));
  }
  changed_ &= static_cast<std::uint8_t>(~part_priority);
  return {};
}

result<void> wardrobe::restore_group() {
  if (!differs(part_cgroup)) {
    own_group_.reset();
    return {};
  }
  if (const auto done = own_group_->enter(calls_); !done) {
    return failed("write to a cgroup", done.error());
  }
  const result<bool> there = own_group_->holds_this_thread(calls_);
  if (!there || !*there) {
    return failed("verify cgroup", there ? error_of(EPERM) : there.error());
  }
  // Not kept: where it comes from next time may be another group, and an idle worker pins nothing.
  own_group_.reset();
  changed_ &= static_cast<std::uint8_t>(~part_cgroup);
  return {};
}

}  // namespace sluice
