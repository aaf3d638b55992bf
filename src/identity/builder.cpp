// Building and capturing: what this process may not do is said here, by the name of what is missing.
#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <new>

#include "sluice/identity/identity.h"

#include "identity_table.h"

namespace sluice {
namespace {

using checked = std::expected<void, identity_refusal>;

std::unexpected<identity_refusal> refuse(identity_field field, std::error_code code, std::string why) {
  return std::unexpected(identity_refusal{.field = field, .code = code, .why = std::move(why)});
}
std::unexpected<identity_refusal> refuse_credentials(int err, std::string why) {
  return refuse(identity_field::credentials, error_of(err), std::move(why));
}
std::unexpected<identity_refusal> missing(identity_field field, const char* what, capability needed) {
  return refuse(field, error_of(EPERM), std::string(what) + " needs " + to_string(needed));
}
std::unexpected<identity_refusal> out_of_memory() noexcept {
  return std::unexpected(identity_refusal{.field = identity_field::none, .code = error_of(ENOMEM), .why = {}});
}

// Whether this user namespace knows an id. `map` is /proc/self/uid_map or gid_map: lines of FIRST OUTSIDE COUNT. Where it
// cannot be read, the switch will tell.
bool mapped(const char* map, std::uint64_t id, identity_calls& calls) {
  const result<std::string> text = detail::read_whole(map, calls);
  if (!text || text->empty()) {
    return true;
  }
  const char* at = text->data();
  const char* const end = at + text->size();
  const auto number = [&] {
    std::uint64_t value = 0;
    at = std::find_if(at, end, [](char c) { return c >= '0' && c <= '9'; });
    at = std::from_chars(at, end, value).ptr;
    return value;
  };
  while (at != end) {
    const std::uint64_t first = number();
    number();
    const std::uint64_t count = number();
    if (id >= first && id - first < count) {
      return true;
    }
    at = std::find_if(at, end, [](char c) { return c != '\n' && c != ' '; });
  }
  return false;
}

bool setgroups_denied(identity_calls& calls) {
  const result<std::string> text = detail::read_whole("/proc/self/setgroups", calls);
  return text && text->starts_with("deny");
}

// Checks credentials against those that a thread of this process has when it wears nothing.
class credentials_check {
 public:
  credentials_check(const credentials& wanted, const thread_credentials& own, identity_calls& calls) noexcept
      : wanted_(wanted), own_(own), calls_(calls) {}

  [[nodiscard]] checked run() const {
    for (const auto step : {&credentials_check::user, &credentials_check::group, &credentials_check::groups,
                            &credentials_check::capabilities}) {
      if (checked fine = (this->*step)(); !fine) {
        return fine;
      }
    }
    return {};
  }

 private:
  [[nodiscard]] bool may(capability one) const noexcept { return own_.capabilities.permitted.has(one); }

  [[nodiscard]] checked user() const {
    if (own_.fs_uid != own_.uid || own_.fs_gid != own_.gid) {
      return refuse_credentials(ENOTSUP, "this thread has file-system ids of its own (setfsuid), which a switch loses");
    }
    if (wanted_.uid == own_.uid) {
      return {};
    }
    if (wanted_.uid != own_.real_uid && wanted_.uid != own_.saved_uid && !may(capability::setuid)) {
      return missing(identity_field::credentials, "changing the user", capability::setuid);
    }
    if (!keeps_capabilities(own_, wanted_.uid)) {
      return refuse_credentials(EPERM, own_.uid == 0
                                           ? "only with 0 as its real or saved user does a process come back to root"
                                           : "a process without 0 as its real or saved user loses its capabilities "
                                             "when it comes back from being root");
    }
    if (!mapped("/proc/self/uid_map", wanted_.uid, calls_)) {
      return refuse_credentials(EINVAL, "this user namespace does not know user " + std::to_string(wanted_.uid));
    }
    return {};
  }

