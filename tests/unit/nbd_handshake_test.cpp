// Goal: the negotiation answers as the protocol document says, whatever the client sends and however it is cut into
// pieces. Method: the machine alone, fed with bytes; replies are parsed back.
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/device/memory_device.h"
#include "sluice/wq/io_wq.h"

#include "nbd/handshake.h"

namespace sluice::nbd {
namespace nbd_handshake_test {
namespace {

using bytes = std::vector<std::byte>;

template <class Integer>
void put(bytes& to, Integer value) {
  to.resize(to.size() + sizeof value);
  store_be(to.data() + to.size() - sizeof value, value);
}

void put(bytes& to, std::string_view text) {
  for (const char c : text) {
    to.push_back(static_cast<std::byte>(c));
  }
}

bytes client_flags(std::uint32_t flags = handshake_fixed_newstyle | handshake_no_zeroes) {
  bytes out;
  put(out, flags);
  return out;
}

void add_option(bytes& to, option type, const bytes& data) {
  put(to, option_magic);
  put(to, static_cast<std::uint32_t>(type));
  put(to, static_cast<std::uint32_t>(data.size()));
  to.insert(to.end(), data.begin(), data.end());
}

bytes info_data(std::string_view name, const std::vector<info>& infos = {}) {
  bytes out;
  put(out, static_cast<std::uint32_t>(name.size()));
  put(out, name);
  put(out, static_cast<std::uint16_t>(infos.size()));
  for (const info each : infos) {
    put(out, static_cast<std::uint16_t>(each));
  }
  return out;
}

struct reply {
  std::uint32_t option;
  option_reply type;
  bytes data;
};

std::vector<reply> parse_replies(const bytes& from) {
  std::vector<reply> out;
  for (std::size_t at = 0; at + option_reply_header_bytes <= from.size();) {
    EXPECT_EQ(load_be<std::uint64_t>(from.data() + at), option_reply_magic);
    const auto length = load_be<std::uint32_t>(from.data() + at + 16);
    const auto begin = from.begin() + static_cast<std::ptrdiff_t>(at + option_reply_header_bytes);
    out.push_back({load_be<std::uint32_t>(from.data() + at + 8),
                   static_cast<option_reply>(load_be<std::uint32_t>(from.data() + at + 12)),
                   bytes(begin, begin + length)});
    at += option_reply_header_bytes + length;
  }
  return out;
}

class NbdHandshake : public testing::Test {
 protected:
  void SetUp() override {
    wq_ = std::move(io_wq::create().value());
    for (const auto& [name, size] : {std::pair{"one", 4096U}, std::pair{"two", 1U << 20U}}) {
      exports_.add(make_ref<exported>(name, "a test", memory_device::create(size).value(),
                                      request_queue::create(*wq_).value(), access_mode::read_write));
    }
    machine_ = std::make_unique<handshake>(exports_);
  }

  handshake::state feed(const bytes& all) {
    std::span<const std::byte> in(all);
    const handshake::state after = machine_->consume(in, out_);
    left_ = in.size();
    return after;
  }

