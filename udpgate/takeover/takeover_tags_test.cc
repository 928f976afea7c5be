// The tags of sessions in a takeover.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/takeover/takeover_fixture.h"

namespace udpgate {
namespace test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Keeps what it was told, with the number of sessions that have begun.
class CountingTag final : public SessionTag {
 public:
  explicit CountingTag(const std::string& key)
      : SessionTag(key, absl::StrCat("join ", key)) {}

  void OnBegin(const SocketAddress& client,
               const SocketAddress& relay) override {
    internal::MutexLock lock(&mutex_);
    calls_.push_back(
        absl::StrCat("begin ", client.ToString(), " ", relay.ToString()));
  }
  void OnEnd(const SocketAddress& client, const SocketAddress& /*relay*/,
             EndReason reason) override {
    internal::MutexLock lock(&mutex_);
    calls_.push_back(
        absl::StrCat("end ", client.ToString(), " ", EndReasonName(reason)));
  }
  std::vector<std::string> calls() const {
    internal::MutexLock lock(&mutex_);
    return calls_;
  }

 private:
  mutable internal::Mutex mutex_;
  std::vector<std::string> calls_ ABSL_GUARDED_BY(mutex_);
};

// Gives each session `tag`, and knows no other.
class OneTagResolver final : public BackendResolver {
 public:
  OneTagResolver(const SocketAddress& backend, const std::string& key)
      : backend_(backend), tag(std::make_shared<CountingTag>(key)) {}

  void Resolve(const ResolveRequest& /*request*/, Callback done) override {
    ResolveResult result{backend_, "lobby"};
    result.is_client_proven = true;
    result.tag = tag;
    done(std::move(result));
  }
  std::shared_ptr<SessionTag> RestoreTag(const SessionTag& plain) override {
    return plain.key() == tag->key() ? tag : nullptr;
  }

 private:
  const SocketAddress backend_;

 public:
  const std::shared_ptr<CountingTag> tag;
};

class TakeoverTagsTest : public TakeoverTest {
 protected:
  std::string Begun() {
    const SessionInfo session = old_.Sessions().at(0);
    return absl::StrCat("begin ", session.client.ToString(), " ",
                        session.relay.ToString());
  }

  std::shared_ptr<OneTagResolver> old_resolver_ =
      std::make_shared<OneTagResolver>(first_.address(), "7");
};

TEST_F(TakeoverTagsTest, ATagIsThatOfTheNewResolver) {
  StartOld({1, 1}, {}, old_resolver_);
  ASSERT_EQ(client_.Ask(address_, "a").value_or("nothing"), "first:a");
  const std::string begun = Begun();
  const auto resolver =
      std::make_shared<OneTagResolver>(second_.address(), "7");
  ASSERT_TRUE(TakeOver({1, 1}, resolver).ok());

  EXPECT_EQ(client_.Ask(address_, "b").value_or("nothing"), "first:b");
  EXPECT_THAT(resolver->tag->calls(), ElementsAre(begun));
  EXPECT_THAT(old_resolver_->tag->calls(), ElementsAre(begun))
      << "the session has not ended";
  const std::vector<SessionInfo> sessions = new_.Sessions();
  ASSERT_EQ(sessions.size(), 1u);
  EXPECT_EQ(sessions[0].tag, "join 7");
  EXPECT_EQ(sessions[0].state, SessionState::kConfirmed);
  new_->Disconnect(DisconnectTarget::ForClient(client_.address()));
  const std::string ended =
      absl::StrCat("end ", client_.address().ToString(), " disconnected");
  EXPECT_TRUE(AwaitTrue([&] { return resolver->tag->calls().size() == 2; }));
  EXPECT_THAT(resolver->tag->calls(), ElementsAre(begun, ended));
}

TEST_F(TakeoverTagsTest, ATagThatTheNewResolverLacksStaysInLists) {
  StartOld({1, 1}, {}, old_resolver_);
  ASSERT_EQ(client_.Ask(address_, "a").value_or("nothing"), "first:a");
  const auto resolver =
      std::make_shared<OneTagResolver>(second_.address(), "8");
  ASSERT_TRUE(TakeOver({1, 1}, resolver).ok());
  EXPECT_EQ(new_.Sessions().at(0).tag, "join 7");
  EXPECT_EQ(client_.Ask(address_, "b").value_or("nothing"), "first:b");
  EXPECT_THAT(resolver->tag->calls(), IsEmpty());
}

// A session that its backend ignores has been silent for longer than the
// timeout, and is looked at first in the new process.
TEST_F(TakeoverTagsTest, ASpareSessionStaysIfAnotherHasReplies) {
  constexpr absl::Duration kTimeout = absl::Seconds(2);
  LoopbackPeer backend, spare;
  const auto resolver = std::make_shared<OneTagResolver>(backend.address(),
                                                         /*key=*/"7");
  ProxyOptions options = Options();
  options.limits.backend_silent_timeout = kTimeout;
  old_.Create(options, resolver);
  ASSERT_TRUE(old_->Start().ok());
  address_ = old_->listen_addresses().front();
  old_.Serve();
  // The first session is the spare one.
  ASSERT_TRUE(spare.Send(address_, "spare").ok());
  const absl::StatusOr<Datagram> first = backend.Receive();
  ASSERT_TRUE(first.ok()) << first.status();
  const auto exchange_for = [&](absl::Duration time) {
    const absl::Time end = absl::Now() + time;
    return AwaitTrue([&] {
      EXPECT_TRUE(spare.Send(address_, "check").ok());
      EXPECT_TRUE(client_.Send(address_, "check").ok());
      for (auto got = backend.TryReceive(); got.ok();
           got = backend.TryReceive()) {
        if (got->from == first->from) continue;
        EXPECT_TRUE(backend.Send(got->from, "reply").ok());
      }
      return absl::Now() >= end;
    });
  };
  ASSERT_TRUE(exchange_for(kTimeout * 3 / 2));
  ASSERT_EQ(old_.Sessions().size(), 2u);
  const auto successor = std::make_shared<OneTagResolver>(backend.address(),
                                                          /*key=*/"7");
  ASSERT_TRUE(TakeOverWith(options, successor).ok());
  ASSERT_TRUE(exchange_for(kTimeout / 2));
  EXPECT_EQ(new_->GetStats().ended_total(), 0u);
  EXPECT_EQ(new_.Sessions().size(), 2u);
}

TEST_F(TakeoverTagsTest, AfterAFailedTakeoverTheSessionKeepsItsTag) {
  StartOld({1, 1}, {}, old_resolver_);
  ASSERT_EQ(client_.Ask(address_, "a").value_or("nothing"), "first:a");
  const std::string begun = Begun();
  {
    const std::unique_ptr<Channel> channel = ConnectRaw();
    AskForPause(channel.get());
    AwaitState(channel.get());
  }
  ExpectTheOldServes();
  EXPECT_EQ(old_.Sessions().at(0).tag, "join 7");
  EXPECT_EQ(old_resolver_->tag->calls().front(), begun);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
