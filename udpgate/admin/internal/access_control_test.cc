#include "udpgate/admin/internal/access_control.h"

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "udpgate/http/message.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

using http::Request;
using http::Response;
using ::testing::HasSubstr;

constexpr int kAdmitted = 0;

class AccessControlTest : public ::testing::Test {
 protected:
  AccessControlTest() {
    options_.listen_address = SocketAddress::Ipv4Loopback(9132);
  }

  static Request NewRequest(const std::string& method,
                            const std::string& path) {
    Request request;
    request.method = method;
    request.target = path;
    request.peer = SocketAddress::Ipv4Loopback(50000);
    request.local = SocketAddress::Ipv4Loopback(9132);
    request.headers = {{"Host", "127.0.0.1:9132"}};
    if (method == "POST") request.headers.push_back({"Content-Type", kJson});
    return request;
  }
  static Request WithHeader(Request request, const std::string& name,
                            const std::string& value) {
    request.headers.erase(
        std::remove_if(request.headers.begin(), request.headers.end(),
                       [&name](const http::Header& header) {
                         return absl::EqualsIgnoreCase(header.name, name);
                       }),
        request.headers.end());
    request.headers.push_back({name, value});
    return request;
  }
  static Request WithToken(const Request& request, const std::string& token) {
    return WithHeader(request, "Authorization", absl::StrCat("Bearer ", token));
  }

  // The status code of the refusal, or kAdmitted.
  static int Refusal(AccessControl* access, const Request& request,
                     Response* response) {
    return access->Admit(request, response) ? kAdmitted : response->status;
  }
  static std::string HeaderOf(const Response& response,
                              const std::string& name) {
    const std::string* const value = response.FindHeader(name);
    return value == nullptr ? "none" : *value;
  }
  // By an access control of `options_` that saw no other request.
  int RefusalOf(const Request& request) const {
    AccessControl access(options_);
    Response response;
    return Refusal(&access, request, &response);
  }

  static constexpr char kJson[] = "application/json";
  const Request get_ = NewRequest("GET", "/api/v1/status");
  const Request post_ = NewRequest("POST", "/api/v1/drain");
  AdminOptions options_;
};

constexpr char AccessControlTest::kJson[];

TEST_F(AccessControlTest, LoopbackNeedsNoToken) {
  EXPECT_EQ(RefusalOf(get_), kAdmitted);
  EXPECT_EQ(RefusalOf(post_), kAdmitted);
}

TEST_F(AccessControlTest, MetricsAndHealthAreOpen) {
  options_.listen_address = SocketAddress::Ipv4Any(9132);
  for (const char* path : {"/", "/metrics", "/healthz", "/readyz"}) {
    EXPECT_EQ(RefusalOf(WithHeader(NewRequest("GET", path), "Host", "x")),
              kAdmitted)
        << path;
  }
  for (const char* path :
       {"/metrics/", "/metricsx", "//", "/api/v1/status", "/other"}) {
    EXPECT_EQ(RefusalOf(NewRequest("GET", path)), 403) << path;
  }
}

TEST_F(AccessControlTest, AConfiguredTokenIsNeeded) {
  options_.token = "secret";
  EXPECT_EQ(RefusalOf(get_), 401);
  EXPECT_EQ(RefusalOf(WithToken(get_, "guess")), 401);
  EXPECT_EQ(RefusalOf(WithToken(get_, "secret")), kAdmitted);
  EXPECT_EQ(RefusalOf(WithToken(post_, "secret")), kAdmitted);
  AccessControl access(options_);
  Response response;
  EXPECT_EQ(Refusal(&access, get_, &response), 401);
  EXPECT_EQ(HeaderOf(response, "WWW-Authenticate"), "Bearer");
}

TEST_F(AccessControlTest, WithoutATokenOnlyLoopbackIsServed) {
  options_.listen_address = SocketAddress::Ipv4Any(9132);
  EXPECT_EQ(RefusalOf(get_), 403);
  EXPECT_EQ(RefusalOf(WithToken(get_, "")), 403);
}

