// sluice: the program. Wrong usage is one line on stderr and exit code 2.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <utility>

#include <CLI/CLI.hpp>

#include "cli/commands.h"

namespace {

int complain(std::string sentence) {
  // One line, whatever the parser's message looks like.
  std::ranges::replace(sentence, '\n', ' ');
  // Not fmt::print, which throws where stderr cannot be written.
  std::fputs(fmt::format("sluice: {}\n", sentence).c_str(), stderr);
  return sluice::cli::exit_usage;
}

// Puts /dev/null where a standard descriptor is closed: else the next file to be opened, an image say, would become
// stdout, and `ready` would be written into it.
sluice::cli::standard_streams fill_standard_streams() {
  sluice::cli::standard_streams given;
  for (const auto& [fd, there] : {std::pair{STDIN_FILENO, &given.in}, std::pair{STDOUT_FILENO, &given.out},
                                  std::pair{STDERR_FILENO, &given.err}}) {
    *there = ::fcntl(fd, F_GETFD) != -1;
    if (!*there && ::open("/dev/null", O_RDWR) != fd) {  // open(2) takes the lowest free number
      std::abort();
    }
  }
  return given;
}

bool is_command(const CLI::App& program, const std::string& word) {
  return std::ranges::any_of(program.get_subcommands(nullptr),
                             [&](const CLI::App* command) { return command->get_name() == word; });
}

}  // namespace

int main(int argc, char** argv) {
  const sluice::cli::standard_streams given = fill_standard_streams();
  CLI::App program("Sluice: asynchronous I/O, and the NBD server that stands on it", "sluice");
  program.set_version_flag("--version", SLUICE_VERSION);
  program.require_subcommand(1);
  const std::function<int()> serve = sluice::cli::add_serve(program, given);
  const std::function<int()> doctor = sluice::cli::add_doctor(program);
  const std::string command = argc > 1 && is_command(program, argv[1]) ? argv[1] : "";
  if (argc > 1 && argv[1][0] != '-' && command.empty()) {
    return complain(fmt::format("'{}' is no command (try: sluice --help)", argv[1]));
  }
  try {
    program.parse(argc, argv);
    return command == "doctor" ? doctor() : serve();
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
      return program.exit(error);  // --help, --version
    }
    const std::string help = command.empty() ? "sluice --help" : "sluice " + command + " --help";
    return complain(fmt::format("{} (try: {})", error.what(), help));
  } catch (const std::exception& error) {
    // What throws is set-up; what goes wrong afterwards is handled where it happens.
    return complain(error.what());
  }
}
