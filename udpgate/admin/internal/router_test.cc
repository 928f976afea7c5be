#include "udpgate/admin/internal/router.h"

#include <stdexcept>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "udpgate/http/message.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

using http::Request;
using http::Response;
using ::testing::HasSubstr;

Request NewRequest(const std::string& method, const std::string& target) {
  Request request;
  request.method = method;
  request.target = target;
  return request;
}

// A router with a route of each method, which admits what has no header "Deny".
class RouterTest : public ::testing::Test {
 protected:
  RouterTest() {
    router_.Get("/get", [](const Request& request, Response* response) {
      response->body = request.target;
    });
    router_.Post("/post", [](const Request& request, Response* response) {
      response->body = request.body;
    });
    router_.Get("/throws", [](const Request&, Response* response) {
      response->body = "half";
      throw std::runtime_error("of a hook");
    });
  }

  Response Process(const std::string& method, const std::string& target) {
    return router_.Process(NewRequest(method, target));
  }

  Router router_{[](const Request& request, Response* response) {
    if (request.FindHeader("Deny") == nullptr) return true;
    SetError(response, 403, "denied");
    return false;
  }};
};

TEST_F(RouterTest, FindsTheRouteByMethodAndPath) {
  EXPECT_EQ(Process("GET", "/get").body, "/get");
  EXPECT_EQ(Process("GET", "/get").status, 200);
  EXPECT_EQ(Process("GET", "/get?a=b").body, "/get?a=b");
  EXPECT_EQ(Process("HEAD", "/get").body, "/get");
  Request post = NewRequest("POST", "/post");
  post.body = "{}";
  EXPECT_EQ(router_.Process(post).body, "{}");
}

TEST_F(RouterTest, AllElseHasNoPath) {
  for (const char* path : {"/", "/get/", "/GET", "//get", "/%67et", "/post"}) {
    const Response response = Process("GET", path);
    EXPECT_EQ(response.status, 404) << path;
    EXPECT_EQ(response.body, "{\"error\":\"no such path\"}\n") << path;
    EXPECT_EQ(response.content_type, "application/json") << path;
  }
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "PATCH"}) {
    EXPECT_EQ(Process(method, "/get").status, 404) << method;
  }
}

TEST_F(RouterTest, UnknownMethodsAreRefused) {
  for (const char* method : {"BREW", "get", "G"}) {
    EXPECT_EQ(Process(method, "/get").status, 400) << method;
  }
}

TEST_F(RouterTest, WhatIsNotAdmittedReachesNoRoute) {
  Request request = NewRequest("GET", "/get");
  request.headers = {{"Deny", ""}};
  const Response response = router_.Process(request);
  EXPECT_EQ(response.status, 403);
  EXPECT_EQ(response.body, "{\"error\":\"denied\"}\n");
}

TEST_F(RouterTest, EncodedBodiesAndAmbiguousHeadersAreRefused) {
  Request request = NewRequest("POST", "/post");
  request.headers = {{"content-encoding", "gzip"}};
  EXPECT_EQ(router_.Process(request).status, 501);
  request.headers = {{"Authorization", "Bearer a"},
                     {"authorization", "Bearer b"}};
  const Response response = router_.Process(request);
  EXPECT_EQ(response.status, 400);
  EXPECT_THAT(response.body, HasSubstr("duplicate header: Authorization"));
  request.headers = {{"Content-Type", "text/plain"},
                     {"Content-Type", "application/json"}};
  EXPECT_EQ(router_.Process(request).status, 400);
}

TEST_F(RouterTest, AnExceptionOfAHookIsAnError) {
  const Response response = Process("GET", "/throws");
  EXPECT_EQ(response.status, 500);
  EXPECT_EQ(response.body, "{\"error\":\"internal error\"}\n");
}

TEST_F(RouterTest, EachResponseTellsBrowsersToBeCareful) {
  for (const char* path : {"/get", "/other", "/throws"}) {
    const Response response = Process("GET", path);
    ASSERT_NE(response.FindHeader("Content-Security-Policy"), nullptr) << path;
    EXPECT_THAT(*response.FindHeader("Content-Security-Policy"),
                HasSubstr("default-src 'none'"));
    ASSERT_NE(response.FindHeader("Cache-Control"), nullptr) << path;
    EXPECT_EQ(*response.FindHeader("Cache-Control"), "no-store");
    ASSERT_NE(response.FindHeader("X-Content-Type-Options"), nullptr) << path;
    EXPECT_EQ(*response.FindHeader("X-Content-Type-Options"), "nosniff");
  }
}

}  // namespace
}  // namespace internal
}  // namespace admin
}  // namespace udpgate
