#include "sluice/identity/cgroup.h"

#include <fcntl.h>

#include <algorithm>
#include <new>
#include <string_view>
#include <vector>

#include "sluice/identity/fs_context.h"

namespace sluice {
namespace {

// Calls take(line) for each line until it returns true.
template <class Take>
void each_line(std::string_view text, Take take) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    if (take(text.substr(0, end))) {
      return;
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t end = text.find(at);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) {
      return parts;
    }
    text.remove_prefix(end + 1);
  }
}

// mountinfo writes blanks and backslashes as \ooo.
std::string unescape(std::string_view text) {
  constexpr std::size_t digits = 3;
  constexpr unsigned octal_bits = 3;
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + digits < text.size()) {
      unsigned code = 0;
      for (std::size_t d = 1; d <= digits; ++d) {
        code = (code << octal_bits) | static_cast<unsigned>(text[i + d] - '0');
      }
      out.push_back(static_cast<char>(code));
      i += digits;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

// One line of /proc/self/cgroup: "ID:CONTROLLERS:NAME".
struct membership {
  std::string_view controllers;
  std::string_view name;
};
membership parse_membership(std::string_view line) {
  const std::size_t first = line.find(':');
  const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
  if (second == std::string_view::npos) {
    return {};
  }
  return {.controllers = line.substr(first + 1, second - first - 1), .name = line.substr(second + 1)};
}

// The controllers of a v1 mount, as /proc/self/cgroup writes them: those of its lines whose parts are all among the
// options of the mount. Empty if there is none.
std::string controllers_of(std::string_view options, std::string_view memberships) {
  const std::vector<std::string_view> known = split(options, ',');
  std::string found;
  each_line(memberships, [&](std::string_view line) {
    const std::string_view controllers = parse_membership(line).controllers;
    if (controllers.empty() || !std::ranges::all_of(split(controllers, ','), [&](std::string_view one) {
          return std::ranges::find(known, one) != known.end();
        })) {
      return false;
    }
    found = controllers;
    return true;
  });
  return found;
}

std::vector<cgroup_hierarchy> parse_mounts(std::string_view mounts, std::string_view memberships) {
  constexpr std::size_t root_field = 3;
  constexpr std::size_t point_field = 4;
  std::vector<cgroup_hierarchy> found;
  each_line(mounts, [&](std::string_view line) {
    // "… ROOT POINT OPTIONS [more…] - TYPE SOURCE OPTIONS"
    const std::size_t dash = line.find(" - ");
    const std::vector<std::string_view> fields = split(line.substr(0, dash), ' ');
    if (dash == std::string_view::npos || fields.size() <= point_field) {
      return false;
    }
    const std::vector<std::string_view> tail = split(line.substr(dash + 3), ' ');
    if (tail.size() < 3 || (tail[0] != "cgroup" && tail[0] != "cgroup2")) {
      return false;
    }
    cgroup_hierarchy tree{.version = tail[0] == "cgroup" ? cgroup_version::v1 : cgroup_version::v2,
                          .controllers = {},
                          .mount_point = unescape(fields[point_field]),
                          .mount_root = unescape(fields[root_field])};
    if (tree.version == cgroup_version::v1) {
      tree.controllers = controllers_of(tail[2], memberships);
      if (tree.controllers.empty()) {
        return false;
      }
    }
    // v1 before v2, each in the order of the mounts.
    const bool last = tree.version == cgroup_version::v2;
    const auto place = last ? found.end() : std::ranges::find(found, cgroup_version::v2, &cgroup_hierarchy::version);
    found.insert(place, std::move(tree));
    return false;
  });
  return found;
}

// "/a/b" below "/a" is "/b"; npos-like: false if it is not below.
bool strip(std::string_view& path, std::string_view above) {
  if (above == "/" || above.empty()) {
    return path.starts_with('/');
  }
  if (!path.starts_with(above) || (path.size() > above.size() && path[above.size()] != '/')) {
    return false;
  }
  path.remove_prefix(above.size());
  return true;
}

}  // namespace

std::string cgroup_hierarchy::path_of(const std::string& group) const {
  std::string_view rest = group;
  if (!strip(rest, mount_root) || rest.find("/..") != std::string_view::npos) {
    return {};
  }
  return rest == "/" ? mount_point : mount_point + std::string(rest);
}

