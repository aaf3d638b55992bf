// sluice: the program. Wrong usage is one line on stderr and exit code 2.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "nbd/setup_error.h"

namespace {

int complain(std::string sentence) {
  // One line, whatever the parser's message looks like.
  std::ranges::replace(sentence, '\n', ' ');
  fmt::print(stderr, "sluice: {}\n", sentence);
  return sluice::cli::exit_usage;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App program("Sluice: asynchronous I/O, and the NBD server that stands on it", "sluice");
  program.set_version_flag("--version", SLUICE_VERSION);
  program.require_subcommand(1);
  const std::function<int()> serve = sluice::cli::add_serve(program);
  try {
    program.parse(argc, argv);
    return serve();
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
      return program.exit(error);  // --help, --version
    }
    return complain(fmt::format("{} (try: sluice serve --help)", error.what()));
  } catch (const sluice::nbd::setup_error& error) {
    return complain(error.what());
  } catch (const std::exception& error) {
    complain(error.what());
    return sluice::cli::exit_failed;
  }
}
