// io_request: one read, write, flush, trim, write-zeroes or cache hint on an open file: a request with a range.
//
// The caller fills the public members, submits it through open_file::submit and gets its answer in one of two ways:
//   issued::completed   it was done inside the call: result() holds, done is not called
//   issued::queued      done(*this) is called exactly once, from a worker or from a thread that submits or completes
//                       another request or cancels this one; result() holds from then on
// A submit that fails leaves the request with the caller, and done is not called.
//
//   struct my_read : io_request { connection* from; std::uint64_t cookie; };     // derive to carry what done needs
//   void finish(io_request& r) noexcept { auto& mine = static_cast<my_read&>(r); … }
//
// From submit until the answer the request and its buffer belong to the way; in done() they are the caller's again:
// done may free the request or submit it anew.
//
// Ownership:      the caller, except between a successful submit and its answer.
// Thread safety:  one thread at a time. Filling it happens before running it; running it happens before done.
// Blocking:       done() runs on a worker or on somebody's reactor: it must not block, nor wait for a queue to drain.
// Ordering:       requests in flight at once have no order among each other, also when their ranges overlap.
// Limits:         length of read and write ≤ device::max_transfer; of the others the size of the device.
// Cost:           no allocation. 184 bytes.
// Invariants:     W1 C8 D2
#pragma once

#include <cstddef>
#include <cstdint>

#include "sluice/ioc/request.h"

namespace sluice {

class open_file;
class open_info;

enum class io_op : std::uint8_t { read, write, flush, trim, write_zeroes, cache };

// A set of wishes. Those that do not apply to an operation are refused with EINVAL at submit.
enum class io_flags : std::uint8_t {
  none = 0,
  fua = 1,        // write, trim, write_zeroes: stable before the answer
  no_hole = 2,    // write_zeroes: the range stays allocated
  fast_zero = 4,  // write_zeroes: ENOTSUP at once unless it is faster than writing zeros
  no_inline = 8,  // any: do not try inside submit, go to a worker
};
[[nodiscard]] constexpr io_flags operator|(io_flags a, io_flags b) noexcept {
  return static_cast<io_flags>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
// True if `set` has any of `asked`.
[[nodiscard]] constexpr bool has(io_flags set, io_flags asked) noexcept {
  return (static_cast<unsigned>(set) & static_cast<unsigned>(asked)) != 0;
}

struct io_request : request {
  io_op op = io_op::read;
  io_flags flags = io_flags::none;
  std::uint64_t offset = 0;  // bytes; flush ignores it
  std::uint64_t length = 0;  // bytes; flush ignores it
  // read: `length` bytes to fill; write: `length` bytes to take from, not changed. Other operations ignore it.
  std::byte* buffer = nullptr;
  // Called for issued::queued only. Never null at submit.
  void (*done)(io_request&) noexcept = nullptr;

  // Bytes moved (read, write: always `length`; others: 0), or a negative errno. Valid once answered.
  using request::result;

 private:
  friend class open_file;

  open_file* file_ = nullptr;
  // What the device gave for it. Null: it has not begun, or its device does not see requests.
  open_info* begun_ = nullptr;
};

}  // namespace sluice
