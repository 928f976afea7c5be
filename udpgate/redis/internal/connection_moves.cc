// How a Connection follows a Redis that moves: its role and its host name.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/redis/internal/connection.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

constexpr absl::Duration kRolePostponed = absl::Minutes(10);

bool IsHostName(const std::string& address) {
  const absl::StatusOr<HostPort> parsed = HostPort::Parse(address);
  return parsed.ok() &&
         !SocketAddress::FromIpAndPort(parsed->host, parsed->port).ok();
}

// Of a reply to INFO.
bool IsReplica(const redisReply& reply) {
  return absl::StrContains(ReplyText(reply), "\nrole:slave");
}

}  // namespace

void Connection::OnErrorReply(const redisReply& error) {
  if (state_ != State::kConnected || !IsTemporaryError(ReplyText(error)) ||
      Now() < next_check_nanoseconds_) {
    return;
  }
  next_check_nanoseconds_ =
      Now() + absl::ToInt64Nanoseconds(kAddressCheckInterval);
  CheckName("replies with errors");
}

void Connection::CheckName(absl::string_view reason) {
  if (!peer_.is_valid()) return;
  if (!reason.empty()) check_reason_ = std::string(reason);
  if (std::exchange(is_checking_name_, true)) return;
  LookUp();
}

void Connection::CheckUp() {
  if (Now() < next_checkup_nanoseconds_) return;
  next_checkup_nanoseconds_ =
      Now() + absl::ToInt64Nanoseconds(kCheckupInterval);
  if (owner_->takes_any_command() && Now() >= next_role_nanoseconds_) {
    Queue(Command::Kind::kRole, {"INFO", "replication"});
  }
  if (must_be_master() || IsHostName(options_.address)) CheckName("");
}

// https://redis.io/commands/info/ has the role as ROLE does, but in a string
// whose size does not depend on the number of replicas.
void Connection::OnRoleReply(const redisReply& reply) {
  if (reply.type != REDIS_REPLY_STRING) {
    PostponeRole();
    return;
  }
  role_closes_ = 0;
  const bool is_replica = IsReplica(reply);
  const bool was_master = std::exchange(was_master_, !is_replica);
  if (was_master && is_replica) CheckName("has become a replica");
}

void Connection::AcceptLoginRole(const redisReply& reply) {
  // A user without permission for INFO is told nothing, and trusts Sentinel.
  if (!IsReplica(reply)) return;
  finder_.source()->Distrust();
  Drop(Unavailable(absl::StrCat(peer_.ToString(), " is not a master")));
}

// Not on the way to the address that was named.
void Connection::CheckMove() {
  if (!finder_.TakeMove() || state_ == State::kLookingUp) return;
  backoff_.Reset();
  if (state_ != State::kWaiting) {
    DropClosed(Unavailable(absl::StrCat(
        peer_.ToString(), must_be_master() ? " is no longer the master"
                                           : " is left for another node")));
    backoff_.Reset();
  }
  ReconnectSoon();
}

bool Connection::FollowError(const redisReply& error) {
  if (error.type != REDIS_REPLY_ERROR || finder_.source() == nullptr ||
      !finder_.source()->TakeError(ReplyText(error), target())) {
    return false;
  }
  is_following_ = true;
  DropClosed(ErrorToStatus(error), RedisProblem::kError);
  is_following_ = false;
  ReconnectSoon();
  return true;
}

void Connection::SendAsking(absl::Span<const absl::string_view> arguments) {
  Queue(Command::Kind::kAsking, {"ASKING"});
  Queue(Command::Kind::kOwner, arguments);
}

// A server that has closed the connection twice is not asked again.
void Connection::PostponeRole() {
  next_role_nanoseconds_ =
      role_closes_ > 1 ? kNever
                       : Now() + absl::ToInt64Nanoseconds(kRolePostponed);
}

void Connection::CheckAddress(const std::vector<SocketAddress>& found) {
  const bool is_found =
      std::find(found.begin(), found.end(), peer_) != found.end();
  const std::string reason = check_reason_;
  const bool has_moved = std::exchange(has_moved_, !is_found);
  if (reason.empty()) {
    // Not after one lookup: a name may have more addresses than it shows.
    if (is_found || (!has_moved && !must_be_master())) return;
    DropClosed(Unavailable(
        absl::StrCat(must_be_master() ? "the master" : "the host name",
                     " has another address than ", peer_.ToString(), " now")));
    return;
  }
  if (is_found && found.size() == 1) return;
  DropClosed(Unavailable(
      absl::StrCat(peer_.ToString(), " ", reason, ", and the host name has ",
                   is_found ? "more addresses" : "another address now")));
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
