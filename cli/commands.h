// commands: the subcommands of the program `sluice`. Each adds itself to the parser and, when chosen, runs and gives
// the exit code.
#pragma once

#include <functional>

#include <CLI/App.hpp>

namespace sluice::cli {

// Exit codes of the program.
inline constexpr int exit_ok = 0;
inline constexpr int exit_failed = 1;
inline constexpr int exit_usage =
    2;  // wrong arguments or a set-up that cannot work: one line on stderr said what to do

// Which of descriptors 0, 1 and 2 the program was started with.
struct standard_streams {
  bool in = true;
  bool out = true;
  bool err = true;
};

// Adds `serve`. The returned function runs it; call it if the subcommand was chosen.
[[nodiscard]] std::function<int()> add_serve(CLI::App& program, standard_streams given);

// Adds `doctor`.
[[nodiscard]] std::function<int()> add_doctor(CLI::App& program);

}  // namespace sluice::cli
