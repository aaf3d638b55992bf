#include "nbd/handshake.h"

#include <algorithm>
#include <array>
#include <concepts>

#include "sluice/base/check.h"

namespace sluice::nbd {
namespace {

template <std::unsigned_integral Integer>
void append(std::vector<std::byte>& out, Integer value) {
  std::array<std::byte, sizeof value> raw;
  store_be(raw.data(), value);
  out.insert(out.end(), raw.begin(), raw.end());
}

void append(std::vector<std::byte>& out, std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// How many bytes the UTF-8 sequence that starts with `lead` has; 0 if none starts so.
unsigned sequence_bytes(unsigned lead) noexcept {
  if (lead < 0x80) {
    return lead == 0 ? 0 : 1;
  }
  if (lead >= 0xc2 && lead < 0xe0) {
    return 2;
  }
  if (lead >= 0xe0 && lead < 0xf0) {
    return 3;
  }
  return lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
}

// The second byte carries what a lead byte alone does not forbid: overlong forms, surrogates, code points past
// U+10FFFF.
bool second_fits(unsigned lead, unsigned second) noexcept {
  switch (lead) {
    case 0xe0:
      return second >= 0xa0;
    case 0xed:
      return second < 0xa0;
    case 0xf0:
      return second >= 0x90;
    case 0xf4:
      return second < 0x90;
    default:
      return true;
  }
}

}  // namespace

bool valid_string(std::string_view bytes) noexcept {
  for (std::size_t i = 0; i < bytes.size();) {
    const auto lead = static_cast<unsigned char>(bytes[i]);
    const unsigned length = sequence_bytes(lead);
    if (length == 0 || length > bytes.size() - i) {
      return false;
    }
    for (unsigned k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(bytes[i + k]);
      if ((next & 0xc0U) != 0x80 || (k == 1 && !second_fits(lead, next))) {
        return false;
      }
    }
    i += length;
  }
  return true;
}

handshake::handshake(const catalog& exports) : exports_(exports) {}

void handshake::greet(std::vector<std::byte>& out) const {
  append(out, init_magic);
  append(out, option_magic);
  append(out, static_cast<std::uint16_t>(handshake_fixed_newstyle | handshake_no_zeroes));
}

const ref<exported>& handshake::chosen() const {
  SLUICE_CHECK(chosen_ != nullptr, "chosen() is valid only after consume() returned transmission");
  return chosen_;
}

std::size_t handshake::wanted() const {
  switch (phase_) {
    case phase::client_flags:
      return sizeof(std::uint32_t);
    case phase::option_header:
      return option_header_bytes;
    case phase::option_data:
    case phase::skip:
      return option_bytes_;
  }
  return 0;
}

handshake::state handshake::consume(std::span<const std::byte>& in, std::vector<std::byte>& out) {
  for (;;) {
    if (phase_ == phase::skip) {
      const auto take = static_cast<std::uint32_t>(std::min<std::size_t>(option_bytes_, in.size()));
      in = in.subspan(take);
      option_bytes_ -= take;
      if (option_bytes_ != 0) {
        return state::negotiating;
      }
      reply_error(out, option_reply::err_too_big, "the option's data is too long");
      phase_ = phase::option_header;
    }
    const std::size_t take = std::min(wanted() - partial_.size(), in.size());
    partial_.insert(partial_.end(), in.begin(), in.begin() + static_cast<std::ptrdiff_t>(take));
    in = in.subspan(take);
    if (partial_.size() < wanted()) {
      return state::negotiating;
    }
    const state after = message(out);
    if (after != state::negotiating) {
      return after;
    }
  }
}

handshake::state handshake::message(std::vector<std::byte>& out) {
  state after = state::negotiating;
  switch (phase_) {
    case phase::client_flags:
      after = client_flags();
      break;
    case phase::option_header:
      after = option_header();
      break;
    case phase::option_data:
      phase_ = phase::option_header;
      after = option_data(out);
      break;
    case phase::skip:
      break;
  }
  partial_.clear();
  return after;
}

handshake::state handshake::client_flags() {
  const auto flags = load_be<std::uint32_t>(partial_.data());
  if ((flags & ~std::uint32_t{handshake_fixed_newstyle | handshake_no_zeroes}) != 0) {
    return state::dropped;  // "a server MUST drop a client that sets flags it does not know"
  }
  no_zeroes_ = (flags & handshake_no_zeroes) != 0;
  phase_ = phase::option_header;
  return state::negotiating;
}

handshake::state handshake::option_header() {
  const auto magic = load_be<std::uint64_t>(partial_.data());
  option_ = load_be<std::uint32_t>(partial_.data() + 8);
  option_bytes_ = load_be<std::uint32_t>(partial_.data() + 12);
  if (magic != option_magic || ++options_ > max_options || option_bytes_ > max_skip_bytes) {
    return state::dropped;
  }
  if (option_bytes_ > max_option_bytes && static_cast<option>(option_) == option::export_name) {
    return state::dropped;  // it has no error reply, and what follows would be taken for the answer
  }
  phase_ = option_bytes_ > max_option_bytes ? phase::skip : phase::option_data;
  return state::negotiating;
}

handshake::state handshake::option_data(std::vector<std::byte>& out) {
  const std::span<const std::byte> data(partial_);
  switch (static_cast<option>(option_)) {
    case option::export_name:
      return export_name(as_text(data), out);
    case option::abort:
      reply(out, option_reply::ack);
      return state::dropped;
    case option::list:
      list(data, out);
      return state::negotiating;
    case option::info:
    case option::go:
      return info_or_go(data, out);
    default:
      reply_error(out, option_reply::err_unsup, "this server does not know the option");
      return state::negotiating;
  }
}

handshake::state handshake::export_name(std::string_view name, std::vector<std::byte>& out) {
  // This option has no error reply: a name that is not served ends the connection.
  chosen_ = exports_.find(name);
  if (!chosen_) {
    return state::dropped;
  }
  append(out, chosen_->size());
  append(out, chosen_->flags());
  if (!no_zeroes_) {
    out.resize(out.size() + export_name_padding_bytes);
  }
  return state::transmission;
}

void handshake::list(std::span<const std::byte> data, std::vector<std::byte>& out) const {
  if (!data.empty()) {
    reply_error(out, option_reply::err_invalid, "LIST takes no data");
    return;
  }
  for (const ref<exported>& entry : exports_.entries()) {
    std::vector<std::byte> item;
    append(item, static_cast<std::uint32_t>(entry->name().size()));
    append(item, entry->name());
    append(item, entry->description());
    reply(out, option_reply::server, item);
  }
  reply(out, option_reply::ack);
}

handshake::state handshake::info_or_go(std::span<const std::byte> data, std::vector<std::byte>& out) {
  constexpr std::size_t fixed_bytes = sizeof(std::uint32_t) + sizeof(std::uint16_t);
  const std::size_t name_bytes = data.size() < fixed_bytes ? 0 : load_be<std::uint32_t>(data.data());
  if (data.size() < fixed_bytes || name_bytes > data.size() - fixed_bytes) {
    reply_error(out, option_reply::err_invalid, "the option's lengths do not fit its data");
    return state::negotiating;
  }
  const std::string_view name = as_text(data.subspan(sizeof(std::uint32_t), name_bytes));
  const std::span<const std::byte> rest = data.subspan(sizeof(std::uint32_t) + name_bytes);
  const std::span<const std::byte> infos = rest.subspan(sizeof(std::uint16_t));
  if (infos.size() != load_be<std::uint16_t>(rest.data()) * sizeof(std::uint16_t)) {
    reply_error(out, option_reply::err_invalid, "the number of information requests does not fit the data");
    return state::negotiating;
  }
  if (name.size() > max_string_bytes || !valid_string(name)) {
    reply_error(out, option_reply::err_invalid, "an export name is UTF-8 without NUL, at most 4096 bytes");
    return state::negotiating;
  }
  const ref<exported> target = exports_.find(name);
  if (!target) {
    reply_error(out, option_reply::err_unknown, "no export has this name");
    return state::negotiating;
  }
  send_infos(*target, infos, out);
  reply(out, option_reply::ack);
  if (static_cast<option>(option_) == option::info) {
    return state::negotiating;
  }
  chosen_ = target;
  return state::transmission;
}

void handshake::send_infos(const exported& target, std::span<const std::byte> wanted_infos,
                           std::vector<std::byte>& out) const {
  std::vector<std::byte> item;
  append(item, static_cast<std::uint16_t>(info::export_size));
  append(item, target.size());
  append(item, target.flags());
  reply(out, option_reply::info, item);

  // Each kind once, however often it was asked for: the reply is bounded by us, not by the client.
  std::array<bool, 4> asked{};
  for (std::size_t at = 0; at < wanted_infos.size(); at += sizeof(std::uint16_t)) {
    const auto kind = load_be<std::uint16_t>(wanted_infos.data() + at);
    if (kind < asked.size()) {
      asked.at(kind) = true;
    }
  }
  for (const auto& [kind, text] :
       {std::pair{info::name, &target.name()}, std::pair{info::description, &target.description()}}) {
    if (asked.at(static_cast<std::size_t>(kind)) && (kind == info::name || !text->empty())) {
      item.clear();
      append(item, static_cast<std::uint16_t>(kind));
      append(item, *text);
      reply(out, option_reply::info, item);
    }
  }
  if (asked.at(static_cast<std::size_t>(info::block_size))) {
    item.clear();
    append(item, static_cast<std::uint16_t>(info::block_size));
    append(item, minimum_block_bytes);
    append(item, preferred_block_bytes);
    append(item, max_payload_bytes);
    reply(out, option_reply::info, item);
  }
}

void handshake::reply(std::vector<std::byte>& out, option_reply type, std::span<const std::byte> data) const {
  append(out, option_reply_magic);
  append(out, option_);
  append(out, static_cast<std::uint32_t>(type));
  append(out, static_cast<std::uint32_t>(data.size()));
  out.insert(out.end(), data.begin(), data.end());
}

void handshake::reply_error(std::vector<std::byte>& out, option_reply type, std::string_view message) const {
  reply(out, type, std::as_bytes(std::span(message)));
}

}  // namespace sluice::nbd
