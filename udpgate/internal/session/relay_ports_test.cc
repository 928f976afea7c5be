#include "udpgate/internal/session/relay_ports.h"

#include <sys/socket.h>

#include <algorithm>
#include <initializer_list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace internal {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
// The default; and how long a port of another program is not tried.
const int64_t kQuarantine = RelayPortsOptions().quarantine_nanoseconds;
constexpr int64_t kBusyRest = 10 * kSecond;

SocketAddress Source(int last_byte) {
  return *SocketAddress::Parse(absl::StrCat("127.0.0.", last_byte, ":0"));
}

SocketAddress Ipv6Source(int last_byte) {
  return *SocketAddress::Parse(absl::StrCat("[fd00::", last_byte, "]:0"));
}

RelayOwner Owner(uint64_t id) { return {/*shard=*/1, {/*slot=*/2, id}}; }

// With a clock that stands where the test put it.
class RelayPortsTest : public ::testing::Test {
 protected:
  void Start(std::vector<uint16_t> ports,
             RelayPortsOptions options = RelayPortsOptions()) {
    ports_ = std::make_unique<RelayPorts>(std::move(ports), std::move(options));
  }
  void StartWithBindAddresses(std::vector<uint16_t> ports,
                              std::vector<SocketAddress> addresses) {
    RelayPortsOptions options;
    options.bind_addresses = std::move(addresses);
    Start(std::move(ports), std::move(options));
  }

  absl::optional<SocketAddress> TakeAny(
      const SocketAddress& source, std::vector<SocketAddress> avoided = {}) {
    return ports_->Take(source, Owner(++last_id_), now_, avoided);
  }
  // Its port, 0 where there is none.
  int Take(int source = 1) {
    const absl::optional<SocketAddress> relay = TakeAny(Source(source));
    return relay.has_value() ? relay->port() : 0;
  }
  void GiveBack(int port, PortFate fate = PortFate::kUnanswered,
                int source = 1) {
    ports_->GiveBack(Source(source).WithPort(static_cast<uint16_t>(port)), fate,
                     now_);
  }

  std::unique_ptr<RelayPorts> ports_;
  int64_t now_ = 1000 * kSecond;
  uint64_t last_id_ = 0;
};

TEST_F(RelayPortsTest, TakesThePortThatIsUnusedForLongest) {
  Start({10, 11, 12});
  EXPECT_EQ(Take(), 10);
  GiveBack(10);
  EXPECT_EQ(Take(), 11);
  EXPECT_EQ(Take(), 12);
  EXPECT_EQ(Take(), 10);
  EXPECT_EQ(Take(), 0);
  EXPECT_EQ(ports_->in_use(), 3);
}

TEST_F(RelayPortsTest, FindsTheOwnerOfAPort) {
  Start({10, 11});
  ports_->Take(Source(1), Owner(77), now_);
  const std::vector<RelayOwner> owners = ports_->Find(10);
  ASSERT_EQ(owners.size(), 1u);
  EXPECT_EQ(owners[0].session.id, 77u);
  EXPECT_EQ(owners[0].shard, 1u);
  for (const uint16_t port :
       std::initializer_list<uint16_t>{0, 11, 9999, 65535}) {
    EXPECT_TRUE(ports_->Find(port).empty()) << port;
  }
  GiveBack(10);
  EXPECT_TRUE(ports_->Find(10).empty());
}

// From another process.

TEST_F(RelayPortsTest, AnAdoptedPortIsTakenOnceAndCanBeReleased) {
  Start({10, 11, 12, 13});
  EXPECT_TRUE(ports_->AdoptUse(Source(1).WithPort(12), Owner(77)));
  EXPECT_FALSE(ports_->AdoptUse(Source(1).WithPort(12), Owner(78)));
  // Not ours to give, and nobody's.
  EXPECT_TRUE(ports_->AdoptUse(Source(1).WithPort(99), Owner(79)));
  EXPECT_EQ(ports_->in_use(), 1);
  ASSERT_EQ(ports_->Find(12).size(), 1u);
  EXPECT_EQ(ports_->Find(12)[0].session.id, 77u);
  EXPECT_TRUE(ports_->Find(99).empty());
  GiveBack(99);
  GiveBack(12);
  EXPECT_EQ(ports_->in_use(), 0);
  // It was given up last, and comes round once.
  std::vector<int> taken;
  for (int i = 0; i < 4; ++i) taken.push_back(Take());
  EXPECT_EQ(taken.back(), 12);
  EXPECT_EQ(std::set<int>(taken.begin(), taken.end()),
            (std::set<int>{10, 11, 12, 13}));
  EXPECT_EQ(Take(), 0);
}

