#include "cli/join_sharing.h"

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "testing/await.h"
#include "testing/internal/support/redis_server.h"
#include "udpgate/clock.h"
#include "udpgate/dns/host_lookup.h"

namespace udpgate {
namespace cli {
namespace {

using ::nlohmann::json;
using ::testing::Eq;
using ::testing::HasSubstr;
using ::testing::Not;

SharedJoin Sample() {
  SharedJoin shared;
  shared.join.id = "0123456789abcdef-7";
  shared.join.network_id = "1234567890";
  shared.join.ufrag = "abcd";
  shared.join.password = "0123456789012345678901";
  shared.join.player = *SocketAddress::Parse("203.0.113.7:0");
  shared.join.backend = *SocketAddress::Parse("10.0.0.5:19132");
  shared.join.backend_label = "lobby-3.internal:19132";
  shared.join.media = *SocketAddress::Parse("[2001:db8::5]:19133");
  return shared;
}

TEST(SharedJoinTest, WhatIsWrittenIsRead) {
  const SharedJoin shared = Sample();
  const absl::StatusOr<SharedJoin> read =
      DecodeSharedJoin(EncodeSharedJoin(shared));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_FALSE(read->has_ended);
  EXPECT_EQ(read->join.id, shared.join.id);
  EXPECT_EQ(read->join.network_id, shared.join.network_id);
  EXPECT_EQ(read->join.ufrag, shared.join.ufrag);
  EXPECT_EQ(read->join.password, shared.join.password);
  EXPECT_EQ(read->join.player, shared.join.player);
  EXPECT_EQ(read->join.backend, shared.join.backend);
  EXPECT_EQ(read->join.backend_label, shared.join.backend_label);
  EXPECT_EQ(read->join.media, shared.join.media);
}

TEST(SharedJoinTest, AnEndIsItsIdAlone) {
  SharedJoin ended = Sample();
  ended.has_ended = true;
  const std::string text = EncodeSharedJoin(ended);
  EXPECT_THAT(text, Not(HasSubstr(ended.join.password)));
  const absl::StatusOr<SharedJoin> read = DecodeSharedJoin(text);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->has_ended);
  EXPECT_EQ(read->join.id, ended.join.id);
}

TEST(SharedJoinTest, ALongJoinFitsAnEntry) {
  SharedJoin shared = Sample();
  shared.join.id = std::string(256, '"');
  shared.join.network_id = std::string(256, '"');
  shared.join.ufrag = std::string(256, 'u');
  shared.join.password = std::string(256, 'p');
  shared.join.backend_label = std::string(1024, '\x01');
  const std::string text = EncodeSharedJoin(shared);
  EXPECT_LE(text.size(), RedisStreamOptions().entry_bytes_max);
  EXPECT_TRUE(DecodeSharedJoin(text).ok());
}

TEST(SharedJoinTest, WhatIsUnknownIsSkipped) {
  json object = json::parse(EncodeSharedJoin(Sample()));
  object["later"] = {1, 2};
  EXPECT_TRUE(DecodeSharedJoin(object.dump()).ok());
}

TEST(SharedJoinTest, WhatIsWrongIsRefusedWithoutItsValue) {
  for (const char* text : {"", "[]", "1", "{", "{}", "{\"id\":5}"}) {
    EXPECT_FALSE(DecodeSharedJoin(text).ok()) << text;
  }
  const json sample = json::parse(EncodeSharedJoin(Sample()));
  for (const auto& [name, value] : sample.items()) {
    json without = sample;
    without.erase(name);
    EXPECT_FALSE(DecodeSharedJoin(without.dump()).ok()) << name;
    for (const json& wrong : {json(5), json(nullptr), json::array({value}),
                              json(std::string(1025, 'w')), json::object()}) {
      json changed = sample;
      changed[name] = wrong;
      const absl::Status status = DecodeSharedJoin(changed.dump()).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
      EXPECT_THAT(std::string(status.message()), Not(HasSubstr("www")));
    }
  }
  for (const auto& [name, wrong] :
       {std::make_pair("u", "abc"), std::make_pair("p", "short"),
        std::make_pair("n", ""), std::make_pair("m", "10.0.0.5:0"),
        std::make_pair("m", "224.0.0.1:1"), std::make_pair("m", "host:1"),
        std::make_pair("b", "0.0.0.0:1"), std::make_pair("c", "1.2.3.4")}) {
    json changed = sample;
    changed[name] = wrong;
    EXPECT_FALSE(DecodeSharedJoin(changed.dump()).ok()) << name << wrong;
  }
}

// A gateway's table, with its part of the stream.
class SharingGateway {
 public:
  explicit SharingGateway(const std::string& redis) {
    RedisOptions options;
    options.address = redis;
    options.log_sink = nullptr;
    RedisStreamOptions stream_options;
    stream_options.key = "joins";
    auto stream =
        RedisStream::Create(options, stream_options, *HostLookup::Create({}));
    EXPECT_TRUE(stream.ok()) << stream.status();
    sharing_ = std::make_shared<JoinSharing>(*std::move(stream), joins_);
    const absl::Status started =
        sharing_->Start([](const std::vector<SocketAddress>&) {});
    EXPECT_TRUE(started.ok()) << started;
    joins_->SetObserver(sharing_);
  }
  ~SharingGateway() {
    joins_->SetObserver(nullptr);
    sharing_->Stop();
  }

  void Add() {
    const SharedJoin sample = Sample();
    auto reservation = joins_->Reserve(sample.join.player, sample.join.backend,
                                       sample.join.backend_label);
    ASSERT_TRUE(reservation.ok()) << reservation.status();
    ASSERT_TRUE(joins_->Commit(*std::move(reservation), sample.join).ok());
  }
  bool AwaitCount(size_t count) {
    return test::AwaitTrue([&] { return joins_->List().size() == count; });
  }

  const std::shared_ptr<nethernet::JoinTable> joins_ =
      std::make_shared<nethernet::JoinTable>(nethernet::JoinTableOptions(),
                                             Clock::Monotonic());
  std::shared_ptr<JoinSharing> sharing_;
};

TEST(JoinSharingTest, JoinsAndTheirEndsReachTheOtherGateways) {
  test::RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  SharingGateway first(redis.tcp_address());
  SharingGateway second(redis.tcp_address());
  first.Add();
  ASSERT_TRUE(second.AwaitCount(1));
  const nethernet::JoinInfo info = second.joins_->List().front();
  EXPECT_TRUE(info.is_shared);
  EXPECT_EQ(info.network_id, "1234567890");
  EXPECT_EQ(info.id, first.joins_->List().front().id);
  // Who comes later knows it, too.
  SharingGateway third(redis.tcp_address());
  EXPECT_TRUE(third.AwaitCount(1));
  second.joins_->HandleDisconnect(
      DisconnectTarget::ForBackend(Sample().join.backend));
  EXPECT_TRUE(first.AwaitCount(0));
  EXPECT_TRUE(third.AwaitCount(0));
}

TEST(JoinSharingTest, EntriesThatAreWrongAreCounted) {
  test::RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  SharingGateway gateway(redis.tcp_address());
  ASSERT_TRUE(
      test::AwaitTrue([&] { return gateway.sharing_->stats().is_reading; }));
  ASSERT_TRUE(
      redis.Command({"XADD", "joins", "*", "e", "0123456789abcdef {}"}).ok());
  EXPECT_TRUE(
      test::AwaitTrue([&] { return gateway.sharing_->invalid_joins() == 1; }));
  EXPECT_TRUE(gateway.joins_->List().empty());
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
