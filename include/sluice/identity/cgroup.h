// cgroup: a control group that a thread can be put into: a cgroup-v1 group (blkio, cpu, …) or a threaded one of v2.
//
// The descriptor of its `tasks` or `cgroup.threads` is opened when the identity is built, with the rights of then; moving
// a thread is one write to it.
//
// What cannot be done: a v2 group that is not threaded takes whole processes only, and the io and memory controllers are
// never in a threaded one. So I/O cannot be accounted to v2 groups per work; take v1 blkio, or a fair queue of ours.
// Moving is slow (the kernel holds off every fork and exit of the machine for it; tens of microseconds and more), so works
// of one cgroup should come together.
//
// Ownership:      kref; hold it through ref<const cgroup>.
// Thread safety:  immutable; any thread may move itself.
// Blocking:       see above; never for a device.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "sluice/base/error.h"
#include "sluice/base/unique_fd.h"
#include "sluice/identity/identity_calls.h"
#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"

namespace sluice {

enum class cgroup_version : std::uint8_t { v1 = 1, v2 = 2 };

// A tree of control groups: v2, or one set of v1 controllers; and where it is mounted.
struct cgroup_hierarchy {
  cgroup_version version = cgroup_version::v2;
  std::string controllers;  // v1: as /proc/self/cgroup lists them, "cpu,cpuacct" or "name=systemd"; v2: empty
  std::string mount_point;
  std::string mount_root;  // the group that the mount point shows

  // The path in the file system of a group, given as /proc/self/cgroup names it. Empty if the mount does not show it.
  [[nodiscard]] std::string path_of(const std::string& group) const;
};

class cgroup : public kref<cgroup> {
 public:
  // `path` is the group's directory.
  // Errors: what open(2) reports; ENOTDIR; ENODEV (no control group); EOPNOTSUPP (v2 and not threaded); ENOMEM.
  [[nodiscard]] static result<ref<const cgroup>> open(const char* path,
                                                      identity_calls& calls = identity_calls::real()) noexcept;
  // The group of this hierarchy that the calling thread is in.
  [[nodiscard]] static result<ref<const cgroup>> of_this_thread(const cgroup_hierarchy& tree,
                                                                identity_calls& calls) noexcept;

  // Moves the calling thread into it. Errors: EACCES, EPERM, EBUSY, ENODEV (removed meanwhile), as the write reports.
  [[nodiscard]] result<void> enter(identity_calls& calls) const noexcept;
  // Whether the calling thread is in it.
  [[nodiscard]] result<bool> holds_this_thread(identity_calls& calls) const noexcept;

  [[nodiscard]] const cgroup_hierarchy& hierarchy() const noexcept { return hierarchy_; }
  // As /proc/self/cgroup names it.
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  friend bool operator==(const cgroup& a, const cgroup& b) noexcept {
    return a.hierarchy_.version == b.hierarchy_.version && a.hierarchy_.controllers == b.hierarchy_.controllers &&
           a.name_ == b.name_;
  }

 private:
  friend struct delete_release;

  cgroup(cgroup_hierarchy tree, std::string name, unique_fd fd) noexcept
      : hierarchy_(std::move(tree)), name_(std::move(name)), fd_(std::move(fd)) {}
  ~cgroup() = default;
  static result<ref<const cgroup>> open_in(const cgroup_hierarchy& tree, std::string name, identity_calls& calls);

  const cgroup_hierarchy hierarchy_;
  const std::string name_;
  const unique_fd fd_;  // tasks or cgroup.threads
};

// The hierarchies that are mounted here, v1 before v2. Errors: as for reading /proc/self/mountinfo.
[[nodiscard]] result<std::vector<cgroup_hierarchy>> mounted_cgroups(
    identity_calls& calls = identity_calls::real()) noexcept;

// The group of a hierarchy that the calling thread is in, as /proc/thread-self/cgroup names it. Errors: ENOENT.
[[nodiscard]] result<std::string> cgroup_name_of_this_thread(const cgroup_hierarchy& tree,
                                                             identity_calls& calls = identity_calls::real()) noexcept;

}  // namespace sluice
