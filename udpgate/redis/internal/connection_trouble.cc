// What a Connection says of a server that does not do what is asked of it.
#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "udpgate/redis/internal/connection.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

using udpgate::internal::MutexLock;

// Where an error tells its kind.
constexpr size_t kErrorHeadBytes = 64;

}  // namespace

RedisProblem ProblemOfError(absl::string_view error) {
  for (const absl::string_view kind : {"NOAUTH", "WRONGPASS"}) {
    if (absl::StartsWith(error, kind)) return RedisProblem::kLogin;
  }
  if (absl::StartsWith(error, "NOPERM")) return RedisProblem::kPermission;
  // Redis and most others: "ERR unknown command 'X', ...". Envoy before 1.22:
  // "unsupported command 'x'".
  const std::string head =
      absl::AsciiStrToLower(error.substr(0, kErrorHeadBytes));
  for (const absl::string_view part :
       {"unknown command", "unsupported command", "unknown subcommand",
        "not supported", "is not allowed", "is not available"}) {
    if (absl::StrContains(head, part)) return RedisProblem::kUnsupported;
  }
  return RedisProblem::kError;
}

RedisProblem Connection::ProblemOf(const absl::Status& why) const {
  switch (state_) {
    case State::kLookingUp:
    case State::kConnecting:
      return RedisProblem::kUnreachable;
    case State::kHandshaking:
      return RedisProblem::kTls;
    case State::kWaiting:
    case State::kLoggingIn:
    case State::kConnected:
      break;
  }
  if (absl::IsDataLoss(why) || absl::IsResourceExhausted(why)) {
    return RedisProblem::kProtocol;
  }
  // A server may reject the certificate after the handshake (TLS 1.3).
  if (absl::StartsWith(absl::StripPrefix(why.message(), text_prefix_),
                       "TLS: ")) {
    return RedisProblem::kTls;
  }
  return RedisProblem::kError;
}

std::string Connection::server() const {
  if (finder_.source() == nullptr || finder_.target().empty()) {
    return options_.address;
  }
  return absl::StrCat(options_.address, " at ", finder_.target());
}

void Connection::DropForError(const redisReply& error) {
  Drop(ErrorToStatus(error), ProblemOfError(ReplyText(error)));
}

std::string Connection::CommandsInDoubt() const {
  const auto is_role = [](const Command& command) {
    return command.kind == Command::Kind::kRole;
  };
  if (std::any_of(commands_.begin(), commands_.end(), is_role)) {
    return was_master_ ? "" : "INFO";
  }
  if (has_reply_) return "";
  std::string names;
  for (const Command& command : commands_) {
    if (command.kind != Command::Kind::kOwner ||
        absl::StrContains(names, command.name)) {
      continue;
    }
    absl::StrAppend(&names, names.empty() ? "" : ", ", command.name);
  }
  return names;
}

void Connection::OnEndOfStream(absl::string_view what) {
  const bool is_in_login = state_ == State::kLoggingIn;
  const std::string doubted =
      state_ == State::kConnected ? CommandsInDoubt() : "";
  const bool selects =
      is_in_login &&
      std::any_of(commands_.begin(), commands_.end(),
                  [](const Command& command) {
                    return command.kind == Command::Kind::kSelect;
                  });
  // A server that expects TLS closes after the first command.
  if (is_in_login && !has_received_ && transport_ == nullptr &&
      peer_.is_valid()) {
    DropClosed(Unavailable(
        absl::StrCat(what, " at the login; does the server expect TLS",
                     selects ? ", or not support SELECT?" : "?")));
    return;
  }
  if (!selects && doubted.empty()) {
    DropClosed(
        Unavailable(absl::StrCat(what, is_in_login ? " at the login" : "")));
    return;
  }
  const absl::Status why =
      Unavailable(absl::StrCat(what, " at ", selects ? "SELECT" : doubted,
                               "; does the server support it?"));
  // After several times, who waits for it would wait in vain.
  if (!has_reply_ && !selects && ++refusals_ >= kRefusalsMax) {
    Drop(why, RedisProblem::kUnsupported);
  } else {
    DropClosed(why, RedisProblem::kUnsupported);
  }
}

void Connection::LogRecovery(absl::string_view what) {
  if (refusals_ > 0 && !has_owner_reply_) {
    postponed_recovery_ = std::string(what);
    return;
  }
  is_working_ = true;
  {
    MutexLock lock(&health_mutex_);
    loss_ = absl::OkStatus();
  }
  problem_.store(RedisProblem::kNone);
  log_.Recovered(what);
}

void Connection::LogErrorReply(absl::string_view about,
                               const redisReply& error) {
  problem_.store(ProblemOfError(ReplyText(error)));
  log_.Refused(absl::StrCat(ErrorToStatus(error).message(), " to ", about));
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
