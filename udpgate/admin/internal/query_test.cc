#include "udpgate/admin/internal/query.h"

#include <httplib.h>

#include <cstdint>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

using ::httplib::Request;
using ::httplib::Response;
using ::testing::HasSubstr;

SocketAddress Address(const std::string& text) {
  return *SocketAddress::Parse(text);
}

Request WithParameter(const std::string& value) {
  Request request;
  request.params.emplace("name", value);
  return request;
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
  for (const char* text : {"", "0", "11", "-1", "+1", " 1", "1 ", "1e0", "0x1",
                           "18446744073709551617"}) {
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
