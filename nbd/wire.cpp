#include "nbd/wire.h"

namespace sluice::nbd {

wire_error wire_error_of(int err) noexcept {
  switch (err) {
    case 0:
      return wire_error::none;
    case EPERM:
    case EACCES:
    case EROFS:
      return wire_error::eperm;
    case ENOMEM:
      return wire_error::enomem;
    case EINVAL:
      return wire_error::einval;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return wire_error::enospc;
    case EOVERFLOW:
      return wire_error::eoverflow;
    case EOPNOTSUPP:
      return wire_error::enotsup;
    case ESHUTDOWN:
    case ECANCELED:
    case EBADF:  // the export was closed under the request
      return wire_error::eshutdown;
    default:
      return wire_error::eio;
  }
}

request_header decode_request(std::span<const std::byte> bytes) noexcept {
  return {
      .magic = load_be<std::uint32_t>(bytes.data()),
      .flags = load_be<std::uint16_t>(bytes.data() + 4),
      .type = load_be<std::uint16_t>(bytes.data() + 6),
      .cookie = load_be<std::uint64_t>(bytes.data() + 8),
      .offset = load_be<std::uint64_t>(bytes.data() + 16),
      .length = load_be<std::uint32_t>(bytes.data() + 24),
  };
}

void encode_simple_reply(std::span<std::byte, simple_reply_bytes> to, std::uint64_t cookie, wire_error error) noexcept {
  store_be(to.data(), simple_reply_magic);
  store_be(to.data() + 4, static_cast<std::uint32_t>(error));
  store_be(to.data() + 8, cookie);
}

}  // namespace sluice::nbd
