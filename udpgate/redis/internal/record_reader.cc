#include "udpgate/redis/internal/record_reader.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "udpgate/stored_session.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

constexpr absl::Duration kLogInterval = absl::Seconds(10);

}  // namespace

RecordReader::RecordReader(std::string name, LogSink sink, const Clock* clock)
    : name_(std::move(name)),
      sink_(std::move(sink)),
      limiter_(clock, kLogInterval) {}

absl::optional<StoredSession> RecordReader::Read(absl::string_view client,
                                                 absl::string_view text) {
  if (text.empty()) return absl::nullopt;
  absl::StatusOr<StoredSession> session = DecodeStoredSession(text);
  if (!session.ok()) {
    (absl::IsUnimplemented(session.status()) ? of_other_version_ : invalid_)
        .fetch_add(1);
    Log(client, session.status().message());
    return absl::nullopt;
  }
  if (session->client.ToString() != client) {
    invalid_.fetch_add(1);
    Log(client,
        absl::StrCat("the record is that of ", session->client.ToString()));
    return absl::nullopt;
  }
  return *std::move(session);
}

void RecordReader::Log(absl::string_view client, absl::string_view why) {
  int64_t suppressed;
  if (sink_ == nullptr || !limiter_.Admit(&suppressed)) return;
  sink_(LogSeverity::kWarning,
        absl::StrCat(name_, ": the record of client ", absl::CHexEscape(client),
                     " is ignored: ", why,
                     suppressed == 0
                         ? ""
                         : absl::StrCat(" (", suppressed, " more not shown)")));
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
