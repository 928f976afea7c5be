#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/support/http_client.h"
#include "udpgate/admin/admin_fixture.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {
namespace {

using ::testing::HasSubstr;
using ::udpgate::test::AwaitTrue;
using ::udpgate::test::HttpReply;

using AdminAccessTest = AdminServerTest;

constexpr char kToken[] = "a-token-of-a-test";

std::string Bearer(const std::string& token) {
  return absl::StrCat("Authorization: Bearer ", token, "\r\n");
}

TEST_F(AdminAccessTest, TokenIsRequiredBeyondLoopback) {
  options_.listen_address = SocketAddress::Ipv4Any(0);
  options_.token = kToken;
  Serve();
  for (const char* path : {"/metrics", "/healthz", "/readyz"}) {
    EXPECT_EQ(Get(path).status, 200) << path;
  }
  for (const char* path : {"/api/v1/status", "/api/v1/sessions",
                           "/api/v1/backends", "/api/v1/ends", "/nothing"}) {
    const HttpReply reply = Get(path);
    EXPECT_EQ(reply.status, 401) << path;
    EXPECT_THAT(reply.head, HasSubstr("WWW-Authenticate: Bearer"));
  }
  EXPECT_EQ(Post("/api/v1/drain", "{}").status, 401);
  EXPECT_EQ(Get("/readyz").status, 200);
  EXPECT_EQ(Get("/api/v1/status", Bearer(kToken)).status, 200);
  EXPECT_EQ(Post("/api/v1/drain", "{}", Bearer(kToken)).status, 200);
}

TEST_F(AdminAccessTest, ApiIsDisabledBeyondLoopbackWithoutToken) {
  options_.listen_address = SocketAddress::Ipv4Any(0);
  Serve();
  EXPECT_EQ(Get("/metrics").status, 200);
  EXPECT_EQ(Get("/api/v1/status").status, 403);
  EXPECT_EQ(Get("/api/v1/status", Bearer("")).status, 403);
  EXPECT_EQ(Post("/api/v1/drain", "{}").status, 403);
}

TEST_F(AdminAccessTest, InvalidTokensAreCountedAndRateLimited) {
  options_.token = kToken;
  options_.wrong_tokens_max = 3;
  options_.wrong_token_window = absl::Seconds(1);
  Serve();
  const auto status = [this](const std::string& header) {
    return Get("/api/v1/status", header).status;
  };
  for (const std::string& wrong :
       {Bearer(std::string(kToken) + "x"), Bearer("a-token-of-a-tes"),
        std::string("Authorization: Basic YTpi\r\n")}) {
    EXPECT_EQ(status(wrong), 401) << wrong;
  }
  const HttpReply reply = Get("/api/v1/status", Bearer(kToken));
  EXPECT_EQ(reply.status, 429);
  EXPECT_THAT(reply.head, HasSubstr("Retry-After: 1\r\n"));
  const std::string text = Get("/metrics").body;
  EXPECT_EQ(Sample(text, "udpgate_admin_wrong_tokens_total").value_or(""), "3");
  EXPECT_EQ(Sample(text, "udpgate_admin_rate_limited_total").value_or(""), "1");
  EXPECT_TRUE(AwaitTrue([&] { return status(Bearer(kToken)) == 200; }));
}

TEST_F(AdminAccessTest, CrossSiteRequestsAreRefused) {
  Serve();
  const auto post = [this](const std::string& host, const std::string& type) {
    return Send(absl::StrCat("POST /api/v1/drain HTTP/1.1\r\nHost: ", host,
                             "\r\nContent-Type: ", type,
                             "\r\nContent-Length: 2\r\n\r\n{}"))
        .status;
  };
  const std::string good = address_.ToString();
  const std::string port = absl::StrCat(":", address_.port());
  for (const char* type :
       {"", "text/plain", "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x", "text/plain;application/json"}) {
    EXPECT_EQ(post(good, type), 415) << type;
  }
  for (const std::string& host :
       {std::string(), "evil.example" + port, std::string("127.0.0.1"),
        "127.0.0.2" + port, std::string("localhost:1"),
        "localhost.evil.example" + port}) {
    EXPECT_EQ(post(host, "application/json"), 403) << host;
  }
  // A foreign host name is refused for reads too (DNS rebinding).
  EXPECT_EQ(Send("GET /api/v1/sessions HTTP/1.1\r\nHost: evil.example\r\n\r\n")
                .status,
            403);
  EXPECT_EQ(Get("/readyz").status, 200);
  EXPECT_EQ(post("LocalHost" + port, "Application/JSON; charset=utf-8"), 200);
}

}  // namespace
}  // namespace admin
}  // namespace udpgate
