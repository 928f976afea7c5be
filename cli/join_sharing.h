// Joins of players that the gateways of a fleet share through Redis, so that a
// player's TCP connection may reach one gateway and the UDP datagrams another.
#ifndef UDPGATE_CLI_JOIN_SHARING_H_
#define UDPGATE_CLI_JOIN_SHARING_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/nethernet/join_table.h"
#include "udpgate/redis/redis_stream.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace cli {

// What one gateway tells the others.
struct SharedJoin {
  bool has_ended = false;  // then only `join.id` is set
  nethernet::Join join;
};

// As compact JSON. It contains the password of the join: whoever reads the
// stream can take a player's place, as whoever reads the answer can.
std::string EncodeSharedJoin(const SharedJoin& shared);

// InvalidArgument, without any value of `text`, if it is not such a text, or if
// a value is out of bounds. Members that are not known are skipped.
absl::StatusOr<SharedJoin> DecodeSharedJoin(absl::string_view text);

// Tells other gateways of joins, and the table of those of others.
//
// Threads: as JoinObserver and RedisStream say; `Start` and `Stop` from one.
class JoinSharing final : public nethernet::JoinObserver {
 public:
  // Ends the sessions of these clients; called on the stream's thread.
  using EndSessions = std::function<void(std::vector<SocketAddress> clients)>;

  JoinSharing(std::unique_ptr<RedisStream> stream,
              std::shared_ptr<nethernet::JoinTable> joins)
      : stream_(std::move(stream)), joins_(std::move(joins)) {}

  // Errors: those of RedisStream::Start.
  absl::Status Start(EndSessions end_sessions);
  void Stop() { stream_->Stop(); }

  void OnAdded(const nethernet::Join& join) override;
  void OnDisconnected(const nethernet::Join& join) override;

  absl::Status Health() const { return stream_->Health(); }
  RedisStreamStats stats() const { return stream_->GetStats(); }
  // Entries that DecodeSharedJoin refused.
  uint64_t invalid_joins() const { return invalid_joins_.load(); }

 private:
  void Take(absl::string_view entry, absl::Duration age);

  const std::unique_ptr<RedisStream> stream_;
  const std::shared_ptr<nethernet::JoinTable> joins_;
  EndSessions end_sessions_;
  std::atomic<uint64_t> invalid_joins_{0};
};

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_JOIN_SHARING_H_
