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

std::optional<std::uint64_t> direct_io::cut_block(std::uint64_t offset, std::uint64_t length) const noexcept {
  if ((offset & (block() - 1)) != 0) {
    return offset / block();
  }
  const std::uint64_t end = offset + length;
  return (end & (block() - 1)) != 0 ? std::optional(end / block()) : std::nullopt;
}

std::size_t direct_io::step_of(std::uint64_t offset, std::size_t length) const noexcept {
  const std::uint64_t into_block = offset & (block() - 1);
  if (into_block != 0 || length < block()) {
    return static_cast<std::size_t>(std::min<std::uint64_t>(length, block() - into_block));
  }
  return std::min(static_cast<std::size_t>(round_down(length, block())), file_device::transfer_chunk);
}

result<void> direct_io::write(std::uint64_t offset, std::span<const std::byte> from, int flags,
                              cancel_probe probe) noexcept {
  if (refuses(offset, from.size())) {
    return fail(EINVAL);
  }
  while (!from.empty()) {
    // The file-size limit of whom it is done for, as the kernel would have it: cut at the limit, refused behind it.
    const result<std::size_t> allowed = fsize_allows(current_identity(), offset, step_of(offset, from.size()));
    if (!allowed) {
      return std::unexpected(allowed.error());
    }
    const std::span<const std::byte> step = from.first(step_of(offset, *allowed));
    const bool part = cut_block(offset, step.size()).has_value();
    const result<void> did = with_blocks(offset, step.size(), probe, [&] {
      return part ? rewrite(offset, step, flags, probe) : write_blocks(offset, step, flags, probe);
    });
    if (!did) {
      return did;
    }
    offset += step.size();
    from = from.subspan(step.size());
  }
  return {};
}

result<void> direct_io::write_blocks(std::uint64_t offset, std::span<const std::byte> from, int flags,
                                     cancel_probe probe) noexcept {
  if (straight(offset, from.data(), from.size()) != 0) {
    return drain(offset, from, flags, probe);
  }
  const result<bounce_buffers::lease> buffer = buffers_.take(probe);
  if (!buffer) {
    return std::unexpected(buffer.error());
  }
  const std::size_t most = round_down(buffers_.bytes(), block());
  while (!from.empty()) {
    const std::span<std::byte> bytes = buffer->bytes().first(std::min(from.size(), most));
    std::memcpy(bytes.data(), from.data(), bytes.size());
    if (result<void> did = drain(offset, bytes, flags, probe); !did) {
      return did;
    }
    offset += bytes.size();
    from = from.subspan(bytes.size());
  }
  return {};
}

result<void> direct_io::rewrite(std::uint64_t offset, std::span<const std::byte> from, int flags,
                                cancel_probe probe) noexcept {
  const auto before = static_cast<std::size_t>(offset & (block() - 1));
  const result<bounce_buffers::lease> buffer = buffers_.take(probe);
  if (!buffer) {
    return std::unexpected(buffer.error());
  }
  const std::span<std::byte> bytes = buffer->bytes().first(file_.alignment.block);
  if (result<void> did = fill(offset - before, bytes, bytes.size(), probe); !did) {
    return did;
  }
  std::memcpy(bytes.data() + before, from.data(), from.size());
  return drain(offset - before, bytes, flags, probe);
}

}  // namespace sluice::detail
