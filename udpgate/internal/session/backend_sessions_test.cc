#include "udpgate/internal/session/backend_sessions.h"

#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace internal {
namespace {

using ::testing::ElementsAre;
using ::testing::FieldsAre;
using ::testing::IsEmpty;

SocketAddress Address(uint16_t port) {
  return SocketAddress::Ipv4Loopback(port);
}

TEST(BackendSessionsTest, TheOneWithTheMostSessionsIsFirst) {
  BackendSessions sessions;
  EXPECT_THAT(sessions.Counts(), IsEmpty());
  for (const uint16_t port : std::vector<uint16_t>{3, 2, 1, 3})
    sessions.Add(Address(port));
  EXPECT_THAT(sessions.Counts(),
              ElementsAre(FieldsAre(Address(3), 2), FieldsAre(Address(1), 1),
                          FieldsAre(Address(2), 1)));
}

TEST(BackendSessionsTest, ABackendWithoutSessionsIsForgotten) {
  BackendSessions sessions;
  sessions.Add(Address(1));
  sessions.Add(Address(2));
  sessions.Subtract(Address(1));
  sessions.Subtract(Address(1));
  sessions.Subtract(Address(3));
  EXPECT_THAT(sessions.Counts(), ElementsAre(FieldsAre(Address(2), 1)));
}

TEST(BackendSessionsTest, NoAddressIsNoBackend) {
  BackendSessions sessions;
  sessions.Add(SocketAddress());
  sessions.Subtract(SocketAddress());
  EXPECT_THAT(sessions.Counts(), IsEmpty());
}

TEST(BackendSessionsTest, ShardsMayCountAtTheSameTime) {
  BackendSessions sessions;
  std::vector<std::thread> shards;
  for (int shard = 0; shard < 4; ++shard) {
    shards.emplace_back([&sessions] {
      for (uint16_t i = 0; i < 1000; ++i) {
        const SocketAddress backend =
            Address(static_cast<uint16_t>(i % 100 + 1));
        sessions.Add(backend);
        sessions.Add(Address(7777));
        sessions.Subtract(backend);
        if (i % 100 == 0) (void)sessions.Counts();
      }
    });
  }
  for (std::thread& shard : shards) shard.join();
  EXPECT_THAT(sessions.Counts(), ElementsAre(FieldsAre(Address(7777), 4000)));
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