  [[nodiscard]] checked group() const {
    if (wanted_.gid == own_.gid) {
      return {};
    }
    if (wanted_.gid != own_.real_gid && wanted_.gid != own_.saved_gid && !may(capability::setgid)) {
      return missing(identity_field::credentials, "changing the group", capability::setgid);
    }
    return known(wanted_.gid);
  }

  [[nodiscard]] checked groups() const {
    std::vector<gid_t> own = own_.groups;
    normalize_groups(own);
    if (own == wanted_.groups) {
      return {};
    }
    if (!may(capability::setgid)) {
      return missing(identity_field::credentials, "changing the supplementary groups", capability::setgid);
    }
    if (setgroups_denied(calls_)) {
      return refuse_credentials(EPERM, "this user namespace forbids setgroups (/proc/self/setgroups)");
    }
    for (const gid_t each : wanted_.groups) {
      if (checked fine = known(each); !fine) {
        return fine;
      }
    }
    return {};
  }

  [[nodiscard]] checked known(gid_t id) const {
    if (!mapped("/proc/self/gid_map", id, calls_)) {
      return refuse_credentials(EINVAL, "this user namespace does not know group " + std::to_string(id));
    }
    return {};
  }

  [[nodiscard]] checked capabilities() const {
    const capability_set absent = wanted_.effective.without(own_.capabilities.permitted);
    if (!absent.empty()) {
      return missing(identity_field::credentials, "granting what this process does not hold", absent.first());
    }
    return {};
  }

  const credentials& wanted_;
  const thread_credentials& own_;
  identity_calls& calls_;
};

// What the calling thread is when it wears nothing.
result<thread_credentials> own_credentials(identity_calls& calls) {
  if (detail::original_of_this_thread != nullptr) {
    return *detail::original_of_this_thread;
  }
  return credentials_of_this_thread(calls);
}

checked check_priority(ioprio wanted, const thread_credentials& own) {
  if (!wanted.valid() && wanted != ioprio{}) {
    return refuse(identity_field::priority, error_of(EINVAL), "there is no such class or level");
  }
  const capability_set& held = own.capabilities.permitted;
  if (wanted.cls() == ioprio_class::rt && !held.has(capability::sys_admin) && !held.has(capability::sys_nice)) {
    return refuse(identity_field::priority, error_of(EPERM),
                  "the real-time class needs CAP_SYS_NICE (before Linux 5.14: CAP_SYS_ADMIN)");
  }
  return {};
}

// Whether unshare(CLONE_FS) will be let through. The kernel asks for no capability; filters of containers forbid the
// call as a whole, so one that unshares nothing shows it.
checked check_fs(identity_field field, identity_calls& calls) {
  if (calls.unshare(0) != 0) {
    return refuse(field, error_of(errno),
                  "unshare(2), with which a thread gets a directory and umask of its own, is forbidden here; "
                  "containers allow it with CAP_SYS_ADMIN or another seccomp profile");
  }
  return {};
}

std::string cgroup_reason(const std::string& path, const std::error_code& code) {
  if (code == std::errc::operation_not_supported) {
    return "'" + path +
           "' is not threaded: a v2 group with io or memory takes whole processes (v1 blkio takes threads)";
  }
  if (code == std::errc::no_such_device) {
    return "'" + path + "' is no control group";
  }
  return "cannot open '" + path + "' for moving threads: " + code.message();
}

checked check(const identity_fields& fields, identity_calls& calls) {
  if (fields.audit.size() > identity::max_audit_bytes) {
    return refuse(identity_field::audit, error_of(EINVAL),
                  "the tag is longer than " + std::to_string(identity::max_audit_bytes) + " bytes");
  }
  if (fields.who || fields.priority) {
    const result<thread_credentials> own = own_credentials(calls);
    if (!own) {
      return refuse(identity_field::credentials, own.error(),
                    "cannot read this thread's own: " + own.error().message());
    }
    if (fields.who) {
      if (checked fine = credentials_check(*fields.who, *own, calls).run(); !fine) {
        return fine;
      }
    }
    if (fields.priority) {
      if (checked fine = check_priority(*fields.priority, *own); !fine) {
        return fine;
      }
    }
  }
  if (fields.working_directory) {
    return check_fs(identity_field::working_directory, calls);
  }
  return fields.umask ? check_fs(identity_field::umask, calls) : checked{};
}

// The group to capture: of v1 blkio if that is mounted, else a threaded one of v2, else none.
result<ref<const cgroup>> capture_cgroup(identity_calls& calls) {
  const result<std::vector<cgroup_hierarchy>> trees = mounted_cgroups(calls);
  if (!trees) {
    return std::unexpected(trees.error());
  }
  for (const cgroup_hierarchy& tree : *trees) {
    if (tree.version == cgroup_version::v1 && tree.controllers.find("blkio") != std::string::npos) {
      return cgroup::of_this_thread(tree, calls);
    }
  }
  for (const cgroup_hierarchy& tree : *trees) {
    if (tree.version != cgroup_version::v2) {
      continue;
    }
    result<ref<const cgroup>> found = cgroup::of_this_thread(tree, calls);
    return !found && found.error() == std::errc::operation_not_supported ? ref<const cgroup>() : std::move(found);
  }
  return ref<const cgroup>();
}

// One field at a time, so that the refusal names it.
class capturing {
 public:
  capturing(identity_field which, identity_calls& calls) noexcept : which_(which), calls_(calls), builder_(calls) {}

