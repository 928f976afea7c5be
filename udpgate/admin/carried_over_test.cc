#include "udpgate/admin/carried_over.h"

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "udpgate/backend_resolver.h"

namespace udpgate {
namespace admin {
namespace {

SessionHistory::End MakeEnd(uint64_t id) {
  SessionHistory::End end;
  end.event.kind = SessionEvent::Kind::kEnded;
  end.event.session_id = id;
  end.event.state = SessionState::kConfirmed;
  end.event.end_reason = EndReason::kDisconnected;
  end.event.client = *SocketAddress::Parse("203.0.113.7:54321");
  end.event.local = *SocketAddress::Parse("[2001:db8::1]:19132");
  end.event.backend = *SocketAddress::Parse("10.0.0.5:19132");
  end.event.relay = *SocketAddress::Parse("10.0.0.1:40123");
  end.event.age = absl::Nanoseconds(1234567890);
  end.event.client_datagrams_forwarded = 1;
  end.event.client_bytes_forwarded = 2;
  end.event.backend_datagrams_forwarded = 3;
  end.event.backend_bytes_forwarded = 4;
  end.time = absl::FromUnixNanos(1'700'000'000'123'456'789);
  return end;
}

CarriedOver MakeCarriedOver() {
  CarriedOver carried;
  carried.counters = {{"a_total", 3}, {"b_total", 0.25}};
  carried.history.ends = {MakeEnd(256), MakeEnd(512)};
  carried.history.ends[1].event.backend = SocketAddress();
  carried.history.ends[1].event.tag =
      std::make_shared<SessionTag>("", "1234567890");
  SessionHistory::RecordedBackend named;
  named.backend.address = *SocketAddress::Parse("10.0.0.5:19132");
  named.backend.opened = 9;
  for (size_t i = 0; i < kEndReasonCount; ++i) named.backend.ended[i] = i + 1;
  named.last_event = absl::FromUnixSeconds(1'700'000'000);
  SessionHistory::RecordedBackend others = named;
  others.backend.address = SocketAddress();
  carried.history.backends = {named, others};
  return carried;
}

TEST(CarriedOverTest, WhatIsWrittenIsRead) {
  const CarriedOver carried = MakeCarriedOver();
  const std::string text = EncodeCarriedOver(carried);
  const absl::StatusOr<CarriedOver> read = DecodeCarriedOver(text);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->counters, carried.counters);
  ASSERT_EQ(read->history.ends.size(), 2u);
  ASSERT_EQ(read->history.backends.size(), 2u);
  EXPECT_EQ(read->history.ends[0].time, carried.history.ends[0].time);
  EXPECT_EQ(read->history.ends[0].event.relay,
            carried.history.ends[0].event.relay);
  EXPECT_FALSE(read->history.ends[1].event.backend.is_valid());
  EXPECT_EQ(read->history.backends[0].backend.ended,
            carried.history.backends[0].backend.ended);
  EXPECT_EQ(read->history.ends[0].event.tag, nullptr);
  ASSERT_NE(read->history.ends[1].event.tag, nullptr);
  EXPECT_EQ(read->history.ends[1].event.tag->text(), "1234567890");
  // The rest by way of the text, which has all of it.
  EXPECT_EQ(EncodeCarriedOver(*read), text);
}

TEST(CarriedOverTest, WhatIsUnknownIsLeftOutAndWhatIsMissingIsNoMatter) {
  nlohmann::json value =
      nlohmann::json::parse(EncodeCarriedOver(MakeCarriedOver()));
  value["later"] = {1, 2};
  value["ends"][0]["later"] = "x";
  value["ends"][0]["reason"] = "a_reason_of_later";
  value["ends"][0].erase("local");
  value["backends"][0]["ended"]["a_reason_of_later"] = 7u;
  value.erase("counters");
  const absl::StatusOr<CarriedOver> read = DecodeCarriedOver(value.dump());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->history.ends.size(), 2u);
  EXPECT_TRUE(read->counters.empty());
  ASSERT_TRUE(DecodeCarriedOver("").ok());
  ASSERT_TRUE(DecodeCarriedOver("{}").ok());
}

TEST(CarriedOverTest, WhatIsWrongIsRefused) {
  for (const char* text :
       {"[]", "1", "{", "{\"counters\": []}", "{\"counters\": {\"a\": -1}}",
        "{\"counters\": {\"a\": \"1\"}}", "{\"ends\": {}}", "{\"ends\": [1]}",
        "{\"ends\": [{\"id\": -1}]}", "{\"ends\": [{\"client\": \"here\"}]}",
        "{\"ends\": [{\"network_id\": 5}]}",
        "{\"ends\": [{\"age_nanoseconds\": 1.5}]}", "{\"backends\": 1}",
        "{\"backends\": [{\"opened\": \"1\"}]}",
        "{\"backends\": [{\"ended\": {\"idle\": -1}}]}"}) {
    EXPECT_EQ(DecodeCarriedOver(text).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
}

}  // namespace
}  // namespace admin
}  // namespace udpgate
