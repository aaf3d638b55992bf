// wire: the numbers of the NBD protocol and the big-endian coding of its messages.
//
// Source: the NBD protocol document (doc/proto.md of NetworkBlockDevice/nbd, public domain). Names follow it without
// the NBD_ prefix. Only what is on the wire is here; what a server does with it is in handshake and connection.
#pragma once

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace sluice::nbd {

// Limits. The protocol bounds strings; the rest are this server's.
inline constexpr std::size_t max_string_bytes = 4096;
inline constexpr std::uint32_t max_payload_bytes = 64U << 20U;  // clients in the field send 48 MiB in one request
inline constexpr std::uint32_t preferred_block_bytes = 4096;
inline constexpr std::uint32_t minimum_block_bytes = 1;

// Handshake.
inline constexpr std::uint64_t init_magic = 0x4e42444d41474943;    // "NBDMAGIC"
inline constexpr std::uint64_t option_magic = 0x49484156454f5054;  // "IHAVEOPT"
inline constexpr std::uint64_t option_reply_magic = 0x3e889045565a9;
inline constexpr std::uint16_t handshake_fixed_newstyle = 1U << 0U;
inline constexpr std::uint16_t handshake_no_zeroes = 1U << 1U;
inline constexpr std::size_t option_header_bytes = 16;
inline constexpr std::size_t option_reply_header_bytes = 20;
inline constexpr std::size_t export_name_padding_bytes = 124;

enum class option : std::uint32_t {
  export_name = 1,
  abort = 2,
  list = 3,
  starttls = 5,
  info = 6,
  go = 7,
  structured_reply = 8,
  list_meta_context = 9,
  set_meta_context = 10,
  extended_headers = 11,
};

enum class option_reply : std::uint32_t {
  ack = 1,
  server = 2,
  info = 3,
  meta_context = 4,
  err_unsup = (1U << 31U) + 1,
  err_policy = (1U << 31U) + 2,
  err_invalid = (1U << 31U) + 3,
  err_platform = (1U << 31U) + 4,
  err_tls_reqd = (1U << 31U) + 5,
  err_unknown = (1U << 31U) + 6,
  err_shutdown = (1U << 31U) + 7,
  err_block_size_reqd = (1U << 31U) + 8,
  err_too_big = (1U << 31U) + 9,
  err_ext_header_reqd = (1U << 31U) + 10,
};

enum class info : std::uint16_t { export_size = 0, name = 1, description = 2, block_size = 3 };

// Transmission flags of an export.
inline constexpr std::uint16_t flag_has_flags = 1U << 0U;
inline constexpr std::uint16_t flag_read_only = 1U << 1U;
inline constexpr std::uint16_t flag_send_flush = 1U << 2U;
inline constexpr std::uint16_t flag_send_fua = 1U << 3U;
inline constexpr std::uint16_t flag_rotational = 1U << 4U;
inline constexpr std::uint16_t flag_send_trim = 1U << 5U;
inline constexpr std::uint16_t flag_send_write_zeroes = 1U << 6U;
inline constexpr std::uint16_t flag_send_df = 1U << 7U;
inline constexpr std::uint16_t flag_can_multi_conn = 1U << 8U;
inline constexpr std::uint16_t flag_send_cache = 1U << 10U;
inline constexpr std::uint16_t flag_send_fast_zero = 1U << 11U;

// Requests.
inline constexpr std::uint32_t request_magic = 0x25609513;
inline constexpr std::uint32_t simple_reply_magic = 0x67446698;
inline constexpr std::size_t request_header_bytes = 28;
inline constexpr std::size_t simple_reply_bytes = 16;

enum class command : std::uint16_t {
  read = 0,
  write = 1,
  disc = 2,
  flush = 3,
  trim = 4,
  cache = 5,
  write_zeroes = 6,
  block_status = 7,
  resize = 8,
};

inline constexpr std::uint16_t cmd_flag_fua = 1U << 0U;
inline constexpr std::uint16_t cmd_flag_no_hole = 1U << 1U;
inline constexpr std::uint16_t cmd_flag_df = 1U << 2U;
inline constexpr std::uint16_t cmd_flag_req_one = 1U << 3U;
inline constexpr std::uint16_t cmd_flag_fast_zero = 1U << 4U;

// Error values of replies; the protocol fixes them, whatever errno is on this machine.
enum class wire_error : std::uint32_t {
  none = 0,
  eperm = 1,
  eio = 5,
  enomem = 12,
  einval = 22,
  enospc = 28,
  eoverflow = 75,
  enotsup = 95,
  eshutdown = 108,
};

// The wire error of a positive errno. What the protocol has no word for is EIO.
[[nodiscard]] wire_error wire_error_of(int err) noexcept;

// A request header, decoded.
struct request_header {
  std::uint32_t magic = 0;
  std::uint16_t flags = 0;
  std::uint16_t type = 0;
  std::uint64_t cookie = 0;
  std::uint64_t offset = 0;
  std::uint32_t length = 0;
};

// Big-endian integers at an address. Requires: room for the type there.
template <class Integer>
[[nodiscard]] Integer load_be(const std::byte* from) noexcept {
  static_assert(std::is_unsigned_v<Integer> && std::endian::native == std::endian::little);
  Integer raw;
  std::memcpy(&raw, from, sizeof raw);
  if constexpr (sizeof raw == 2) {
    return __builtin_bswap16(raw);
  } else if constexpr (sizeof raw == 4) {
    return __builtin_bswap32(raw);
  } else {
    return __builtin_bswap64(raw);
  }
}

template <class Integer>
void store_be(std::byte* to, Integer value) noexcept {
  std::byte raw[sizeof value];
  std::memcpy(raw, &value, sizeof value);
  const Integer swapped = load_be<Integer>(raw);
  std::memcpy(to, &swapped, sizeof swapped);
}

// Requires: bytes.size() >= request_header_bytes. Checks nothing: the magic is the caller's to judge.
[[nodiscard]] request_header decode_request(std::span<const std::byte> bytes) noexcept;

// Writes a simple reply's 16 bytes.
void encode_simple_reply(std::span<std::byte, simple_reply_bytes> to, std::uint64_t cookie, wire_error error) noexcept;

}  // namespace sluice::nbd