  [[nodiscard]] identity_result run() {
    who();
    fs();
    limits();
    carried_fields();
    if (refusal_) {
      return std::unexpected(std::move(*refusal_));
    }
    return builder_.build();
  }

 private:
  [[nodiscard]] bool wants(identity_field one) const noexcept { return has(which_, one) && !refusal_; }
  void refused(identity_field field, const std::error_code& code) {
    refusal_ = identity_refusal{.field = field, .code = code, .why = "cannot be captured: " + code.message()};
  }
  // Hands a captured value to `use`, or keeps its error.
  template <class Value, class Use>
  void take(identity_field field, result<Value> value, Use use) {
    if (!value) {
      refused(field, value.error());
    } else {
      use(std::move(*value));
    }
  }

  void who() {
    if (wants(identity_field::credentials)) {
      take(identity_field::credentials, credentials_of_this_thread(calls_), [this](thread_credentials found) {
        builder_.set_credentials({.uid = found.uid,
                                  .gid = found.gid,
                                  .groups = std::move(found.groups),
                                  .effective = found.capabilities.effective});
      });
    }
  }
  void fs() {
    if (wants(identity_field::working_directory)) {
      take(identity_field::working_directory, directory::open(".", calls_),
           [this](ref<const directory> found) { builder_.set_working_directory(std::move(found)); });
    }
    if (wants(identity_field::umask)) {
      take(identity_field::umask, umask_of_this_thread(calls_), [this](mode_t found) { builder_.set_umask(found); });
    }
  }
  void limits() {
    if (wants(identity_field::file_size_limit)) {
      const identity* const worn = current_identity();
      rlimit limit{};
      if (worn != nullptr && worn->fields().file_size_limit) {
        builder_.set_file_size_limit(*worn->fields().file_size_limit);
      } else if (::getrlimit(RLIMIT_FSIZE, &limit) != 0) {
        refused(identity_field::file_size_limit, error_of(errno));
      } else if (limit.rlim_cur != RLIM_INFINITY) {
        builder_.set_file_size_limit(limit.rlim_cur);
      }
    }
    if (wants(identity_field::priority)) {
      const int raw = calls_.ioprio_get();
      if (raw < 0) {
        refused(identity_field::priority, error_of(errno));
      } else {
        // Old kernels read NONE back with a level, which they do not take.
        const ioprio found = ioprio::from_raw(static_cast<std::uint16_t>(raw));
        builder_.set_priority(found.cls() == ioprio_class::none ? ioprio{} : found);
      }
    }
    if (wants(identity_field::cgroup)) {
      take(identity_field::cgroup, capture_cgroup(calls_),
           [this](ref<const cgroup> found) { builder_.set_cgroup(std::move(found)); });
    }
  }
  void carried_fields() {
    const identity* const worn = current_identity();
    if (worn != nullptr && wants(identity_field::file_table)) {
      builder_.set_file_table(worn->fields().file_table);
    }
    if (worn != nullptr && wants(identity_field::audit)) {
      builder_.set_audit(worn->fields().audit);
    }
  }

