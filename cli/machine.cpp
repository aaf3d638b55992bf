#include "cli/machine.h"

#include <fmt/format.h>
#include <linux/io_uring.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>

#include "sluice/base/unique_fd.h"
#include "sluice/identity/cgroup.h"

namespace sluice::cli {
namespace {

// The first line of a file; empty if it cannot be read.
std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "Node 0 MemTotal:  8123456 kB" of a node's meminfo, in bytes; 0 if it is not there.
std::uint64_t node_memory(const std::string& node) {
  std::ifstream file(node + "/meminfo");
  constexpr std::uint64_t kib = 1024;
  for (std::string word; file >> word;) {
    std::uint64_t amount = 0;
    if (word == "MemTotal:" && file >> amount) {
      return amount * kib;
    }
  }
  return 0;
}

std::string gib(std::uint64_t bytes) {
  constexpr double bytes_per_gib = 1024.0 * 1024.0 * 1024.0;
  return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / bytes_per_gib);
}

std::string limit_text(rlim_t value, std::string_view unit) {
  return value == RLIM_INFINITY ? "unlimited" : fmt::format("{}{}", value, unit);
}

std::string io_uring_refusal(int err) {
  if (err == ENOSYS) {
    return "the kernel has none, or a filter hides it; threads do the work";
  }
  const std::string setting = first_line("/proc/sys/kernel/io_uring_disabled");
  if (err == EPERM) {
    return fmt::format("forbidden (kernel.io_uring_disabled = {}, or a container's filter); threads do the work",
                       setting.empty() ? "?" : setting);
  }
  return std::system_category().message(err);
}

}  // namespace

finding find_io_uring() {
  io_uring_params about{};
  const unique_fd ring(static_cast<int>(::syscall(SYS_io_uring_setup, 1, &about)));
  if (!ring) {
    return {.answer = verdict::no, .name = "io_uring", .detail = io_uring_refusal(errno)};
  }
  return {.answer = verdict::yes, .name = "io_uring", .detail = fmt::format("features {:#x}", about.features)};
}

std::vector<finding> find_numa_nodes() {
  std::vector<finding> found;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/devices/system/node", none)) {
    const std::string name = entry.path().filename();
    constexpr std::string_view prefix = "node";
    if (!name.starts_with(prefix) || name.find_first_not_of("0123456789", prefix.size()) != std::string::npos) {
      continue;
    }
    const std::string cpus = first_line(entry.path() / "cpulist");
    found.push_back(
        {.answer = verdict::fact,
         .name = name,
         .detail = fmt::format("CPUs {}, {}", cpus.empty() ? "none" : cpus, gib(node_memory(entry.path())))});
  }
  // By number: node10 after node9.
  std::ranges::sort(found, {}, [](const finding& each) { return std::pair(each.name.size(), each.name); });
  if (found.empty()) {
    found.push_back({.answer = verdict::fact, .name = "one node", .detail = "the kernel knows of no others"});
  }
  return found;
}

std::vector<finding> find_cgroups() {
  std::vector<finding> found;
  const auto trees = mounted_cgroups();
  for (const cgroup_hierarchy& tree : trees ? *trees : std::vector<cgroup_hierarchy>{}) {
    const auto name = cgroup_name_of_this_thread(tree);
    found.push_back(
        {.answer = verdict::fact,
         .name = tree.version == cgroup_version::v1 ? "v1 " + tree.controllers : "v2",
         .detail = fmt::format("{}, this process in {}", tree.mount_point, name ? *name : name.error().message())});
  }
  if (found.empty()) {
    found.push_back({.answer = verdict::fact, .name = "none", .detail = "no hierarchy is mounted here"});
  }
  return found;
}

std::vector<finding> find_limits() {
  struct known {
    int resource;
    const char* name;
    const char* unit;
  };
  constexpr std::array all{known{RLIMIT_NOFILE, "descriptors", ""}, known{RLIMIT_NPROC, "threads of this user", ""},
                           known{RLIMIT_MEMLOCK, "locked memory", " bytes"}, known{RLIMIT_FSIZE, "file size", " bytes"},
                           known{RLIMIT_CORE, "core dumps", " bytes"}};
  std::vector<finding> found;
  for (const known& each : all) {
    rlimit limit{};
    if (::getrlimit(static_cast<__rlimit_resource_t>(each.resource), &limit) == 0) {
      found.push_back({.answer = verdict::fact,
                       .name = each.name,
                       .detail = fmt::format("{}, at most {}", limit_text(limit.rlim_cur, each.unit),
                                             limit_text(limit.rlim_max, each.unit))});
    }
  }
  for (const auto& [name, path] : {std::pair{"threads of the system", "/proc/sys/kernel/threads-max"},
                                   std::pair{"open files of the system", "/proc/sys/fs/file-max"}}) {
    if (std::string value = first_line(path); !value.empty()) {
      found.push_back({.answer = verdict::fact, .name = name, .detail = std::move(value)});
    }
  }
  return found;
}

std::string describe_machine() {
  utsname about{};
  ::uname(&about);
  return fmt::format("{} {} {}, {} of {} CPUs, user {}", static_cast<const char*>(about.sysname),
                     static_cast<const char*>(about.release), static_cast<const char*>(about.machine),
                     ::sysconf(_SC_NPROCESSORS_ONLN), ::sysconf(_SC_NPROCESSORS_CONF), ::geteuid());
}

}  // namespace sluice::cli