TEST_F(RelayPortsTest, AnAdoptedQuarantineContinues) {
  Start({10, 11, 12});
  const HandedPort rests[] = {
      {Source(1).WithPort(11), now_ - 20 * kSecond},
      {Source(1).WithPort(99), now_ - 15 * kSecond},
      {Source(1).WithPort(12), now_ - 10 * kSecond},
      {Source(1).WithPort(12), now_ - 5 * kSecond},
  };
  ports_->AdoptQuarantined(rests);
  EXPECT_EQ(ports_->quarantined(now_), 2);
  const std::vector<HandedPort> again = ports_->Quarantined();
  ASSERT_EQ(again.size(), 2u);
  EXPECT_EQ(again[0].relay, Source(1).WithPort(11));
  EXPECT_EQ(again[0].since_nanoseconds, now_ - 20 * kSecond);
  EXPECT_EQ(Take(), 10);
  now_ += 11 * kSecond;
  EXPECT_EQ(Take(), 11);
  now_ += 10 * kSecond;
  EXPECT_EQ(Take(), 12);
  EXPECT_EQ(ports_->quarantined_ports_taken(), 0u);
}

TEST_F(RelayPortsTest, PortsAreUniqueOverAllSourcesWhilePossible) {
  Start({10, 11, 12});
  std::set<int> taken;
  for (int source = 1; source <= 3; ++source) {
    EXPECT_TRUE(taken.insert(Take(source)).second);
  }
  // From here on ports are shared, but never twice on one source.
  std::set<int> on_first = {10};
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(on_first.insert(Take()).second);
  EXPECT_EQ(on_first, (std::set<int>{10, 11, 12}));
  EXPECT_EQ(Take(), 0);
  EXPECT_EQ(ports_->in_use(), 5);
  EXPECT_EQ(ports_->Find(11).size(), 2u) << "ambiguous, and it shows";

  // Only its own source can take it anew, and unique is what no other has.
  GiveBack(11);
  EXPECT_EQ(ports_->Find(11).size(), 1u);
  EXPECT_EQ(Take(), 11);
  GiveBack(12, PortFate::kUnanswered, 3);
  GiveBack(12);
  EXPECT_EQ(Take(4), 12);
}

TEST_F(RelayPortsTest, IgnoresAPortThatIsReleasedTwiceOrWasNeverTaken) {
  Start({10});
  Take();
  GiveBack(10, PortFate::kAnswered, /*source=*/2);
  GiveBack(11);
  GiveBack(0);
  EXPECT_EQ(ports_->in_use(), 1);
  GiveBack(10);
  GiveBack(10, PortFate::kAnswered);
  EXPECT_EQ(ports_->in_use(), 0);
  EXPECT_EQ(ports_->quarantined(now_), 0);
  EXPECT_EQ(Take(), 10);
  EXPECT_EQ(Take(), 0);
}

TEST_F(RelayPortsTest, CountsAPortThatIsListedTwiceOnce) {
  Start({10, 11, 10});
  EXPECT_EQ(Take(), 10);
  EXPECT_EQ(Take(), 11);
  EXPECT_EQ(Take(), 0);
}

TEST_F(RelayPortsTest, WithoutPortsNothingIsTaken) {
  Start({});
  EXPECT_EQ(Take(), 0);
  EXPECT_TRUE(ports_->Find(10).empty());
}

// Quarantine.

TEST_F(RelayPortsTest, APortWithRepliesIsPutIntoQuarantine) {
  Start({10, 11, 12});
  Take();
  GiveBack(10, PortFate::kAnswered);
  EXPECT_EQ(ports_->quarantined(now_), 1);
  EXPECT_EQ(Take(), 11);
  GiveBack(11);
  EXPECT_EQ(Take(), 12);
  GiveBack(12);
  // Over and over, never the one in quarantine.
  for (int i = 0; i < 10; ++i) {
    const int port = Take();
    EXPECT_EQ(port, i % 2 == 0 ? 11 : 12);
    GiveBack(port);
  }
  EXPECT_EQ(ports_->quarantined_ports_taken(), 0u);
}

