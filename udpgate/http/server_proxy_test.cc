// Whose connection it is: PROXY headers and X-Forwarded-For.
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "udpgate/cidr.h"
#include "udpgate/http/proxy_header.h"
#include "udpgate/http/server_fixture.h"

namespace udpgate {
namespace http {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::udpgate::test::HttpReply;

SocketAddress Address(absl::string_view text) {
  return SocketAddress::Parse(text).value();
}

class ServerProxyTest : public ServerTest {
 protected:
  ServerProxyTest() {
    options_.accepts_proxy_header = true;
    options_.trusted_proxies = ParseCidrList("127.0.0.0/8, 10.0.0.0/8").value();
  }
  // The client of a request with this X-Forwarded-For header.
  std::string ClientOf(absl::string_view headers) {
    EXPECT_EQ(Exchange(GetText("/", headers)).status, 200);
    return last_request().client.ToString();
  }
  void ExpectRefused(absl::string_view text, absl::string_view error) {
    const uint64_t refused = server_->stats().proxy_headers_refused;
    RawClient client(address_);
    EXPECT_TRUE(client.Send(text));
    client.Send(GetText("/"));
    const HttpReply reply = client.Receive();
    EXPECT_EQ(reply.status, 400);
    EXPECT_THAT(reply.body, HasSubstr(error));
    EXPECT_TRUE(client.IsClosed());
    EXPECT_EQ(server_->stats().proxy_headers_refused, refused + 1);
    EXPECT_EQ(server_->stats().requests, 0u);
  }

