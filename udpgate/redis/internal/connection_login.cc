// The login of a Connection, and the errors that Redis replies with.
#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "udpgate/redis/internal/connection.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

// Of an error reply, in logs and errors.
constexpr size_t kQuotedBytesMax = 200;
// Error kinds of Redis, such as WRONGPASS, are shorter.
constexpr size_t kErrorKindBytesMax = 16;

// ": KIND", or nothing. The text of an error may quote the password, truncated
// or with other line breaks. Only the first word, the kind of the error in
// capitals, is safe to show.
std::string KindOfError(const redisReply& error) {
  const absl::string_view text = ReplyText(error);
  const absl::string_view kind = text.substr(0, text.find(' '));
  if (!std::all_of(kind.begin(), kind.end(), absl::ascii_isupper)) return "";
  return absl::StrCat(": ", kind.substr(0, kErrorKindBytesMax));
}

// Redis before 6, and twemproxy; Redis since 6.
bool NeedsNoPassword(absl::string_view error) {
  return absl::StrContains(error, "no password is set") ||
         absl::StrContains(error, "without any password configured");
}

}  // namespace

// Temporary states of Redis (https://redis.io/docs/reference/
// protocol-spec/#simple-errors: the first word is the kind).
bool IsTemporaryError(absl::string_view error) {
  const absl::string_view first = error.substr(0, error.find(' '));
  for (const absl::string_view kind :
       {"LOADING", "BUSY", "MASTERDOWN", "READONLY", "TRYAGAIN", "CLUSTERDOWN",
        "NOREPLICAS", "NOMASTERLINK", "NOGOODSLAVE", "INPROG", "UNBLOCKED",
        "MISCONF", "OOM"}) {
    if (first == kind) return true;
  }
  // The last ones are those of twemproxy and Envoy whose server is away.
  for (const absl::string_view text :
       {"ERR max number of clients", "ERR Connection refused",
        "ERR Connection timed out", "ERR Connection reset by peer",
        "no upstream host", "upstream failure"}) {
    if (absl::StartsWith(error, text)) return true;
  }
  return false;
}

bool IsLoginRevoked(const redisReply& error) {
  return absl::StartsWith(ReplyText(error), "NOAUTH");
}

void Connection::LogIn() {
  state_ = State::kLoggingIn;
  reader_ = std::make_unique<ReplyReader>(limits_);
  replied_nanoseconds_ = Now();
  password_.Read();
  next_auth_nanoseconds_ = kNever;
  QueueAuth(Command::Kind::kAuth);
  if (options_.database != 0) {
    Queue(Command::Kind::kSelect, {"SELECT", absl::StrCat(options_.database)});
  }
  if (must_be_master()) {
    Queue(Command::Kind::kLoginRole, {"INFO", "replication"});
  }
  // Always sent: the reply shows that this is Redis, that the login is
  // complete, and that the data is loaded.
  Queue(Command::Kind::kLastLogin, {"PING"});
}

void Connection::QueueAuth(Command::Kind kind) {
  if (!options_.username.empty()) {
    Queue(kind, {"AUTH", options_.username, password_.text()});
  } else if (!password_.text().empty()) {
    Queue(kind, {"AUTH", password_.text()});
  }
}

void Connection::CheckPassword() {
  const int64_t now_nanoseconds = Now();
  if (now_nanoseconds < next_password_check_nanoseconds_) return;
  next_password_check_nanoseconds_ =
      now_nanoseconds + absl::ToInt64Nanoseconds(kPasswordCheckInterval);
  const bool has_changed = password_.Read();
  if (password_.problem().message() != password_problem_logged_) {
    password_problem_logged_ = std::string(password_.problem().message());
    if (!password_problem_logged_.empty()) {
      options_.log_sink(LogSeverity::kWarning,
                        absl::StrCat(text_prefix_, password_problem_logged_,
                                     "; the last password is used"));
    }
  }
  if (has_changed) next_auth_nanoseconds_ = now_nanoseconds;
  if (has_changed && was_login_rejected_ && state_ == State::kWaiting) {
    backoff_.Reset();
    ReconnectSoon();
  } else if (state_ == State::kConnected && owner_->takes_any_command() &&
             now_nanoseconds >= next_auth_nanoseconds_) {
    next_auth_nanoseconds_ =
        now_nanoseconds +
        absl::ToInt64Nanoseconds(options_.reconnect_backoff_max);
    QueueAuth(Command::Kind::kAuthAgain);
  }
}