result<std::vector<cgroup_hierarchy>> mounted_cgroups(identity_calls& calls) noexcept try {
  const result<std::string> mounts = detail::read_whole("/proc/self/mountinfo", calls);
  if (!mounts) {
    return std::unexpected(mounts.error());
  }
  const result<std::string> memberships = detail::read_whole("/proc/thread-self/cgroup", calls);
  if (!memberships) {
    return std::unexpected(memberships.error());
  }
  return parse_mounts(*mounts, *memberships);
} catch (const std::bad_alloc&) {
  return fail(ENOMEM);
}

result<std::string> cgroup_name_of_this_thread(const cgroup_hierarchy& tree, identity_calls& calls) noexcept try {
  const result<std::string> memberships = detail::read_whole("/proc/thread-self/cgroup", calls);
  if (!memberships) {
    return std::unexpected(memberships.error());
  }
  std::string name;
  each_line(*memberships, [&](std::string_view line) {
    const membership one = parse_membership(line);
    if (one.name.empty() || one.controllers != tree.controllers) {
      return false;
    }
    name = one.name;
    return true;
  });
  if (name.empty()) {
    return fail(ENOENT);
  }
  return name;
} catch (const std::bad_alloc&) {
  return fail(ENOMEM);
}

result<ref<const cgroup>> cgroup::open_in(const cgroup_hierarchy& tree, std::string name, identity_calls& calls) {
  const std::string path = tree.path_of(name);
  if (path.empty()) {
    return fail(ENOENT);
  }
  const bool v1 = tree.version == cgroup_version::v1;
  if (!v1) {
    // "threaded", or "domain threaded" for the root of such a tree; the root of all groups has no such file.
    const result<std::string> type = detail::read_whole((path + "/cgroup.type").c_str(), calls);
    if (type && type->find("threaded") == std::string::npos) {
      return fail(EOPNOTSUPP);
    }
  }
  const std::string file = path + (v1 ? "/tasks" : "/cgroup.threads");
  cgroup_hierarchy copy = tree;
  unique_fd fd(calls.open(file.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) {
    return fail_errno();
  }
  return ref<const cgroup>::adopt(new cgroup(std::move(copy), std::move(name), std::move(fd)));
}

result<ref<const cgroup>> cgroup::open(const char* path, identity_calls& calls) noexcept try {
  std::string where = path;
  while (where.size() > 1 && where.ends_with('/')) {
    where.pop_back();
  }
  const result<ref<const directory>> there = directory::open(where.c_str(), calls);
  if (!there) {
    return std::unexpected(there.error());
  }
  const result<std::vector<cgroup_hierarchy>> trees = mounted_cgroups(calls);
  if (!trees) {
    return std::unexpected(trees.error());
  }
  for (const cgroup_hierarchy& tree : *trees) {
    std::string_view below = where;
    if (where != "/" && strip(below, tree.mount_point)) {
      const std::string above = tree.mount_root == "/" ? "" : tree.mount_root;
      std::string name = above + std::string(below);
      return open_in(tree, name.empty() ? "/" : std::move(name), calls);
    }
  }
  return fail(ENODEV);
} catch (const std::bad_alloc&) {
  return fail(ENOMEM);
}

result<ref<const cgroup>> cgroup::of_this_thread(const cgroup_hierarchy& tree, identity_calls& calls) noexcept try {
  result<std::string> name = cgroup_name_of_this_thread(tree, calls);
  if (!name) {
    return std::unexpected(name.error());
  }
  return open_in(tree, std::move(*name), calls);
} catch (const std::bad_alloc&) {
  return fail(ENOMEM);
}

result<void> cgroup::enter(identity_calls& calls) const noexcept {
  // "0" is the writer itself, in both versions.
  if (calls.write(fd_.get(), "0", 1) < 0) {
    return fail_errno();
  }
  return {};
}

result<bool> cgroup::holds_this_thread(identity_calls& calls) const noexcept {
  const result<std::string> name = cgroup_name_of_this_thread(hierarchy_, calls);
  if (!name) {
    return std::unexpected(name.error());
  }
  return *name == name_;
}

}  // namespace sluice
