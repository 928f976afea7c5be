// One connection to Redis on a thread of its own: looks the host up, connects,
// logs in, notices when it is lost or silent, and begins again.
#ifndef UDPGATE_REDIS_INTERNAL_CONNECTION_H_
#define UDPGATE_REDIS_INTERNAL_CONNECTION_H_

#include <hiredis/hiredis.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/clock.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/internal/mutex.h"
#include "udpgate/internal/sys_calls.h"
#include "udpgate/internal/unique_fd.h"
#include "udpgate/logging.h"
#include "udpgate/redis/internal/backoff.h"
#include "udpgate/redis/internal/reply_reader.h"
#include "udpgate/redis/redis_options.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace redis {
namespace internal {

// What a Connection is for. All methods are called on its thread, where they
// may call the methods of the Connection that are meant for it.
class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;

  // Connected and logged in: commands may be sent.
  virtual void OnConnected() = 0;
  // The answer to the oldest command that has none yet.
  virtual void OnAnswer(const redisReply& answer) = 0;
  // A message of a channel: an array that begins with "message".
  virtual void OnMessage(const redisReply& message) = 0;
  // An attempt has failed, or the connection was lost; what has no answer yet
  // gets none.
  virtual void OnLost(const absl::Status& why) = 0;
  // Called once a turn, so after each `Wake`. Returns the time (of the clock
  // of the options) at which it wants to be called again at the latest, or
  // `Connection::kNever`.
  virtual int64_t OnTurn(int64_t now_nanoseconds) = 0;
  // Redis was silent for a while and owes no answer. True where a command was
  // sent that shows whether it lives; else the Connection sends a PING.
  virtual bool OnSilence() { return false; }
};

class Connection {
 public:
  static constexpr int64_t kNever = INT64_MAX;

