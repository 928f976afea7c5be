// What the server makes of bytes that are no proper request. A request that two
// readers could understand differently would let a client smuggle one past a
// proxy (RFC 9112 section 11.2).
#include <sys/socket.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "udpgate/http/server_fixture.h"

namespace udpgate {
namespace http {
namespace {

using ::testing::HasSubstr;
using ::udpgate::test::HttpReply;
using namespace std::string_literals;  // NOLINT: for texts with a zero byte

class ServerRequestTest : public ServerTest {
 protected:
  // The server refuses `text`, and reads nothing of what follows as a request.
  void ExpectRefused(absl::string_view text, int status,
                     absl::string_view error) {
    SCOPED_TRACE(text.substr(0, 200));
    const uint64_t refused = server_->stats().refused_requests;
    RawClient client(address_);
    client.Send(text);
    client.Send(GetText("/smuggled"));
    const HttpReply reply = client.Receive();
    EXPECT_EQ(reply.status, status);
    EXPECT_EQ(reply.body, absl::StrCat("{\"error\": \"", error, "\"}\n"));
    EXPECT_THAT(reply.head, HasSubstr("\r\nConnection: close\r\n"));
    EXPECT_THAT(reply.head,
                HasSubstr("\r\nContent-Type: application/json\r\n"));
    EXPECT_TRUE(client.IsClosed());
    EXPECT_EQ(server_->stats().refused_requests, refused + 1);
    EXPECT_EQ(server_->stats().requests, 0u);
  }
  void ExpectHeaderRefused(absl::string_view header, absl::string_view error,
                           int status = 400) {
    ExpectRefused(
        absl::StrCat("POST / HTTP/1.1\r\nHost: a\r\n", header, "\r\n\r\n"),
        status, error);
  }
};

TEST_F(ServerRequestTest, RefusesMalformedRequestLines) {
  Serve();
  for (const std::string& line :
       {"GET /"s, "GET  / HTTP/1.1"s, "GET / HTTP/1.1 "s, "hello"s, ""s,
        "GET / a HTTP/1.1"s}) {
    ExpectRefused(absl::StrCat("\r\n", line, "\r\nHost: a\r\n\r\n"), 400,
                  "malformed request line");
  }
  for (const std::string& version :
       {"HTTP/9.9"s, "HTTP/1.2"s, "HTTP/2.0"s, "http/1.1"s, "HTTP/1.10"s}) {
    ExpectRefused(absl::StrCat("GET / ", version, "\r\nHost: a\r\n\r\n"), 400,
                  "HTTP version is not supported");
  }
  ExpectRefused("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"s, 400,
                "request line has control or non-ASCII characters");
  ExpectRefused("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400,
                "request line has control or non-ASCII characters");
  ExpectRefused("GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 400,
                "request line has control or non-ASCII characters");
  ExpectRefused("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed request");
}

TEST_F(ServerRequestTest, RefusesWhatIsNoHttpAtOnce) {
  Serve();
  ExpectRefused("\x16\x03\x01\x02", 400, "TLS is not served on this port");
  ExpectRefused("\0\0"s, 400, "no HTTP request");
  ExpectRefused("\xff", 400, "no HTTP request");
  ExpectRefused(" GET / HTTP/1.1\r\n", 400, "no HTTP request");
  ExpectRefused("\r\rGET / HTTP/1.1\r\n", 400,
                "request line has control or non-ASCII characters");
}

TEST_F(ServerRequestTest, RefusesMalformedTargets) {
  Serve();
  const auto refuse = [this](absl::string_view target,
                             absl::string_view error) {
    ExpectRefused(absl::StrCat("GET ", target, " HTTP/1.1\r\nHost: a\r\n\r\n"),
                  400, error);
  };
  refuse("/#x", "invalid request target");
  refuse("/\"", "invalid request target");
  refuse("/a\\b", "invalid request target");
  refuse("*", "request target is not a path");
  refuse("a:80", "request target is not a path");
  refuse("v1/join", "request target is not a path");
  refuse("ftp://a/", "request target is not a path");
  refuse("http:///x", "request target has no valid host");
  refuse("http://u@a/", "request target has no valid host");
  refuse("http://a:port/", "request target has no valid host");
}

TEST_F(ServerRequestTest, RefusesOddLineEnds) {
  Serve();
  const std::string error = "line does not end with CR LF";
  ExpectRefused("GET / HTTP/1.1\nHost: a\n\n", 400, error);
  ExpectRefused("GET / HTTP/1.1\r\nHost: a\n", 400, error);
  ExpectRefused("GET / HTTP/1.1\r\nHost: a\r\n\n", 400, error);
  ExpectHeaderRefused("X: a\rY: b", "header has control characters");
  ExpectHeaderRefused("X: a\r\r\nY: b", "header has control characters");
}

TEST_F(ServerRequestTest, RefusesMalformedHeaders) {
  Serve();
  ExpectHeaderRefused("X: a\r\n b", "folded header line");
  ExpectHeaderRefused("X: a\r\n\tb", "folded header line");
  ExpectHeaderRefused("no colon", "header line without a colon");
  ExpectHeaderRefused("X : a", "invalid header name");
  ExpectHeaderRefused("X\t: a", "invalid header name");
  ExpectHeaderRefused(": a", "invalid header name");
  ExpectHeaderRefused("X\xc3\xa4: a", "invalid header name");
  ExpectHeaderRefused("X(: a", "invalid header name");
  ExpectHeaderRefused("X\0: a"s, "invalid header name");
  ExpectHeaderRefused("X: a\0b"s, "header has control characters");
  ExpectHeaderRefused("X: a\x7f", "header has control characters");
  ExpectHeaderRefused("Connection: a, ,,=", "malformed request");
}

TEST_F(ServerRequestTest, RefusesMissingSeveralOrInvalidHosts) {
  Serve();
  ExpectRefused("GET / HTTP/1.1\r\n\r\n", 400, "no Host header");
  ExpectRefused("GET http://a/ HTTP/1.1\r\n\r\n", 400, "no Host header");
  ExpectHeaderRefused("host: a", "several Host headers");
  for (const std::string& host :
       {"a b"s, "u@a"s, "a/"s, "a:b"s, "[::1"s, "[::1]x"s, "a:123456"s,
        "a:1:2"s, "[]"s, std::string(301, 'a')}) {
    ExpectRefused(absl::StrCat("GET / HTTP/1.1\r\nHost: ", host, "\r\n\r\n"),
                  400, "invalid Host header");
  }
}

TEST_F(ServerRequestTest, AcceptsAllFormsOfHosts) {
  Serve();
  for (const std::string& host :
       {"a:19132"s, ""s, "[fe80::1]:80"s, "1.2.3.4"s, "a_b-c.example."s}) {
    EXPECT_EQ(
        Exchange(absl::StrCat("GET / HTTP/1.1\r\nHost: ", host, "\r\n\r\n"))
            .status,
        200)
        << host;
  }
  EXPECT_EQ(Exchange("GET / HTTP/1.0\r\n\r\n").status, 200);
  EXPECT_EQ(Exchange("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
  EXPECT_EQ(Exchange("BREW / HTTP/1.1\r\nHost: a\r\n\r\n").body, "BREW /\n");
}

TEST_F(ServerRequestTest, RefusesSmuggledLengths) {
  Serve();
  const std::string no_number = "Content-Length is not a number";
  ExpectHeaderRefused("Content-Length: 3\r\nContent-Length: 3",
                      "several Content-Length headers");
  ExpectHeaderRefused("Content-Length: 3\r\nContent-Length: 4",
                      "malformed request");
  ExpectHeaderRefused("Content-Length: 3, 3", no_number);
  ExpectHeaderRefused("Content-Length: +3", "malformed request");
  ExpectHeaderRefused("Content-Length: -1", "malformed request");
  ExpectHeaderRefused("Content-Length: 0x3", "malformed request");
  ExpectHeaderRefused("Content-Length: 1e3", "malformed request");
  ExpectHeaderRefused("Content-Length:", "malformed request");
  ExpectHeaderRefused("Content-Length: 99999999999999999999999",
                      "malformed request");
  ExpectHeaderRefused("Content-Length: 3\r\nTransfer-Encoding: chunked",
                      "malformed request");
  ExpectHeaderRefused("Transfer-Encoding: chunked\r\nContent-Length: 3",
                      "malformed request");
  ExpectHeaderRefused(
      "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
      "malformed request");
  const std::string not_supported =
      "transfer coding is not supported; use chunked";
  ExpectHeaderRefused("Transfer-Encoding: gzip, chunked", not_supported, 501);
  ExpectHeaderRefused("Transfer-Encoding: chunked, identity", not_supported,
                      501);
  ExpectHeaderRefused(
      "Transfer-Encoding: \x0b"
      "chunked",
      "header has control characters");
  ExpectHeaderRefused("Transfer-Encoding: xchunked", not_supported, 501);
  ExpectRefused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400,
                "Transfer-Encoding is not allowed here");
  ExpectHeaderRefused("Expect: 200-ok", "expectation is not supported", 417);
}

TEST_F(ServerRequestTest, RefusesMalformedChunks) {
  Serve();
  for (const std::string& chunks :
       {"x\r\n"s, "3\nabc\n0\n\n\r\n"s, "3\r\nabcd\r\n0\r\n\r\n"s,
        "-1\r\n\r\n"s, " 3\r\nabc\r\n0\r\n\r\n"s, "3 \r\nabc\r\n"s,
        "0x3\r\nabc\r\n0\r\n\r\n"s, "\r\n\r\n"s, "3;\x01\r\nabc\r\n"s,
        "3;a=\"b\"\r\nabc\r\n0\r\n\r\n"s, "3;a\nb\r\nabc\r\n0\r\n\r\n"s,
        "0\r\nX : y\r\n\r\n"s, "0\r\nContent-Length: 5\r\n\r\n"s,
        "0\r\nTransfer-Encoding: chunked\r\n\r\n"s,
        "10000000000000003\r\nabc\r\n0\r\n\r\n"s}) {
    ExpectRefused(absl::StrCat("POST / HTTP/1.1\r\nHost: a\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n",
                               chunks),
                  400, "malformed request");
  }
}

TEST_F(ServerRequestTest, RefusesLargeHeads) {
  Serve();
  const std::string large = "request headers too large";
  ExpectRefused(std::string(1 << 20, 'x'), 431, large);
  ExpectRefused(absl::StrCat("GET / HTTP/1.1\r\nHost: a\r\nX: ",
                             std::string(1 << 20, 'x'), "\r\n\r\n"),
                431, large);
  std::string headers;
  for (int i = 0; i < 100; ++i) absl::StrAppend(&headers, "X: y\r\n");
  ExpectHeaderRefused(headers, "too many request headers", 431);
}

TEST_F(ServerRequestTest, AcceptsHeadsUpToTheLimit) {
  options_.header_bytes_max = 1000;
  options_.header_count_max = 2;
  Serve();
  const std::string head = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
  const auto text = [&head](size_t bytes) {
    return absl::StrCat(head, std::string(bytes - head.size() - 4, 'x'),
                        "\r\n\r\n");
  };
  EXPECT_EQ(Exchange(text(1000)).status, 200);
  EXPECT_EQ(Exchange(text(1001)).status, 431);
  EXPECT_EQ(Exchange(GetText("/", "X: y\r\nX: z\r\n")).status, 431);
}

TEST_F(ServerRequestTest, RefusesLargeBodies) {
  options_.body_bytes_max = 1000;
  Serve();
  const std::string large = "request body too large";
  ExpectRefused(PostText("/", std::string(1001, 'x')), 413, large);
  ExpectRefused(PostText("/", std::string(10 << 20, 'x')), 413, large);
  const std::string head =
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  ExpectRefused(absl::StrCat(head, "3e9\r\n"), 413, large);
  ExpectRefused(absl::StrCat(head, "3e8\r\n", std::string(1000, 'x'),
                             "\r\n1\r\nx\r\n0\r\n\r\n"),
                413, large);
  ExpectRefused(absl::StrCat(head, "1;", std::string(20000, 'x'), "\r\n"), 431,
                "chunk header or trailer too large");
  ExpectRefused(absl::StrCat(head, "0\r\nX: ", std::string(20000, 'x')), 431,
                "chunk header or trailer too large");
}

TEST_F(ServerRequestTest, AcceptsTrailersUpToTheLimitHoweverTheyAreSplit) {
  options_.header_bytes_max = 1000;
  Serve();
  const auto text = [](size_t trailer_bytes) {
    const std::string begin = "0\r\nX: ";
    return absl::StrCat(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        begin, std::string(trailer_bytes - begin.size() - 4, 'x'), "\r\n\r\n");
  };
  EXPECT_EQ(Exchange(text(1000)).status, 200);
  EXPECT_EQ(Exchange(text(1001)).status, 431);
  for (const auto& [bytes, status] : {std::pair(1000, 200), {1001, 431}}) {
    RawClient client(address_);
    for (const char c : text(bytes)) {
      if (!client.Send({&c, 1})) break;
    }
    EXPECT_EQ(client.Receive().status, status);
  }
}

TEST_F(ServerRequestTest, AcceptsBodiesUpToTheLimit) {
  options_.body_bytes_max = 1000;
  Serve();
  EXPECT_EQ(Exchange(PostText("/", std::string(1000, 'x'))).status, 200);
  EXPECT_EQ(Exchange(absl::StrCat("POST / HTTP/1.1\r\nHost: a\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\n3e8\r\n",
                                  std::string(1000, 'x'), "\r\n0\r\n\r\n"))
                .status,
            200);
  EXPECT_EQ(last_request().body, std::string(1000, 'x'));
}

TEST_F(ServerRequestTest, ReadsRequestsThatComeByteByByte) {
  Serve();
  RawClient client(address_);
  for (const char c :
       absl::StrCat("\r\n", PostText("/x", "abc"), "\r\n", GetText("/y"))) {
    EXPECT_TRUE(client.Send({&c, 1}));
  }
  EXPECT_EQ(client.Receive().body, "POST /x\nabc");
  EXPECT_EQ(client.Receive().body, "GET /y\n");
}

TEST_F(ServerRequestTest, ClientMayEndItsSideAfterTheRequest) {
  Serve();
  RawClient client(address_);
  EXPECT_TRUE(client.Send(GetText("/x")));
  shutdown(client.fd(), SHUT_WR);
  EXPECT_EQ(client.Receive().body, "GET /x\n");
  EXPECT_TRUE(client.IsClosed());
  // A request that ends in the middle gets no response.
  RawClient other(address_);
  EXPECT_TRUE(other.Send("GET /x HT"));
  shutdown(other.fd(), SHUT_WR);
  EXPECT_TRUE(other.IsClosed());
}

}  // namespace
}  // namespace http
}  // namespace udpgate
