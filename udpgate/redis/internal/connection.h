// One connection to Redis on a thread of its own: looks the host up, connects,
// logs in, detects loss and silence, and reconnects.
#ifndef UDPGATE_REDIS_INTERNAL_CONNECTION_H_
#define UDPGATE_REDIS_INTERNAL_CONNECTION_H_

#include <hiredis/hiredis.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "udpgate/clock.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/redis/internal/address_finder.h"
#include "udpgate/redis/internal/backoff.h"
#include "udpgate/redis/internal/outage_log.h"
#include "udpgate/redis/internal/password.h"
#include "udpgate/redis/internal/reply_reader.h"
#include "udpgate/redis/redis_options.h"
#include "udpgate/redis/redis_problem.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace redis {
namespace internal {

// The user of a Connection. All methods are called on the connection's thread,
// and may call the Connection's methods for that thread.
class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;

  // Connected and logged in: commands may be sent.
  virtual void OnConnected() = 0;
  // The reply to the oldest pending command.
  virtual void OnReply(const redisReply& reply) = 0;
  // A message of a channel: an array that begins with "message".
  virtual void OnMessage(const redisReply& message) = 0;
  // An attempt has failed, or the connection was lost. Pending commands get no
  // reply.
  virtual void OnLost(const absl::Status& why) = 0;
  // Called in each event-loop iteration, so after each `Wake`. Returns when to
  // call it again at the latest, in the time of `RedisOptions::clock`, or
  // `Connection::kNever`.
  virtual int64_t OnIteration(int64_t now_nanoseconds) = 0;
  // Redis was silent for `RedisOptions::ping_interval`, and no command is
  // pending. Returns true if it sent a command; else the Connection sends PING.
  virtual bool OnIdle() { return false; }
  // False if Redis takes few commands on the connection, as while it is
  // subscribed (RESP2): neither AUTH nor INFO.
  virtual bool takes_any_command() const { return true; }
};

// True if the error reply tells of a temporary state of Redis
// (https://redis.io/docs/reference/protocol-spec/#simple-errors: the first word
// is the kind).
bool IsTemporaryError(absl::string_view error);

// True if the error reply says that the connection is not logged in (NOAUTH).
bool IsLoginRevoked(const redisReply& error);

// What the error reply tells of: kLogin, kPermission, kUnsupported or kError.
RedisProblem ProblemOfError(absl::string_view error);

class Connection {
 public:
  static constexpr int64_t kNever = INT64_MAX;
  // The interval of address lookups while Redis replies with errors.
  static constexpr absl::Duration kAddressCheckInterval = absl::Seconds(1);
  // The interval at which a connected Redis is asked for its role, and its host
  // name is looked up.
  static constexpr absl::Duration kCheckupInterval = absl::Seconds(15);
  // The interval at which the password file is read, besides at each connect.
  static constexpr absl::Duration kPasswordCheckInterval = absl::Seconds(1);

