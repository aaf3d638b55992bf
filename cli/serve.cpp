// sluice serve: opens the files, listens, serves until told to stop.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <spdlog/spdlog.h>
#include <systemd/sd-daemon.h>

#include "sluice/device/file_device.h"
#include "sluice/ioc/fair.h"
#include "sluice/ioc/request_queue.h"
#include "sluice/wq/io_wq.h"

#include "cli/commands.h"
#include "cli/log.h"
#include "cli/serve_options.h"
#include "nbd/catalog.h"
#include "nbd/handshake.h"
#include "nbd/listener.h"
#include "nbd/server.h"
#include "nbd/setup_error.h"

namespace sluice::cli {
namespace {

constexpr std::string_view default_address = "127.0.0.1:10809";  // the port that IANA gave to NBD
// How long stopping the queues and the pool may take once every client is gone: then nothing runs that could last.
constexpr std::chrono::seconds stop_time{1};

// Each client costs a descriptor; the soft limit of a shell is for programs that use select(2).
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);  // not granted: then fewer clients fit
  }
}

std::string open_advice(const std::error_code& error, const serve_options& options) {
  const bool denied = error == std::errc::permission_denied || error == std::errc::read_only_file_system;
  if (denied && !options.read_only) {
    return " (--read-only serves what may not be written)";
  }
  if (options.direct && error == std::errc::operation_not_supported) {
    return " (its file system has no direct I/O: serve it without --direct)";
  }
  if (options.direct && !options.read_only && error == std::errc::invalid_argument) {
    return " (with --direct: a file or block device, and to be written its size a multiple of its file system's block)";
  }
  return "";
}

// What clients see: the file's name without its place, which is the server's own affair.
std::string describe(const std::string& path) {
  const std::string name = std::filesystem::path(path).filename();
  return nbd::valid_string(name) ? fmt::format("file {}", name) : "";
}

ref<nbd::exported> make_export(const std::string& argument, const serve_options& options, io_wq& workers) {
  export_argument parts = split_export(argument);
  const access_mode mode = options.read_only ? access_mode::read_only : access_mode::read_write;
  const file_caching caching = options.direct ? file_caching::direct : file_caching::page_cache;
  result<ref<device>> file = file_device::create(parts.path, mode, {.caching = caching});
  if (!file) {
    throw nbd::setup_error(
        fmt::format("cannot serve '{}': {}{}", parts.path, file.error().message(), open_advice(file.error(), options)));
  }
  // All that all clients may have under way fits: a client never gets an error because of the others.
  constexpr auto most =
      static_cast<std::uint32_t>(nbd::server_options{}.max_connections * nbd::connection::max_requests);
  // A disk that is alone need leave no workers to others.
  const std::uint32_t share = options.exports.size() == 1 ? workers.max_workers(work_class::bound) : 0;
  result<ref<request_queue>> queue =
      request_queue::create(workers, {.max_waiting = most, .max_workers = share},
                            options.elevator == "fair" ? make_fair_elevator() : make_none_elevator());
  if (!queue) {
    throw nbd::setup_error(fmt::format("cannot make a queue for '{}': {}", parts.path, queue.error().message()));
  }
  return make_ref<nbd::exported>(std::move(parts.name), describe(parts.path), std::move(*file), std::move(*queue),
                                 mode);
}

struct doors {
  std::vector<nbd::listener> listeners;
  bool activated = false;  // a service manager passed them
};

doors make_listeners(const serve_options& options) {
  doors made;
  std::vector<nbd::listener>& out = made.listeners;
  out.reserve(options.unix_paths.size());
  for (const std::string& path : options.unix_paths) {
    out.push_back(nbd::listener::unix_socket(path));
  }
  std::vector<std::string> addresses = options.listen_addresses;
  if (options.unix_paths.empty() && addresses.empty()) {
    for (nbd::listener& passed : nbd::listener::activated()) {
      out.push_back(std::move(passed));
    }
    made.activated = !out.empty();
    if (!made.activated) {
      addresses.emplace_back(default_address);
    }
  }
  for (const std::string& address : addresses) {
    for (nbd::listener& bound : nbd::listener::tcp(address)) {
      out.push_back(std::move(bound));
    }
  }
  return made;
}

unique_fd standard(int fd, bool given, const char* name) {
  unique_fd copy(given ? ::fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1) : -1);
  if (!copy) {
    throw nbd::setup_error(fmt::format("--stdio needs standard {} to be open", name));
  }
  return copy;
}

