// Joins on their way to another process, in MessagePack
// (https://msgpack.org). They have passwords in them.
//
// Threads: any.
#ifndef UDPGATE_NETHERNET_INTERNAL_EXPORTED_JOIN_H_
#define UDPGATE_NETHERNET_INTERNAL_EXPORTED_JOIN_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/nethernet/internal/join_clients.h"
#include "udpgate/nethernet/join.h"

namespace udpgate {
namespace nethernet {
namespace internal {

// Clocks differ between processes, so times are ages.
struct ExportedClient {
  JoinClients::Client client;  // without times
  absl::Duration used_age;
  absl::optional<absl::Duration> moved_age;
};

struct ExportedJoin {
  Join join;
  bool has_begun = false;  // it has or had sessions
  bool is_shared = false;
  absl::Duration age;
  absl::Duration listed_age;  // since it waits or lingers
  std::vector<ExportedClient> clients;
};

struct ExportedJoins {
  // There are no others.
  bool is_complete = false;
  std::vector<ExportedJoin> joins;
  std::vector<std::string> ended_ids;
};

std::string WriteJoins(const ExportedJoins& joins);
// InvalidArgument if it is malformed; the error quotes nothing.
absl::StatusOr<ExportedJoins> ReadJoins(absl::string_view text);

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_INTERNAL_EXPORTED_JOIN_H_
