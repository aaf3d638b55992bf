// direct_io: reads and writes past the page cache, whatever the alignment of their range and their memory.
//
// What is aligned goes straight between the caller's memory and the file. The rest goes through a bounce buffer: a read
// reads the blocks around it; a write of part of a block reads the block, changes it and writes it, while it holds
// the block against every other change of this process (block_ranges.h). It holds one such block at a time: writes
// that follow each other in the file, and meet in a block, wait for each other's part of that block only.
//
// Thread safety:  any thread.
// Blocking:       everything; the probe is asked between the steps and after every EINTR.
// Errors:         errno; EIO where the file ends early; EINVAL for a misaligned range if that is to be refused.
// Limits:         bounce_buffers::count misaligned transfers at once, the others wait. No allocation after the start.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "sluice/base/error.h"
#include "sluice/device/file_device.h"
#include "sluice/device/file_seam.h"
#include "sluice/ioc/cancel_probe.h"

#include "block_ranges.h"
#include "bounce_buffers.h"

namespace sluice::detail {

// What a file asks of direct transfers, in bytes; powers of two.
struct direct_alignment {
  std::uint32_t memory = 0;
  std::uint32_t block = 0;  // of offset and length
};

// Finds it out: by statx, by the logical block size, or by trying. Errors: EOPNOTSUPP this file has no direct I/O.
[[nodiscard]] result<direct_alignment> learn_alignment(file_seam& system, int fd, const struct ::stat& about) noexcept;

struct direct_file {
  int fd = -1;            // stays its owner's
  std::uint64_t key = 0;  // the same for all that are the same file
  direct_alignment alignment;
  misaligned policy = misaligned::bounce;
};

class direct_io {
 public:
  // Look at made(). Requires, to write: the size of the file is a multiple of the block.
  direct_io(const direct_file& file, file_seam& system) noexcept;

  // Whether there was memory for the buffers.
  [[nodiscard]] bool made() const noexcept { return buffers_.made(); }

  [[nodiscard]] result<void> read(std::uint64_t offset, std::span<std::byte> into, cancel_probe probe) noexcept;
  // flags: of pwritev2.
  [[nodiscard]] result<void> write(std::uint64_t offset, std::span<const std::byte> from, int flags,
                                   cancel_probe probe) noexcept;
  // Whether a range is misaligned and that is to be refused.
  [[nodiscard]] bool refuses(std::uint64_t offset, std::uint64_t length) const noexcept;
  // The first block that a write of this range covers in part; none: it covers whole blocks.
  [[nodiscard]] std::optional<std::uint64_t> cut_block(std::uint64_t offset, std::uint64_t length) const noexcept;
  // Runs change() while it holds the blocks of a range, as parts if it covers one in part. Errors: ECANCELED; change's.
  template <class Change>
  [[nodiscard]] result<void> with_blocks(std::uint64_t offset, std::uint64_t length, cancel_probe probe,
                                         Change change) noexcept {
    block_ranges::hold mine(file_.key, offset / block(), (offset + length - 1) / block(),
                            cut_block(offset, length) ? change_kind::part : change_kind::whole);
    if (result<void> got = ranges().acquire(mine, probe); !got) {
      return got;
    }
    result<void> did = change();
    ranges().release(mine);
    return did;
  }

 private:
  // The process's: two devices on one file meet there.
  [[nodiscard]] static block_ranges& ranges() noexcept;

  [[nodiscard]] std::uint64_t block() const noexcept { return file_.alignment.block; }
  // How much from here may go straight; 0: none.
  [[nodiscard]] std::size_t straight(std::uint64_t offset, const std::byte* memory, std::size_t length) const noexcept;
  // How much of a range that cannot go straight from here goes through one buffer.
  [[nodiscard]] std::size_t bounced(std::uint64_t offset, const std::byte* memory, std::size_t length) const noexcept;
  // At least `need` of the bytes at an aligned offset.
  [[nodiscard]] result<void> fill(std::uint64_t offset, std::span<std::byte> into, std::size_t need,
                                  cancel_probe probe) noexcept;
  [[nodiscard]] result<void> drain(std::uint64_t offset, std::span<const std::byte> from, int flags,
                                   cancel_probe probe) noexcept;
  // How much of a write goes in one hold: to the end of a block that it covers in part, or whole blocks.
  [[nodiscard]] std::size_t step_of(std::uint64_t offset, std::size_t length) const noexcept;
  // Whole blocks, from any memory.
  [[nodiscard]] result<void> write_blocks(std::uint64_t offset, std::span<const std::byte> from, int flags,
                                          cancel_probe probe) noexcept;
  // A part of one block: reads it, puts the new bytes in, writes it.
  [[nodiscard]] result<void> rewrite(std::uint64_t offset, std::span<const std::byte> from, int flags,
                                     cancel_probe probe) noexcept;

  const direct_file file_;
  file_seam& system_;
  bounce_buffers buffers_;
};

}  // namespace sluice::detail
