#include "udpgate/internal/relay_ports.h"

#include <sys/socket.h>

#include <algorithm>
#include <deque>
#include <initializer_list>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace internal {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
// The default quarantine, and the rest of a port that a stranger has.
constexpr int64_t kQuarantine = 30 * kSecond;
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

TEST_F(RelayPortsTest, TakesThePortThatRestedLongest) {
  Start({10, 11, 12});
  EXPECT_EQ(Take(), 10);
  GiveBack(10);
  EXPECT_EQ(Take(), 11);
  EXPECT_EQ(Take(), 12);
  EXPECT_EQ(Take(), 10);
  EXPECT_EQ(Take(), 0);
  EXPECT_EQ(ports_->in_use(), 3);
}

TEST_F(RelayPortsTest, KnowsWhoseAPortIs) {
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

TEST_F(RelayPortsTest, WhatIsAdoptedIsTakenOnceAndCanBeGivenBack) {
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

TEST_F(RelayPortsTest, AnAdoptedRestGoesOnFromWhereItWas) {
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

TEST_F(RelayPortsTest, IsUniqueOverAllSourcesWhilePossible) {
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

TEST_F(RelayPortsTest, SurvivesAPortThatIsGivenBackTwiceOrWasNeverTaken) {
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

TEST_F(RelayPortsTest, WithoutPortsThereIsNothingToTake) {
  Start({});
  EXPECT_EQ(Take(), 0);
  EXPECT_TRUE(ports_->Find(10).empty());
}

// Quarantine.

TEST_F(RelayPortsTest, APortWithAnswersIsLeftAloneWhileThereAreOthers) {
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

TEST_F(RelayPortsTest, AfterItsQuarantineAPortIsTheOneThatRestedLongest) {
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

TEST_F(RelayPortsTest, WhenOnlyQuarantinedPortsAreLeftTheOldestIsTaken) {
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
TEST_F(RelayPortsTest, APortTakenOutOfQuarantineGoesBackThere) {
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

TEST_F(RelayPortsTest, AQuarantineOfZeroIsNone) {
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

TEST_F(RelayPortsTest, TheGaugeOfQuarantinedPortsNeedsNoTraffic) {
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
TEST_F(RelayPortsTest, ALaggingClockPutsNothingOutOfOrder) {
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

TEST_F(RelayPortsTest, APortOfAnotherProgramIsTriedAgainLast) {
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

TEST_F(RelayPortsTest, APortOfAnotherProgramIsTriedAgainAfterAWhile) {
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

TEST_F(RelayPortsTest, BindAddressesAreUsedInTurn) {
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

TEST_F(RelayPortsTest, WithoutABindAddressOfTheFamilyTheRouteDecides) {
  StartWithBindAddresses({10, 11, 12}, {Source(2), Source(2).WithPort(99)});
  EXPECT_TRUE(ports_->HasBindAddress(AF_INET));
  EXPECT_FALSE(ports_->HasBindAddress(AF_INET6));
  EXPECT_EQ(*TakeAny(Ipv6Source(9)), Ipv6Source(9).WithPort(10));
  EXPECT_EQ(*TakeAny(Source(1)), Source(2).WithPort(11));
  EXPECT_EQ(*TakeAny(Source(1)), Source(2).WithPort(12));
}

TEST_F(RelayPortsTest, WhatIsAvoidedIsNotTaken) {
  StartWithBindAddresses({10, 11}, {Source(2), Source(3)});
  EXPECT_EQ(*TakeAny(Source(1), {Source(2)}), Source(3).WithPort(10));
  EXPECT_EQ(TakeAny(Source(1), {Source(2), Source(3)}), absl::nullopt);
  EXPECT_EQ(TakeAny(Ipv6Source(1), {Ipv6Source(1)}), absl::nullopt);
}

TEST_F(RelayPortsTest, OneAddressIsNoCeiling) {
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
TEST_F(RelayPortsTest, RatherTheSamePortAtAnotherAddressThanAQuarantinedOne) {
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

TEST_F(RelayPortsTest, OfSeveralAddressesTheOldestQuarantineCounts) {
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
TEST_F(RelayPortsTest, AddressesThatAreGoneTakeNoPlace) {
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

// Everything at once, against a model that is too simple to be wrong.

class Model {
 public:
  Model(const std::vector<uint16_t>& ports, int source_count)
      : source_count_(source_count) {
    for (int source = 1; source <= source_count; ++source) {
      for (const uint16_t port : ports) pairs_[{source, port}] = {};
    }
  }

  // What is wrong with taking this pair at this time; empty where nothing.
  std::string Take(int source, uint16_t port, int64_t now) {
    State& state = pairs_.at({source, port});
    if (state.is_used) return "it is in use";
    const bool is_quarantined = state.quarantined_until > now;
    const bool is_shared = IsUsed(port);
    for (auto& [key, other] : pairs_) {
      if (other.is_used || other.quarantined_until > now) continue;
      if (is_quarantined) return "another is not in quarantine";
      if (is_shared && !IsUsed(key.second)) return "another is unique";
      if (source_count_ == 1 && other.given_up < state.given_up) {
        return "another has rested longer";
      }
    }
    if (is_quarantined) {
      for (auto& [key, other] : pairs_) {
        if (!other.is_used && other.quarantined_until < state.quarantined_until)
          return "another is longer in quarantine";
      }
      ++quarantined_taken;
    }
    state.is_used = true;
    return "";
  }
  void GiveBack(int source, uint16_t port, bool is_answered, int64_t now) {
    State& state = pairs_.at({source, port});
    if (is_answered || state.quarantined_until > now) {
      state.quarantined_until = now + kQuarantine;
    }
    state.is_used = false;
    state.given_up = now;
  }
  bool HasRoom() const {
    return std::any_of(pairs_.begin(), pairs_.end(),
                       [](const auto& entry) { return !entry.second.is_used; });
  }
  int64_t quarantined(int64_t now) const {
    return std::count_if(pairs_.begin(), pairs_.end(), [&](const auto& entry) {
      return !entry.second.is_used && entry.second.quarantined_until > now;
    });
  }
  bool IsUsed(uint16_t port) const {
    return std::any_of(pairs_.begin(), pairs_.end(), [&](const auto& entry) {
      return entry.first.second == port && entry.second.is_used;
    });
  }

  uint64_t quarantined_taken = 0;

 private:
  struct State {
    bool is_used = false;
    int64_t quarantined_until = 0;
    int64_t given_up = -1;
  };
  const int source_count_;
  std::map<std::pair<int, uint16_t>, State> pairs_;
};

class RelayPortsModelTest : public ::testing::TestWithParam<int> {};

TEST_P(RelayPortsModelTest, KeepsItsPromises) {
  const int source_count = GetParam();
  std::vector<uint16_t> all;
  for (int i = 0; i < 66 / source_count; ++i) {
    all.push_back(static_cast<uint16_t>(100 + i));
  }
  uint64_t quarantined_taken = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937_64 random(seed);
    RelayPortsOptions options;
    for (int i = 1; i <= source_count; ++i) {
      options.bind_addresses.push_back(Source(i));
    }
    RelayPorts ports(all, options);
    Model model(all, source_count);
    std::deque<SocketAddress> used;
    int64_t now = 0;
    for (int step = 0; step < 2000; ++step) {
      now += static_cast<int64_t>(random() % (kSecond / 4));
      // From nearly nothing to nearly everything in use, and back.
      const bool is_filling = step / 400 % 2 == 0;
      if (random() % 3 == 0 ? !is_filling : is_filling) {
        const auto relay = ports.Take(Source(1), Owner(step), now);
        ASSERT_EQ(relay.has_value(), model.HasRoom());
        if (!relay.has_value()) continue;
        ASSERT_EQ(model.Take(relay->ip_bytes()[3], relay->port(), now), "")
            << relay->ToString() << " at step " << step;
        used.push_back(*relay);
      } else if (!used.empty()) {
        std::swap(used.front(), used[random() % used.size()]);
        const SocketAddress relay = used.front();
        used.pop_front();
        const bool is_answered = random() % 3 != 0;
        ports.GiveBack(
            relay, is_answered ? PortFate::kAnswered : PortFate::kUnanswered,
            now);
        model.GiveBack(relay.ip_bytes()[3], relay.port(), is_answered, now);
      }
      ASSERT_EQ(ports.in_use(), static_cast<int64_t>(used.size()));
      ASSERT_EQ(ports.quarantined(now), model.quarantined(now));
      ASSERT_EQ(ports.quarantined_ports_taken(), model.quarantined_taken);
    }
    quarantined_taken += model.quarantined_taken;
  }
  EXPECT_GT(quarantined_taken, 0u) << "the runs were too easy";
}

INSTANTIATE_TEST_SUITE_P(Sources, RelayPortsModelTest,
                         ::testing::Values(1, 2, 3));

TEST(RelayPortsThreadsTest, NoTwoThreadsHoldTheSamePair) {
  RelayPortsOptions options;
  options.bind_addresses = {Source(1), Source(2)};
  std::vector<uint16_t> all;
  for (uint16_t port = 100; port < 110; ++port) all.push_back(port);
  RelayPorts ports(all, options);
  const auto churn = [&](uint32_t shard) {
    std::deque<SocketAddress> held;
    for (int i = 0; i < 5000; ++i) {
      const int64_t now = i * kSecond;
      const auto relay = ports.Take(Source(1), {shard, {0, 1}}, now);
      if (relay.has_value()) held.push_back(*relay);
      EXPECT_GE(ports.in_use() + ports.quarantined(now), 0);
      if (held.size() < 8 && relay.has_value()) continue;
      const std::vector<RelayOwner> owners = ports.Find(held.front().port());
      EXPECT_TRUE(std::any_of(
          owners.begin(), owners.end(),
          [&](const RelayOwner& owner) { return owner.shard == shard; }));
      ports.GiveBack(held.front(), PortFate::kAnswered, now);
      held.pop_front();
    }
    for (const SocketAddress& relay : held) {
      ports.GiveBack(relay, PortFate::kAnswered, 5000 * kSecond);
    }
  };
  std::thread first(churn, 1), second(churn, 2), third(churn, 3);
  first.join();
  second.join();
  third.join();
  EXPECT_EQ(ports.in_use(), 0);
}

TEST(LocalPortRangeTest, IsWhatTheSystemAllows) {
  std::vector<uint16_t> ports = LocalPortRange();
  ASSERT_FALSE(ports.empty());
  EXPECT_FALSE(std::is_sorted(ports.begin(), ports.end())) << "not shuffled";
  std::sort(ports.begin(), ports.end());
  EXPECT_EQ(std::adjacent_find(ports.begin(), ports.end()), ports.end());
  EXPECT_GE(ports.front(), 1);
}

TEST(ParseReservedPortsTest, UnderstandsTheKernelsSyntax) {
  const std::vector<bool> is_reserved =
      ParseReservedPorts("80,40000-40002,65535\n");
  for (const int port : {80, 40000, 40001, 40002, 65535}) {
    EXPECT_TRUE(is_reserved[port]) << port;
  }
  for (const int port : {0, 79, 81, 39999, 40003}) {
    EXPECT_FALSE(is_reserved[port]) << port;
  }
}

TEST(ParseReservedPortsTest, SkipsWhatDoesNotParse) {
  for (const char* text : {"", "\n", "x", "1-y", "-", "70000", "9-8", "-5"}) {
    const std::vector<bool> is_reserved = ParseReservedPorts(text);
    EXPECT_EQ(std::count(is_reserved.begin(), is_reserved.end(), true), 0)
        << text;
  }
}

TEST_F(RelayPortsTest, CountsThePortsOfTheFamilyThatHasMoreAddresses) {
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
TEST_F(RelayPortsTest, PortsOfOtherProgramsAreNotTakenWhereThatIsNotWanted) {
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
