#include "udpgate/dns/host_port.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/status/status.h"

namespace udpgate {
namespace {

using ::testing::HasSubstr;
using ::testing::Lt;

struct Good {
  const char* text;
  const char* host;
  uint16_t port;
};

class HostPortGoodTest : public ::testing::TestWithParam<Good> {};

TEST_P(HostPortGoodTest, Parses) {
  const absl::StatusOr<HostPort> parsed = HostPort::Parse(GetParam().text);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->host, GetParam().host);
  EXPECT_EQ(parsed->port, GetParam().port);
  // What it prints, it reads.
  const absl::StatusOr<HostPort> again = HostPort::Parse(parsed->ToString());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->host, parsed->host);
  EXPECT_EQ(again->port, parsed->port);
}

INSTANTIATE_TEST_SUITE_P(
    All, HostPortGoodTest,
    ::testing::Values(
        Good{"1.2.3.4:1", "1.2.3.4", 1}, Good{"lobby:19132", "lobby", 19132},
        Good{"  lobby:19132\r\n", "lobby", 19132},
        Good{"\tlobby-3.Internal.:65535", "lobby-3.Internal.", 65535},
        Good{"game_server_1:80", "game_server_1", 80},
        Good{"[::1]:5", "::1", 5}, Good{"[fe80::1%lo]:5", "fe80::1%lo", 5},
        Good{"[::ffff:1.2.3.4]:5", "::ffff:1.2.3.4", 5},
        Good{"3com.example:7", "3com.example", 7}, Good{"a:00080", "a", 80}));

struct Bad {
  const char* text;
  const char* why;
};

class HostPortBadTest : public ::testing::TestWithParam<Bad> {};

TEST_P(HostPortBadTest, ReportsTheError) {
  const absl::StatusOr<HostPort> parsed = HostPort::Parse(GetParam().text);
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(parsed.status().message()),
              HasSubstr(GetParam().why));
}

INSTANTIATE_TEST_SUITE_P(
    All, HostPortBadTest,
    ::testing::Values(
        Bad{"", "is empty"}, Bad{" \n", "is empty"},
        Bad{"lobby", "port is missing"}, Bad{"[::1]", "brackets"},
        Bad{"::1:5", "brackets"}, Bad{"[1.2.3.4]:5", "must be an IPv6"},
        Bad{"[lobby]:5", "must be an IPv6"}, Bad{"[::1:5", "brackets"},
        Bad{"::1]:5", "brackets"}, Bad{"lobby:0", "1 to 65535"},
        Bad{"lobby:65536", "1 to 65535"},
        Bad{"lobby:99999999999", "1 to 65535"}, Bad{"lobby:", "1 to 65535"},
        Bad{"lobby:+5", "1 to 65535"}, Bad{"lobby: 5", "1 to 65535"},
        Bad{"lobby:5x", "1 to 65535"}, Bad{":5", "is empty"},
        Bad{".:5", "is empty"}, Bad{"a..b:5", "1 to 63"},
        Bad{".a:5", "1 to 63"}, Bad{"-a:5", "hyphen"}, Bad{"a-.b:5", "hyphen"},
        Bad{"a b:5", "allowed are"}, Bad{"a/b:5", "allowed are"},
        Bad{"\xc3\xa4.example:5", "\\xc3\\xa4"},
        Bad{"1.2.3.256:5", "neither a host name nor"},
        Bad{"1.2.3:5", "neither a host name nor"},
        Bad{"[fe80::1%nosuchinterface]:5", "must be an IPv6"},
        Bad{"redis://lobby:5", "brackets"}));

TEST(HostPortTest, ByteZeroDoesNotHideWhatFollows) {
  EXPECT_FALSE(HostPort::Parse(std::string("lobby\0:5", 8)).ok());
  EXPECT_FALSE(HostPort::Parse(std::string("1.2.3.4\0:5", 10)).ok());
  EXPECT_FALSE(HostPort::Parse(std::string("lobby:5\0", 8)).ok());
}

TEST(HostPortTest, EnforcesTheLengthsOfNames) {
  const std::string label(63, 'a');
  const std::string name = label + "." + label + "." + label + "." +
                           std::string(61, 'a');  // 253 bytes
  EXPECT_TRUE(HostPort::Parse(name + ":5").ok());
  EXPECT_TRUE(HostPort::Parse(name + ".:5").ok());
  EXPECT_FALSE(HostPort::Parse(name + "a:5").ok());
  EXPECT_FALSE(HostPort::Parse(label + "a:5").ok());
}

TEST(HostPortTest, QuotesOnlyTheBeginning) {
  const std::string megabyte(1 << 20, '\1');
  for (const std::string& text : {megabyte, megabyte + ":5"}) {
    const absl::StatusOr<HostPort> parsed = HostPort::Parse(text);
    ASSERT_FALSE(parsed.ok());
    EXPECT_THAT(parsed.status().message().size(), Lt(500u));
  }
}

}  // namespace
}  // namespace udpgate