TEST_F(RelayPortsTest, AfterItsQuarantineAPortIsTheNextOne) {
  Start({10, 11, 12});
  Take();
  Take();
  Take();
  GiveBack(10, PortFate::kAnswered);
  now_ += 5 * kSecond;
  GiveBack(11);
  now_ += kQuarantine - 5 * kSecond - 1;
  EXPECT_EQ(ports_->quarantined(now_), 1);
  EXPECT_EQ(Take(), 11);
  GiveBack(11);
  now_ += 1;
  EXPECT_EQ(ports_->quarantined(now_), 0);
  EXPECT_EQ(Take(), 10);
  EXPECT_EQ(Take(), 11);
  EXPECT_EQ(ports_->quarantined_ports_taken(), 0u);
}

TEST_F(RelayPortsTest, TakesTheOldestQuarantinedPortIfNoOtherIsLeft) {
  Start({10, 11, 12});
  Take();
  Take();
  Take();
  for (const int port : {12, 10, 11}) {
    GiveBack(port, PortFate::kAnswered);
    now_ += kSecond;
  }
  EXPECT_EQ(ports_->quarantined(now_), 3);
  EXPECT_EQ(Take(), 12);
  EXPECT_EQ(Take(), 10);
  EXPECT_EQ(ports_->quarantined(now_), 1);
  EXPECT_EQ(ports_->quarantined_ports_taken(), 2u);
  EXPECT_EQ(Take(), 11);
  EXPECT_EQ(Take(), 0);
  EXPECT_EQ(ports_->quarantined_ports_taken(), 3u);
}

// A flood that takes them, or an attempt that fails, must not wash them clean.
TEST_F(RelayPortsTest, APortTakenOutOfQuarantineReturnsToIt) {
  Start({10, 11});
  Take();
  Take();
  GiveBack(10, PortFate::kAnswered);
  GiveBack(11, PortFate::kAnswered);
  EXPECT_EQ(Take(), 10);
  GiveBack(10);
  EXPECT_EQ(ports_->quarantined(now_), 2);
  EXPECT_EQ(Take(), 11);
  now_ += kQuarantine;
  GiveBack(11);
  EXPECT_EQ(ports_->quarantined(now_), 0) << "the old player is forgotten";
}

TEST_F(RelayPortsTest, ZeroDisablesTheQuarantine) {
  RelayPortsOptions options;
  options.quarantine_nanoseconds = 0;
  Start({10, 11}, options);
  Take();
  GiveBack(10, PortFate::kAnswered);
  EXPECT_EQ(ports_->quarantined(now_), 0);
  EXPECT_EQ(Take(), 11);
  EXPECT_EQ(Take(), 10);
  EXPECT_EQ(ports_->quarantined_ports_taken(), 0u);
}

TEST_F(RelayPortsTest, CountsQuarantinedPortsWithoutTraffic) {
  std::vector<uint16_t> all(1000);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i + 1);
  Start(all);
  for (const int port : all) EXPECT_EQ(Take(), port);
  for (const int port : all) {
    GiveBack(port, PortFate::kAnswered);
    now_ += kSecond / 1000;
  }
  EXPECT_EQ(ports_->quarantined(now_), 1000);
  EXPECT_EQ(ports_->quarantined(now_ + kQuarantine - kSecond / 2 - 1), 500);
  EXPECT_EQ(ports_->quarantined(now_ + kQuarantine), 0);
}

// Shards read their clocks a little apart.
TEST_F(RelayPortsTest, ALaggingClockKeepsTheOrder) {
  Start({10, 11});
  Take();
  Take();
  GiveBack(10, PortFate::kAnswered);
  now_ -= kSecond;
  GiveBack(11, PortFate::kAnswered);
  EXPECT_EQ(Take(), 10);
  now_ += kSecond + kQuarantine;
  EXPECT_EQ(ports_->quarantined(now_), 0);
  EXPECT_EQ(Take(), 11);
  EXPECT_EQ(ports_->quarantined_ports_taken(), 1u);
}

// Ports of other programs.

TEST_F(RelayPortsTest, RetriesAPortOfAnotherProgramLast) {
  Start({10, 11, 12});
  EXPECT_EQ(Take(), 10);
  GiveBack(10, PortFate::kBusy);
  EXPECT_EQ(ports_->quarantined(now_), 0);
  EXPECT_EQ(Take(), 11);
  GiveBack(11, PortFate::kAnswered);
  EXPECT_EQ(Take(), 12);
  EXPECT_EQ(Take(), 11) << "rather one in quarantine";
  EXPECT_EQ(ports_->quarantined_ports_taken(), 1u);
  EXPECT_EQ(Take(), 10) << "it may be free by now";
  EXPECT_EQ(ports_->quarantined_ports_taken(), 1u);
}

