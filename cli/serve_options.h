// serve_options: what `sluice serve` was asked to do, parsed and checked as far as that needs no file.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::cli {

// One [NAME=]FILE argument.
struct export_argument {
  std::string name;
  std::string path;
};

struct serve_options {
  std::vector<std::string> unix_paths;
  std::vector<std::string> listen_addresses;
  std::vector<std::string> exports;
  bool read_only = false;
  bool stdio = false;
  bool direct = false;            // past the page cache
  std::string elevator = "none";  // or "fair"
  unsigned handshake_timeout_s = 30;
  unsigned drain_timeout_ms = 2500;
};

// Splits at the first '=' unless a '/' comes before it: a path with '=' in a directory name needs no quoting. Without
// NAME the export has the file's base name.
[[nodiscard]] export_argument split_export(std::string_view argument);

// Throws nbd::setup_error for options that exclude each other.
void check(const serve_options& options);

}  // namespace sluice::cli
