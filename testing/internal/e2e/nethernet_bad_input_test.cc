// What a port that faces the internet gets, and that players do not notice.
#include <signal.h>
#include <sys/socket.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/nethernet.h"
#include "testing/internal/support/http_client.h"
#include "udpgate/stun/request_builder.h"

namespace udpgate {
namespace test {
namespace {

// A player joins first, and plays on at the end of each test.
class NetherNetBadInputTest : public NetherNetTest {
 protected:
  void SetUp() override {
    NetherNetTest::SetUp();
    backend_ = std::make_unique<IceBackend>();
    SetBackend(*backend_);
    StartSignaling();
    ASSERT_TRUE(player_.Join(signaling()).ok()) << gate().log();
    ASSERT_TRUE(player_.Ask("backend").ok());
  }
  void TearDown() override {
    EXPECT_TRUE(player_.Ask("backend").ok());
    EXPECT_EQ(Metric("udpgate_sessions_created_total"), 1);
    NetherNetTest::TearDown();
  }

  static std::string PostOf(absl::string_view body,
                            absl::string_view headers = "") {
    return absl::StrCat(
        "POST /v1/join/1 HTTP/1.1\r\nHost: a\r\n"
        "Content-Type: application/sdp\r\n",
        headers, "Content-Length: ", body.size(), "\r\n\r\n", body);
  }
  // The status of the response; 0 if the connection closes without one.
  int StatusOf(absl::string_view request) const {
    const absl::StatusOr<HttpReply> reply = HttpExchange(signaling(), request);
    return reply.ok() ? reply->status : 0;
  }
  std::string GoodOffer() {
    return ToSdp(player_.agent().description(), /*is_offer=*/true);
  }

