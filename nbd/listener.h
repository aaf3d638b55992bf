// listener: where clients come in: Unix sockets, TCP addresses, sockets handed over by a service manager.
//
// Ownership:      a listener owns its descriptor and, on a Unix socket, the file: it removes the file at the end, unless
//                 somebody put another in its place.
// Thread safety:  one thread at a time.
// Errors:         every function throws setup_error with a sentence for the operator, and leaves nothing behind.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "sluice/base/unique_fd.h"

#include "nbd/setup_error.h"

namespace sluice::nbd {

class listener {
 public:
  // Listens on a Unix socket. A socket file that no server answers on is replaced; one of a live server, or a file that
  // is no socket, is an error. Two servers that start at once on one path: one of them gets the error.
  [[nodiscard]] static listener unix_socket(const std::string& path);
  // Listens on ADDR:PORT, [ADDR6]:PORT or :PORT (all addresses). Names are resolved; port 0 lets the kernel choose.
  [[nodiscard]] static std::vector<listener> tcp(std::string_view address);
  // The sockets of the LISTEN_FDS protocol (sd_listen_fds(3)); empty if there are none for this process.
  [[nodiscard]] static std::vector<listener> activated();

  listener(listener&& other) noexcept = default;
  listener& operator=(listener&&) = delete;
  ~listener();

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  // For the log: "unix:/run/x.sock", "127.0.0.1:10809".
  [[nodiscard]] const std::string& name() const noexcept { return name_; }

 private:
  listener(unique_fd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}

  unique_fd fd_;
  std::string name_;
  std::string path_;  // the file to remove; empty if none is ours
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace sluice::nbd
