// A relay in front of a TCP server that a test can slow down, hang or cut: a
// Redis as a bad network shows it.
//
//   udpgate::test::TcpRelay relay(redis.port());
//   // the gateway: REDIS_ADDR=relay.address()
//   relay.HoldReplies();      // requests pass, answers wait
//   relay.ReleaseReplies();
//   relay.CutConnections();
#ifndef UDPGATE_TESTING_INTERNAL_SUPPORT_TCP_RELAY_H_
#define UDPGATE_TESTING_INTERNAL_SUPPORT_TCP_RELAY_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "testing/await.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace test {

// Threads: any, at any time.
class TcpRelay {
 public:
  // Listens on 127.0.0.1 and relays each connection to `target_port` of
  // 127.0.0.1. A target that refuses is a connection that closes.
  explicit TcpRelay(uint16_t target_port);
  ~TcpRelay();
  TcpRelay(const TcpRelay&) = delete;
  TcpRelay& operator=(const TcpRelay&) = delete;

  uint16_t port() const { return port_; }
  // `127.0.0.1:port`.
  std::string address() const;

  // From now on what the server sends waits; connections stay open and
  // requests pass.
  void HoldReplies();
  void ReleaseReplies();

  // What the server sends from now on passes on so much later.
  void set_reply_delay(absl::Duration delay);

  // Instead of what the server sends next, on whatever connection, `bytes`
  // pass.
  void ReplaceNextReply(absl::string_view bytes);

  // After so many more bytes of replies the connection that they belong to is
  // closed, once.
  void CutAfterReplyBytes(size_t bytes);

  // Closes all connections; new ones are accepted.
  void CutConnections();

  // Waits until at least `count` connections have been accepted since the
  // start. False where they have not within `timeout`.
  bool AwaitConnections(size_t count, absl::Duration timeout = kAwaitTimeout);

  // Waits until the requests of all connections since the start hold `text`
  // at least `count` times. False where they do not within `timeout`.
  bool AwaitRequests(absl::string_view text, size_t count,
                     absl::Duration timeout = kAwaitTimeout);
  // How often they do now.
  size_t CountRequests(absl::string_view text) const;

 private:
  struct Piece {
    absl::Time due;
    std::string bytes;
  };
  struct Connection {
    internal::UniqueFd client;
    internal::UniqueFd server;
    std::deque<Piece> replies;
    bool closed = false;
  };

  void Run();
  void Wake();
  void Accept();
  void ReadRequests(Connection* connection)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReadReplies(Connection* connection)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteDueReplies(Connection* connection)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int PollTimeoutMilliseconds() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint16_t target_port_;
  uint16_t port_;
  internal::UniqueFd listener_;
  const internal::UniqueFd wake_event_;

  mutable internal::Mutex mutex_;
  internal::ConditionVariable changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool holding_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration reply_delay_ ABSL_GUARDED_BY(mutex_);
  bool replacing_ ABSL_GUARDED_BY(mutex_) = false;
  std::string replacement_ ABSL_GUARDED_BY(mutex_);
  bool cutting_ ABSL_GUARDED_BY(mutex_) = false;
  size_t bytes_until_cut_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t connection_count_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string requests_ ABSL_GUARDED_BY(mutex_);
  std::list<Connection> connections_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SUPPORT_TCP_RELAY_H_