  const identity_field which_;
  identity_calls& calls_;
  identity_builder builder_;
  std::optional<identity_refusal> refusal_;
};

}  // namespace

const char* to_string(identity_field one) noexcept {
  switch (one) {
    case identity_field::none:
      return "identity";
    case identity_field::credentials:
      return "credentials";
    case identity_field::working_directory:
      return "working directory";
    case identity_field::umask:
      return "umask";
    case identity_field::file_size_limit:
      return "file-size limit";
    case identity_field::priority:
      return "I/O priority";
    case identity_field::cgroup:
      return "cgroup";
    case identity_field::file_table:
      return "file table";
    case identity_field::audit:
      return "audit tag";
  }
  return "several fields";
}

std::string identity_refusal::message() const {
  return std::string(to_string(field)) + ": " + (why.empty() ? code.message() : why);
}

identity_builder& identity_builder::set_credentials(credentials who) {
  normalize_groups(who.groups);
  fields_.who = std::move(who);
  return *this;
}
identity_builder& identity_builder::set_working_directory(std::string path) {
  directory_path_ = std::move(path);
  return *this;
}
identity_builder& identity_builder::set_working_directory(ref<const directory> where) {
  directory_path_.reset();
  fields_.working_directory = std::move(where);
  return *this;
}
identity_builder& identity_builder::set_umask(mode_t mask) noexcept {
  constexpr mode_t permission_bits = 0777;
  fields_.umask = mask & permission_bits;
  return *this;
}
identity_builder& identity_builder::set_file_size_limit(std::uint64_t bytes) noexcept {
  fields_.file_size_limit = bytes;
  return *this;
}
identity_builder& identity_builder::set_priority(ioprio priority) noexcept {
  fields_.priority = priority;
  return *this;
}
identity_builder& identity_builder::set_cgroup(std::string path) {
  cgroup_path_ = std::move(path);
  return *this;
}
identity_builder& identity_builder::set_cgroup(ref<const cgroup> group) {
  cgroup_path_.reset();
  fields_.group = std::move(group);
  return *this;
}
identity_builder& identity_builder::set_file_table(ref<const carried> table) noexcept {
  fields_.file_table = std::move(table);
  return *this;
}
identity_builder& identity_builder::set_audit(std::string tag) {
  fields_.audit = std::move(tag);
  return *this;
}

identity_result identity_builder::build() const noexcept try {
  identity_fields fields = fields_;
  if (directory_path_) {
    result<ref<const directory>> opened = directory::open(directory_path_->c_str(), calls_);
    if (!opened) {
      return refuse(identity_field::working_directory, opened.error(),
                    "cannot open '" + *directory_path_ + "': " + opened.error().message());
    }
    fields.working_directory = std::move(*opened);
  }
  if (cgroup_path_) {
    result<ref<const cgroup>> opened = cgroup::open(cgroup_path_->c_str(), calls_);
    if (!opened) {
      return refuse(identity_field::cgroup, opened.error(), cgroup_reason(*cgroup_path_, opened.error()));
    }
    fields.group = std::move(*opened);
  }
  if (checked fine = check(fields, calls_); !fine) {
    return std::unexpected(std::move(fine.error()));
  }
  if (fields == identity_fields{}) {
    return identity::neutral();
  }
  return identity_table::instance().find_or_add(std::move(fields));
} catch (const std::bad_alloc&) {
  return out_of_memory();
}

identity_result identity::capture(identity_field which, identity_calls& calls) noexcept try {
  return capturing(which, calls).run();
} catch (const std::bad_alloc&) {
  return out_of_memory();
}

}  // namespace sluice