// A rejected AUTH changes nothing about the connection, and Redis may learn the
// password later than the file does.
void Connection::OnAuthAgainReply(const redisReply& reply) {
  const bool is_accepted = reply.type == REDIS_REPLY_STATUS;
  if (is_accepted) next_auth_nanoseconds_ = kNever;
  if (is_accepted) {
    is_auth_failure_logged_ = false;
    options_.log_sink(LogSeverity::kInfo,
                      absl::StrCat(text_prefix_,
                                   "logged in with the changed "
                                   "password"));
  } else if (!std::exchange(is_auth_failure_logged_, true)) {
    options_.log_sink(
        LogSeverity::kWarning,
        absl::StrCat(text_prefix_, "the changed password is rejected",
                     KindOfError(reply), "; the connection stays, retrying"));
  }
}

void Connection::OnLoginReply(const redisReply& reply, Command::Kind kind) {
  const bool is_last = kind == Command::Kind::kLastLogin;
  if (kind == Command::Kind::kAuth && reply.type == REDIS_REPLY_ERROR) {
    was_login_rejected_ = true;
    Drop(absl::FailedPreconditionError(absl::StrCat(
             "login rejected", KindOfError(reply),
             NeedsNoPassword(ReplyText(reply)) ? " (the server has no password)"
                                               : "")),
         RedisProblem::kLogin);
    // The file may have changed since the attempt began.
    if (password_.Read() || next_auth_nanoseconds_ != kNever) ReconnectSoon();
    return;
  }
  if (kind == Command::Kind::kLoginRole) {
    AcceptLoginRole(reply);
    return;
  }
  if (kind == Command::Kind::kSelect &&
      absl::StrContains(ReplyText(reply), "not allowed in cluster mode")) {
    Drop(absl::FailedPreconditionError(
             absl::StrCat("a Redis Cluster has database 0 only, not ",
                          options_.database, " (REDIS_DB)")),
         RedisProblem::kUnsupported);
    return;
  }
  // A user without permission for PING is logged in, too, and so is one of a
  // server that does not know it.
  const RedisProblem problem = reply.type == REDIS_REPLY_ERROR
                                   ? ProblemOfError(ReplyText(reply))
                                   : RedisProblem::kNone;
  const bool may_not_ping = is_last && (problem == RedisProblem::kPermission ||
                                        problem == RedisProblem::kUnsupported);
  if (problem != RedisProblem::kNone && !may_not_ping) {
    DropForError(reply);
    return;
  }
  if (reply.type != REDIS_REPLY_STATUS && !may_not_ping) {
    Drop(absl::DataLossError(
        "unexpected reply during login; is this a Redis server?"));
    return;
  }
  if (!is_last) return;
  was_login_rejected_ = false;
  state_ = State::kConnected;
  was_master_ = false;
  has_moved_ = false;
  check_reason_.clear();
  next_checkup_nanoseconds_ =
      Now() + absl::ToInt64Nanoseconds(kCheckupInterval);
  connected_nanoseconds_ = Now();
  SetHealth(absl::OkStatus());
  owner_->OnConnected();
}

absl::Status Connection::ErrorToStatus(const redisReply& error) const {
  const absl::string_view text = ReplyText(error);
  std::string quoted = absl::StrCat(
      "replied \"", absl::CHexEscape(text.substr(0, kQuotedBytesMax)), "\"");
  if (password_.AppearsIn(text)) {
    quoted = "replied with an error that contains the password";
  }
  absl::Status status = Unavailable(quoted);
  if (IsTemporaryError(text)) return status;
  return absl::FailedPreconditionError(status.message());
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
