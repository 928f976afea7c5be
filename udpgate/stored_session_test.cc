#include "udpgate/stored_session.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

using ::testing::HasSubstr;

SocketAddress Address(absl::string_view text) {
  return SocketAddress::Parse(text).value();
}

StoredSession Example() {
  StoredSession session;
  session.client = Address("203.0.113.7:54321");
  session.local = Address("198.51.100.1:19132");
  session.backend = Address("10.0.0.5:19132");
  session.relay = Address("10.0.0.1:40001");
  session.label = "lobby-3.internal:19132";
  session.tag_key = "k";
  session.tag_text = "12345";
  session.gateway_id = "gate-1";
  session.token = {0x0123456789abcdef, 42};
  session.since = absl::FromUnixMillis(1'700'000'000'123);
  return session;
}

constexpr char kExampleText[] =
    "1 0123456789abcdef000000000000002a gate-1 1700000000123 "
    "203.0.113.7:54321 198.51.100.1:19132 10.0.0.5:19132 10.0.0.1:40001 "
    "lobby-3.internal:19132 k 12345";

void ExpectEqual(const StoredSession& a, const StoredSession& b) {
  EXPECT_EQ(a.client, b.client);
  EXPECT_EQ(a.local, b.local);
  EXPECT_EQ(a.backend, b.backend);
  EXPECT_EQ(a.relay, b.relay);
  EXPECT_EQ(a.label, b.label);
  EXPECT_EQ(a.tag_key, b.tag_key);
  EXPECT_EQ(a.tag_text, b.tag_text);
  EXPECT_EQ(a.gateway_id, b.gateway_id);
  EXPECT_EQ(a.token, b.token);
  EXPECT_EQ(a.since, b.since);
}

StoredSession ThroughText(const StoredSession& session) {
  const std::string text = EncodeStoredSession(session);
  EXPECT_LE(text.size(), kStoredSessionBytesMax);
  const absl::StatusOr<StoredSession> decoded = DecodeStoredSession(text);
  EXPECT_TRUE(decoded.ok()) << decoded.status();
  return decoded.value_or(StoredSession());
}

// The example with one field replaced.
std::string WithField(size_t index, absl::string_view value) {
  std::vector<std::string> fields = absl::StrSplit(kExampleText, ' ');
  fields[index] = std::string(value);
  return absl::StrJoin(fields, " ");
}

TEST(StoredSessionTest, TheTextIsTheDocumentedOne) {
  EXPECT_EQ(EncodeStoredSession(Example()), kExampleText);
}

TEST(StoredSessionTest, TheTokenHasItsPlace) {
  EXPECT_EQ(EncodeStoredSession(Example()).substr(kSessionTokenOffset,
                                                  kSessionTokenDigits),
            SessionTokenText(Example().token));
}

TEST(StoredSessionTest, WhatIsEncodedIsDecoded) {
  ExpectEqual(ThroughText(Example()), Example());
}

TEST(StoredSessionTest, EmptyFieldsAndOddBytesSurvive) {
  StoredSession session = Example();
  session.relay = SocketAddress();
  session.label = "-";
  session.tag_key = std::string("\0 %\xff\n", 5);
  session.tag_text = "";
  ExpectEqual(ThroughText(session), session);
  session.label = "a b%2d-ü";
  session.tag_key = "";
  session.tag_text = "-";
  session.gateway_id = "50%";
  ExpectEqual(ThroughText(session), session);
}

TEST(StoredSessionTest, Ipv6Survives) {
  StoredSession session = Example();
  session.client = Address("[2001:db8::1]:1");
  session.local = Address("[fe80::1%lo]:19132");
  session.backend = Address("[::1]:65535");
  session.relay = Address("[::1]:2");
  ExpectEqual(ThroughText(session), session);
}

