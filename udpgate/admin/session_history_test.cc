#include "udpgate/admin/session_history.h"

#include <cstdint>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace admin {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class SessionHistoryTest : public ::testing::Test {
 protected:
  SessionHistoryOptions Options() {
    SessionHistoryOptions options;
    options.ends_max = 3;
    options.backends_max = 2;
    options.now = [this] { return now_; };
    return options;
  }

  static SessionEvent Event(SessionEvent::Kind kind, uint64_t id,
                            const SocketAddress& backend) {
    SessionEvent event;
    event.kind = kind;
    event.session_id = id;
    event.backend = backend;
    event.end_reason = EndReason::kDisconnected;
    return event;
  }
  static SessionEvent Ended(uint64_t id, uint16_t backend_port) {
    return Event(SessionEvent::Kind::kEnded, id,
                 SocketAddress::Ipv4Loopback(backend_port));
  }
  static std::vector<uint64_t> EndIds(const SessionHistory& history) {
    std::vector<uint64_t> ids;
    history.ForEachEnd([&ids](const SessionHistory::End& end) {
      ids.push_back(end.event.session_id);
      return true;
    });
    return ids;
  }
  // The ports of the backends that have counts of their own; 0: all others.
  static std::vector<uint16_t> Ports(const SessionHistory& history) {
    std::vector<uint16_t> ports;
    for (const auto& backend : history.Backends()) {
      ports.push_back(backend.address.port());
    }
    return ports;
  }

  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
};

TEST_F(SessionHistoryTest, KeepsTheLastEndsTheNewestFirst) {
  SessionHistory history(Options());
  EXPECT_THAT(EndIds(history), IsEmpty());
  history.Observe(
      Event(SessionEvent::Kind::kOpened, 9, SocketAddress::Ipv4Loopback(1)));
  for (const uint64_t id : {1, 2, 3, 4}) {
    SessionEvent event = Ended(id, 1);
    event.delay = absl::Seconds(id);
    history.Observe(event);
  }
  EXPECT_THAT(EndIds(history), ElementsAre(4, 3, 2));
  std::vector<absl::Time> times;
  history.ForEachEnd([&times](const SessionHistory::End& end) {
    times.push_back(end.time);
    return times.size() < 2;
  });
  EXPECT_THAT(times,
              ElementsAre(now_ - absl::Seconds(4), now_ - absl::Seconds(3)));
}

TEST_F(SessionHistoryTest, CountsByBackendAndReason) {
  SessionHistory history(Options());
  const SocketAddress backend = SocketAddress::Ipv4Loopback(1);
  history.Observe(Event(SessionEvent::Kind::kOpened, 1, backend));
  history.Observe(Event(SessionEvent::Kind::kConfirmed, 1, backend));
  history.Observe(Event(SessionEvent::Kind::kEnded, 1, backend));
  history.Observe(Event(SessionEvent::Kind::kOpened, 2, backend));
  history.Observe(Event(SessionEvent::Kind::kEnded, 3, SocketAddress()));
  const auto backends = history.Backends();
  ASSERT_EQ(backends.size(), 1u);
  EXPECT_EQ(backends[0].address, backend);
  EXPECT_EQ(backends[0].opened, 2u);
  EXPECT_EQ(backends[0].ended[static_cast<size_t>(EndReason::kDisconnected)],
            1u);
  EXPECT_EQ(backends[0].ended[static_cast<size_t>(EndReason::kIdle)], 0u);
  EXPECT_THAT(EndIds(history), ElementsAre(3, 1));
}

TEST_F(SessionHistoryTest, BackendsAreBoundedAndOldOnesMakeRoom) {
  SessionHistory history(Options());
  for (const int port : {1, 2, 3, 3}) {
    history.Observe(Ended(1, static_cast<uint16_t>(port)));
  }
  EXPECT_THAT(Ports(history), ElementsAre(1, 2, 0));
  const auto reason = static_cast<size_t>(EndReason::kDisconnected);
  EXPECT_EQ(history.Backends()[2].ended[reason], 2u);
  now_ += absl::Minutes(59);
  history.Observe(Ended(4, 2));
  history.Observe(Ended(5, 3));
  EXPECT_THAT(Ports(history), ElementsAre(1, 2, 0));
  now_ += absl::Minutes(1);
  history.Observe(Ended(6, 3));
  EXPECT_THAT(Ports(history), ElementsAre(2, 3, 0));
  history.Observe(Ended(7, 4));
  EXPECT_THAT(Ports(history), ElementsAre(2, 3, 0));
  EXPECT_EQ(history.Backends()[1].ended[reason], 1u);
  EXPECT_EQ(history.Backends()[2].ended[reason], 4u);
}

SessionEvent EventOf(uint64_t id, const char* backend,
                     SessionEvent::Kind kind = SessionEvent::Kind::kEnded) {
  SessionEvent event;
  event.kind = kind;
  event.session_id = id;
  event.backend = *SocketAddress::Parse(backend);
  return event;
}

TEST(SessionHistoryRestoreTest, AnotherOnesPastGoesBeforeTheOwn) {
  SessionHistoryOptions options;
  options.ends_max = 3;
  options.backends_max = 2;
  SessionHistory before(options);
  for (const uint64_t id : {1, 2, 3}) {
    before.Observe(EventOf(id, "10.0.0.1:1"));
  }
  before.Observe(EventOf(4, "10.0.0.2:1", SessionEvent::Kind::kOpened));
  before.Observe(EventOf(5, "10.0.0.3:1", SessionEvent::Kind::kOpened));
  SessionHistory after(options);
  // What came before the past did.
  after.Observe(EventOf(6, "10.0.0.1:1"));
  after.Observe(EventOf(7, "10.0.0.9:1", SessionEvent::Kind::kOpened));
  after.Restore(before.Save());
  std::vector<uint64_t> ids;
  after.ForEachEnd([&ids](const SessionHistory::End& end) {
    ids.push_back(end.event.session_id);
    return true;
  });
  EXPECT_EQ(ids, (std::vector<uint64_t>{6, 3, 2}));
  const std::vector<SessionHistory::Backend> backends = after.Backends();
  ASSERT_EQ(backends.size(), 3u);
  EXPECT_EQ(backends[0].address, *SocketAddress::Parse("10.0.0.1:1"));
  EXPECT_EQ(backends[0].ended[static_cast<size_t>(EndReason::kIdle)], 4u);
  EXPECT_EQ(backends[1].address, *SocketAddress::Parse("10.0.0.2:1"));
  EXPECT_EQ(backends[1].opened, 1u);
  // The other one's, and the own that found no place.
  EXPECT_FALSE(backends[2].address.is_valid());
  EXPECT_EQ(backends[2].opened, 2u);
}

}  // namespace
}  // namespace admin
}  // namespace udpgate
