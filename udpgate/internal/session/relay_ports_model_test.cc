// Source ports against a simple model, and from several threads.
#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "udpgate/internal/session/relay_ports.h"

namespace udpgate {
namespace internal {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
const int64_t kQuarantine = RelayPortsOptions().quarantine_nanoseconds;

SocketAddress Source(int last_byte) {
  return *SocketAddress::Parse(absl::StrCat("127.0.0.", last_byte, ":0"));
}

RelayOwner Owner(uint64_t id) { return {/*shard=*/1, {/*slot=*/2, id}}; }

// What must hold, in the simplest way.

class Model {
 public:
  Model(const std::vector<uint16_t>& ports, int source_count)
      : source_count_(source_count) {
    for (int source = 1; source <= source_count; ++source) {
      for (const uint16_t port : ports) pairs_[{source, port}] = {};
    }
  }

  // What is wrong with taking this pair at this time; empty if nothing.
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
        return "another is unused for longer";
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
  // Whether this pair can be had by its name.
  bool TakeExactly(int source, uint16_t port) {
    State& state = pairs_.at({source, port});
    return !std::exchange(state.is_used, true);
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

TEST_P(RelayPortsModelTest, EachChoiceIsTheOneOfTheModel) {
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
      if (is_filling && random() % 8 == 0) {
        const int source = 1 + static_cast<int>(random() % source_count);
        const SocketAddress relay =
            Source(source).WithPort(all[random() % all.size()]);
        const bool is_taken =
            ports.TakeExactly(relay, Source(1), Owner(step), now);
        ASSERT_EQ(is_taken, model.TakeExactly(source, relay.port()))
            << relay.ToString() << " at step " << step;
        if (is_taken) used.push_back(relay);
      } else if (random() % 3 == 0 ? !is_filling : is_filling) {
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
  EXPECT_GT(quarantined_taken, 0u) << "no run took a quarantined port";
}

INSTANTIATE_TEST_SUITE_P(Sources, RelayPortsModelTest,
                         ::testing::Values(1, 2, 3));

TEST(RelayPortsThreadsTest, TwoThreadsNeverHoldTheSamePair) {
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

}  // namespace
}  // namespace internal
}  // namespace udpgate