TEST_F(RelayPortsTest, RetriesAPortOfAnotherProgramAfterAWhile) {
  Start({10, 11});
  EXPECT_EQ(Take(), 10);
  GiveBack(10, PortFate::kBusy);
  now_ += kBusyRest - 1;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Take(), 11);
    GiveBack(11);
  }
  now_ += 1;
  EXPECT_EQ(Take(), 11);
  EXPECT_EQ(Take(), 10);
}

// Several source addresses.

TEST_F(RelayPortsTest, UsesBindAddressesInTurn) {
  StartWithBindAddresses({10, 11, 12, 13, 14, 15},
                         {Source(2), Ipv6Source(1), Source(3), Ipv6Source(2)});
  // The routes' choice does not matter, but for its family.
  EXPECT_EQ(*TakeAny(Source(1)), Source(2).WithPort(10));
  EXPECT_EQ(*TakeAny(Ipv6Source(9)), Ipv6Source(1).WithPort(11));
  EXPECT_EQ(*TakeAny(Source(1)), Source(3).WithPort(12));
  EXPECT_EQ(*TakeAny(Source(1)), Source(2).WithPort(13));
  EXPECT_EQ(*TakeAny(Ipv6Source(9)), Ipv6Source(2).WithPort(14));
  EXPECT_EQ(*TakeAny(SocketAddress::Ipv6Any(0)), Ipv6Source(1).WithPort(15));
}

TEST_F(RelayPortsTest, UsesTheRouteWithoutABindAddressOfTheFamily) {
  StartWithBindAddresses({10, 11, 12}, {Source(2), Source(2).WithPort(99)});
  EXPECT_TRUE(ports_->HasBindAddress(AF_INET));
  EXPECT_FALSE(ports_->HasBindAddress(AF_INET6));
  EXPECT_EQ(*TakeAny(Ipv6Source(9)), Ipv6Source(9).WithPort(10));
  EXPECT_EQ(*TakeAny(Source(1)), Source(2).WithPort(11));
  EXPECT_EQ(*TakeAny(Source(1)), Source(2).WithPort(12));
}

TEST_F(RelayPortsTest, NeverTakesAnAvoidedAddress) {
  StartWithBindAddresses({10, 11}, {Source(2), Source(3)});
  EXPECT_EQ(*TakeAny(Source(1), {Source(2)}), Source(3).WithPort(10));
  EXPECT_EQ(TakeAny(Source(1), {Source(2), Source(3)}), absl::nullopt);
  EXPECT_EQ(TakeAny(Ipv6Source(1), {Ipv6Source(1)}), absl::nullopt);
}

TEST_F(RelayPortsTest, SeveralAddressesMultiplyThePorts) {
  StartWithBindAddresses({10, 11, 12}, {Source(1), Source(2)});
  std::map<int, int> uses_by_port;
  std::set<std::string> relays;
  for (int i = 0; i < 6; ++i) {
    const absl::optional<SocketAddress> relay = TakeAny(Source(1));
    ASSERT_TRUE(relay.has_value()) << i;
    EXPECT_TRUE(relays.insert(relay->ToString()).second) << *relays.rbegin();
    ++uses_by_port[relay->port()];
    EXPECT_LE(uses_by_port[relay->port()], i < 3 ? 1 : 2) << "not unique";
  }
  EXPECT_EQ(TakeAny(Source(1)), absl::nullopt);
  EXPECT_EQ(ports_->in_use(), 6);
  // Whichever comes free is found, although it is another address's turn.
  for (const int source : {1, 1, 2, 2, 1}) {
    GiveBack(11, PortFate::kUnanswered, source);
    EXPECT_EQ(*TakeAny(Source(1)), Source(source).WithPort(11));
  }
}

// Another address's backends never met the old player there.
TEST_F(RelayPortsTest, PrefersTheSamePortAtAnotherAddressToAQuarantinedOne) {
  StartWithBindAddresses({10, 11}, {Source(1), Source(2)});
  EXPECT_EQ(*TakeAny(Source(1)), Source(1).WithPort(10));
  EXPECT_EQ(*TakeAny(Source(1)), Source(2).WithPort(11));
  GiveBack(10, PortFate::kAnswered, 1);
  // It is the turn of the first.
  EXPECT_EQ(*TakeAny(Source(1)), Source(2).WithPort(10)) << "still unique";
  // All that is left: (1, 11), shared, and (1, 10), shared and quarantined.
  EXPECT_EQ(*TakeAny(Source(1)), Source(1).WithPort(11));
  EXPECT_EQ(ports_->quarantined_ports_taken(), 0u);
  EXPECT_EQ(*TakeAny(Source(1)), Source(1).WithPort(10));
  EXPECT_EQ(ports_->quarantined_ports_taken(), 1u);
  EXPECT_EQ(TakeAny(Source(1)), absl::nullopt);
}

