#include "udpgate/internal/shard/inbox.h"

#include <sys/epoll.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/failing_sys_calls.h"

namespace udpgate {
namespace internal {
namespace {

std::shared_ptr<Inbox> MakeInbox(SysCalls* sys_calls, int datagrams_max,
                                 int disconnects_max = 4) {
  absl::StatusOr<std::shared_ptr<Inbox>> inbox =
      Inbox::Create(sys_calls, {datagrams_max, disconnects_max});
  EXPECT_TRUE(inbox.ok()) << inbox.status();
  return *inbox;
}

ClientDatagram Make(uint16_t port, absl::string_view payload) {
  ClientDatagram datagram;
  datagram.client = SocketAddress::Ipv4Loopback(port);
  datagram.hash = port;
  datagram.payload = payload;
  return datagram;
}

int PushOne(Inbox* inbox, const ClientDatagram& datagram) {
  return inbox->Push(absl::MakeConstSpan(&datagram, 1));
}

std::vector<std::string> PopAll(Inbox* inbox, int count_max = 1000) {
  std::vector<ClientDatagram> datagrams;
  inbox->Peek(count_max, &datagrams);
  std::vector<std::string> payloads;
  for (const ClientDatagram& datagram : datagrams) {
    payloads.emplace_back(datagram.payload.data(), datagram.payload.size());
  }
  inbox->Pop(static_cast<int>(datagrams.size()));
  return payloads;
}

ShardMessage MakeMessage(ShardMessage::Kind kind, uint32_t slot) {
  ShardMessage message;
  message.kind = kind;
  message.session.slot = slot;
  return message;
}

TEST(InboxTest, KeepsOrderAndContent) {
  const std::shared_ptr<Inbox> inbox = MakeInbox(SysCalls::Real(), 8);
  std::string first = "first";
  EXPECT_EQ(PushOne(inbox.get(), Make(1, first)), 1);
  first = "xxxxx";  // the inbox has a copy
  EXPECT_EQ(PushOne(inbox.get(), Make(2, "")), 1);
  EXPECT_EQ(PushOne(inbox.get(), Make(3, "third")), 1);
  EXPECT_EQ(inbox->datagrams_waiting(), 3);

  std::vector<ClientDatagram> datagrams;
  inbox->Peek(2, &datagrams);
  ASSERT_EQ(datagrams.size(), 2u);
  EXPECT_EQ(datagrams[0].client.port(), 1);
  EXPECT_EQ(datagrams[1].hash, 2u);
  EXPECT_EQ(inbox->datagrams_waiting(), 3) << "Peek removed something";
  inbox->Pop(1);
  EXPECT_EQ(PopAll(inbox.get()), (std::vector<std::string>{"", "third"}));
  EXPECT_EQ(inbox->datagrams_waiting(), 0);
}

TEST(InboxTest, TakesAsManyAsThereIsRoomFor) {
  const std::shared_ptr<Inbox> inbox = MakeInbox(SysCalls::Real(), 2);
  const std::vector<ClientDatagram> datagrams = {Make(1, "a"), Make(2, "b"),
                                                 Make(3, "c")};
  EXPECT_EQ(inbox->Push(datagrams), 2);
  EXPECT_EQ(inbox->Push(datagrams), 0);
  EXPECT_EQ(PopAll(inbox.get()), (std::vector<std::string>{"a", "b"}));
}

TEST(InboxTest, LimitsBytesButTakesTheLargestDatagram) {
  const std::shared_ptr<Inbox> inbox = MakeInbox(SysCalls::Real(), 4);
  const std::string largest(65527, 'x');
  EXPECT_EQ(PushOne(inbox.get(), Make(1, largest)), 1);
  EXPECT_EQ(PushOne(inbox.get(), Make(1, largest)), 0);
  EXPECT_EQ(PopAll(inbox.get()), std::vector<std::string>{largest});
  EXPECT_EQ(PushOne(inbox.get(), Make(1, largest)), 1);
}

TEST(InboxTest, WrapsAroundManyTimes) {
  const std::shared_ptr<Inbox> inbox = MakeInbox(SysCalls::Real(), 40);
  // Sizes that leave every kind of rest at the end of the ring.
  uint32_t pushed = 0, popped = 0;
  for (int round = 0; round < 2000; ++round) {
    for (int i = 0; i < 7; ++i) {
      const std::string payload((pushed * 977) % 6000,
                                static_cast<char>('a' + pushed % 26));
      if (PushOne(inbox.get(), Make(1, payload)) == 0) break;
      ++pushed;
    }
    for (const std::string& payload : PopAll(inbox.get(), 1 + round % 8)) {
      const std::string expected((popped * 977) % 6000,
                                 static_cast<char>('a' + popped % 26));
      ASSERT_EQ(payload, expected) << "datagram " << popped;
      ++popped;
    }
  }
  EXPECT_GT(popped, 2000u);
}

TEST(InboxTest, RingsOnlyASleepingOwner) {
  test::FailingSysCalls sys_calls;
  const std::shared_ptr<Inbox> inbox = MakeInbox(&sys_calls, 8);
  PushOne(inbox.get(), Make(1, "a"));
  EXPECT_EQ(sys_calls.calls(test::Call::kEventFdAdd), 0);
  PopAll(inbox.get());

  EXPECT_TRUE(inbox->PrepareSleep(INT64_MAX));
  PushOne(inbox.get(), Make(1, "b"));
  PushOne(inbox.get(), Make(1, "c"));
  EXPECT_EQ(sys_calls.calls(test::Call::kEventFdAdd), 1);
}

TEST(InboxTest, DoesNotSleepOverWaitingWork) {
  const std::shared_ptr<Inbox> inbox = MakeInbox(SysCalls::Real(), 8);
  PushOne(inbox.get(), Make(1, "a"));
  EXPECT_FALSE(inbox->PrepareSleep(INT64_MAX));
  PopAll(inbox.get());
  inbox->Post(MakeMessage(ShardMessage::Kind::kResolved, 1));
  EXPECT_FALSE(inbox->PrepareSleep(INT64_MAX));
}

TEST(InboxTest, SleepsOverDisconnectsThatCanWait) {
  test::FailingSysCalls sys_calls;
  const std::shared_ptr<Inbox> inbox = MakeInbox(&sys_calls, 8);
  inbox->PostDisconnect(MakeMessage(ShardMessage::Kind::kEndSession, 1));
  EXPECT_TRUE(inbox->HasUrgentMessages());
  EXPECT_FALSE(inbox->HasMessages()) << "it is no other message";
  EXPECT_TRUE(inbox->PrepareSleep(1000, /*disconnects_can_wait=*/true));
  EXPECT_TRUE(inbox->HasDisconnects());
  EXPECT_FALSE(inbox->HasUrgentMessages());
  inbox->PostDisconnect(MakeMessage(ShardMessage::Kind::kEndSession, 2));
  EXPECT_EQ(sys_calls.calls(test::Call::kEventFdAdd), 0);

  // Whoever waits for an answer does not wait for that.
  inbox->Post(MakeMessage(ShardMessage::Kind::kResolved, 3));
  EXPECT_EQ(sys_calls.calls(test::Call::kEventFdAdd), 1);
  EXPECT_TRUE(inbox->HasUrgentMessages());
  EXPECT_EQ(inbox->messages_waiting(), 3);
  std::vector<ShardMessage> messages;
  inbox->TakeMessages(8, &messages);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(messages[0].session.slot, 3u);

  // They can wait no more.
  EXPECT_FALSE(inbox->PrepareSleep(1000));
  EXPECT_TRUE(inbox->HasUrgentMessages());
  inbox->TakeDisconnects(8, &messages);
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0].session.slot, 1u);
  EXPECT_TRUE(inbox->PrepareSleep(1000));
}

TEST(InboxTest, AnEarlierDeadlineWakesTheOwner) {
  test::FailingSysCalls sys_calls;
  const std::shared_ptr<Inbox> inbox = MakeInbox(&sys_calls, 8);
  EXPECT_TRUE(inbox->PrepareSleep(1000));
  inbox->NoteDeadline(1000);
  EXPECT_EQ(sys_calls.calls(test::Call::kEventFdAdd), 0);
  inbox->NoteDeadline(999);
  EXPECT_EQ(sys_calls.calls(test::Call::kEventFdAdd), 1);
}

TEST(InboxTest, HandsOutMessagesInOrderAndInSlices) {
  const std::shared_ptr<Inbox> inbox = MakeInbox(SysCalls::Real(), 8);
  for (uint32_t i = 0; i < 5; ++i) {
    inbox->Post(MakeMessage(ShardMessage::Kind::kResolved, i));
  }
  std::vector<ShardMessage> messages;
  inbox->TakeMessages(3, &messages);
  ASSERT_EQ(messages.size(), 3u);
  EXPECT_EQ(messages[2].session.slot, 2u);
  EXPECT_FALSE(inbox->PrepareSleep(INT64_MAX)) << "two are left";
  inbox->TakeMessages(3, &messages);
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[1].session.slot, 4u);
}

