#include "cli/settings/gateway_id.h"

#include <unistd.h>

#include <string>

#include "gtest/gtest.h"

namespace udpgate {
namespace cli {
namespace {

TEST(GatewayIdTest, HasLimits) {
  EXPECT_TRUE(IsGatewayId("a"));
  EXPECT_TRUE(IsGatewayId("gateway-1.eu:19132"));
  EXPECT_TRUE(IsGatewayId(std::string(64, 'a')));
  EXPECT_FALSE(IsGatewayId(""));
  EXPECT_FALSE(IsGatewayId(std::string(65, 'a')));
  for (const char* bad : {"a b", " a", "a\n", "a\t", "\x7f", "\xc3\xa9"}) {
    EXPECT_FALSE(IsGatewayId(bad)) << bad;
  }
}

TEST(GatewayIdTest, EveryHostHasOne) {
  EXPECT_EQ(GatewayIdOfHost("gateway-1.eu"), "gateway-1.eu");
  EXPECT_EQ(GatewayIdOfHost(""), "udp-gate");
  EXPECT_EQ(GatewayIdOfHost("my host\n\xc3\xa9"), "my-host---");
  EXPECT_EQ(GatewayIdOfHost(std::string(70, 'a')), std::string(64, 'a'));
}

TEST(GatewayIdTest, DefaultIsTheNameOfThisHost) {
  char name[256] = {};
  ASSERT_EQ(gethostname(name, sizeof(name) - 1), 0);
  EXPECT_EQ(DefaultGatewayId(), GatewayIdOfHost(name));
  EXPECT_TRUE(IsGatewayId(DefaultGatewayId()));
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
