#include "file_extents.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "sluice/base/check.h"

namespace sluice::detail {
namespace {

// Puts stretches one behind the other.
class extent_list {
 public:
  extent_list(std::span<extent> into, std::uint64_t from) noexcept : into_(into), at_(from) {}

  // The stretch from where the last one ended. Returns false if there is no place for it.
  bool append_until(std::uint64_t end, extent_kind kind) noexcept {
    if (end <= at_) {
      return true;
    }
    if (used_ != 0 && into_[used_ - 1].kind == kind) {
      into_[used_ - 1].length += end - at_;
    } else {
      if (used_ == into_.size()) {
        return false;
      }
      into_[used_++] = {.offset = at_, .length = end - at_, .kind = kind};
    }
    at_ = end;
    return true;
  }
  [[nodiscard]] std::uint64_t at() const noexcept { return at_; }
  [[nodiscard]] std::size_t used() const noexcept { return used_; }

 private:
  const std::span<extent> into_;
  std::uint64_t at_;
  std::size_t used_ = 0;
};

// Where SEEK_DATA found no data until the end of the file: the end it meant, so that what lies beyond (the file has become
// shorter than announced, reading there is EIO) is not called a hole.
result<std::uint64_t> end_of_file(file_seam& system, int fd) noexcept {
  struct ::stat about{};
  if (system.fstat(fd, &about) != 0) {
    return fail_errno();
  }
  return static_cast<std::uint64_t>(about.st_size);
}

}  // namespace

result<std::size_t> file_extents(file_seam& system, int fd, std::uint64_t offset, std::uint64_t length,
                                 std::span<extent> into, cancel_probe probe) noexcept {
  SLUICE_CHECK(length != 0 && !into.empty(), "a range, and a place for the answer");
  const std::uint64_t end = offset + length;
  extent_list list(into, offset);
  while (list.at() < end) {
    if (probe.cancelled()) {
      return fail(ECANCELED);
    }
    // The size before the question: a file that grows in between has its new end told as data.
    const result<std::uint64_t> size = end_of_file(system, fd);
    if (!size) {
      return std::unexpected(size.error());
    }
    const off_t data = system.lseek(fd, static_cast<off_t>(list.at()), SEEK_DATA);
    if (data < 0) {
      if (errno == EINTR) {
        continue;
      }
      const bool nothing_more = errno == ENXIO;
      if (!nothing_more && errno != EINVAL && errno != EOPNOTSUPP) {
        return fail_errno();
      }
      // Not known here, or no data from here to the end of the file.
      if (!nothing_more || list.append_until(std::min(*size, end), extent_kind::hole)) {
        static_cast<void>(list.append_until(end, extent_kind::data));
      }
      break;
    }
    if (!list.append_until(std::min(static_cast<std::uint64_t>(data), end), extent_kind::hole) || list.at() == end) {
      break;
    }
    const off_t hole = system.lseek(fd, static_cast<off_t>(list.at()), SEEK_HOLE);
    if (hole < 0 && errno == EINTR) {
      continue;
    }
    // ENXIO: shorter by now. Whatever it is, data is never wrong; and at least one byte, so that this ends.
    const std::uint64_t to = hole < 0 ? end : std::max(static_cast<std::uint64_t>(hole), list.at() + 1);
    if (!list.append_until(std::min(to, end), extent_kind::data)) {
      break;
    }
  }
  return list.used();
}

}  // namespace sluice::detail
