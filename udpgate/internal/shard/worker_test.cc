// Datagrams that meet a shard which another thread owns.
#include "udpgate/internal/shard/worker.h"

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/shard_fixture.h"

namespace udpgate {
namespace internal {
namespace {

using test::LoopbackPeer;
using ::testing::ElementsAre;

class WorkerTest : public ShardTest {};

// A reader that finds the shard owned by another thread queues its datagrams.
// These are forwarded before later ones.
TEST_F(WorkerTest, QueuesDatagramsForABusyShardInOrder) {
  Start();
  Connect(client_);
  LoopbackPeer newcomer;
  resolver_->on_resolve = [this] {
    // This thread owns the shard now.
    std::thread([this] {
      for (const char* payload : {"queued 1", "queued 2"}) {
        Send(client_, payload);
        other_reader_->ReadBatch();
      }
    }).join();
    EXPECT_EQ(worker_->inbox()->datagrams_waiting(), 2);
    EXPECT_EQ(Stats().datagrams_held, 3u) << "one is of the new client";
  };
  SendAndRead(newcomer, "x");
  resolver_->on_resolve = nullptr;
  SendAndRead(client_, "later");
  EXPECT_THAT(ReceiveAll(&backend_),
              ElementsAre("queued 1", "queued 2", "later"));
}

// It helps then, instead of filling the queue.
TEST_F(WorkerTest, AReaderWaitsForTheShardIfTheQueueIsHalfFull) {
  ProxyOptions options;
  options.queue_size_datagrams = 4;
  Start(options);
  Connect(client_);
  LoopbackPeer newcomer;
  std::thread reader;
  std::atomic<int> read_count{0};
  resolver_->on_resolve = [&] {
    reader = std::thread([&] {
      for (const char* payload : {"1", "2", "3"}) Send(client_, payload);
      other_reader_->ReadBatch();
      ++read_count;
      for (const char* payload : {"4", "5"}) Send(client_, payload);
      other_reader_->ReadBatch();
      ++read_count;
    });
    EXPECT_TRUE(test::AwaitTrue([&] { return read_count == 1; }));
    // It waits until this thread releases the shard.
    EXPECT_FALSE(test::AwaitTrue([&] { return read_count == 2; },
                                 absl::Milliseconds(50)));
  };
  SendAndRead(newcomer, "x");
  resolver_->on_resolve = nullptr;
  reader.join();
  EXPECT_EQ(Stats().dropped(DropReason::kQueueFull), 0u);
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("1", "2", "3", "4", "5"));
}

TEST_F(WorkerTest, AFullQueueDropsDatagrams) {
  ProxyOptions options;
  options.queue_size_datagrams = 2;
  Start(options);
  Connect(client_);
  LoopbackPeer newcomer;
  resolver_->on_resolve = [this] {
    std::thread([this] {
      for (const char* payload : {"1", "2", "3", "4"}) Send(client_, payload);
      other_reader_->ReadBatch();
    }).join();
  };
  SendAndRead(newcomer, "x");
  resolver_->on_resolve = nullptr;
  EXPECT_EQ(Stats().dropped(DropReason::kQueueFull), 2u);
  Poll();
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("1", "2"));
}

TEST_F(WorkerTest, KeepsTheOrderOverSeveralIterations) {
  ProxyOptions options;
  options.batch_size = 2;
  Start(options);
  Connect(client_);
  LoopbackPeer newcomer;
  std::vector<std::string> expected;
  resolver_->on_resolve = [&] {
    std::thread([&] {
      for (int i = 0; i < 21; ++i) {
        Send(client_, absl::StrCat(i));
        other_reader_->ReadBatch();
        expected.push_back(absl::StrCat(i));
      }
    }).join();
  };
  SendAndRead(newcomer, "x");
  resolver_->on_resolve = nullptr;
  for (int i = 0; i < 3; ++i) {
    SendAndRead(client_, absl::StrCat("late", i));
    expected.push_back(absl::StrCat("late", i));
  }
  for (int i = 0; i < 5; ++i) Poll();
  EXPECT_EQ(ReceiveAll(&backend_), expected);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
