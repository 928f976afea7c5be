#include "udpgate/takeover/internal/session_columns.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "udpgate/internal/session/session_record.h"
#include "udpgate/session_info.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace takeover {
namespace internal {
namespace {

using udpgate::internal::HandedSession;

// A session that differs from the default in every field that has a column.
HandedSession FullSession() {
  HandedSession session;
  session.id = UINT64_MAX;
  session.state = SessionState::kConfirmed;
  session.client = SocketAddress::Ipv6Loopback(1);
  session.local = *SocketAddress::Parse("[fe80::1%1]:2");
  session.backend = SocketAddress::Ipv4Loopback(3);
  session.relay = SocketAddress::Ipv4Loopback(4);
  session.label = std::string("a\0\xff", 3);
  session.tag = std::make_shared<SessionTag>(std::string("k\0", 2), "text");
  session.listener = UINT16_MAX;
  session.refusals = -5;
  session.has_answered = true;
  session.has_unanswered_reply = true;
  session.proof_count = UINT8_MAX;
  session.first_proof_nanoseconds = INT64_MIN;
  session.created_nanoseconds = INT64_MAX;
  session.last_active_nanoseconds = -6;
  session.client_active_nanoseconds = 7;
  session.unanswered_since_nanoseconds = 8;
  session.resolve_deadline_nanoseconds = 9;
  session.reply_bytes = 10;
  session.client_datagrams_forwarded = 11;
  session.client_bytes_forwarded = UINT64_MAX;
  session.backend_datagrams_forwarded = 12;
  session.backend_bytes_forwarded = 13;
  session.flow_slot = 14;
  session.flow_counted = {{15, 16, 0}, {17, 18, 0}};
  return session;
}

// Converts to the type of any field.
struct AnyField {
  template <typename T>
  operator T()
      const;  // NOLINT(google-explicit-constructor): only in CountFields
};

// The number of fields of an aggregate: the most that it can be initialized
// with.
template <typename Aggregate, typename = void, typename... Fields>
struct CountFields {
  static constexpr size_t kCount = sizeof...(Fields) - 1;
};
template <typename Aggregate, typename... Fields>
struct CountFields<Aggregate, std::void_t<decltype(Aggregate{Fields()...})>,
                   Fields...> {
  static constexpr size_t kCount =
      CountFields<Aggregate, void, Fields..., AnyField>::kCount;
};

// A field without a column would be lost in a takeover. It gets a column, or it
// belongs in `Session` and not in the record.
TEST(SessionColumnsTest, EveryFieldOfTheRecordHasAColumn) {
  size_t column_count = 0;
  for (const Column& column : SessionColumns()) {
    if (!column.is_flow) ++column_count;
  }
  EXPECT_EQ(CountFields<udpgate::internal::SessionRecord>::kCount,
            column_count);
}

TEST(SessionColumnsTest, EveryColumnHasANameOfItsOwn) {
  std::set<std::string> names;
  for (const Column& column : SessionColumns()) {
    EXPECT_TRUE(names.insert(column.name).second) << column.name;
    EXPECT_EQ(FindColumn(column.name), &column);
  }
  EXPECT_STREQ(IdColumn().name, "id");
  EXPECT_EQ(FindColumn("of_a_later_version"), nullptr);
  EXPECT_EQ(FindColumn(1), nullptr);
}

TEST(SessionColumnsTest, EveryColumnCarriesOneField) {
  const HandedSession session = FullSession();
  for (const Column& column : SessionColumns()) {
    EXPECT_NE(column.write(session), column.write(HandedSession()))
        << column.name << " is missing in FullSession";
    HandedSession read;
    EXPECT_TRUE(column.read(column.write(session), &read)) << column.name;
    EXPECT_EQ(column.write(read), column.write(session)) << column.name;
    for (const Column& other : SessionColumns()) {
      if (&other == &column) continue;
      EXPECT_EQ(other.write(read), other.write(HandedSession()))
          << column.name << " changes " << other.name;
    }
  }
}

TEST(SessionColumnsTest, ATagKeepsItsKeyAndItsText) {
  const Column* const column = FindColumn("tag");
  ASSERT_NE(column, nullptr);
  const HandedSession session = FullSession();
  HandedSession read;
  ASSERT_TRUE(column->read(column->write(session), &read));
  EXPECT_EQ(read.tag->key(), session.tag->key());
  EXPECT_EQ(read.tag->text(), session.tag->text());
  ASSERT_TRUE(column->read(column->write(HandedSession()), &read));
  EXPECT_EQ(read.tag, nullptr);
}

TEST(SessionColumnsTest, ATagOfAnotherShapeIsRefused) {
  using nlohmann::json;
  const json text = json::binary({'t'});
  const json long_text = json::binary(
      std::vector<uint8_t>(SessionTag::kBytesMax + 1, uint8_t{'t'}));
  HandedSession read;
  for (const json& value :
       {json(1), json("tag"), json::array(), json::array({text}),
        json::array({text, 1}), json::array({text, text, text}),
        json::array({long_text, text}), json::array({text, long_text})}) {
    EXPECT_FALSE(FindColumn("tag")->read(value, &read)) << value;
  }
}

TEST(SessionColumnsTest, ATagThatIsTooLongIsLeftOut) {
  HandedSession session;
  session.tag = std::make_shared<SessionTag>(
      std::string(SessionTag::kBytesMax + 1, 'k'), "text");
  EXPECT_TRUE(FindColumn("tag")->write(session).is_null());
}

TEST(SessionColumnsTest, ANumberIsTheSameInARow) {
  const HandedSession session = FullSession();
  for (const Column& column : SessionColumns()) {
    ASSERT_EQ(column.pack == nullptr, column.unpack == nullptr) << column.name;
    if (column.pack == nullptr) continue;
    HandedSession read;
    EXPECT_TRUE(column.unpack(column.pack(session), &read)) << column.name;
    EXPECT_EQ(column.write(read), column.write(session)) << column.name;
  }
}

// KnownSessions compares `local`, and only that: a further field that changes
// must be a number, or be compared there too.
TEST(SessionColumnsTest, OneFieldThatChangesIsNotANumber) {
  std::set<std::string> names;
  for (const Column& column : SessionColumns()) {
    if (column.changes && column.pack == nullptr) names.insert(column.name);
  }
  EXPECT_THAT(names, ::testing::ElementsAre("local"));
}

}  // namespace
}  // namespace internal
}  // namespace takeover
}  // namespace udpgate