  // `options` must be valid. `what_for` names the connection in texts, since
  // one Redis may have several. `owner` must live until `Stop`. `limits` are
  // those of a reply.
  Connection(RedisOptions options, std::shared_ptr<HostLookup> lookup,
             absl::string_view what_for, absl::string_view thread_name,
             ConnectionOwner* owner, const FrameLimits& limits = FrameLimits());
  ~Connection() { Stop(); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Starts to connect. ResourceExhausted if no thread or descriptor is left.
  // Call at most once.
  absl::Status Start();

  // Ends the thread and closes the connection, without `OnLost`. Waits for a
  // running method of the owner. May be called twice.
  void Stop();

  // Wakes the thread up. Threads: any.
  void Wake() { finder_.Wake(); }

  // OK while connected and logged in, else the reason. Threads: any.
  absl::Status Health() const;

  // The same, but after a loss the reason stays until the connection does its
  // work (`LogRecovery`): a server that accepts each login and refuses the
  // command after it does not seem healthy in between. Threads: any.
  absl::Status WorkHealth() const;

  // Everything below is for the thread of the Connection.

  bool is_connected() const { return state_ == State::kConnected; }
  // True between two attempts.
  bool is_waiting() const { return state_ == State::kWaiting; }

  // Sends a command, while connected. If there is no reply within
  // `RedisOptions::command_timeout`, the connection is lost.
  void Send(absl::Span<const absl::string_view> arguments);
  // The same after ASKING, whose reply the owner does not get.
  void SendAsking(absl::Span<const absl::string_view> arguments);

  // The `host:port` that it is or was connected to; empty before the first
  // attempt, and for a unix socket.
  const std::string& target() const { return finder_.target(); }

  // What keeps the connection from its work. Threads: any.
  RedisProblem problem() const { return problem_.load(); }

  // Closes the connection and reconnects after the back-off. Calls `OnLost`.
  void Drop(const absl::Status& why) { Drop(why, ProblemOf(why)); }
  void Drop(const absl::Status& why, RedisProblem problem);

  // The same, because of this error reply.
  void DropForError(const redisReply& error);

  // The same, for a connection that Redis or the network ended: see
  // `was_closed_in_use`.
  void DropClosed(const absl::Status& why,
                  RedisProblem problem = RedisProblem::kClosed);

  // Shortens the wait for the next attempt, unless the server has closed
  // several connections after the login, to
  // `RedisOptions::reconnect_backoff_min`, counted from the begin of the last
  // attempt if the connection was closed in use, else from its end. If that has
  // passed, starts an attempt, which may have failed when this returns; in
  // `OnLost`, the attempt starts later.
  void ReconnectSoon();

  // Call if Redis replied with `error`. If the error is temporary, looks up the
  // host name of Redis again, at most once per second. If it has other
  // addresses than that of this connection, reconnects.
  void OnErrorReply(const redisReply& error);

  // For texts: the address of Redis, or of the server that it stands for.
  std::string server() const;

  // True if the last connection was closed in use: by Redis, by the network, or
  // because the host name has other addresses now. False if Redis hung or
  // violated the protocol, and after a failed attempt.
  bool was_closed_in_use() const { return was_closed_in_use_; }

  // When the last whole reply or message came.
  int64_t replied_nanoseconds() const { return replied_nanoseconds_; }

  // A Status that quotes the error reply: Unavailable if it is temporary
  // (LOADING), else FailedPrecondition.
  absl::Status ErrorToStatus(const redisReply& error) const;

  // Call when the connection does its work, also if nothing was wrong. Logs
  // `what`, if a failure or nothing was logged before. If the server closed the
  // last connections at their first command, waits for a reply to one.
  void LogRecovery(absl::string_view what);

  // Call if Redis replied with `error` to a command and the connection stays.
  // Logs it once, until `LogRecovery`. `about` names the command in the line.
  void LogErrorReply(absl::string_view about, const redisReply& error);

 private:
  // Closed at their first command, in a row, after which new requests bring no
  // attempt forward.
  static constexpr int kRefusalsMax = 3;

  enum class State {
    kWaiting,
    kLookingUp,
    kConnecting,
    kHandshaking,
    kLoggingIn,
    kConnected
  };

  struct Command {
    // kLoginRole is INFO in the login, kLastLogin the PING that ends it;
    // kAuthAgain is the AUTH of a connection that is in use; kRole is INFO.
    enum class Kind {
      kAuth,
      kSelect,
      kLoginRole,
      kLastLogin,
      kAuthAgain,
      kRole,
      kPing,
      kAsking,
      kOwner
    };
    Kind kind;
    int64_t deadline_nanoseconds;
    std::string name;
  };

  void Run();
  void PollOnce();
  void WaitForEvents(int64_t until_nanoseconds);
  int64_t NextDeadline() const;
  void CheckDeadlines();
  // A command has had no reply for a while.
  void CheckSilence();

  void BeginAttempt();
  void BeginLookup();
  void LookUp();
  // Follows the host name of Redis: `found` are its addresses now.
  void CheckAddress(const std::vector<SocketAddress>& found);
  // Asks for the role, and looks the name up, from time to time.
  void CheckUp();
  // Looks the name up, for a reason that texts tell or since it is time to.
  void CheckName(absl::string_view reason);
  void OnRoleReply(const redisReply& reply);
  bool must_be_master() const {
    return finder_.source() != nullptr && finder_.source()->names_masters();
  }
  // Follows the address source.
  void CheckMove();
  // True if the error reply leads to another server: then the owner gets no
  // reply, and the connection is lost.
  bool FollowError(const redisReply& error);
  void AcceptLoginRole(const redisReply& reply);
  void PostponeRole();
  void TakeLookup();
  void Connect(int family, const sockaddr* address, socklen_t size);
  void ConnectTcp(const SocketAddress& address);
  void ConnectUnix();
  void FinishConnect();
  void OnConnectDone();
  void BeginHandshake();
  void LogIn();
  void QueueAuth(Command::Kind kind);
  // Reads the password file, and uses a password that has changed.
  void CheckPassword();
  void OnAuthAgainReply(const redisReply& reply);

  void Queue(Command::Kind kind, absl::Span<const absl::string_view> arguments);
  void Flush();
  void Read();
  // The same for bytes of the transport.
  bool Decrypt(absl::string_view bytes);
  // The stream has ended, or failed with `what`.
  void OnEndOfStream(absl::string_view what);
  // The commands at which the server has closed the connection, if it may not
  // support them; else empty.
  std::string CommandsInDoubt() const;
  // From the state of the connection, before it is closed.
  RedisProblem ProblemOf(const absl::Status& why) const;
  // False if this iteration must read no more.
  bool Consume(absl::string_view bytes);
  void Dispatch(const redisReply& reply);
  void OnLoginReply(const redisReply& reply, Command::Kind kind);

  int64_t Now() const { return options_.clock->NowNanoseconds(); }
  absl::Status Unavailable(absl::string_view what) const;
  void SetHealth(const absl::Status& health);

  RedisOptions options_;
  // The prefix of every text: "Redis ADDRESS (WHAT_FOR): ".
  const std::string text_prefix_;
  AddressFinder finder_;
  const std::string thread_name_;
  ConnectionOwner* const owner_;
  const FrameLimits limits_;
  udpgate::internal::SysCalls* const sys_calls_ =
      udpgate::internal::SysCalls::Real();
  std::atomic<bool> stopping_{false};
  std::atomic<RedisProblem> problem_{RedisProblem::kNone};
  std::thread thread_;

  mutable udpgate::internal::Mutex health_mutex_;
  absl::Status health_ ABSL_GUARDED_BY(health_mutex_);
  // Why the last connection was lost; OK if the owner's work has begun since.
  absl::Status loss_ ABSL_GUARDED_BY(health_mutex_);

  // Used by the thread only.
  State state_ = State::kWaiting;
  udpgate::internal::UniqueFd socket_;
  std::unique_ptr<RedisTransport> transport_;  // null: none
  bool has_received_ = false;                  // on this connection
  std::unique_ptr<ReplyReader> reader_;
  std::string output_;
  // Sent, without a reply so far.
  std::deque<Command> commands_;
  Backoff backoff_;
  size_t attempts_ = 0;
  // While connected: the host name is being looked up again; the earliest time
  // of the next such lookup.
  bool is_checking_name_ = false;
  int64_t next_check_nanoseconds_ = INT64_MIN;
  // Why the name is being looked up: empty if only its time has come.
  std::string check_reason_;
  // The last lookup did not find the address of this connection.
  bool has_moved_ = false;
  int64_t next_checkup_nanoseconds_ = kNever;
  // Redis has said so on this connection.
  bool was_master_ = false;
  // Not earlier, since Redis or a proxy has refused to tell it; how often it
  // has closed the connection instead.
  int64_t next_role_nanoseconds_ = INT64_MIN;
  int role_closes_ = 0;
  SocketAddress peer_;  // not set for a unix socket
  bool is_closed_in_use_ = false;
  bool was_closed_in_use_ = false;
  bool is_dropping_ = false;
  // The connection is left for another server, which is no failure.
  bool is_following_ = false;
  // Since the login: there was a reply, and one to a command of the owner; the
  // owner has said that it works.
  bool has_reply_ = false;
  bool has_owner_reply_ = false;
  bool is_working_ = false;
  // Connections that were closed at the owner's first command, in a row.
  int refusals_ = 0;
  // What to log when the owner's next command gets a reply.
  std::string postponed_recovery_;
  Password password_;
  int64_t next_password_check_nanoseconds_ = kNever;
  // The password has changed since the login; when to send AUTH again.
  int64_t next_auth_nanoseconds_ = kNever;
  bool is_auth_failure_logged_ = false;
  bool was_login_rejected_ = false;
  std::string password_problem_logged_;
  int64_t attempt_nanoseconds_ = 0;
  int64_t next_silence_check_nanoseconds_ = kNever;
  int64_t retry_nanoseconds_ = 0;
  int64_t earliest_retry_nanoseconds_ = 0;
  int64_t connect_deadline_nanoseconds_ = 0;
  int64_t connected_nanoseconds_ = 0;
  int64_t replied_nanoseconds_ = 0;
  OutageLog log_;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_CONNECTION_H_
