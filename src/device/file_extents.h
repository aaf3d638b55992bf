// file_extents: what lseek(2) tells about a range of a regular file: data and holes.
//
// SEEK_DATA and SEEK_HOLE move the offset of the descriptor, which nobody uses: all transfers name their own.
//
// Each of the two calls looks at one instant, and the file may change between them. What a call says of a stretch was so
// at that instant, so a stretch that is data all the time is told as data: a hole is told only for what SEEK_DATA itself
// passed over.
//
// Thread safety:  any thread, also on one descriptor.
// Blocking:       lseek may wait for the inode's lock or read metadata.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "sluice/base/error.h"
#include "sluice/device/device.h"
#include "sluice/device/file_seam.h"
#include "sluice/ioc/cancel_probe.h"

namespace sluice::detail {

// As device::extents.
[[nodiscard]] result<std::size_t> file_extents(file_seam& system, int fd, std::uint64_t offset, std::uint64_t length,
                                               std::span<extent> into, cancel_probe probe) noexcept;

}  // namespace sluice::detail
