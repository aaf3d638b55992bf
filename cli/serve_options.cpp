#include "cli/serve_options.h"

#include <fmt/format.h>

#include <filesystem>

#include "nbd/setup_error.h"

namespace sluice::cli {

export_argument split_export(std::string_view argument) {
  const std::size_t equals = argument.find('=');
  const std::size_t slash = argument.find('/');
  if (equals != std::string_view::npos && (slash == std::string_view::npos || equals < slash)) {
    return {std::string(argument.substr(0, equals)), std::string(argument.substr(equals + 1))};
  }
  return {std::filesystem::path(argument).filename(), std::string(argument)};
}

void check(const serve_options& options) {
  if (options.exports.empty()) {
    throw nbd::setup_error("nothing to serve: name at least one file, as [NAME=]FILE");
  }
  if (options.stdio && !(options.unix_paths.empty() && options.listen_addresses.empty())) {
    throw nbd::setup_error("--stdio serves one client on standard input and output; it excludes --unix and --listen");
  }
}

}  // namespace sluice::cli
