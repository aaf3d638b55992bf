#include "sluice/identity/fs_context.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <charconv>
#include <new>
#include <string_view>

namespace sluice {
namespace {

constexpr int octal = 8;
constexpr std::size_t piece_bytes = 2048;
constexpr std::size_t most_bytes = 1 << 20;  // no file that is read here comes near

std::uint64_t device_number(const struct ::statx& about) noexcept {
  constexpr unsigned minor_bits = 32;
  return (std::uint64_t{about.stx_dev_major} << minor_bits) | about.stx_dev_minor;
}

}  // namespace

result<directory_key> key_of_directory(int fd, identity_calls& calls) noexcept {
  struct ::statx about{};
  if (calls.statx(fd, &about) != 0) {
    return fail_errno();
  }
  return directory_key{.mount = about.stx_mnt_id, .device = device_number(about), .inode = about.stx_ino};
}

result<ref<const directory>> directory::open(const char* path, identity_calls& calls) noexcept {
  unique_fd fd(calls.open(path, O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd) {
    return fail_errno();
  }
  const result<directory_key> key = key_of_directory(fd.get(), calls);
  if (!key) {
    return std::unexpected(key.error());
  }
  auto* made = new (std::nothrow) directory(std::move(fd), *key);
  if (made == nullptr) {
    return fail(ENOMEM);
  }
  return ref<const directory>::adopt(made);
}

namespace detail {

result<std::string> read_whole(const char* path, identity_calls& calls) {
  const unique_fd fd(calls.open(path, O_RDONLY | O_CLOEXEC));
  if (!fd) {
    return fail_errno();
  }
  std::string text;
  while (text.size() < most_bytes) {
    std::array<char, piece_bytes> piece;
    const ssize_t got = calls.read(fd.get(), piece.data(), piece.size());
    if (got < 0) {
      return fail_errno();
    }
    if (got == 0) {
      break;
    }
    text.append(piece.data(), static_cast<std::size_t>(got));
  }
  return text;
}

}  // namespace detail

result<mode_t> umask_of_this_thread(identity_calls& calls) noexcept try {
  const result<std::string> status = detail::read_whole("/proc/thread-self/status", calls);
  if (!status) {
    return std::unexpected(status.error());
  }
  constexpr std::string_view label = "\nUmask:\t";
  const std::size_t at = status->find(label);
  unsigned mask = 0;
  if (at == std::string::npos ||
      std::from_chars(status->data() + at + label.size(), status->data() + status->size(), mask, octal).ec !=
          std::errc{}) {
    return fail(ENOTSUP);
  }
  return static_cast<mode_t>(mask);
} catch (const std::bad_alloc&) {
  return fail(ENOMEM);
}

}  // namespace sluice
