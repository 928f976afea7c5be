#include "udpgate/admin/internal/query.h"

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
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

SocketAddress Address(const std::string& text) {
  return *SocketAddress::Parse(text);
}

Request WithParameter(const std::string& value) {
  Request request;
  request.target = absl::StrCat("/path?name=", value);
  return request;
}

Request WithTarget(const std::string& target) {
  Request request;
  request.target = target;
  return request;
}

TEST(PathOfTest, EndsAtTheQuestionMark) {
  EXPECT_EQ(PathOf(WithTarget("/a/b")), "/a/b");
  EXPECT_EQ(PathOf(WithTarget("/a?b=/c?d")), "/a");
  EXPECT_EQ(PathOf(WithTarget("/?")), "/");
  // Not decoded, so that it has one form.
  EXPECT_EQ(PathOf(WithTarget("/%61?")), "/%61");
}

TEST(ParameterOfTest, IsTheFirstOfItsName) {
  const Request request = WithTarget("/path?a=1&b=2&a=3&c&d=x=y&");
  EXPECT_EQ(ParameterOf(request, "a"), "1");
  EXPECT_EQ(ParameterOf(request, "b"), "2");
  EXPECT_EQ(ParameterOf(request, "c"), "");
  EXPECT_EQ(ParameterOf(request, "d"), "x=y");
  EXPECT_EQ(ParameterOf(request, "e"), absl::nullopt);
  for (const char* target : {"/a=1", "/path", "/path?", "/path?aa=1&A=1"}) {
    EXPECT_EQ(ParameterOf(WithTarget(target), "a"), absl::nullopt) << target;
  }
}

TEST(ParameterOfTest, IsDecoded) {
  const auto value = [](const std::string& text) {
    return ParameterOf(WithParameter(text), "name").value_or("none");
  };
  EXPECT_EQ(value("%5B%3a%3A1%5d%3A5"), "[::1]:5");
  EXPECT_EQ(value("a+b%20c%2B"), "a b c+");
  EXPECT_EQ(value("%00"), std::string("\0", 1));
  EXPECT_EQ(value("%"), "%");
  EXPECT_EQ(value("%1"), "%1");
  EXPECT_EQ(value("%1g%zz%41"), "%1g%zzA");
  EXPECT_EQ(ParameterOf(WithTarget("/?n%61me=1"), "name"), "1");
}

TEST(ParseFilterTest, AnAddressMatchesItself) {
  AddressFilter filter;
  Response response;
  ASSERT_TRUE(
      ParseFilter(WithParameter("192.0.2.1:5"), "name", &filter, &response));
  EXPECT_TRUE(filter.Matches(Address("192.0.2.1:5")));
  EXPECT_FALSE(filter.Matches(Address("192.0.2.1:6")));
  EXPECT_FALSE(filter.Matches(Address("192.0.2.2:5")));
  EXPECT_FALSE(filter.Matches(SocketAddress()));
}

TEST(ParseFilterTest, AnAddressWithoutPortMatchesAllItsPorts) {
  for (const char* ip : {"192.0.2.1", "2001:db8::1"}) {
    AddressFilter filter;
    Response response;
    ASSERT_TRUE(ParseFilter(WithParameter(ip), "name", &filter, &response));
    EXPECT_TRUE(filter.Matches(*SocketAddress::FromIpAndPort(ip, 5)));
    EXPECT_TRUE(filter.Matches(*SocketAddress::FromIpAndPort(ip, 6)));
    EXPECT_FALSE(filter.Matches(Address("192.0.2.2:5")));
    EXPECT_FALSE(filter.Matches(SocketAddress()));
  }
}

TEST(ParseFilterTest, WithoutTheParameterEverythingMatches) {
  AddressFilter filter;
  Response response;
  ASSERT_TRUE(
      ParseFilter(WithParameter("192.0.2.1"), "other", &filter, &response));
  EXPECT_TRUE(filter.Matches(Address("192.0.2.9:9")));
  EXPECT_TRUE(filter.Matches(SocketAddress()));
}

TEST(ParseFilterTest, WhatIsNoAddressIsAnError) {
  for (const char* text : {"", "host", "host:1", "1.2.3", "192.0.2.1:70000",
                           "[::1]", "192.0.2.1:"}) {
    AddressFilter filter;
    Response response;
    EXPECT_FALSE(ParseFilter(WithParameter(text), "name", &filter, &response))
        << text;
    EXPECT_EQ(response.status, 400) << text;
    EXPECT_THAT(response.body, HasSubstr("name: must be 1.2.3.4:port")) << text;
  }
}

TEST(ParseCountTest, TakesTheNumbersOfItsRange) {
  Response response;
  uint64_t value = 7;
  EXPECT_TRUE(ParseCount(Request(), "name", 1, 10, &value, &response));
  EXPECT_EQ(value, 7u);
  EXPECT_TRUE(ParseCount(WithParameter("1"), "name", 1, 10, &value, &response));
  EXPECT_EQ(value, 1u);
  EXPECT_TRUE(
      ParseCount(WithParameter("0010"), "name", 1, 10, &value, &response));
  EXPECT_EQ(value, 10u);
}

TEST(ParseCountTest, AllElseIsAnErrorThatNamesTheRange) {
  for (const char* text : {"", "0", "11", "-1", "%2b1", "%201", "1%20", "1e0",
                           "0x1", "18446744073709551617"}) {
    Response response;
    uint64_t value = 7;
    EXPECT_FALSE(
        ParseCount(WithParameter(text), "name", 1, 10, &value, &response))
        << text;
    EXPECT_EQ(response.status, 400) << text;
    EXPECT_THAT(response.body,
                HasSubstr("name: must be an integer from 1 to 10"))
        << text;
  }
}

}  // namespace
}  // namespace internal
}  // namespace admin
}  // namespace udpgate
