// sluice-bench EXPERIMENT [--json]
//
// Exit status: 0 every target is held, 1 one is not (or a peer could not be run), 2 wrong usage.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>

#include "experiments.h"

namespace {

constexpr int exit_held = 0;
constexpr int exit_missed = 1;
constexpr int exit_usage = 2;

std::string names() {
  std::string all;
  for (const bench::experiment& each : bench::experiments) {
    all += all.empty() ? "" : ", ";
    all += each.name;
  }
  return all;
}

int usage(const std::string& fault) {
  std::fprintf(stderr, "sluice-bench: %s; usage: sluice-bench EXPERIMENT [--json], EXPERIMENT one of: %s\n",
               fault.c_str(), names().c_str());
  return exit_usage;
}

int help() {
  std::printf("usage: sluice-bench EXPERIMENT [--json]\n\n");
  for (const bench::experiment& each : bench::experiments) {
    std::printf("  %-12.*s %.*s\n", static_cast<int>(each.name.size()), each.name.data(),
                static_cast<int>(each.summary.size()), each.summary.data());
  }
  std::printf(
      "\nA * marks Sluice, a _ a floor: what the machine allows, not a peer. Ratios are medians of ratios within a "
      "round. Exit status 1: a target is missed.\n");
  return exit_held;
}

// A round waits for every work that it submitted: one that is lost would keep it for ever. The slowest experiment takes a
// minute or two, on a loaded machine a few.
void end_if_it_hangs() {
  constexpr unsigned limit_s = 900;
  ::signal(SIGALRM, [](int) {
    constexpr std::string_view text = "sluice-bench: hangs; a work was lost\n";
    static_cast<void>(!::write(STDERR_FILENO, text.data(), text.size()));
    ::_exit(exit_missed);
  });
  ::alarm(limit_s);
}

int run(const bench::experiment& chosen, bool as_json) {
  end_if_it_hangs();
  const bench::report found = chosen.run();
  const std::string text = as_json ? found.json() : found.table();
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    std::fprintf(stderr, "sluice-bench: cannot write the result\n");
    return exit_missed;
  }
  return found.held() ? exit_held : exit_missed;
}

}  // namespace

int main(int argc, char** argv) {
  const bench::experiment* chosen = nullptr;
  bool as_json = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--help") {
      return help();
    }
    if (word == "--json") {
      as_json = true;
      continue;
    }
    if (word.starts_with('-')) {
      return usage("unknown option " + std::string(word));
    }
    if (chosen != nullptr) {
      return usage("one experiment at a time");
    }
    for (const bench::experiment& each : bench::experiments) {
      if (each.name == word) {
        chosen = &each;
      }
    }
    if (chosen == nullptr) {
      return usage("unknown experiment " + std::string(word));
    }
  }
  if (chosen == nullptr) {
    return usage("no experiment named");
  }
  try {
    return run(*chosen, as_json);
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "sluice-bench: %s\n", fault.what());
    return exit_missed;
  }
}