TEST_F(AccessControlTest, CountsWrongTokensAndRefusesFurtherOnes) {
  options_.token = "secret";
  options_.wrong_tokens_max = 2;
  options_.wrong_token_window = absl::Milliseconds(61500);
  AccessControl access(options_);
  Response response;
  EXPECT_EQ(Refusal(&access, get_, &response), 401);  // none: not counted
  EXPECT_EQ(access.wrong_tokens(), 0u);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(Refusal(&access, WithToken(get_, "guess"), &response), 401);
  }
  EXPECT_EQ(access.wrong_tokens(), 2u);
  Response limited;
  EXPECT_EQ(Refusal(&access, WithToken(get_, "secret"), &limited), 429);
  EXPECT_EQ(HeaderOf(limited, "Retry-After"), "62");
  EXPECT_EQ(access.rate_limited(), 1u);
  Request other = WithToken(get_, "secret");
  other.peer = SocketAddress::FromIpAndPort("127.0.0.2", 50000).value();
  EXPECT_EQ(Refusal(&access, other, &response), kAdmitted);
}

TEST_F(AccessControlTest, TheHostIsTheAddressOrLocalhost) {
  for (const char* host :
       {"127.0.0.1:9132", "localhost:9132", "LocalHost:9132"}) {
    EXPECT_EQ(RefusalOf(WithHeader(get_, "Host", host)), kAdmitted) << host;
    EXPECT_EQ(RefusalOf(WithHeader(post_, "Host", host)), kAdmitted) << host;
  }
  for (const char* host :
       {"", "127.0.0.1", "localhost", "127.0.0.2:9132", "localhost:1",
        "localhost.example:9132", "example.com:9132", "127.0.0.1:9132 "}) {
    EXPECT_EQ(RefusalOf(WithHeader(get_, "Host", host)), 403) << host;
    EXPECT_EQ(RefusalOf(WithHeader(post_, "Host", host)), 403) << host;
  }
}

TEST_F(AccessControlTest, ARightTokenMayGetWithAnyHost) {
  options_.token = "secret";
  EXPECT_EQ(
      RefusalOf(WithToken(WithHeader(get_, "Host", "a.example"), "secret")),
      kAdmitted);
  EXPECT_EQ(
      RefusalOf(WithToken(WithHeader(post_, "Host", "a.example"), "secret")),
      403);
}

TEST_F(AccessControlTest, PortEightyMayBeOmitted) {
  Request request = get_;
  request.local = SocketAddress::Ipv4Loopback(80);
  for (const char* host :
       {"127.0.0.1", "127.0.0.1:80", "localhost", "localhost:80"}) {
    EXPECT_EQ(RefusalOf(WithHeader(request, "Host", host)), kAdmitted) << host;
  }
}

TEST_F(AccessControlTest, TheHostOfAnIpv6AddressHasBrackets) {
  options_.listen_address = SocketAddress::Ipv6Loopback(9132);
  Request request = get_;
  request.local = SocketAddress::Ipv6Loopback(9132);
  EXPECT_EQ(RefusalOf(WithHeader(request, "Host", "[::1]:9132")), kAdmitted);
  EXPECT_EQ(RefusalOf(WithHeader(request, "Host", "localhost:9132")),
            kAdmitted);
  EXPECT_EQ(RefusalOf(WithHeader(request, "Host", "::1:9132")), 403);
}

TEST_F(AccessControlTest, APostIsJson) {
  for (const char* type :
       {"application/json", "Application/JSON", "application/json; a=b"}) {
    EXPECT_EQ(RefusalOf(WithHeader(post_, "Content-Type", type)), kAdmitted)
        << type;
  }
  // The three that a web page can send without a preflight, and none.
  for (const char* type :
       {"", "text/plain", "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x", "text/plain;application/json"}) {
    EXPECT_EQ(RefusalOf(WithHeader(post_, "Content-Type", type)), 415) << type;
  }
}

TEST_F(AccessControlTest, TheRefusalIsJson) {
  AccessControl access(options_);
  Response response;
  EXPECT_EQ(Refusal(&access, WithHeader(get_, "Host", "x"), &response), 403);
  EXPECT_EQ(response.content_type, "application/json");
  EXPECT_THAT(response.body, HasSubstr("{\"error\":\"the Host header"));
}

}  // namespace
}  // namespace internal
}  // namespace admin
}  // namespace udpgate
