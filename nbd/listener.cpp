#include "nbd/listener.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <charconv>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <thread>

#include <systemd/sd-daemon.h>

#include "sluice/base/clock.h"
#include "sluice/base/error.h"

namespace sluice::nbd {
namespace {

constexpr int backlog = 512;

[[noreturn]] void fail_with(const std::string& what, int err) {
  throw setup_error(fmt::format("{}: {}", what, error_of(err).message()));
}

unique_fd open_socket(int family) {
  unique_fd fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) {
    fail_with("cannot make a socket", errno);
  }
  return fd;
}

sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    throw setup_error(fmt::format("the socket path '{}' has {} bytes; a Unix socket's has 1 to {}", path, path.size(),
                                  sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// Serialises servers that claim a path in one directory: between "nobody answers there" and "now it is ours" no other
// server may come. A lock on the directory leaves no file behind, and the kernel drops it when a server dies.
class directory_lock {
 public:
  explicit directory_lock(const std::filesystem::path& socket_path) {
    const std::filesystem::path parent = socket_path.has_parent_path() ? socket_path.parent_path() : ".";
    fd_.reset(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd_) {
      fail_with(fmt::format("cannot open the directory of the socket '{}'", socket_path.native()), errno);
    }
    // flock(2) has no deadline. Others hold it for microseconds, so a short wait is enough; without a limit a
    // stranger's lock would keep the server from starting and from saying why.
    const steady_time deadline = clock_seam::real().now() + std::chrono::seconds(2);
    while (::flock(fd_.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK || clock_seam::real().now() > deadline) {
        fail_with(fmt::format("cannot lock the directory '{}'", parent.native()), errno);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

 private:
  unique_fd fd_;
};

// Removes the file of a server that died. Throws if somebody lives there or it is no socket.
void remove_stale(const std::string& path, const sockaddr_un& address) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) {
    return;  // nothing there; any other trouble shows at bind
  }
  if (!S_ISSOCK(status.st_mode)) {
    throw setup_error(fmt::format("'{}' exists and is not a socket; choose another path or remove it", path));
  }
  const unique_fd probe = open_socket(AF_UNIX);
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno != ECONNREFUSED) {
    // EAGAIN is a live server with a full backlog; EACCES one we may not ask.
    throw setup_error(fmt::format("the socket '{}' is in use by another server", path));
  }
  if (::unlink(path.c_str()) != 0) {
    fail_with(fmt::format("cannot remove the stale socket '{}'", path), errno);
  }
}

struct host_port {
  std::string host;
  std::string port;
};

host_port split_address(std::string_view address) {
  const std::size_t colon = address.rfind(':');
  const auto wrong = [&] {
    return setup_error(fmt::format(
        "'{}' is no address to listen on; write ADDR:PORT, [ADDR6]:PORT or :PORT with a port from 0 to 65535",
        address));
  };
  if (colon == std::string_view::npos) {
    throw wrong();
  }
  std::string_view host = address.substr(0, colon);
  const std::string_view port = address.substr(colon + 1);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find_first_of(":[]") != std::string_view::npos) {
    throw wrong();  // an IPv6 address without brackets: which colon is the port's? Nor does [] mean "all addresses"
  }
  std::uint16_t number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc{} || end != port.data() + port.size()) {
    throw wrong();
  }
  return {std::string(host), std::string(port)};
}

std::string bound_name(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return "a socket";
  }
  if (address.ss_family == AF_UNIX) {
    sockaddr_un local{};
    std::memcpy(&local, &address, sizeof local);
    return fmt::format("unix:{}", local.sun_path);
  }
  if (::getnameinfo(reinterpret_cast<sockaddr*>(&address), length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "a socket";
  }
  return address.ss_family == AF_INET6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

// A machine's names may resolve to addresses of a family that it has not, or that no interface carries.
bool is_absent(int err) noexcept {
  return err == EAFNOSUPPORT || err == EADDRNOTAVAIL;
}

// Empty, with errno, if it cannot listen there.
unique_fd bind_tcp(const addrinfo& candidate) {
  unique_fd fd(::socket(candidate.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) {
    return fd;
  }
  const int on = 1;
  // A restarted server must not wait for the old connections' TIME_WAIT.
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (candidate.ai_family == AF_INET6) {
    // [::] must not take the IPv4 side too: ":PORT" listens on both with a socket each.
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  }
  if (::bind(fd.get(), candidate.ai_addr, candidate.ai_addrlen) != 0 || ::listen(fd.get(), backlog) != 0) {
    const int err = errno;
    fd.reset();
    errno = err;
  }
  return fd;
}

// A name may resolve to one address twice.
bool seen_before(const addrinfo& candidate, const addrinfo* list) {
  for (; list != &candidate; list = list->ai_next) {
    if (list->ai_addrlen == candidate.ai_addrlen &&
        std::memcmp(list->ai_addr, candidate.ai_addr, candidate.ai_addrlen) == 0) {
      return true;
    }
  }
  return false;
}

}  // namespace

listener listener::unix_socket(const std::string& path) {
  const sockaddr_un address = unix_address(path);
  const directory_lock claim{path};
  remove_stale(path, address);
  listener out(open_socket(AF_UNIX), fmt::format("unix:{}", path));
  if (::bind(out.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    fail_with(fmt::format("cannot make the socket '{}'", path), errno);
  }
  struct stat status{};
  if (::lstat(path.c_str(), &status) == 0) {
    out.path_ = std::filesystem::absolute(path);  // the process may change its directory before it ends
    out.device_ = status.st_dev;
    out.inode_ = status.st_ino;
  }
  if (::listen(out.fd(), backlog) != 0) {
    fail_with(fmt::format("cannot listen on '{}'", path), errno);
  }
  return out;
}

std::vector<listener> listener::tcp(std::string_view address) {
  const host_port wanted = split_address(address);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int rc =
      ::getaddrinfo(wanted.host.empty() ? nullptr : wanted.host.c_str(), wanted.port.c_str(), &hints, &found);
  if (rc != 0) {
    throw setup_error(fmt::format("cannot resolve the address '{}': {}", address, ::gai_strerror(rc)));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, ::freeaddrinfo);
  std::vector<listener> out;
  int absent = 0;
  for (const addrinfo* candidate = found; candidate != nullptr; candidate = candidate->ai_next) {
    if (seen_before(*candidate, found)) {
      continue;
    }
    unique_fd fd = bind_tcp(*candidate);
    if (fd) {
      std::string name = bound_name(fd.get());
      out.push_back(listener(std::move(fd), std::move(name)));
    } else if (is_absent(errno)) {
      absent = errno;
    } else {
      fail_with(fmt::format("cannot listen on {}", address), errno);
    }
  }
  if (out.empty()) {
    fail_with(fmt::format("cannot listen on {}", address), absent);
  }
  return out;
}

std::vector<listener> listener::activated() {
  const int count = ::sd_listen_fds(1);
  if (count < 0) {
    fail_with("the LISTEN_FDS that the service manager passed are not usable", -count);
  }
  std::vector<listener> out;
  for (int fd = SD_LISTEN_FDS_START; fd < SD_LISTEN_FDS_START + count; ++fd) {
    if (::sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0) {
      throw setup_error(fmt::format("descriptor {} that the service manager passed is no listening stream socket", fd));
    }
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
      fail_with("cannot make a passed socket non-blocking", errno);
    }
    out.push_back(listener(unique_fd(fd), bound_name(fd)));
  }
  return out;
}

listener::~listener() {
  struct stat status{};
  // Only what is still ours: another server may have replaced the file, and its clients need it.
  if (fd_ && !path_.empty() && ::lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ &&
      status.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
}

}  // namespace sluice::nbd