void open_doors(nbd::server& server, const serve_options& options, standard_streams given) {
  if (options.stdio) {
    try {
      server.serve_pair(standard(STDIN_FILENO, given.in, "input"), standard(STDOUT_FILENO, given.out, "output"));
    } catch (const std::system_error& error) {
      throw nbd::setup_error(
          fmt::format("--stdio needs a pipe or a socket on standard input and output: {}", error.code().message()));
    }
    return;
  }
  // All of them before the first is announced: if one fails, that is the one line that is said.
  doors made = make_listeners(options);
  for (nbd::listener& each : made.listeners) {
    server.listen(std::move(each));
  }
  ::sd_notify(0, "READY=1");
  if (!made.activated) {
    // Whoever passes sockets knows that they listen, and may have lent us its own stdout (libnbd's `[ … ]` does).
    std::puts("ready");
    std::fflush(stdout);
  }
}

nbd::outcome run(nbd::server& server) {
  try {
    return server.run();
  } catch (const std::exception& error) {
    // Not to be unwound: workers hand requests back to the server.
    spdlog::critical("the server cannot go on: {}", error.what());
    ::_exit(exit_failed);
  }
}

int serve(const serve_options& options, standard_streams given) {
  check(options);
  start_log();
  std::signal(SIGPIPE, SIG_IGN);  // a client that left is an error code, on pipes too
  raise_descriptor_limit();

  result<ref<io_wq>> made = io_wq::create({.name = "sluice"});
  if (!made) {
    throw nbd::setup_error(fmt::format("cannot start the workers: {}", made.error().message()));
  }
  const ref<io_wq> workers = std::move(*made);
  nbd::catalog exports;
  for (const std::string& argument : options.exports) {
    exports.add(make_export(argument, options, *workers));
  }
  nbd::server server(exports, {.handshake_timeout = std::chrono::seconds(options.handshake_timeout_s),
                               .drain_timeout = std::chrono::milliseconds(options.drain_timeout_ms)});
  open_doors(server, options, given);
  if (run(server) == nbd::outcome::stuck) {
    // Joining the workers would wait for requests that a device does not answer, perhaps for ever.
    spdlog::error("requests are stuck in a device; leaving without them");
    ::_exit(exit_failed);
  }
  const steady_time deadline = std::chrono::steady_clock::now() + stop_time;
  for (const ref<nbd::exported>& each : exports.entries()) {
    static_cast<void>(each->queue().stop(deadline));
  }
  // Before the server goes: a worker may still be on its way out of handing back a request.
  static_cast<void>(workers->stop(stop_policy::cancel_queued, deadline));
  spdlog::info("stopped");
  return exit_ok;
}

}  // namespace

std::function<int()> add_serve(CLI::App& program, standard_streams given) {
  auto options = std::make_shared<serve_options>();
  CLI::App* const command = program.add_subcommand("serve", "Serve files as network block devices (NBD)");
  command->add_option("--unix", options->unix_paths, "Listen on this Unix socket; may be given several times")
      ->type_name("PATH")
      ->allow_extra_args(false);
  command->add_option("--listen", options->listen_addresses, "Listen on this TCP address (default 127.0.0.1:10809)")
      ->type_name("ADDR:PORT")
      ->allow_extra_args(false);
  command->add_flag("--read-only", options->read_only, "Refuse every change");
  command
      ->add_option(
          "--elevator", options->elevator,
          "Who goes first where clients wait for a disk: none, as they come; fair, an equal share for each client")
      ->check(CLI::IsMember(std::vector<std::string>{"none", "fair"}))
      ->capture_default_str();
  command->add_flag("--direct", options->direct, "Go past the page cache (O_DIRECT)");
  command->add_flag("--stdio", options->stdio, "Serve one client on standard input and output");
  command
      ->add_option("--handshake-timeout", options->handshake_timeout_s, "Seconds a client may take to choose an export")
      ->check(CLI::Range(1U, 3600U))
      ->capture_default_str();
  command
      ->add_option("--drain-timeout", options->drain_timeout_ms, "Milliseconds that clients get to end after SIGTERM")
      ->check(CLI::Range(0U, 600'000U))
      ->capture_default_str();
  command->add_option("exports", options->exports, "What to serve; the name is the file's own unless given")
      ->type_name("[NAME=]FILE");
  return [options, given] { return serve(*options, given); };
}

}  // namespace sluice::cli