  ref<io_wq> wq_;
  catalog exports_;
  std::unique_ptr<handshake> machine_;
  bytes out_;
  std::size_t left_ = 0;
};

TEST_F(NbdHandshake, GreetsWithBothFlags) {
  machine_->greet(out_);
  ASSERT_EQ(out_.size(), 18U);
  EXPECT_EQ(load_be<std::uint64_t>(out_.data()), init_magic);
  EXPECT_EQ(load_be<std::uint64_t>(out_.data() + 8), option_magic);
  EXPECT_EQ(load_be<std::uint16_t>(out_.data() + 16), handshake_fixed_newstyle | handshake_no_zeroes);
}

TEST_F(NbdHandshake, UnknownClientFlagsDropTheClient) {
  EXPECT_EQ(feed(client_flags(1U << 5U)), handshake::state::dropped);
}

TEST_F(NbdHandshake, GoChoosesAnExportAndLeavesTheRest) {
  bytes in = client_flags();
  add_option(in, option::go, info_data("two"));
  put(in, std::string_view("next"));
  EXPECT_EQ(feed(in), handshake::state::transmission);
  EXPECT_EQ(left_, 4U);
  EXPECT_EQ(machine_->chosen()->name(), "two");
  const auto replies = parse_replies(out_);
  ASSERT_EQ(replies.size(), 2U);
  EXPECT_EQ(replies[0].type, option_reply::info);
  ASSERT_EQ(replies[0].data.size(), 12U);
  EXPECT_EQ(load_be<std::uint64_t>(replies[0].data.data() + 2), 1U << 20U);
  EXPECT_EQ(replies[1].type, option_reply::ack);
}

TEST_F(NbdHandshake, TheEmptyNameIsTheFirstExport) {
  bytes in = client_flags();
  add_option(in, option::go, info_data(""));
  EXPECT_EQ(feed(in), handshake::state::transmission);
  EXPECT_EQ(machine_->chosen()->name(), "one");
}

TEST_F(NbdHandshake, EveryCutGivesTheSameAnswers) {
  bytes in = client_flags();
  add_option(in, option::list, {});
  add_option(in, option::info, info_data("none", {info::name}));
  add_option(in, option::go, info_data("one", {info::name, info::description, info::block_size, info::name}));
  ASSERT_EQ(feed(in), handshake::state::transmission);
  const bytes whole = out_;
  const auto replies = parse_replies(whole);
  ASSERT_EQ(replies.size(), 9U);  // 2 × SERVER, ACK, UNKNOWN, EXPORT, NAME, DESCRIPTION, BLOCK_SIZE, ACK
  EXPECT_EQ(replies[3].type, option_reply::err_unknown);

  handshake drip(exports_);
  bytes dripped;
  handshake::state after = handshake::state::negotiating;
  for (const std::byte& one : in) {
    ASSERT_EQ(after, handshake::state::negotiating);
    std::span<const std::byte> piece(&one, 1);
    after = drip.consume(piece, dripped);
  }
  EXPECT_EQ(after, handshake::state::transmission);
  EXPECT_EQ(dripped, whole);
}

TEST_F(NbdHandshake, ExportNamePadsUnlessToldNotTo) {
  bytes name;
  put(name, std::string_view("one"));
  bytes in = client_flags(handshake_fixed_newstyle);
  add_option(in, option::export_name, name);
  EXPECT_EQ(feed(in), handshake::state::transmission);
  EXPECT_EQ(out_.size(), 10 + export_name_padding_bytes);

  machine_ = std::make_unique<handshake>(exports_);
  out_.clear();
  in = client_flags();
  add_option(in, option::export_name, name);
  EXPECT_EQ(feed(in), handshake::state::transmission);
  EXPECT_EQ(out_.size(), 10U);
}

TEST_F(NbdHandshake, ExportNameThatIsNotServedDrops) {
  bytes name;
  put(name, std::string_view("none"));
  bytes in = client_flags();
  add_option(in, option::export_name, name);
  EXPECT_EQ(feed(in), handshake::state::dropped);
}

TEST_F(NbdHandshake, AbortIsAcknowledgedThenDropped) {
  bytes in = client_flags();
  add_option(in, option::abort, {});
  EXPECT_EQ(feed(in), handshake::state::dropped);
  ASSERT_EQ(parse_replies(out_).size(), 1U);
  EXPECT_EQ(parse_replies(out_)[0].type, option_reply::ack);
}

TEST_F(NbdHandshake, WhatItDoesNotKnowIsUnsup) {
  bytes in = client_flags();
  for (const option each : {option::starttls, option::structured_reply, option::set_meta_context,
                            option::extended_headers, static_cast<option>(4242)}) {
    add_option(in, each, {});
  }
  EXPECT_EQ(feed(in), handshake::state::negotiating);
  const auto replies = parse_replies(out_);
  ASSERT_EQ(replies.size(), 5U);
  for (const reply& each : replies) {
    EXPECT_EQ(each.type, option_reply::err_unsup);
  }
  EXPECT_EQ(replies[4].option, 4242U);
}

TEST_F(NbdHandshake, BadLengthsAndNamesAreInvalidAndItGoesOn) {
  bytes short_data;
  put(short_data, std::uint32_t{1});
  bytes name_too_long_for_data;
  put(name_too_long_for_data, std::uint32_t{0xffffffff});
  put(name_too_long_for_data, std::uint16_t{0});
  bytes infos_missing = info_data("one");
  infos_missing.back() = std::byte{3};
  bytes in = client_flags();
  for (const bytes& data :
       {short_data, name_too_long_for_data, infos_missing, info_data(std::string_view("a\0b", 3)),
        info_data("\xff\xfe"), info_data("\xed\xa0\x80"), info_data(std::string(max_string_bytes + 1, 'x'))}) {
    add_option(in, option::go, data);
  }
  add_option(in, option::list, short_data);
  EXPECT_EQ(feed(in), handshake::state::negotiating);
  const auto replies = parse_replies(out_);
  ASSERT_EQ(replies.size(), 8U);
  for (const reply& each : replies) {
    EXPECT_EQ(each.type, option_reply::err_invalid);
  }
}

TEST_F(NbdHandshake, TooMuchDataIsSkippedAndRefused) {
  bytes in = client_flags();
  add_option(in, option::info, bytes(handshake::max_option_bytes + 1));
  add_option(in, option::list, {});
  EXPECT_EQ(feed(in), handshake::state::negotiating);
  const auto replies = parse_replies(out_);
  ASSERT_EQ(replies.size(), 4U);
  EXPECT_EQ(replies[0].type, option_reply::err_too_big);
  EXPECT_EQ(replies[3].type, option_reply::ack);
}

TEST_F(NbdHandshake, FarTooMuchDataDrops) {
  bytes in = client_flags();
  put(in, option_magic);
  put(in, static_cast<std::uint32_t>(option::info));
  put(in, handshake::max_skip_bytes + 1);
  EXPECT_EQ(feed(in), handshake::state::dropped);
}

TEST_F(NbdHandshake, OptionsHaveALimit) {
  bytes in = client_flags();
  for (unsigned i = 0; i < handshake::max_options; ++i) {
    add_option(in, option::starttls, {});
  }
  EXPECT_EQ(feed(in), handshake::state::negotiating);
  in.clear();
  add_option(in, option::starttls, {});
  EXPECT_EQ(feed(in), handshake::state::dropped);
}

TEST_F(NbdHandshake, AWrongMagicDrops) {
  bytes in = client_flags();
  put(in, option_magic + 1);
  put(in, std::uint64_t{0});
  EXPECT_EQ(feed(in), handshake::state::dropped);
}

TEST_F(NbdHandshake, ANameIsUsedOnce) {
  EXPECT_THROW(exports_.add(make_ref<exported>("one", "", memory_device::create(4096).value(),
                                               request_queue::create(*wq_).value(), access_mode::read_only)),
               setup_error);
}

TEST(NbdStrings, Utf8WithoutNul) {
  for (const std::string_view good :
       {"", "plain", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(valid_string(good));
  }
  for (const std::string_view bad :
       {std::string_view("\0", 1), std::string_view("\x80"), std::string_view("\xc0\xaf"),
        std::string_view("\xe0\x80\x80"), std::string_view("\xed\xa0\x80"), std::string_view("\xf4\x90\x80\x80"),
        std::string_view("\xe2\x82"), std::string_view("\xf0\x8f\xbf\xbf"), std::string_view("\xf5\x80\x80\x80")}) {
    EXPECT_FALSE(valid_string(bad));
  }
}

}  // namespace
}  // namespace nbd_handshake_test
}  // namespace sluice::nbd
