#include "udpgate/redis/internal/session_keys.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "udpgate/stored_session.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

TEST(SessionKeysTest, IdsAreEscapedAsInARecord) {
  for (const char* id : {"a", "-", "--", "50%", "%25", "%2d", "a:{b}@c"}) {
    StoredSession session;
    session.gateway_id = id;
    const std::string record = EncodeStoredSession(session);
    const std::vector<std::string> fields = absl::StrSplit(record, ' ');
    EXPECT_EQ(EscapeGatewayId(id), fields[2]);
    std::string read;
    EXPECT_TRUE(UnescapeGatewayId(fields[2], &read));
    EXPECT_EQ(read, id);
  }
}

TEST(SessionKeysTest, OtherTextsAreNoIds) {
  std::string id;
  for (const std::string& text :
       {std::string(), std::string("-"), std::string("a b"), std::string("%"),
        std::string("a%2d"), std::string("a\n"), std::string(65, 'a')}) {
    EXPECT_FALSE(UnescapeGatewayId(text, &id)) << text;
  }
}

TEST(SessionKeysTest, KnowsAHashTag) {
  EXPECT_TRUE(HasHashTag("{a}"));
  EXPECT_TRUE(HasHashTag("x:{udp_gate}:session:"));
  EXPECT_TRUE(HasHashTag("}{a}"));
  for (const char* prefix : {"", "a", "{", "}", "{}", "{}{a}", "}a{", "{a"}) {
    EXPECT_FALSE(HasHashTag(prefix)) << prefix;
  }
}

TEST(SessionKeysTest, ALeaseIsReadAsItIsWritten) {
  for (const GatewayLease& lease :
       {GatewayLease{"a", 1, ""}, GatewayLease{"b", ~uint64_t{0}, "h:1"},
        GatewayLease{"c", 0, std::string(128, 'x')}}) {
    const GatewayLease read = DecodeLease(lease.gateway_id, EncodeLease(lease));
    EXPECT_EQ(read.gateway_id, lease.gateway_id);
    EXPECT_EQ(read.run, lease.run);
    EXPECT_EQ(read.forward_address, lease.forward_address);
  }
  EXPECT_EQ(EncodeLease({"a", 0xabc, "10.0.0.1:7000"}),
            "1 0000000000000abc 10.0.0.1:7000");
  EXPECT_EQ(EncodeLease({"a", 1, "a b"}), "1 0000000000000001 -");
  EXPECT_EQ(EncodeLease({"a", 1, std::string(129, 'x')}),
            "1 0000000000000001 -");
}

TEST(SessionKeysTest, WhatIsNoLeaseHasNoRun) {
  for (const std::string& text :
       {std::string(), std::string("1"), std::string("1 "), std::string("text"),
        std::string("2 0000000000000abc -"), std::string("1 0000000000000abc"),
        std::string("1 0000000000000abc "), std::string("1 0000000000000ABC -"),
        std::string("1 000000000000 abc -"),
        std::string("1 0x00000000000abc -"),
        std::string("1 0000000000000abc a b"),
        absl::StrCat("1 0000000000000abc ", std::string(129, 'x'))}) {
    const GatewayLease lease = DecodeLease("a", text);
    EXPECT_EQ(lease.gateway_id, "a");
    EXPECT_EQ(lease.run, 0u) << text;
    EXPECT_EQ(lease.forward_address, "") << text;
  }
}

}  // namespace
}  // namespace internal
}  // namespace redis
}  // namespace udpgate