TEST(InboxTest, DisconnectsPushBackAndNoneIsDropped) {
  constexpr int kCount = 100;
  const std::shared_ptr<Inbox> inbox = MakeInbox(SysCalls::Real(), 8, 4);
  std::atomic<int> posted{0};
  std::thread source([&] {
    for (int i = 0; i < kCount; ++i) {
      inbox->PostDisconnect(
          MakeMessage(ShardMessage::Kind::kDisconnectClient, i));
      ++posted;
    }
  });
  EXPECT_TRUE(test::AwaitTrue([&] { return posted == 4; }));
  uint32_t next = 0;
  EXPECT_TRUE(test::AwaitTrue([&] {
    std::vector<ShardMessage> messages;
    inbox->TakeDisconnects(2, &messages);
    EXPECT_LE(posted, static_cast<int>(next) + 4 + 2);
    for (const ShardMessage& message : messages) {
      EXPECT_EQ(message.session.slot, next++);
    }
    return next == kCount;
  }));
  source.join();
}

TEST(InboxTest, CloseLetsAWaiterGoAndDropsMessages) {
  const std::shared_ptr<Inbox> inbox = MakeInbox(SysCalls::Real(), 8, 1);
  inbox->PostDisconnect(MakeMessage(ShardMessage::Kind::kEndSession, 1));
  std::thread source([&] {
    inbox->PostDisconnect(MakeMessage(ShardMessage::Kind::kEndSession, 2));
  });
  inbox->Close();
  source.join();
  inbox->Post(MakeMessage(ShardMessage::Kind::kResolved, 3));
  std::vector<ShardMessage> messages;
  inbox->TakeMessages(10, &messages);
  for (const ShardMessage& message : messages) {
    EXPECT_NE(message.session.slot, 3u);
  }
}

