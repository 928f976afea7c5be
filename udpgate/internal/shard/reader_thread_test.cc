#include "udpgate/internal/shard/reader_thread.h"

#include <errno.h>

#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/failing_sys_calls.h"
#include "testing/loopback_peer.h"
#include "udpgate/clock.h"
#include "udpgate/internal/net/listen_socket.h"
#include "udpgate/internal/shard/gate_context.h"
#include "udpgate/static_backend_resolver.h"

namespace udpgate {
namespace internal {
namespace {

using test::AwaitTrue;
using test::FailingSysCalls;
using test::kAwaitTimeout;

// The test's own thread is the host: it decides how busy it is.
// Until a thread has had a processor to itself for a while, on a machine that
// may have other things to do.
constexpr absl::Duration kBusyTimeout = absl::Minutes(2);

class ReaderThreadTest : public ::testing::Test {
 protected:
  ReaderThreadTest() {
    ProxyOptions options;
    options.listen_address = SocketAddress::Ipv4Loopback(0);
    context_ =
        std::make_unique<GateContext>(options, Clock::Monotonic(), &sys_calls_,
                                      ClientHash(1), LocalPortRange(), 10);
    context_->resolver =
        std::make_shared<StaticBackendResolver>(backend_.address());
    context_->listeners =
        *OpenListenSockets(&sys_calls_, options, context_->hash);
    worker_ = *Worker::Create(context_.get(), 0);
    reader_ = *Reader::Create(context_.get(), 0, {worker_.get()});
  }

  ~ReaderThreadTest() override {
    if (!thread_.joinable()) return;
    reader_thread_->Stop();
    thread_.join();
  }

  void Start(Worker* host) {
    reader_thread_ = std::make_unique<ReaderThread>(reader_.get(), host);
    ASSERT_TRUE(reader_thread_->Attach().ok());
    thread_ = std::thread([this] { reader_thread_->Run(); });
  }

  void Send() {
    ASSERT_TRUE(
        client_
            .Send(context_->listeners[0].address, absl::StrCat(sent_count_++))
            .ok());
  }

  // Everything that was sent has arrived at the backend, in order; the host
  // runs iterations meanwhile if it is `awake`, or has the socket back already.
  void ExpectInOrder(bool awake) {
    const absl::Time deadline = absl::Now() + kAwaitTimeout;
    while (received_count_ < sent_count_) {
      ASSERT_LT(absl::Now(), deadline)
          << received_count_ << " of " << sent_count_;
      if (awake || reader_thread_->is_hosted()) worker_->PollOnce(0);
      const absl::StatusOr<test::Datagram> datagram = backend_.TryReceive();
      if (!datagram.ok()) continue;
      EXPECT_EQ(datagram->payload, absl::StrCat(received_count_));
      ++received_count_;
    }
  }

  // Datagrams, and a host that never rests.
  bool BusyUntilHandedOver() {
    const absl::Time deadline = absl::Now() + kBusyTimeout;
    while (reader_thread_->is_hosted()) {
      if (absl::Now() > deadline) return false;
      Send();
      worker_->PollOnce(0);
      ExpectInOrder(/*awake=*/true);
    }
    return true;
  }

  FailingSysCalls sys_calls_;
  test::LoopbackPeer client_, backend_;
  std::unique_ptr<GateContext> context_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<Reader> reader_;
  std::unique_ptr<ReaderThread> reader_thread_;
  std::thread thread_;
  int64_t sent_count_ = 0;
  int64_t received_count_ = 0;
};

TEST_F(ReaderThreadTest, AHostThatHasTimeReads) {
  Start(worker_.get());
  for (int i = 0; i < 100; ++i) {
    Send();
    worker_->PollOnce(1'000'000'000);
    ExpectInOrder(/*awake=*/true);
  }
  EXPECT_TRUE(reader_thread_->is_hosted());
}

TEST_F(ReaderThreadTest, GoesToAndFroWithoutLossOrDisorder) {
  Start(worker_.get());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(BusyUntilHandedOver());
    // The session stands, so the thread relays alone.
    for (int k = 0; k < 100; ++k) Send();
    ExpectInOrder(/*awake=*/false);
    ASSERT_TRUE(AwaitTrue([&] { return reader_thread_->is_hosted(); }));
    Send();
    ExpectInOrder(/*awake=*/true);
  }
}

TEST_F(ReaderThreadTest, WithoutAHostTheThreadReads) {
  Start(nullptr);
  EXPECT_FALSE(reader_thread_->is_hosted());
  Send();
  ExpectInOrder(/*awake=*/false);
  for (int i = 0; i < 100; ++i) Send();
  ExpectInOrder(/*awake=*/false);
}

TEST_F(ReaderThreadTest, AHostThatCannotLetGoReadsOn) {
  Start(worker_.get());
  Send();
  ExpectInOrder(/*awake=*/true);
  sys_calls_.FailAll(test::Call::kEpollControl, ENOMEM);
  ASSERT_TRUE(AwaitTrue(
      [&] {
        Send();
        const absl::Time end = absl::Now() + absl::Milliseconds(10);
        while (absl::Now() < end) worker_->PollOnce(0);
        ExpectInOrder(/*awake=*/true);
        return sys_calls_.failures(test::Call::kEpollControl) > 0;
      },
      kBusyTimeout));
  EXPECT_TRUE(reader_thread_->is_hosted());
}

TEST_F(ReaderThreadTest, StopsWhileTheHostReads) {
  Start(worker_.get());
  reader_thread_->Stop();
  thread_.join();
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
