#include "sluice/identity/identity_probe.h"

#include <sys/resource.h>

#include <array>
#include <functional>
#include <utility>

#include "sluice/base/thread.h"
#include "sluice/identity/wardrobe.h"

namespace sluice {
namespace {

// An id that is not this thread's: nobody's, or the next one.
template <class Id>
Id another(Id own) noexcept {
  constexpr Id nobody = 65534;
  return own == nobody ? nobody - 1 : nobody;
}

// Wears what was built and takes it off again.
identity_support attempt(std::string name, const identity_result& built, std::string if_fine) {
  if (!built) {
    return {.name = std::move(name), .works = false, .detail = built.error().why};
  }
  wardrobe clothes;
  const auto said = [&clothes](const std::error_code& error) {
    return std::string(clothes.failed_call()) + ": " + error.message();
  };
  if (const auto on = clothes.put_on(built->get()); !on) {
    return {.name = std::move(name), .works = false, .detail = said(on.error())};
  }
  if (const auto off = clothes.take_off(); !off) {
    return {.name = std::move(name), .works = false, .detail = "not to be undone: " + said(off.error())};
  }
  return {.name = std::move(name), .works = true, .detail = std::move(if_fine)};
}

credentials as_it_is(const thread_credentials& own) {
  return {.uid = own.uid, .gid = own.gid, .groups = own.groups, .effective = own.capabilities.effective};
}

// Each on a thread of its own: one that cannot be undone must not spoil the next.
identity_support probe_user() {
  const auto own = credentials_of_this_thread();
  if (!own) {
    return {.name = "user", .works = false, .detail = own.error().message()};
  }
  credentials other = as_it_is(*own);
  other.uid = another(own->uid);
  other.effective = {};
  return attempt("user", identity_builder().set_credentials(other).build(),
                 "switched to " + std::to_string(other.uid) + " and back");
}

identity_support probe_group() {
  const auto own = credentials_of_this_thread();
  if (!own) {
    return {.name = "group", .works = false, .detail = own.error().message()};
  }
  credentials other = as_it_is(*own);
  other.gid = another(own->gid);
  return attempt("group", identity_builder().set_credentials(other).build(),
                 "switched to " + std::to_string(other.gid) + " and back");
}

identity_support probe_groups() {
  const auto own = credentials_of_this_thread();
  if (!own) {
    return {.name = "supplementary groups", .works = false, .detail = own.error().message()};
  }
  credentials other = as_it_is(*own);
  other.groups = {another(own->gid)};
  return attempt("supplementary groups", identity_builder().set_credentials(other).build(), "set and put back");
}

identity_support probe_directory() {
  return attempt("working directory", identity_builder().set_working_directory("/").build(),
                 "unshare, fchdir and back");
}

identity_support probe_umask() {
  constexpr mode_t strict = 077;
  return attempt("umask", identity_builder().set_umask(strict).build(), "set and put back");
}

identity_support probe_file_size() {
  rlimit limit{};
  const bool known = ::getrlimit(RLIMIT_FSIZE, &limit) == 0;
  return {.name = "file-size limit",
          .works = true,
          .detail = known && limit.rlim_cur != RLIM_INFINITY
                        ? "checked before each write; the process's own is " + std::to_string(limit.rlim_cur) + " bytes"
                        : "checked before each write; the process itself has none"};
}

identity_support probe_priority() {
  constexpr ioprio low{ioprio_class::be, ioprio::levels - 1};
  return attempt("I/O priority", identity_builder().set_priority(low).build(), "best effort, set and put back");
}

identity_support probe_real_time() {
  constexpr ioprio urgent{ioprio_class::rt, ioprio::levels - 1};
  return attempt("I/O priority, real time", identity_builder().set_priority(urgent).build(), "set and put back");
}

// Whether the thread may be moved within a tree: into the group where it is.
identity_support probe_tree(const cgroup_hierarchy& tree) {
  const bool v1 = tree.version == cgroup_version::v1;
  const std::string name = v1 ? "cgroup v1 " + tree.controllers : "cgroup v2";
  const auto refused = [&name](const std::string& why) {
    return identity_support{.name = name, .works = false, .detail = why};
  };
  const result<std::string> own = cgroup_name_of_this_thread(tree);
  if (!own) {
    return refused(own.error().message());
  }
  const std::string path = tree.path_of(*own);
  if (path.empty()) {
    return refused("the group of this process is not visible below " + tree.mount_point);
  }
  return attempt(name, identity_builder().set_cgroup(path).build(),
                 (v1 ? "threads can be moved, from " : "threads can be moved, but not for io or memory, from ") + path);
}

std::vector<identity_support> probe_groups_of_control() {
  std::vector<identity_support> found;
  if (const auto trees = mounted_cgroups(); trees) {
    for (const cgroup_hierarchy& tree : *trees) {
      // Of the v1 controllers, the one that is about I/O; the others are not an identity's.
      if (tree.version == cgroup_version::v2 || tree.controllers.find("blkio") != std::string::npos) {
        found.push_back(probe_tree(tree));
      }
    }
  }
  if (found.empty()) {
    found.push_back({.name = "cgroup", .works = false, .detail = "neither v1 blkio nor v2 is mounted"});
  }
  return found;
}

result<void> on_a_thread(std::move_only_function<void()> body) {
  result<named_thread> thread = named_thread::start("sluice-probe", std::move(body), 0);
  if (!thread) {
    return std::unexpected(thread.error());
  }
  thread->join();
  return {};
}

}  // namespace

result<std::vector<identity_support>> identity_probe() {
  std::vector<identity_support> found;
  for (const auto probe : {&probe_user, &probe_group, &probe_groups, &probe_directory, &probe_umask, &probe_file_size,
                           &probe_priority, &probe_real_time}) {
    if (const auto done = on_a_thread([&] { found.push_back(probe()); }); !done) {
      return std::unexpected(done.error());
    }
  }
  const auto done = on_a_thread([&] {
    for (identity_support& each : probe_groups_of_control()) {
      found.push_back(std::move(each));
    }
  });
  if (!done) {
    return std::unexpected(done.error());
  }
  return found;
}

std::vector<identity_support> identity_capabilities() {
  struct use {
    capability one;
    const char* what;
  };
  constexpr std::array uses{
      use{capability::setuid, "to switch the user"},
      use{capability::setgid, "to switch group and supplementary groups"},
      use{capability::sys_nice, "for real-time I/O priority"},
      use{capability::sys_admin, "containers whose filter forbids unshare go by it"},
      use{capability::dac_override, "to open what no user may; a work has it only if its identity says so"},
  };
  const auto own = credentials_of_this_thread();
  std::vector<identity_support> found;
  for (const use& each : uses) {
    found.push_back(
        {.name = to_string(each.one), .works = own && own->capabilities.permitted.has(each.one), .detail = each.what});
  }
  return found;
}

}  // namespace sluice
