// The commands of the calls of a SessionStore that are about many records.
#ifndef UDPGATE_REDIS_INTERNAL_SESSION_BATCHES_H_
#define UDPGATE_REDIS_INTERNAL_SESSION_BATCHES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/redis/internal/record_reader.h"
#include "udpgate/redis/internal/session_keys.h"
#include "udpgate/redis/internal/session_pipe.h"
#include "udpgate/redis/internal/session_scripts.h"
#include "udpgate/session_store.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace redis {
namespace internal {

// The results of a call, which several commands fill in.
template <typename T>
using Results = std::shared_ptr<std::vector<T>>;

// Calls `take(begin, end)` for as many of `count` records as a command takes;
// `is_same(a, b)` says whether two of them may be in one.
template <typename IsSame, typename Take>
void ForEachBatch(size_t count, IsSame is_same, Take take) {
  for (size_t begin = 0; begin < count;) {
    size_t end = begin + 1;
    while (end < count && end - begin < kRecordsPerScript &&
           is_same(begin, end)) {
      ++end;
    }
    take(begin, end);
    begin = end;
  }
}
template <typename Take>
void ForEachBatch(size_t count, Take take) {
  ForEachBatch(
      count, [](size_t, size_t) { return true; }, take);
}

// As Redis takes it.
int64_t LifetimeMilliseconds(absl::Duration lifetime);

// Reads the outcomes of a command into their places. Only the letters of
// `allowed` are outcomes, see session_scripts.h.
decltype(SessionCommand::done) OutcomesInto(
    Results<SessionStore::Outcome> results, size_t begin, size_t end,
    absl::string_view allowed);
inline constexpr char kOutcomesOfOwner[] = "dao";

// Results must have a place for each record already, except of List. Threads:
// as RecordReader.
class SessionBatches {
 public:
  // Both must outlive the commands.
  SessionBatches(const SessionKeys* keys, RecordReader* records)
      : keys_(*keys), records_(*records) {}

  std::vector<SessionCommand> Write(
      const std::vector<StoredSession>& sessions, absl::Duration lifetime,
      const Results<SessionStore::Outcome>& results) const;
  std::vector<SessionCommand> Refresh(
      const std::vector<SessionStore::SessionKey>& session_keys,
      absl::Duration lifetime,
      const Results<SessionStore::Outcome>& results) const;
  std::vector<SessionCommand> Remove(
      const std::vector<SessionStore::SessionKey>& session_keys,
      const Results<SessionStore::Outcome>& results) const;
  std::vector<SessionCommand> Adopt(
      const std::vector<SessionStore::Adoption>& adoptions,
      absl::Duration lifetime,
      const Results<SessionStore::Outcome>& results) const;
  std::vector<SessionCommand> Find(
      const std::vector<SocketAddress>& clients,
      const Results<SessionStore::Found>& results) const;
  // Adds those of the records of `clients` that are of the gateway.
  std::vector<SessionCommand> List(const std::string& gateway_id,
                                   const std::vector<std::string>& clients,
                                   const Results<StoredSession>& results) const;

 private:
  // Of Refresh and Remove. `arguments` go before the tokens.
  std::vector<SessionCommand> OfOwner(
      absl::string_view what, const char* script,
      const std::vector<SessionStore::SessionKey>& session_keys,
      const std::vector<std::string>& arguments,
      const Results<SessionStore::Outcome>& results) const;
  SessionCommand ListCommand(const std::string& gateway_id,
                             std::vector<std::string> clients,
                             const Results<StoredSession>& results) const;

  const SessionKeys& keys_;
  RecordReader& records_;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_SESSION_BATCHES_H_
