// Putting on. Taking off is in restore.cpp.
#include "sluice/identity/wardrobe.h"

#include <fcntl.h>
#include <sched.h>

#include <new>
#include <utility>

#include "sluice/base/check.h"

#include "identity_table.h"

namespace sluice {

result<void> wardrobe::step(const char* call, int rc) noexcept {
  if (rc < 0) {
    const int err = errno;
    failed_ = call;
    return fail(err);
  }
  return {};
}

std::unexpected<std::error_code> wardrobe::failed(const char* what, std::error_code error) noexcept {
  failed_ = what;
  return std::unexpected(error);
}

void wardrobe::remember(const identity* who) noexcept {
  detail::worn_by_this_thread = who;
  detail::original_of_this_thread = who != nullptr && learnt_credentials_ ? &own_ : nullptr;
  worn_ = ref<const identity>::retain(who);
}

result<void> wardrobe::change(const identity* who) noexcept {
  if (broken_) {
    return fail(ENOTRECOVERABLE);
  }
  if (who != nullptr && who->is_neutral()) {
    who = nullptr;
  }
  if (who == worn_.get()) {
    return {};
  }
  SLUICE_CHECK(!bound_ || ::pthread_equal(thread_, ::pthread_self()) != 0, "a wardrobe belongs to one thread");
  SLUICE_CHECK(current_identity() == worn_.get(), "a thread has one wardrobe at a time");
  thread_ = ::pthread_self();
  bound_ = true;
  const auto attempt = [this](auto action) noexcept -> result<void> {
    try {
      return action();
    } catch (const std::bad_alloc&) {
      return failed("memory", error_of(ENOMEM));
    }
  };
  const result<void> done = attempt([&] { return who != nullptr ? dress(who->fields()) : restore(); });
  if (done) {
    remember(who);
    return done;
  }
  // Half dressed, or half restored. Half dressed is mended by restoring; there is nothing to mend a restore with.
  const auto mend = [this] {
    forget_unchanged();
    return restore();
  };
  if (who == nullptr || !attempt(mend)) {
    broken_ = true;
  }
  remember(nullptr);
  return done;
}

result<void> wardrobe::dress(const identity_fields& next) {
  const identity_fields& now = worn_ ? worn_->fields() : identity_table::neutral().fields();
  if (const auto done = dress_surroundings(now, next); !done) {
    return done;
  }
  if (!next.who) {
    return restore_credentials();
  }
  const credentials* worn = differs(parts_of_credentials) ? &*now.who : nullptr;
  return dress_credentials(worn, *next.who);
}

// All but the credentials.
result<void> wardrobe::dress_surroundings(const identity_fields& now, const identity_fields& next) {
  const bool same_directory = same(now.working_directory, next.working_directory);
  const bool same_group = same(now.group, next.group);
  if (same_directory && same_group && now.umask == next.umask && now.priority == next.priority) {
    return {};
  }
  // With the thread's own rights, as the kernel's workers have them: whether a directory may be entered or a group
  // joined depends on who captured it, not on whose work came before.
  result<void> done = restore_credentials();
  if (done && !same_group) {
    done = dress_group(next.group.get());
  }
  if (done && now.priority != next.priority) {
    done = next.priority ? dress_priority(*next.priority) : restore_priority();
  }
  if (done && !same_directory) {
    done = next.working_directory ? dress_directory(*next.working_directory) : restore_directory();
  }
  if (done && now.umask != next.umask) {
    done = next.umask ? dress_umask(*next.umask) : restore_umask();
  }
  return done;
}

result<void> wardrobe::dress_group(const cgroup* next) {
  const auto same_tree = [](const cgroup& a, const cgroup& b) {
    return a.hierarchy().version == b.hierarchy().version && a.hierarchy().controllers == b.hierarchy().controllers;
  };
  if (next == nullptr || (own_group_ && !same_tree(*own_group_, *next))) {
    if (const auto done = restore_group(); !done || next == nullptr) {
      return done;
    }
  }
  if (!own_group_) {
    result<ref<const cgroup>> own = cgroup::of_this_thread(next->hierarchy(), calls_);
    if (!own) {
      return failed("open the thread's own cgroup", own.error());
    }
    own_group_ = std::move(*own);
  }
  changed_ |= part_cgroup;
  if (const auto done = next->enter(calls_); !done) {
    return failed("write to a cgroup", done.error());
  }
  const result<bool> there = next->holds_this_thread(calls_);
  if (!there || !*there) {
    return failed("verify cgroup", there ? error_of(EPERM) : there.error());
  }
  return {};
}

result<void> wardrobe::dress_priority(ioprio next) {
  if (!differs(part_priority)) {
    const int own = calls_.ioprio_get();
    if (const auto done = step("ioprio_get", own); !done) {
      return done;
    }
    own_priority_ = static_cast<std::uint16_t>(own);
  }
  changed_ |= part_priority;
  if (const auto done = step("ioprio_set", calls_.ioprio_set(next.raw())); !done) {
    return done;
  }
  const int seen = calls_.ioprio_get();
  if (const auto done = step("ioprio_get", seen); !done) {
    return done;
  }
  // By effect: NONE is read back as NONE or as what it counts as.
  if (ioprio::from_raw(static_cast<std::uint16_t>(seen)).effective() != next.effective()) {
    return failed("verify ioprio", error_of(EPERM));
  }
  return {};
}

result<void> wardrobe::leave_shared_fs() {
  if (!own_fs_) {
    if (const auto done = step("unshare", calls_.unshare(CLONE_FS)); !done) {
      return done;
    }
    if (calls_.shares_fs() == 1) {
      // Believed, the next fchdir would move every thread.
      return failed("verify unshare", error_of(EPERM));
    }
    own_fs_ = true;
  }
  if (!own_directory_) {
    // After the unshare: before it, a chdir elsewhere could come between the look and the leaving.
    result<ref<const directory>> own = directory::open(".", calls_);
    if (!own) {
      return failed("open the thread's own directory", own.error());
    }
    own_directory_ = std::move(*own);
  }
  return {};
}

result<void> wardrobe::dress_directory(const directory& next) {
  if (const auto done = leave_shared_fs(); !done) {
    return done;
  }
  changed_ |= part_directory;
  if (const auto done = step("fchdir", calls_.fchdir(next.fd())); !done) {
    return done;
  }
  const result<directory_key> here = key_of_directory(AT_FDCWD, calls_);
  if (!here || *here != next.key()) {
    return failed("verify directory", here ? error_of(EPERM) : here.error());
  }
  return {};
}

result<void> wardrobe::dress_umask(mode_t next) {
  if (const auto done = leave_shared_fs(); !done) {
    return done;
  }
  const bool first = !differs(part_umask);
  changed_ |= part_umask;
  const mode_t before = calls_.umask(next);
  if (first) {
    own_umask_ = before;
  }
  if (calls_.umask(next) != next) {
    return failed("verify umask", error_of(EPERM));
  }
  return {};
}

result<void> wardrobe::learn_credentials() {
  if (learnt_credentials_) {
    return {};
  }
  if (const auto done = read_credentials(own_, calls_); !done) {
    return failed("read the thread's own credentials", done.error());
  }
  if (own_.fs_uid != own_.uid || own_.fs_gid != own_.gid) {
    return failed("the thread has file-system ids of its own", error_of(ENOTSUP));
  }
  own_groups_ = own_.groups;
  normalize_groups(own_groups_);
  learnt_credentials_ = true;
  return {};
}

// Looks first: a look is ten times cheaper than a change, and the kernel itself takes capabilities away, or gives them
// back, when user 0 goes or comes. Permitted and inheritable stay as they are: the way back needs them.
result<void> wardrobe::make_effective(capability_set wanted) {
  capability_sets now;
  if (const auto done = step("capget", calls_.capget(&now)); !done) {
    return done;
  }
  changed_ |= part_capabilities;
  if (now.effective == wanted) {
    return {};
  }
  return step("capset", calls_.capset({.effective = wanted,
                                       .permitted = own_.capabilities.permitted,
                                       .inheritable = own_.capabilities.inheritable}));
}

result<void> wardrobe::dress_credentials(const credentials* now, const credentials& next) {
  if (const auto done = learn_credentials(); !done) {
    return done;
  }
  const bool same_ids = next.uid == (now != nullptr ? now->uid : own_.uid) &&
                        next.gid == (now != nullptr ? now->gid : own_.gid) &&
                        next.groups == (now != nullptr ? now->groups : own_groups_);
  const capability_set effective = now != nullptr ? now->effective : own_.capabilities.effective;
  if (same_ids && next.effective == effective) {
    return {};
  }
  if (!same_ids) {
    if (const auto done = change_ids(now, next); !done) {
      return done;
    }
  }
  if (const auto done = make_effective(next.effective); !done) {
    return done;
  }
  return verify(next);
}

result<void> wardrobe::change_ids(const credentials* now, const credentials& next) {
  if (!keeps_capabilities(own_, next.uid)) {
    return failed("setresuid would lose the capabilities", error_of(EPERM));
  }
  if (const auto done = make_effective(own_.capabilities.permitted); !done) {
    return done;
  }
  // Groups and gid while the thread is still who it was: afterwards it would have no right to.
  if (next.groups != (now != nullptr ? now->groups : own_groups_)) {
    changed_ |= part_groups;
    if (const auto done = step("setgroups", calls_.setgroups(next.groups.size(), next.groups.data())); !done) {
      return done;
    }
  }
  constexpr auto as_it_is = static_cast<gid_t>(-1);
  if (next.gid != (now != nullptr ? now->gid : own_.gid)) {
    changed_ |= part_gid;
    if (const auto done = step("setresgid", calls_.setresgid(as_it_is, next.gid, as_it_is)); !done) {
      return done;
    }
  }
  if (next.uid != (now != nullptr ? now->uid : own_.uid)) {
    changed_ |= part_uid;
    if (const auto done = step("setresuid", calls_.setresuid(as_it_is, next.uid, as_it_is)); !done) {
      return done;
    }
  }
  return {};
}

// Read back, not believed: filters of some containers let these calls claim success.
result<void> wardrobe::verify(const credentials& expected) {
  if (const auto done = read_credentials(seen_, calls_); !done) {
    return failed("read credentials back", done.error());
  }
  normalize_groups(seen_.groups);
  const bool fine = seen_.real_uid == own_.real_uid && seen_.saved_uid == own_.saved_uid && seen_.uid == expected.uid &&
                    seen_.fs_uid == expected.uid && seen_.real_gid == own_.real_gid &&
                    seen_.saved_gid == own_.saved_gid && seen_.gid == expected.gid && seen_.fs_gid == expected.gid &&
                    seen_.groups == expected.groups && seen_.capabilities.effective == expected.effective &&
                    seen_.capabilities.permitted == own_.capabilities.permitted;
  if (!fine) {
    return failed("verify credentials", error_of(EPERM));
  }
  return {};
}

wardrobe::~wardrobe() {
  // A broken one has nothing left to take off; its thread ends.
  static_cast<void>(broken_ ? result<void>{} : take_off());
}

}  // namespace sluice
