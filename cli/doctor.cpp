// sluice doctor: what works here, by trying it.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "sluice/identity/identity_probe.h"

#include "cli/commands.h"
#include "cli/machine.h"

namespace sluice::cli {
namespace {

std::string_view mark(verdict answer) {
  switch (answer) {
    case verdict::yes:
      return "yes";
    case verdict::no:
      return "no";
    case verdict::fact:
      break;
  }
  return "-";
}

void add_section(std::string& text, std::string_view title, const std::vector<finding>& findings) {
  text += fmt::format("\n{}\n", title);
  std::size_t width = 0;
  for (const finding& each : findings) {
    width = std::max(width, each.name.size());
  }
  for (const finding& each : findings) {
    text += fmt::format("  {:<3}  {:<{}}  {}\n", mark(each.answer), each.name, width, each.detail);
  }
}

std::vector<finding> as_findings(const std::vector<identity_support>& all) {
  std::vector<finding> found;
  for (const identity_support& each : all) {
    found.push_back({.answer = each.works ? verdict::yes : verdict::no, .name = each.name, .detail = each.detail});
  }
  return found;
}

int doctor() {
  const auto fields = identity_probe();
  if (!fields) {
    fmt::print(stderr, "sluice: cannot try identities out: {}\n", fields.error().message());
    return exit_failed;
  }
  std::string text = describe_machine() + "\n";
  add_section(text, "identity: what work can be done as", as_findings(*fields));
  add_section(text, "capabilities of this process", as_findings(identity_capabilities()));
  add_section(text, "kernel", {find_io_uring()});
  add_section(text, "NUMA nodes", find_numa_nodes());
  add_section(text, "control groups", find_cgroups());
  add_section(text, "limits", find_limits());
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    std::fputs("sluice: cannot write the findings\n", stderr);
    return exit_failed;
  }
  return exit_ok;
}

}  // namespace

std::function<int()> add_doctor(CLI::App& program) {
  program.add_subcommand("doctor", "Say what works on this machine: identities, io_uring, NUMA, cgroups, limits");
  return [] { return doctor(); };
}

}  // namespace sluice::cli
