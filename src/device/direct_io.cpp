#include "direct_io.h"

#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "sluice/base/immortal.h"
#include "sluice/identity/identity.h"

namespace sluice::detail {
namespace {

constexpr std::uint32_t page = 4096;
constexpr std::uint32_t largest_block = 64U << 10;
constexpr std::size_t bounce_bytes = 256U << 10;

std::uint64_t round_down(std::uint64_t value, std::uint64_t to) noexcept {
  return value & ~(to - 1);
}

std::uint64_t round_up(std::uint64_t value, std::uint64_t to) noexcept {
  return round_down(value + to - 1, to);
}

bool sensible(const direct_alignment& about) noexcept {
  return std::has_single_bit(about.memory) && std::has_single_bit(about.block) && about.memory <= page &&
         about.block <= largest_block;
}

// Where nobody says it: a read of one block works or is EINVAL. What takes 512 takes every larger one.
result<direct_alignment> try_blocks(file_seam& system, int fd) noexcept {
  alignas(page) std::byte space[page];
  for (const std::uint32_t block : {512U, page}) {
    const ::iovec part{.iov_base = space, .iov_len = block};
    ssize_t got = -1;
    do {
      got = system.preadv2(fd, &part, 1, 0, 0);
    } while (got < 0 && errno == EINTR);
    if (got >= 0) {
      return direct_alignment{.memory = block, .block = block};
    }
    if (errno != EINVAL) {
      return fail_errno();
    }
  }
  return fail(EOPNOTSUPP);
}

}  // namespace

result<direct_alignment> learn_alignment(file_seam& system, int fd, const struct ::stat& about) noexcept {
  direct_alignment said;
  if (system.direct_alignment(fd, &said.memory, &said.block) == 0) {
    return sensible(said) ? result<direct_alignment>(said) : fail(EOPNOTSUPP);
  }
  if (!S_ISBLK(about.st_mode)) {
    return try_blocks(system, fd);
  }
  if (system.logical_block_size(fd, &said.block) != 0) {
    return fail_errno();
  }
  said.memory = std::min(said.block, page);
  return sensible(said) ? result<direct_alignment>(said) : fail(EOPNOTSUPP);
}

block_ranges& direct_io::ranges() noexcept {
  static immortal<block_ranges> all;
  return *all;
}

direct_io::direct_io(const direct_file& file, file_seam& system) noexcept
    : file_(file), system_(system), buffers_(std::max<std::size_t>(bounce_bytes, 2 * file.alignment.block)) {}

bool direct_io::refuses(std::uint64_t offset, std::uint64_t length) const noexcept {
  return file_.policy == misaligned::refuse && ((offset | length) & (block() - 1)) != 0;
}

std::size_t direct_io::straight(std::uint64_t offset, const std::byte* memory, std::size_t length) const noexcept {
  const bool aligned =
      (offset & (block() - 1)) == 0 && (reinterpret_cast<std::uintptr_t>(memory) & (file_.alignment.memory - 1)) == 0;
  return aligned ? std::min(static_cast<std::size_t>(round_down(length, block())), file_device::transfer_chunk) : 0;
}

std::size_t direct_io::bounced(std::uint64_t offset, const std::byte* memory, std::size_t length) const noexcept {
  const std::uint64_t into_block = offset & (block() - 1);
  const std::uint64_t to_next = block() - into_block;
  if (length > to_next && straight(offset + to_next, memory + to_next, length - to_next) != 0) {
    return to_next;  // the rest need not be copied
  }
  return std::min(length, buffers_.bytes() - static_cast<std::size_t>(into_block));
}

result<void> direct_io::fill(std::uint64_t offset, std::span<std::byte> into, std::size_t need,
                             cancel_probe probe) noexcept {
  std::size_t done = 0;
  while (done < need) {
    if (probe.cancelled()) {
      return fail(ECANCELED);
    }
    const ::iovec part{.iov_base = into.data() + done, .iov_len = into.size() - done};
    const ssize_t got = system_.preadv2(file_.fd, &part, 1, static_cast<off_t>(offset + done), 0);
    if (got < 0) {
      if (errno != EINTR) {
        return fail_errno();
      }
      continue;
    }
    done += static_cast<std::size_t>(got);
    if (done < need && (got == 0 || done % block() != 0)) {
      return fail(EIO);  // the file ends here, inside the announced size
    }
  }
  return {};
}

result<void> direct_io::drain(std::uint64_t offset, std::span<const std::byte> from, int flags,
                              cancel_probe probe) noexcept {
  while (!from.empty()) {
    if (probe.cancelled()) {
      return fail(ECANCELED);
    }
    const ::iovec part{.iov_base = const_cast<std::byte*>(from.data()), .iov_len = from.size()};
    const ssize_t put = system_.pwritev2(file_.fd, &part, 1, static_cast<off_t>(offset), flags);
    if (put < 0) {
      if (errno != EINTR) {
        return fail_errno();
      }
      continue;
    }
    // A part of a block cannot be gone on from; the kernel does not do it, but for a device that is broken.
    if (put == 0 || static_cast<std::uint64_t>(put) % block() != 0) {
      return fail(EIO);
    }
    offset += static_cast<std::uint64_t>(put);
    from = from.subspan(static_cast<std::size_t>(put));
  }
  return {};
}

result<void> direct_io::read(std::uint64_t offset, std::span<std::byte> into, cancel_probe probe) noexcept {
  if (refuses(offset, into.size())) {
    return fail(EINVAL);
  }
  while (!into.empty()) {
    std::size_t now = straight(offset, into.data(), into.size());
    if (now != 0) {
      if (result<void> did = fill(offset, into.first(now), now, probe); !did) {
        return did;
      }
    } else {
      now = bounced(offset, into.data(), into.size());
      const auto before = static_cast<std::size_t>(offset & (block() - 1));
      const auto whole = static_cast<std::size_t>(round_up(before + now, block()));
      const result<bounce_buffers::lease> buffer = buffers_.take(probe);
      if (!buffer) {
        return std::unexpected(buffer.error());
      }
      const std::span<std::byte> bytes = buffer->bytes().first(whole);
      if (result<void> did = fill(offset - before, bytes, before + now, probe); !did) {
        return did;
      }
      std::memcpy(into.data(), bytes.data() + before, now);
    }
    offset += now;
    into = into.subspan(now);
  }
  return {};
}

result<void> direct_io::write(std::uint64_t offset, std::span<const std::byte> from, int flags,
                              cancel_probe probe) noexcept {
  if (from.empty()) {
    return {};
  }
  if (refuses(offset, from.size())) {
    return fail(EINVAL);
  }
  return with_blocks(offset, from.size(), probe, [&] { return write_held(offset, from, flags, probe); });
}

result<void> direct_io::write_held(std::uint64_t offset, std::span<const std::byte> from, int flags,
                                   cancel_probe probe) noexcept {
  while (!from.empty()) {
    const std::size_t free = straight(offset, from.data(), from.size());
    const std::size_t now = free != 0 ? free : bounced(offset, from.data(), from.size());
    // The file-size limit of whom it is done for, as the kernel would have it: cut at the limit, refused behind it.
    const result<std::size_t> allowed = fsize_allows(current_identity(), offset, now);
    if (!allowed) {
      return std::unexpected(allowed.error());
    }
    const std::span<const std::byte> part = from.first(*allowed);
    const bool whole = straight(offset, part.data(), part.size()) == part.size();
    result<void> did = whole ? drain(offset, part, flags, probe) : rewrite(offset, part, flags, probe);
    if (!did) {
      return did;
    }
    offset += part.size();
    from = from.subspan(part.size());
  }
  return {};
}

result<void> direct_io::rewrite(std::uint64_t offset, std::span<const std::byte> from, int flags,
                                cancel_probe probe) noexcept {
  const auto before = static_cast<std::size_t>(offset & (block() - 1));
  const std::size_t end = before + from.size();
  const auto whole = static_cast<std::size_t>(round_up(end, block()));
  const result<bounce_buffers::lease> buffer = buffers_.take(probe);
  if (!buffer) {
    return std::unexpected(buffer.error());
  }
  const std::span<std::byte> bytes = buffer->bytes().first(whole);
  const std::size_t one = file_.alignment.block;
  if (before != 0) {
    if (result<void> did = fill(offset - before, bytes.first(one), one, probe); !did) {
      return did;
    }
  }
  const bool last_is_first = before != 0 && whole == one;
  if (end != whole && !last_is_first) {
    if (result<void> did = fill(offset - before + whole - one, bytes.last(one), one, probe); !did) {
      return did;
    }
  }
  std::memcpy(bytes.data() + before, from.data(), from.size());
  return drain(offset - before, bytes, flags, probe);
}

}  // namespace sluice::detail