  std::unique_ptr<IceBackend> backend_;
  IcePlayer player_;
};

TEST_F(NetherNetBadInputTest, MalformedRequestsAreRefused) {
  const std::string get = "GET /v1/join HTTP/1.1\r\nHost: a\r\n";
  EXPECT_EQ(StatusOf("nonsense\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf("GET /v1/join HTTP/1.1\nHost: a\n\n"), 400);
  EXPECT_EQ(
      StatusOf(absl::StrCat(get, "X: ", std::string(1 << 20, 'x'), "\r\n\r\n")),
      431);
  EXPECT_EQ(StatusOf("GET /v1/other HTTP/1.1\r\nHost: a\r\n\r\n"), 404);
  EXPECT_EQ(StatusOf("DELETE /v1/join HTTP/1.1\r\nHost: a\r\n\r\n"), 405);
  EXPECT_EQ(StatusOf(PostOf(std::string((256 << 10) + 1, 'v'))), 413);
}

TEST_F(NetherNetBadInputTest, SmuggledLengthsAreRefused) {
  const std::string offer = GoodOffer();
  EXPECT_EQ(StatusOf(PostOf(offer, "Content-Length: 5\r\n")), 400);
  EXPECT_EQ(StatusOf(PostOf(offer, "Transfer-Encoding: chunked\r\n")), 400);
  EXPECT_EQ(backend_->offers().size(), 1u);
}

TEST_F(NetherNetBadInputTest, ChunkedOffersArriveWhole) {
  const std::string offer = GoodOffer();
  const size_t half = offer.size() / 2;
  std::string chunks;
  for (const std::string& part : {offer.substr(0, half), offer.substr(half)}) {
    absl::StrAppend(&chunks, absl::Hex(part.size()), "\r\n", part, "\r\n");
  }
  EXPECT_EQ(StatusOf(absl::StrCat("POST /v1/join/1 HTTP/1.1\r\nHost: a\r\n"
                                  "Content-Type: application/sdp\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\n",
                                  chunks, "0\r\n\r\n")),
            200);
  ASSERT_EQ(backend_->offers().size(), 2u);
  EXPECT_EQ(backend_->offers()[0].body, backend_->offers()[1].body);
}

TEST_F(NetherNetBadInputTest, PipelinedRequestsAreAnsweredInOrder) {
  const std::string get = "GET /v1/join HTTP/1.1\r\nHost: a\r\n\r\n";
  const absl::StatusOr<HttpReply> reply = HttpExchange(
      signaling(), absl::StrCat(get, "GET /none HTTP/1.1\r\nHost: a\r\n\r\n",
                                "GET /v1/join HTTP/1.1\r\nHost: a\r\n"
                                "Connection: close\r\n\r\n"));
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->status, 200);
}

TEST_F(NetherNetBadInputTest, OffersThatAreNoSdpAreRefused) {
  const std::string offer = GoodOffer();
  EXPECT_EQ(StatusOf(PostOf("")), 400);
  EXPECT_EQ(StatusOf(PostOf("{\"a\": 1}")), 400);
  EXPECT_EQ(StatusOf(PostOf(absl::StrReplaceAll(offer, {{"\r\n", "\r"}}))),
            400);
  std::string many = offer;
  for (int i = 0; i < 3000; ++i) {
    absl::StrAppend(&many, "a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n");
  }
  EXPECT_EQ(StatusOf(PostOf(many)), 400);
  EXPECT_EQ(backend_->offers().size(), 1u);
}

TEST_F(NetherNetBadInputTest, CandidatesOfNamesAndOfTcpAreTakenOut) {
  const std::string offer = absl::StrCat(
      GoodOffer(),
      "a=candidate:1 1 udp 1 1a2b3c4d-0000-4000-8000-0123456789ab.local 1 typ "
      "host\r\na=candidate:2 1 tcp 1 192.0.2.1 9 typ host tcptype active\r\n");
  EXPECT_EQ(StatusOf(PostOf(offer)), 200);
  ASSERT_EQ(backend_->offers().size(), 2u);
  EXPECT_FALSE(absl::StrContains(backend_->offers()[1].body, "a=candidate"));
}

TEST_F(NetherNetBadInputTest, ProxyHeadersOfOthersAreRefused) {
  EXPECT_NE(StatusOf("PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n"
                     "GET /v1/join HTTP/1.1\r\nHost: a\r\n\r\n"),
            200);
  EXPECT_NE(StatusOf(absl::StrCat(
                absl::string_view("\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", 16),
                "GET /v1/join HTTP/1.1\r\nHost: a\r\n\r\n")),
            200);
  // Another player's address is not believed.
  EXPECT_EQ(StatusOf(PostOf(GoodOffer(), "X-Forwarded-For: 192.0.2.7\r\n")),
            200);
  EXPECT_EQ(HeaderOf(backend_->offers().back(), "X-Forwarded-For"),
            "127.0.0.1");
}

TEST_F(NetherNetBadInputTest, SlowAndIdleConnectionsCostOthersNothing) {
  std::vector<internal::UniqueFd> idle;
  // Fewer than are allowed of one address.
  for (int i = 0; i < 200; ++i) {
    absl::StatusOr<internal::UniqueFd> fd = TcpConnect(signaling());
    ASSERT_TRUE(fd.ok()) << fd.status();
    // Nothing, a part of a head, of a body, of a TLS hello.
    const std::string parts[] = {
        "", "GET /v1/jo", absl::StrCat(PostOf(GoodOffer()).substr(0, 200)),
        std::string("\x16\x03\x01\x02", 4)};
    const std::string& part = parts[i % 4];
    ASSERT_EQ(::send(fd->get(), part.data(), part.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(part.size()));
    idle.push_back(*std::move(fd));
  }
  IcePlayer another;
  // A session of its own, which this test counts at the end.
  ASSERT_TRUE(another.Offer(signaling()).ok()) << gate().log();
  EXPECT_TRUE(player_.Ask("backend").ok());
  // A reset at 10 s; the keep-alive time at 30 s.
  for (const internal::UniqueFd& fd : idle) {
    char byte;
    while (::recv(fd.get(), &byte, 1, 0) > 0) {
    }
  }
  EXPECT_EQ(StatusOf("GET /v1/join HTTP/1.1\r\nHost: a\r\n\r\n"), 200);
}

TEST_F(NetherNetBadInputTest, AThousandIdleConnectionsLeaveRoomForOthers) {
  std::vector<internal::UniqueFd> idle;
  // Of as many addresses as an attacker has: 127.0.1.x.
  for (int i = 0; i < 1000; ++i) {
    internal::UniqueFd fd(
        ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_storage name;
    socklen_t size =
        SocketAddress::Parse(absl::StrCat("127.0.1.", 1 + i % 200, ":0"))
            ->ToSockaddr(AF_INET, &name);
    ASSERT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&name), size), 0);
    size = signaling().ToSockaddr(AF_INET, &name);
    (void)::connect(fd.get(), reinterpret_cast<sockaddr*>(&name), size);
    idle.push_back(std::move(fd));
  }
  EXPECT_EQ(StatusOf("GET /v1/join HTTP/1.1\r\nHost: a\r\n\r\n"), 200);
  IcePlayer another;
  EXPECT_TRUE(another.Offer(signaling()).ok()) << gate().log();
}

TEST_F(NetherNetBadInputTest, BrokenStunIsDroppedAtEachLength) {
  stun::BindingRequestOptions check;
  check.username = absl::StrCat(player_.answer().ufrag, ":x");
  check.password = player_.answer().password;
  const std::string whole = stun::BuildBindingRequest(check);
  LoopbackPeer forger;
  // From where it cannot be anything else; shorter ones are of any protocol.
  for (size_t size = 20; size < whole.size(); ++size) {
    ASSERT_TRUE(forger.Send(address(), whole.substr(0, size)).ok());
  }
  std::string longer = whole;
  longer[3] = static_cast<char>(longer[3] + 4);
  ASSERT_TRUE(forger.Send(address(), longer).ok());
  const int64_t sent = static_cast<int64_t>(whole.size()) - 20 + 1;
  EXPECT_TRUE(AwaitTrue([&] {
    return Metric(
               "udpgate_datagrams_dropped_total{reason=\"stun_unknown_"
               "ufrag\"}") +
               Metric(
                   "udpgate_datagrams_dropped_total{reason=\"stun_wrong_"
                   "integrity\"}") >=
           sent;
  }));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