TEST_F(RelayPortsTest, TakesTheOldestQuarantineOfAllAddresses) {
  StartWithBindAddresses({10}, {Source(1), Source(2)});
  TakeAny(Source(1));
  TakeAny(Source(1));
  GiveBack(10, PortFate::kAnswered, 2);
  now_ += kSecond;
  GiveBack(10, PortFate::kAnswered, 1);
  EXPECT_EQ(ports_->quarantined(now_), 2);
  EXPECT_EQ(*TakeAny(Source(1)), Source(2).WithPort(10));
  EXPECT_EQ(*TakeAny(Source(1)), Source(1).WithPort(10));
}

// Addresses come and go, as with IPv6's temporary ones.
TEST_F(RelayPortsTest, ForgetsAddressesThatAreGone) {
  Start({10, 11});
  for (int i = 1; i < 250; ++i) {
    const int port = Take(i);
    ASSERT_NE(port, 0);
    EXPECT_EQ(ports_->Find(static_cast<uint16_t>(port)).size(), 1u);
    GiveBack(port, i % 2 == 0 ? PortFate::kAnswered : PortFate::kUnanswered, i);
    now_ += kQuarantine;
  }
  EXPECT_EQ(ports_->in_use(), 0);
  EXPECT_EQ(ports_->quarantined(now_), 0);
}

TEST(LocalPortRangeTest, IsTheRangeOfTheSystemWithoutReservedPorts) {
  std::vector<uint16_t> ports = LocalPortRange();
  ASSERT_FALSE(ports.empty());
  EXPECT_FALSE(std::is_sorted(ports.begin(), ports.end())) << "not shuffled";
  std::sort(ports.begin(), ports.end());
  EXPECT_EQ(std::adjacent_find(ports.begin(), ports.end()), ports.end());
  EXPECT_GE(ports.front(), 1);
}

TEST(ParseReservedPortsTest, ParsesTheSyntaxOfTheKernel) {
  const std::vector<bool> is_reserved =
      ParseReservedPorts("80,40000-40002,65535\n");
  for (const int port : {80, 40000, 40001, 40002, 65535}) {
    EXPECT_TRUE(is_reserved[port]) << port;
  }
  for (const int port : {0, 79, 81, 39999, 40003}) {
    EXPECT_FALSE(is_reserved[port]) << port;
  }
}

TEST(ParseReservedPortsTest, SkipsInvalidParts) {
  for (const char* text : {"", "\n", "x", "1-y", "-", "70000", "9-8", "-5"}) {
    const std::vector<bool> is_reserved = ParseReservedPorts(text);
    EXPECT_EQ(std::count(is_reserved.begin(), is_reserved.end(), true), 0)
        << text;
  }
}

TEST_F(RelayPortsTest, CapacityIsThatOfTheFamilyWithMoreAddresses) {
  Start({1, 2, 3});
  EXPECT_EQ(ports_->capacity(), 3);
  EXPECT_EQ(ports_->SourceCount(AF_INET), 1u);
  StartWithBindAddresses({1, 2, 3},
                         {Source(1), Source(2), Source(3), Ipv6Source(1)});
  EXPECT_EQ(ports_->capacity(), 9);
  EXPECT_EQ(ports_->SourceCount(AF_INET), 3u);
  EXPECT_EQ(ports_->SourceCount(AF_INET6), 1u);
}

// Those in quarantine are, since they were ours.
TEST_F(RelayPortsTest, TakesNoPortOfAnotherProgramUnlessAllowed) {
  Start({1, 2});
  ASSERT_EQ(Take(), 1);
  ASSERT_EQ(Take(), 2);
  const auto take = [this](bool takes_busy) {
    const absl::optional<SocketAddress> relay =
        ports_->Take(Source(1), Owner(++last_id_), now_, {},
                     /*is_ours_first=*/false, takes_busy);
    return relay.has_value() ? relay->port() : 0;
  };
  ports_->GiveBack(Source(1).WithPort(1), PortFate::kBusy, now_);
  ports_->GiveBack(Source(1).WithPort(2), PortFate::kAnswered, now_);
  EXPECT_EQ(take(false), 2);
  EXPECT_EQ(take(false), 0);
  EXPECT_EQ(take(true), 1);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
