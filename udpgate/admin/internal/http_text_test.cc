#include "udpgate/admin/internal/http_text.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using State = HttpRequestReader::State;

constexpr size_t kHeaderBytesMax = 256;
constexpr size_t kBodyBytesMax = 16;

HttpRequestReader NewReader() {
  return HttpRequestReader(kHeaderBytesMax, kBodyBytesMax);
}

// The status code that `text` is refused with; 0: it is not refused.
int RefusalOf(const std::string& text) {
  HttpRequestReader reader = NewReader();
  return reader.Append(text) == State::kRefused ? reader.error_status() : 0;
}

TEST(HttpRequestReaderTest, PassesOnTheHeadersThatAreUsed) {
  HttpRequestReader reader = NewReader();
  EXPECT_EQ(reader.Append("POST /a?b=c HTTP/1.1\r\n"
                          "HOST:  gateway:1 \r\n"
                          "Cookie: secret\r\n"
                          "Content-Length: 2\r\n"
                          "Authorization: Bearer x\r\n\r\n{}"),
            State::kComplete);
  const HttpRequestText request = reader.Take();
  EXPECT_EQ(request.head,
            "POST /a?b=c HTTP/1.1\r\nhost: gateway:1\r\ncontent-length: 2\r\n"
            "authorization: Bearer x\r\n\r\n");
  EXPECT_EQ(request.body, "{}");
}

TEST(HttpRequestReaderTest, CollectsBytesOneByOne) {
  const std::string text = "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n\r\n\r";
  HttpRequestReader reader = NewReader();
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    ASSERT_EQ(reader.Append(text.substr(i, 1)), State::kIncomplete) << i;
  }
  ASSERT_EQ(reader.Append(text.substr(text.size() - 1)), State::kComplete);
  EXPECT_EQ(reader.Take().body, "\r\n\r");
}

TEST(HttpRequestReaderTest, DiscardsWhatFollowsTheRequest) {
  HttpRequestReader reader = NewReader();
  EXPECT_EQ(reader.Append("POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nabc"),
            State::kComplete);
  EXPECT_EQ(reader.Take().body, "a");
}

TEST(HttpRequestReaderTest, RefusesMalformedRequestLines) {
  for (const std::string& line :
       {std::string(), std::string("hello"), std::string("GET /"),
        std::string("GET  / HTTP/1.1"), std::string("GET / HTTP/1.1 "),
        std::string(" / HTTP/1.1"), std::string("G,T / HTTP/1.1"),
        std::string("G\0T / HTTP/1.1", 14), std::string("GET /\x7f HTTP/1.1"),
        std::string("GET a HTTP/1.1"), std::string("GET /\n HTTP/1.1"),
        std::string("GET / HTTP/2.0"), std::string("GET / http/1.1")}) {
    EXPECT_EQ(RefusalOf(line + "\r\n\r\n"), 400) << line;
  }
  EXPECT_EQ(RefusalOf("GET / HTTP/1.0\r\n\r\n"), 0);
}

TEST(HttpRequestReaderTest, RefusesMalformedHeaders) {
  for (const std::string& header :
       {std::string("none"), std::string(": value"), std::string("a b: c"),
        std::string("Host : a"), std::string(" folded: a"),
        std::string("Host: a\nb"), std::string("Host: a\0b", 9),
        std::string("Ho\0st: a", 8), std::string("Host: a\r\nhost: a"),
        std::string("Content-Length: 1\r\nContent-Length: 1"),
        std::string("Content-Length:"), std::string("Content-Length: -1"),
        std::string("Content-Length: +1"), std::string("Content-Length: 1 1"),
        std::string("Content-Length: 0x1"),
        std::string("Content-Length: 18446744073709551617")}) {
    EXPECT_EQ(RefusalOf(absl::StrCat("GET / HTTP/1.1\r\n", header, "\r\n\r\n")),
              400)
        << header;
  }
}

TEST(HttpRequestReaderTest, RefusesCodings) {
  for (const char* header :
       {"Transfer-Encoding: chunked", "transfer-encoding: identity",
        "Content-Encoding: gzip"}) {
    EXPECT_EQ(RefusalOf(absl::StrCat("GET / HTTP/1.1\r\n", header, "\r\n\r\n")),
              501)
        << header;
  }
}

TEST(HttpRequestReaderTest, RefusesBodiesAboveTheLimit) {
  const auto request = [](size_t bytes) {
    return absl::StrCat("POST / HTTP/1.1\r\nContent-Length: ", bytes,
                        "\r\n\r\n");
  };
  EXPECT_EQ(RefusalOf(request(kBodyBytesMax)), 0);
  EXPECT_EQ(RefusalOf(request(kBodyBytesMax + 1)), 413);
}

TEST(HttpRequestReaderTest, RefusesHeadersAboveTheLimit) {
  const auto request = [](size_t bytes) {
    const std::string begin = "GET / HTTP/1.1\r\nX: ";
    return absl::StrCat(begin, std::string(bytes - begin.size() - 4, 'x'),
                        "\r\n\r\n");
  };
  EXPECT_EQ(RefusalOf(request(kHeaderBytesMax)), 0);
  EXPECT_EQ(RefusalOf(request(kHeaderBytesMax + 1)), 431);
  // Without an end: at the limit.
  EXPECT_EQ(RefusalOf(std::string(kHeaderBytesMax - 1, 'x')), 0);
  EXPECT_EQ(RefusalOf(std::string(kHeaderBytesMax, 'x')), 431);
  HttpRequestReader reader = NewReader();
  EXPECT_EQ(reader.Append(std::string(kHeaderBytesMax, 'x')), State::kRefused);
  EXPECT_EQ(reader.error(), "the header exceeds 256 bytes");
}

TEST(ErrorResponseTest, IsAWholeResponse) {
  const std::string response = ErrorResponse(503, "a \"quoted\" \\ text");
  EXPECT_THAT(response, HasSubstr("HTTP/1.1 503 Service Unavailable\r\n"));
  EXPECT_THAT(response, HasSubstr("Connection: close\r\n"));
  const std::string body = "{\"error\":\"a \\\"quoted\\\" \\\\ text\"}\n";
  EXPECT_THAT(response,
              HasSubstr(absl::StrCat("Content-Length: ", body.size(), "\r\n")));
  EXPECT_THAT(response, EndsWith("\r\n\r\n" + body));
}

}  // namespace
}  // namespace internal
}  // namespace admin
}  // namespace udpgate