  // `options` must be valid. `what_for` names the connection in texts, since
  // there may be several to one Redis. `owner` must live until `Stop`.
  Connection(RedisOptions options, std::shared_ptr<HostLookup> lookup,
             absl::string_view what_for, absl::string_view thread_name,
             ConnectionOwner* owner);
  ~Connection() { Stop(); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Begins to connect. ResourceExhausted where there is no thread or
  // descriptor left. At most once.
  absl::Status Start();

  // Ends the thread and closes the connection, without `OnLost`. Returns as
  // soon as the owner's method that runs now has. Harmless when called twice.
  void Stop();

  // Makes a turn begin soon. Threads: any.
  void Wake();

  // OK while connected and logged in, else why not. Threads: any.
  absl::Status Health() const;

  // The rest is for the thread of the Connection.

  bool is_connected() const { return state_ == State::kConnected; }
  // Neither connected nor about to be.
  bool is_waiting() const { return state_ == State::kWaiting; }

  // Sends a command, while connected. It must be answered within
  // `RedisOptions::command_timeout`, else the connection is lost.
  void Send(std::initializer_list<absl::string_view> arguments);

  // Closes the connection and tries again after the back-off. Calls `OnLost`.
  void Drop(const absl::Status& why);

  // Somebody waits for Redis: shortens the wait to
  // `RedisOptions::reconnect_backoff_min`, and where that has passed begins an
  // attempt now. It may have failed already when this returns.
  void HurryUp();

  // Redis has answered `error`. If it is one that passes by itself, the name of
  // Redis is looked up again, once a second at most: where the name leads
  // elsewhere, or to other addresses too, the connection is made anew.
  void NoteError(const redisReply& error);

  // Whether the last connection was lost while it was in use: Redis or the
  // network closed it, or the name leads elsewhere. Not where Redis hung or
  // broke the protocol, and not after an attempt that failed.
  bool was_closed_in_use() const { return was_closed_in_use_; }

  // An error reply as a Status that names Redis and quotes it: Unavailable
  // where it passes by itself (LOADING), else FailedPrecondition.
  absl::Status ErrorToStatus(const redisReply& error) const;

  // Logs that all is well, where the last line said something else.
  void LogWell(absl::string_view what);

 private:
  enum class State {
    kWaiting,
    kLookingUp,
    kConnecting,
    kLoggingIn,
    kConnected
  };

  struct Command {
    // kLastLogin is the PING that ends the log-in.
    enum class Kind { kAuth, kSelect, kLastLogin, kPing, kOwner };
    Kind kind;
    int64_t deadline_nanoseconds;
  };

  // What the thread of a HostLookup writes to; it may outlive the Connection.
  struct Mailbox {
    udpgate::internal::UniqueFd wakeup;
    udpgate::internal::Mutex mutex;
    // The number of the look-up that is waited for; results of others come too
    // late.
    uint64_t awaited_number ABSL_GUARDED_BY(mutex) = 0;
    bool is_full ABSL_GUARDED_BY(mutex) = false;
    absl::StatusOr<std::vector<SocketAddress>> found ABSL_GUARDED_BY(mutex);
  };

  void Run();
  void Turn();
  void WaitForEvents(int64_t until_nanoseconds);
  int64_t NextDeadline() const;
  void CheckDeadlines();

  void BeginAttempt();
  void BeginLookup();
  void LookUp();
  void CheckAddress(const std::vector<SocketAddress>& found);
  void TakeLookup();
  void Connect(int family, const sockaddr* address, socklen_t size);
  void ConnectTcp(const SocketAddress& address);
  void ConnectUnix();
  void SetTcpOptions();
  void FinishConnect();
  void LogIn();

  void Queue(Command::Kind kind,
             std::initializer_list<absl::string_view> arguments);
  void Flush();
  void Read();
  void DropClosed(const absl::Status& why);
  // False where nothing more may be read in this turn.
  bool Consume(absl::string_view bytes);
  void Dispatch(const redisReply& reply);
  void OnLoginAnswer(const redisReply& answer, Command::Kind kind);

  int64_t Now() const { return options_.clock->NowNanoseconds(); }
  absl::Status Unavailable(absl::string_view what) const;
  void SetHealth(const absl::Status& health);
  void LogLost(const absl::Status& why);

  RedisOptions options_;
  // Begins every text: "Redis ADDRESS (WHAT_FOR): ".
  const std::string text_prefix_;
  const std::shared_ptr<HostLookup> lookup_;
  const std::string thread_name_;
  ConnectionOwner* const owner_;
  udpgate::internal::SysCalls* const sys_calls_ =
      udpgate::internal::SysCalls::Real();
  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
  std::atomic<bool> stopping_{false};
  std::thread thread_;

  mutable udpgate::internal::Mutex health_mutex_;
  absl::Status health_ ABSL_GUARDED_BY(health_mutex_);

  // Of the thread.
  State state_ = State::kWaiting;
  udpgate::internal::UniqueFd socket_;
  std::unique_ptr<ReplyReader> reader_;
  std::string output_;
  // Sent, and not answered yet.
  std::deque<Command> commands_;
  Backoff backoff_;
  size_t attempts_ = 0;
  uint64_t lookup_number_ = 0;
  // While connected: the name is being looked up again, and when that may be
  // done next.
  bool is_checking_name_ = false;
  int64_t next_check_nanoseconds_ = INT64_MIN;
  SocketAddress peer_;  // not where it is a unix socket
  bool is_closed_in_use_ = false;
  bool was_closed_in_use_ = false;
  int64_t retry_nanoseconds_ = 0;
  int64_t hurried_retry_nanoseconds_ = 0;
  int64_t connect_deadline_nanoseconds_ = 0;
  int64_t connected_nanoseconds_ = 0;
  int64_t replied_nanoseconds_ = 0;
  LogRateLimiter lost_limiter_;
  std::string lost_logged_;
  bool is_well_logged_ = false;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_CONNECTION_H_
