// Replies to the commands of a session store, and the records, leases and ids
// in them.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/clock.h"
#include "udpgate/redis/internal/frame_checker.h"
#include "udpgate/redis/internal/record_reader.h"
#include "udpgate/redis/internal/reply_reader.h"
#include "udpgate/redis/internal/session_keys.h"
#include "udpgate/redis/internal/session_pipe.h"
#include "udpgate/redis/internal/session_replies.h"
#include "udpgate/redis/internal/session_scripts.h"
#include "udpgate/stored_session.h"

namespace udpgate {
namespace test {
namespace {

using redis::internal::FrameLimits;
using redis::internal::RecordReader;
using redis::internal::ReplyReader;
using redis::internal::SetPage;

constexpr char kClient[] = "203.0.113.7:54321";
constexpr size_t kMemberBytesMax = 256;

void TryText(absl::string_view text) {
  static auto* const reader =
      new RecordReader("Redis", nullptr, Clock::Monotonic());
  const auto session = reader->Read(kClient, text);
  if (session.has_value()) {
    Require(session->client.ToString() == kClient,
            "a record is that of its key");
    Require(EncodeStoredSession(*session).size() <= kStoredSessionBytesMax,
            "a record is short");
  }
  const GatewayLease lease = redis::internal::DecodeLease("a", text);
  Require(
      lease.forward_address.size() <= redis::internal::kForwardAddressBytesMax,
      "an address is short");
  if (lease.run != 0) {
    const GatewayLease again =
        redis::internal::DecodeLease("a", redis::internal::EncodeLease(lease));
    Require(again.run == lease.run &&
                again.forward_address == lease.forward_address,
            "a lease is read as it is written");
  }
  std::string id;
  if (redis::internal::UnescapeGatewayId(text, &id)) {
    Require(redis::internal::EscapeGatewayId(id) == text && !id.empty() &&
                id.size() <= kGatewayIdBytesMax,
            "an id is read as it is written");
  }
  Require(redis::internal::ErrorOfScript(text).size() <= text.size(),
          "an error is a part of the reply");
}

void TryReply(const redisReply& reply) {
  TryText(redis::internal::ReplyText(reply));
  const size_t elements = reply.type == REDIS_REPLY_ARRAY ? reply.elements : 0;
  std::vector<absl::string_view> texts;
  if (redis::internal::ReadTexts(reply, elements, &texts)) {
    Require(texts.size() == elements, "each element is a text");
    for (const absl::string_view text : texts) {
      Require(text.size() <= redis::internal::kValueBytesMax,
              "a value is short");
      TryText(text);
    }
  }
  for (const size_t count : {size_t{0}, size_t{1}, size_t{4}}) {
    std::vector<SessionStore::Outcome> outcomes;
    if (redis::internal::ReadOutcomes(reply, count, "daol", &outcomes)) {
      Require(outcomes.size() == count, "each record has an outcome");
    }
  }
  SetPage page;
  if (!redis::internal::ReadSetPage(reply, kMemberBytesMax, &page)) return;
  Require(!page.cursor.empty() && page.cursor.size() <= 20,
          "a cursor is a number");
  for (const std::string& member : page.members) {
    Require(member.size() <= kMemberBytesMax, "a member is short");
    TryText(member);
  }
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  udpgate::test::FrameLimits limits;
  limits.elements_max = 64;
  udpgate::test::ReplyReader reader(limits);
  reader.Feed(udpgate::test::AsText(data, size)).IgnoreError();
  for (;;) {
    const auto reply = reader.Next();
    if (!reply.ok() || *reply == nullptr) return 0;
    udpgate::test::TryReply(**reply);
  }
}
