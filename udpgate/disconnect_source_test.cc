#include "udpgate/disconnect_source.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace test {
namespace {

DisconnectTarget Parsed(absl::string_view payload) {
  absl::StatusOr<DisconnectTarget> target = DisconnectTarget::Parse(payload);
  EXPECT_TRUE(target.ok()) << target.status();
  return target.value_or(DisconnectTarget::ForRelayPort(0));
}

TEST(DisconnectTargetTest, AnAddressNamesAClient) {
  const DisconnectTarget target = Parsed("1.2.3.4:54321");
  EXPECT_EQ(target.kind(), DisconnectTarget::Kind::kClient);
  EXPECT_EQ(target.client().ToString(), "1.2.3.4:54321");
  EXPECT_EQ(target.ToString(), "1.2.3.4:54321");
}

TEST(DisconnectTargetTest, AnIpv6AddressNamesAClient) {
  EXPECT_EQ(Parsed("[2001:db8::1]:5").client().ToString(), "[2001:db8::1]:5");
}

TEST(DisconnectTargetTest, AMappedAddressNamesTheIpv4Client) {
  EXPECT_EQ(Parsed("[::ffff:1.2.3.4]:5"), Parsed("1.2.3.4:5"));
}

TEST(DisconnectTargetTest, AnIntegerNamesARelayPort) {
  for (const int port : {1, 80, 4096, 54321, 65535}) {
    const DisconnectTarget target = Parsed(absl::StrCat(port));
    EXPECT_EQ(target.kind(), DisconnectTarget::Kind::kRelayPort);
    EXPECT_EQ(target.relay_port(), port);
    EXPECT_EQ(target.ToString(), absl::StrCat(port));
  }
  EXPECT_EQ(Parsed("00080").relay_port(), 80);
}

TEST(DisconnectTargetTest, AWordAndAnAddressNameSeveralSessions) {
  EXPECT_EQ(Parsed("ip 1.2.3.4"),
            DisconnectTarget::ForClientIp(*SocketAddress::Parse("1.2.3.4:99")));
  EXPECT_EQ(Parsed("ip ::ffff:1.2.3.4"), Parsed("ip 1.2.3.4"));
  const SocketAddress address = *SocketAddress::Parse("10.0.0.5:19132");
  EXPECT_EQ(Parsed(" backend\t 10.0.0.5:19132\n"),
            DisconnectTarget::ForBackend(address));
  EXPECT_EQ(Parsed("relay 10.0.0.5:19132"),
            DisconnectTarget::ForRelay(address));
  EXPECT_FALSE(Parsed("relay 10.0.0.5:19132") ==
               Parsed("backend 10.0.0.5:19132"));
  for (const absl::string_view text :
       {"ip 1.2.3.4", "ip 2001:db8::1", "backend 10.0.0.5:19132",
        "relay [2001:db8::1]:40001"}) {
    EXPECT_EQ(Parsed(text).ToString(), text);
  }
  for (const absl::string_view text :
       {"ip 1.2.3.4:5", "ip", "ip ", "backend 10.0.0.5", "backend 10.0.0.5:0",
        "relay 40001", "backend example.org", "backend a..b:1",
        "backend lobby:0", "backend 1.2.3:5", "backend a b:1", "relay lobby:1",
        "ip lobby", "Backend 10.0.0.5:1"}) {
    EXPECT_FALSE(DisconnectTarget::Parse(text).ok()) << text;
  }
}

TEST(DisconnectTargetTest, ABackendIsNamedByTheTextOfTheKeyToo) {
  const DisconnectTarget target =
      Parsed(" backend \tLobby-3.internal:19132\r\n");
  EXPECT_EQ(target.kind(), DisconnectTarget::Kind::kBackendText);
  EXPECT_EQ(target.text(), "Lobby-3.internal:19132");
  EXPECT_EQ(target.ToString(), "backend Lobby-3.internal:19132");
  EXPECT_EQ(target, DisconnectTarget::ForBackendText("Lobby-3.internal:19132"));
  EXPECT_FALSE(target == Parsed("backend lobby:19132"));
  EXPECT_EQ(Parsed("backend lobby:00080").text(), "lobby:00080");
}

TEST(DisconnectTargetTest, WhiteSpaceAroundItIsCut) {
  EXPECT_EQ(Parsed(" \t54321\r\n"), DisconnectTarget::ForRelayPort(54321));
  EXPECT_EQ(Parsed("\n1.2.3.4:5 "), Parsed("1.2.3.4:5"));
}

TEST(DisconnectTargetTest, EqualityLooksAtKindAndValue) {
  const SocketAddress client = SocketAddress::Ipv4Loopback(80);
  EXPECT_TRUE(DisconnectTarget::ForClient(client) ==
              DisconnectTarget::ForClient(client));
  EXPECT_FALSE(DisconnectTarget::ForClient(client) ==
               DisconnectTarget::ForClient(client.WithPort(81)));
  EXPECT_FALSE(DisconnectTarget::ForRelayPort(80) ==
               DisconnectTarget::ForRelayPort(81));
  EXPECT_FALSE(DisconnectTarget::ForRelayPort(80) ==
               DisconnectTarget::ForClient(client));
}

class DisconnectTargetBadTest
    : public ::testing::TestWithParam<absl::string_view> {};

TEST_P(DisconnectTargetBadTest, IsInvalidArgumentThatSaysWhatIsAllowed) {
  const absl::Status status = DisconnectTarget::Parse(GetParam()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "relay port, 1 to 65535"))
      << status;
  for (const char c : status.message()) {
    EXPECT_TRUE(c >= ' ' && c <= '~') << "unprintable: " << int{c};
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, DisconnectTargetBadTest,
    ::testing::Values("", " ", "\n", "0", "00000", "65536", "99999", "100000",
                      "000080", "-1", "+1", "1.0", "1e3", "0x50", "80 81",
                      "80,81", "8 0", "18446744073709551617", "1.2.3.4",
                      "1.2.3.4:0", "1.2.3.4:65536", "[::1]", "[::1]:0", "::1:5",
                      "localhost:80", "all", "null", "{\"port\":80}", "\"80\"",
                      absl::string_view("80\0", 3),
                      absl::string_view("\00080", 3),
                      absl::string_view("1.2.3.4\0:5", 10), "\xff\xff",
                      "1.2.3.4:5 1.2.3.5:6"));

TEST(DisconnectTargetTest, ALongPayloadIsQuotedInPart) {
  for (const char filler : {'9', 'x', '\x01'}) {
    const absl::Status status =
        DisconnectTarget::Parse(std::string(1 << 20, filler)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_LT(status.message().size(), 500u);
  }
}

}  // namespace
}  // namespace test
}  // namespace udpgate
