#include "cli/log.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

namespace sluice::cli {
namespace {

class stderr_sink final : public spdlog::sinks::base_sink<std::mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    std::string text;
    if (missing_ != 0) {
      // In front, in one write: either both get through or none.
      text = fmt::format("sluice: warning: {} lines of the log were dropped\n", missing_);
    }
    text.append(line.data(), line.size());
    missing_ = write_now(text) ? 0 : missing_ + 1;
  }
  void flush_() override {}

 private:
  static bool write_now(std::string_view text) {
    // A pipe that polls writable takes PIPE_BUF bytes at once; a longer line might wait for the rest.
    constexpr std::size_t at_once = 4096;
    pollfd ready{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
    if (::poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0) {
      return false;
    }
    return ::write(STDERR_FILENO, text.data(), std::min(text.size(), at_once)) > 0;
  }

  std::uint64_t missing_ = 0;
};

}  // namespace

void start_log() {
  auto log = std::make_shared<spdlog::logger>("sluice", std::make_shared<stderr_sink>());
  log->set_pattern("sluice: %l: %v");
  spdlog::set_default_logger(std::move(log));
}

}  // namespace sluice::cli
