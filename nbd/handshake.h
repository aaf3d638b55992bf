// handshake: the fixed newstyle negotiation as a pure machine: bytes in, bytes out, and an export chosen or the client
// dropped.
//
// It knows no socket and no clock, so that tests and fuzzers feed it directly. The connection owns it until
// transmission begins. Source: doc/proto.md, "Fixed newstyle negotiation" and "Option types".
//
// Ownership:      owns the bytes of an unfinished message; the catalog must outlive it.
// Thread safety:  one thread at a time.
// Blocking:       never.
// Errors:         none: a client's mistake is an error reply, or `dropped` where the stream cannot go on.
// Limits:         max_options per handshake; an option's data up to max_option_bytes is read, up to max_skip_bytes is
//                 skipped and refused as TOO_BIG, beyond that the client is dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nbd/catalog.h"
#include "nbd/wire.h"

namespace sluice::nbd {

class handshake {
 public:
  enum class state {
    negotiating,   // needs more bytes
    transmission,  // the export is chosen; bytes that consume() left belong to transmission
    dropped,       // send what is in the output, then close
  };

  static constexpr unsigned max_options = 256;
  static constexpr std::uint32_t max_option_bytes = 16384;
  static constexpr std::uint32_t max_skip_bytes = 1U << 20U;

  explicit handshake(const catalog& exports);

  // Appends the server's greeting. Call once, first.
  void greet(std::vector<std::byte>& out) const;

  // Takes bytes from the front of `in` until it is empty or the negotiation is over; appends replies to `out`.
  // The number of reply bytes for one message is bounded by the catalog's size (LIST).
  state consume(std::span<const std::byte>& in, std::vector<std::byte>& out);

  // The export that EXPORT_NAME or GO chose. Requires: consume() returned transmission.
  [[nodiscard]] const ref<nbd::exported>& chosen() const;

 private:
  enum class phase { client_flags, option_header, option_data, skip };

  [[nodiscard]] std::size_t wanted() const;
  state message(std::vector<std::byte>& out);
  state client_flags();
  state option_header();
  state option_data(std::vector<std::byte>& out);
  state export_name(std::string_view name, std::vector<std::byte>& out);
  void list(std::span<const std::byte> data, std::vector<std::byte>& out) const;
  state info_or_go(std::span<const std::byte> data, std::vector<std::byte>& out);
  void reply(std::vector<std::byte>& out, option_reply type, std::span<const std::byte> data = {}) const;
  void reply_error(std::vector<std::byte>& out, option_reply type, std::string_view message) const;
  void send_infos(const exported& target, std::span<const std::byte> wanted_infos, std::vector<std::byte>& out) const;

  const catalog& exports_;
  phase phase_ = phase::client_flags;
  bool no_zeroes_ = false;
  unsigned options_ = 0;
  std::uint32_t option_ = 0;
  std::uint32_t option_bytes_ = 0;
  std::vector<std::byte> partial_;
  ref<exported> chosen_;
};

// True if the bytes are UTF-8 without NUL (RFC 3629: no surrogates, no overlong forms), as the protocol wants of
// strings.
[[nodiscard]] bool valid_string(std::string_view bytes) noexcept;

}  // namespace sluice::nbd
