// Goal: the coding of the NBD protocol's messages. Method: bytes written out by hand from the protocol document.
#include <array>

#include <gtest/gtest.h>

#include "nbd/wire.h"

namespace sluice::nbd {
namespace nbd_wire_test {
namespace {

constexpr std::byte operator""_b(unsigned long long value) {
  return static_cast<std::byte>(value);
}

TEST(NbdWire, DecodesARequestHeader) {
  constexpr std::array<std::byte, request_header_bytes> bytes{
      0x25_b, 0x60_b, 0x95_b, 0x13_b, 0x00_b, 0x03_b, 0x00_b, 0x06_b, 0x01_b, 0x02_b, 0x03_b, 0x04_b, 0x05_b, 0x06_b,
      0x07_b, 0x08_b, 0x00_b, 0x00_b, 0x00_b, 0x01_b, 0x00_b, 0x00_b, 0x02_b, 0x00_b, 0x00_b, 0x10_b, 0x00_b, 0x01_b};
  const request_header header = decode_request(bytes);
  EXPECT_EQ(header.magic, request_magic);
  EXPECT_EQ(header.flags, cmd_flag_fua | cmd_flag_no_hole);
  EXPECT_EQ(header.type, static_cast<std::uint16_t>(command::write_zeroes));
  EXPECT_EQ(header.cookie, 0x0102030405060708U);
  EXPECT_EQ(header.offset, 0x100000200U);
  EXPECT_EQ(header.length, 0x100001U);
}

TEST(NbdWire, EncodesASimpleReply) {
  std::array<std::byte, simple_reply_bytes> bytes{};
  encode_simple_reply(bytes, 0x1122334455667788U, wire_error::enospc);
  constexpr std::array<std::byte, simple_reply_bytes> expected{0x67_b, 0x44_b, 0x66_b, 0x98_b, 0x00_b, 0x00_b,
                                                               0x00_b, 0x1c_b, 0x11_b, 0x22_b, 0x33_b, 0x44_b,
                                                               0x55_b, 0x66_b, 0x77_b, 0x88_b};
  EXPECT_EQ(bytes, expected);
}

TEST(NbdWire, ErrnoBecomesOneOfTheProtocolsErrors) {
  EXPECT_EQ(wire_error_of(0), wire_error::none);
  EXPECT_EQ(wire_error_of(EROFS), wire_error::eperm);
  EXPECT_EQ(wire_error_of(EDQUOT), wire_error::enospc);
  EXPECT_EQ(wire_error_of(ENOTSUP), wire_error::enotsup);
  EXPECT_EQ(wire_error_of(ECANCELED), wire_error::eshutdown);
  EXPECT_EQ(wire_error_of(ENODEV), wire_error::eio);
}

}  // namespace
}  // namespace nbd_wire_test
}  // namespace sluice::nbd