  const SocketAddress player_ = Address("203.0.113.7:5000");
  const SocketAddress public_ = Address("198.51.100.1:19132");
  const SocketAddress player6_ = Address("[2001:db8::7]:5000");
  const SocketAddress public6_ = Address("[2001:db8::1]:19132");
};

TEST_F(ServerProxyTest, TrustedProxyNamesTheClient) {
  Serve();
  for (const std::string& header : {ProxyHeader::WriteV1(player_, public_),
                                    ProxyHeader::WriteV2(player_, public_)}) {
    EXPECT_EQ(Exchange(absl::StrCat(header, GetText("/"))).status, 200);
    EXPECT_EQ(last_request().client, player_);
    EXPECT_EQ(last_request().local, public_);
    EXPECT_TRUE(last_request().peer.is_loopback());
  }
  EXPECT_EQ(Exchange(absl::StrCat(ProxyHeader::WriteV2(player6_, public6_),
                                  GetText("/")))
                .status,
            200);
  EXPECT_EQ(last_request().client, player6_);
  EXPECT_EQ(server_->stats().proxy_headers, 3u);
  EXPECT_EQ(server_->stats().proxy_headers_refused, 0u);
}

TEST_F(ServerProxyTest, HeaderMayComeByteByByte) {
  Serve();
  for (const std::string& header : {ProxyHeader::WriteV1(player_, public_),
                                    ProxyHeader::WriteV2(player_, public_)}) {
    RawClient client(address_);
    for (const char c : absl::StrCat(header, GetText("/"))) {
      EXPECT_TRUE(client.Send({&c, 1}));
    }
    EXPECT_EQ(client.Receive().status, 200);
    EXPECT_EQ(last_request().client, player_);
  }
  // What looks like one at first.
  RawClient client(address_);
  for (const char c : PostText("/", "x")) EXPECT_TRUE(client.Send({&c, 1}));
  EXPECT_EQ(client.Receive().body, "POST /\nx");
  EXPECT_TRUE(last_request().client.is_loopback());
}

TEST_F(ServerProxyTest, TrustedProxyMayComeWithoutAHeader) {
  Serve();
  EXPECT_EQ(Get("/").status, 200);
  EXPECT_EQ(last_request().client, last_request().peer);
  EXPECT_EQ(last_request().local, address_);
  // Nor need a header name a client.
  EXPECT_EQ(Exchange(absl::StrCat("PROXY UNKNOWN\r\n", GetText("/"))).status,
            200);
  EXPECT_EQ(last_request().client, last_request().peer);
  EXPECT_EQ(
      Exchange(absl::StrCat(ProxyHeader::WriteV2({}, {}), GetText("/"))).status,
      200);
  EXPECT_EQ(last_request().client, last_request().peer);
}

TEST_F(ServerProxyTest, HeaderOfAnybodyElseIsRefused) {
  options_.trusted_proxies = ParseCidrList("10.0.0.0/8").value();
  Serve();
  ExpectRefused(ProxyHeader::WriteV1(player_, public_), "not from a trusted");
  ExpectRefused(ProxyHeader::WriteV2(player_, public_), "not from a trusted");
  EXPECT_THAT(
      log(),
      ElementsAre(HasSubstr(" refused: PROXY header, but not from a trusted")));
  EXPECT_EQ(Get("/").status, 200);
  server_->SetTrustedProxies(ParseCidrList("127.0.0.1").value());
  EXPECT_EQ(Exchange(absl::StrCat(ProxyHeader::WriteV1(player_, public_),
                                  GetText("/")))
                .status,
            200);
  EXPECT_EQ(last_request().client, player_);
}

TEST_F(ServerProxyTest, MalformedHeaderIsRefused) {
  Serve();
  ExpectRefused("PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", "");
  ExpectRefused("PROXY TCP9 a\r\n", "");
  ExpectRefused(absl::StrCat("PROXY TCP4 ", std::string(200, '1')), "");
  // One alone.
  const std::string header = ProxyHeader::WriteV1(player_, public_);
  RawClient client(address_);
  EXPECT_TRUE(client.Send(absl::StrCat(header, header)));
  EXPECT_EQ(client.Receive().status, 400);
}

TEST_F(ServerProxyTest, HeaderMustArriveInTime) {
  options_.handshake_timeout = absl::Milliseconds(200);
  Serve();
  RawClient client(address_);
  EXPECT_TRUE(client.Send("PROXY TC"));
  EXPECT_TRUE(client.IsClosed());
  EXPECT_EQ(server_->stats().proxy_headers_refused, 1u);
  RawClient silent(address_);
  EXPECT_TRUE(silent.IsClosed());
  EXPECT_EQ(server_->stats().read_timeouts, 1u);
}

TEST_F(ServerProxyTest, WithoutTheOptionAHeaderIsAMalformedRequest) {
  options_.accepts_proxy_header = false;
  Serve();
  EXPECT_EQ(Exchange(absl::StrCat(ProxyHeader::WriteV1(player_, public_),
                                  GetText("/")))
                .status,
            400);
  EXPECT_EQ(server_->stats().refused_requests, 1u);
}

TEST_F(ServerProxyTest, RightmostUntrustedAddressIsTheClient) {
  Serve();
  EXPECT_EQ(ClientOf("X-Forwarded-For: 203.0.113.7\r\n"), "203.0.113.7:0");
  EXPECT_EQ(ClientOf("X-Forwarded-For: 1.1.1.1, 203.0.113.7 ,10.1.2.3\r\n"),
            "203.0.113.7:0");
  EXPECT_EQ(ClientOf("x-forwarded-for: 203.0.113.7\r\n"
                     "X-Forwarded-For: 10.1.2.3\r\n"),
            "203.0.113.7:0");
  EXPECT_EQ(ClientOf("X-Forwarded-For: 203.0.113.7:81\r\n"), "203.0.113.7:81");
  EXPECT_EQ(ClientOf("X-Forwarded-For: 2001:db8::7\r\n"), "[2001:db8::7]:0");
  EXPECT_EQ(ClientOf("X-Forwarded-For: [2001:db8::7]:8\r\n"),
            "[2001:db8::7]:8");
  EXPECT_EQ(ClientOf("X-Forwarded-For: [2001:db8::7]\r\n"), "[2001:db8::7]:0");
  EXPECT_EQ(ClientOf("X-Forwarded-For: ::ffff:203.0.113.7\r\n"),
            "203.0.113.7:0");
  // All are proxies: the first one asks for itself.
  EXPECT_EQ(ClientOf("X-Forwarded-For: 10.1.2.3, 10.4.5.6\r\n"), "10.1.2.3:0");
}

TEST_F(ServerProxyTest, MalformedEntriesEndTheChain) {
  Serve();
  EXPECT_EQ(ClientOf("X-Forwarded-For: 203.0.113.7, unknown, 10.1.2.3\r\n"),
            "10.1.2.3:0");
  for (const absl::string_view value :
       {"", "x", ",", "203.0.113.7,", "[::1", "0.0.0.0", "224.0.0.1"}) {
    ClientOf(absl::StrCat("X-Forwarded-For: ", value, "\r\n"));
    EXPECT_EQ(last_request().client, last_request().peer) << value;
  }
}

TEST_F(ServerProxyTest, ForwardedForOfAnybodyElseDoesNotCount) {
  options_.trusted_proxies = ParseCidrList("10.0.0.0/8").value();
  Serve();
  ClientOf("X-Forwarded-For: 203.0.113.7\r\n");
  EXPECT_EQ(last_request().client, last_request().peer);
  // Nor of a client that a proxy names.
  server_->SetTrustedProxies(ParseCidrList("127.0.0.1").value());
  EXPECT_EQ(Exchange(absl::StrCat(ProxyHeader::WriteV1(player_, public_),
                                  GetText("/", "X-Forwarded-For: 1.1.1.1\r\n")))
                .status,
            200);
  EXPECT_EQ(last_request().client, player_);
}

TEST_F(ServerProxyTest, ClientsBehindAProxyAreAdmittedOrNot) {
  options_.admit = [](const SocketAddress& address) {
    return address.IpToString() == "203.0.113.7";
  };
  Serve();
  // The proxy itself is none of them.
  EXPECT_EQ(Get("/").status, 200);
  RawClient denied(address_);
  EXPECT_TRUE(denied.Send(ProxyHeader::WriteV1(public_, public_)));
  EXPECT_TRUE(denied.IsClosed());
  EXPECT_EQ(server_->stats().denied, 1u);
  EXPECT_EQ(Exchange(absl::StrCat(ProxyHeader::WriteV1(player_, public_),
                                  GetText("/")))
                .status,
            200);
  // The connection belongs to the proxy, which has other clients.
  RawClient proxy(address_);
  EXPECT_EQ(proxy.Exchange(GetText("/", "X-Forwarded-For: 1.1.1.1\r\n")).status,
            403);
  EXPECT_EQ(server_->stats().denied, 2u);
  EXPECT_EQ(
      proxy.Exchange(GetText("/", "X-Forwarded-For: 203.0.113.7\r\n")).status,
      200);
}

TEST_F(ServerProxyTest, LimitOfAnAddressIsThatOfTheClientBehindAProxy) {
  options_.connections_per_ip_max = 1;
  Serve();
  RawClient first(address_);
  EXPECT_EQ(first
                .Exchange(absl::StrCat(ProxyHeader::WriteV1(player_, public_),
                                       GetText("/")))
                .status,
            200);
  EXPECT_EQ(
      Exchange(absl::StrCat(ProxyHeader::WriteV1(player_.WithPort(1), public_),
                            GetText("/")))
          .status,
      503);
  EXPECT_EQ(server_->stats().closed_at_limit, 1u);
  EXPECT_EQ(Exchange(absl::StrCat(ProxyHeader::WriteV1(player6_, public6_),
                                  GetText("/")))
                .status,
            200);
  // Proxies themselves are not counted.
  RawClient proxy(address_);
  EXPECT_EQ(proxy.Exchange(GetText("/")).status, 200);
  EXPECT_EQ(Get("/").status, 200);
}

}  // namespace
}  // namespace http
}  // namespace udpgate