TEST(StoredSessionTest, TheLongestRecordFits) {
  StoredSession session = Example();
  const std::string ip = "[fe80:1111:2222:3333:4444:5555:6666:7777%lo]:65535";
  session.client = session.local = session.backend = session.relay =
      Address(ip);
  session.gateway_id = std::string(kGatewayIdBytesMax, 'g');
  session.label = std::string(255, 'l');
  ExpectEqual(ThroughText(session), [&] {
    StoredSession expected = session;
    expected.tag_key = expected.tag_text = expected.label = "";
    return expected;
  }());
}

TEST(StoredSessionTest, TheKeyOfTheTagIsLeftOutFirstAndTheLabelLast) {
  StoredSession session = Example();
  session.tag_key = std::string(240, 'k');
  session.tag_text = std::string(20, 't');
  StoredSession decoded = ThroughText(session);
  EXPECT_EQ(decoded.tag_key, "");
  EXPECT_EQ(decoded.tag_text, session.tag_text);
  session.tag_text = std::string(256, 't');
  decoded = ThroughText(session);
  EXPECT_EQ(decoded.tag_text, "");
  EXPECT_EQ(decoded.label, session.label);
}

TEST(StoredSessionTest, AnotherVersionHasAnErrorOfItsOwn) {
  const absl::Status status = DecodeStoredSession(WithField(0, "2")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(status.message(), HasSubstr("version 2"));
}

TEST(StoredSessionTest, WhatIsWrongIsNamed) {
  const struct {
    size_t field;
    std::string value;
    absl::string_view named;
  } kCases[] = {
      {0, "x", "is no record"},
      {0, "", "is no record"},
      {0, "99999999999", "is no record"},
      {1, "0123456789ABCDEF000000000000002a", "token"},
      {1, "0123456789abcdef00000000000002a", "token"},
      {2, "-", "gateway id"},
      {2, "a%20b", "gateway id"},
      {2, "%", "gateway id"},
      {2, std::string(65, 'g'), "gateway id"},
      {3, "x", "begin"},
      {3, "-1", "begin"},
      {3, "253402300799001", "begin"},
      {4, "-", "client"},
      {4, "x", "client"},
      {4, "203.0.113.7:0", "client"},
      {4, "224.0.0.1:5", "client"},
      {4, "0.0.0.0:5", "client"},
      {5, "[::1]:19132", "local address"},
      {5, "0.0.0.0:19132", "local address"},
      {6, "255.255.255.255:1", "backend"},
      {6, "10.0.0.5:0", "backend"},
      {7, "[::1]:2", "relay address"},
      {7, "10.0.0.1:0", "relay address"},
      {8, "a%0ab", "label"},
      {8, "a%0", "label"},
      {8, "", "label"},
      {9, "a%4", "tag key"},
      {9, "a%AF", "tag key"},
      {10, "%00", "tag text"},
      {10, "a b", "fields"},
  };
  for (const auto& wrong : kCases) {
    const absl::Status status =
        DecodeStoredSession(WithField(wrong.field, wrong.value)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument)
        << wrong.field << " " << wrong.value;
    EXPECT_THAT(status.message(), HasSubstr(wrong.named)) << wrong.value;
  }
}

TEST(StoredSessionTest, ATextThatIsTooLongIsRejected) {
  const absl::Status status =
      DecodeStoredSession(WithField(8, std::string(400, 'l'))).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("more than 400 bytes"));
}

TEST(StoredSessionTest, EveryPrefixIsRejectedOrAnotherRecord) {
  for (size_t size = 0; size < sizeof(kExampleText) - 1; ++size) {
    const absl::string_view prefix(kExampleText, size);
    const absl::StatusOr<StoredSession> decoded = DecodeStoredSession(prefix);
    if (decoded.ok()) {
      EXPECT_EQ(EncodeStoredSession(*decoded), prefix);
    }
  }
}

TEST(StoredSessionTest, ATimeBefore1970IsWrittenAs1970) {
  StoredSession session = Example();
  session.since = absl::InfinitePast();
  EXPECT_EQ(ThroughText(session).since, absl::UnixEpoch());
}

}  // namespace
}  // namespace test
}  // namespace udpgate