// Otherwise whoever waits for an answer would wait for ever.
TEST(InboxTest, CloseDestroysWhatNobodyWillTake) {
  const std::shared_ptr<Inbox> inbox = MakeInbox(SysCalls::Real(), 8);
  auto token = std::make_shared<int>(0);
  const std::weak_ptr<int> alive = token;
  ShardMessage message;
  message.kind = ShardMessage::Kind::kListSessions;
  message.list_done = [token = std::move(token)](std::vector<SessionInfo>,
                                                 uint32_t) {};
  inbox->Post(std::move(message));
  EXPECT_FALSE(alive.expired());
  inbox->Close();
  EXPECT_TRUE(alive.expired());
}

TEST(InboxTest, ManyProducersOneConsumer) {
  constexpr int kProducers = 3, kEach = 5000;
  const std::shared_ptr<Inbox> inbox = MakeInbox(SysCalls::Real(), 64);
  std::vector<std::thread> producers;
  for (uint16_t producer = 0; producer < kProducers; ++producer) {
    producers.emplace_back([&inbox, producer] {
      for (int i = 0; i < kEach;) {
        const std::string payload = std::to_string(i);
        i += PushOne(inbox.get(), Make(producer, payload));
      }
    });
  }
  int next[kProducers] = {};
  int received = 0;
  EXPECT_TRUE(test::AwaitTrue([&] {
    std::vector<ClientDatagram> datagrams;
    do {
      inbox->Peek(16, &datagrams);
      for (const ClientDatagram& datagram : datagrams) {
        const uint16_t producer = datagram.client.port();
        EXPECT_EQ(std::string(datagram.payload.data(), datagram.payload.size()),
                  std::to_string(next[producer]++));
        ++received;
      }
      inbox->Pop(static_cast<int>(datagrams.size()));
    } while (!datagrams.empty());
    return received == kProducers * kEach;
  }));
  for (std::thread& producer : producers) producer.join();
}

TEST(InboxTest, ReportsThatThereIsNoDescriptor) {
  test::FailingSysCalls sys_calls;
  sys_calls.FailNext(test::Call::kEventFd, EMFILE);
  EXPECT_EQ(Inbox::Create(&sys_calls, {8, 4}).status().message(),
            "eventfd: Too many open files");
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
