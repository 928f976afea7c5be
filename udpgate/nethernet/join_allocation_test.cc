// An attacker decides how many datagrams of unknown clients arrive.
#include <cstdint>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "testing/internal/support/allocation_count.h"
#include "testing/simulated_clock.h"
#include "udpgate/nethernet/join_fixture.h"
#include "udpgate/nethernet/join_table.h"
#include "udpgate/nethernet/nethernet_resolver.h"
#include "udpgate/static_backend_resolver.h"

namespace udpgate {
namespace nethernet {
namespace test {
namespace {

using ::udpgate::test::AllocationCount;
using ::udpgate::test::SimulatedClock;

TEST(JoinAllocationTest, ScreeningADatagramAllocatesNothing) {
  SimulatedClock clock;
  const auto joins = std::make_shared<JoinTable>(JoinTableOptions(), &clock);
  NetherNetResolver resolver(
      std::make_shared<StaticBackendResolver>(SocketAddress::Ipv4Loopback(9)),
      joins);
  const std::string ufrag = "a-ufrag-that-no-small-string-has-room-for";
  ASSERT_TRUE(Add(JoinWith(ufrag), joins.get()).ok());
  const std::string known = CheckOf(ufrag);
  const std::string unknown = CheckOf("another-ufrag-of-more-than-22-bytes");
  stun::BindingRequestOptions options;
  options.username = ufrag + ":offer";
  options.password = "a guess of the password";
  options.has_integrity_sha256 = true;
  const std::string wrong = stun::BuildBindingRequest(options);
  const std::string malformed = known.substr(0, 50);
  const std::string dtls = "\x16\xfe\xfd";
  const std::string other = "\x05 RakNet";
  const SocketAddress client = Address("192.0.2.1:1000");

  const int64_t before = AllocationCount();
  ASSERT_GT(before, 0);  // those of the lines above are counted
  for (int i = 0; i < 100; ++i) {
    for (const std::string* datagram :
         {&known, &unknown, &wrong, &malformed, &dtls, &other}) {
      resolver.Screen(client, *datagram);
    }
  }
  EXPECT_EQ(AllocationCount(), before);
  EXPECT_EQ(joins->stats().stun_known, 100u);
  EXPECT_EQ(joins->stats().stun_wrong_integrity, 100u);
}

}  // namespace
}  // namespace test
}  // namespace nethernet
}  // namespace udpgate
