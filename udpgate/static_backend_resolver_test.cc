#include "udpgate/static_backend_resolver.h"

#include <cstdint>

#include "gtest/gtest.h"

namespace udpgate {
namespace test {
namespace {

TEST(StaticBackendResolverTest, AnswersInlineWithItsBackend) {
  const SocketAddress backend = SocketAddress::Ipv6Loopback(19132);
  StaticBackendResolver resolver(backend);
  for (const uint16_t client_port : {uint16_t{1}, uint16_t{2}}) {
    int call_count = 0;
    resolver.Resolve(
        {SocketAddress::Ipv4Loopback(client_port), {}, absl::Seconds(3)},
        [&](absl::StatusOr<ResolveResult> result) {
          ++call_count;
          ASSERT_TRUE(result.ok());
          EXPECT_EQ(result->backend, backend);
          EXPECT_EQ(result->label, "[::1]:19132");
        });
    EXPECT_EQ(call_count, 1);
  }
}

TEST(StaticBackendResolverTest, IsAlwaysHealthy) {
  EXPECT_TRUE(StaticBackendResolver(SocketAddress()).Health().ok());
}

}  // namespace
}  // namespace test
}  // namespace udpgate
