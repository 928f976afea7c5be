// Chooses the backend of a new session. A `Proxy` resolves once per session.
//
// Implementations: `StaticBackendResolver` (one fixed address, for tests and
// small set-ups) and `RedisBackendResolver` (//udpgate/redis). Implement the
// interface to connect your own orchestrator. `MockBackendResolver` (//testing)
// is for unit tests.
#ifndef UDPGATE_BACKEND_RESOLVER_H_
#define UDPGATE_BACKEND_RESOLVER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "udpgate/base/export.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {
class TagReplies;
}  // namespace internal

// What is known about the client. A struct, so that fields can be added without
// breaking implementations.
struct UDPGATE_EXPORT ResolveRequest {
  enum class Reason : uint8_t {
    kDatagram,  // the first datagram of a client without a session
    kJoin,      // a player joins over another protocol (//udpgate/nethernet)
    kStatus,    // somebody asks for the server's status
  };

  // If the reason is kJoin or kStatus the port is that of the TCP connection.
  SocketAddress client;
  // The client's first datagram; empty if the reason is another. Valid only
  // during `Resolve`; copy what you need later.
  absl::Span<const char> first_datagram;
  // A result after this time is ignored; the session has ended by then.
  absl::Duration timeout;
  Reason reason = Reason::kDatagram;
  // The gateway's UDP port that the client sent to; 0 if the reason is another.
  uint16_t listen_port = 0;
};

// What sessions of the same player have in common, if the resolver knows it. It
// lives as long as a session or the resolver refers to it.
//
// Threads: the hooks are called on data-plane threads, from several at once.
// They must return within microseconds.
class UDPGATE_EXPORT SessionTag {
 public:
  static constexpr size_t kBytesMax = 256;

  // `key` identifies the tag in a takeover, see `BackendResolver::RestoreTag`.
  // `text` is what lists, logs and events show; it must contain no secret. Both
  // are at most `kBytesMax` long.
  SessionTag(std::string key, std::string text)
      : key_(std::move(key)), text_(std::move(text)) {}
  virtual ~SessionTag() = default;
  SessionTag(const SessionTag&) = delete;
  SessionTag& operator=(const SessionTag&) = delete;

  const std::string& key() const { return key_; }
  const std::string& text() const { return text_; }

  // A session with this tag has got its upstream socket, whose source address
  // is `relay`.
  virtual void OnBegin(const SocketAddress& client,
                       const SocketAddress& relay) {
    (void)client;
    (void)relay;
  }
  // Such a session has ended. Also called if the gateway stops; not called if
  // another process takes the session over.
  virtual void OnEnd(const SocketAddress& client, const SocketAddress& relay,
                     EndReason reason) {
    (void)client;
    (void)relay;
    (void)reason;
  }

 private:
  friend class internal::TagReplies;

  const std::string key_;
  const std::string text_;
  std::atomic<int64_t> replied_nanoseconds_{INT64_MIN};
};

struct UDPGATE_EXPORT ResolveResult {
  // Where the client's datagrams are sent. It identifies the backend: two names
  // for the same address are the same backend.
  SocketAddress backend;
  // The backend as the operator configured it, for logs:
  // `lobby-3.internal:19132`.
  std::string label;
  // Further addresses of the same backend, in order of preference. The next one
  // is used if an address recently refused or stopped replying (see
  // `ProxyOptions::backend_holdoff`). May be empty.
  std::vector<SocketAddress> alternatives = {};
  // If they are not all addresses of the backend that `label` names, but of
  // several backends: the label of each of the alternatives. Else empty.
  std::vector<std::string> alternative_labels = {};

  // The client has proven that it receives at its address. Its session is
  // confirmed at once: no limit on replies applies.
  bool is_client_proven = false;
  // May be null.
  std::shared_ptr<SessionTag> tag = nullptr;
  // The source address and port that the session's upstream socket gets, even
  // out of quarantine, if no other session has them. Invalid: no preference.
  SocketAddress relay = {};
  // The address that the client had until now, if its network has given it
  // another. The session of that address ends (client_moved) before the new one
  // opens its socket, which can then get its source port. Invalid: none.
  SocketAddress moved_from = {};
  // The session continues one of another gateway, which began so long ago.
  // Disconnect events since then concern it, however late they come. Zero: it
  // begins now.
  absl::Duration age = absl::ZeroDuration();
  // Another gateway has the client's session, and hears at this address
  // (`ProxyOptions::forward_address`). The client's datagrams go there, and it
  // gets no session here. If they cannot be forwarded, or that
  // gateway does not answer or has no such session, and `backend` is valid,
  // the client is served from here as if this were not set. Invalid: none.
  SocketAddress forward_to = {};
};

// What a resolver says of a datagram of a client without a session, before
// anything is allocated for it.
struct UDPGATE_EXPORT Screening {
  // The datagram is dropped for this reason, and no session is created.
  absl::optional<DropReason> drop = absl::nullopt;
  // The client belongs to a player who is already connected. A drain does not
  // reject it.
  bool is_known_player = false;
};

//   class RoundRobinResolver final : public udpgate::BackendResolver {
//    public:
//     explicit RoundRobinResolver(std::vector<udpgate::SocketAddress> backends)
//         : backends_(std::move(backends)) {}
//     void Resolve(const udpgate::ResolveRequest& request,
//                  Callback done) override {
//       const auto& backend = backends_[next_++ % backends_.size()];
//       done(udpgate::ResolveResult{backend, backend.ToString()});
//     }
//
//    private:
//     const std::vector<udpgate::SocketAddress> backends_;
//     std::atomic<size_t> next_{0};  // Resolve runs on several threads
//   };
//
// examples/late_resolver.cc completes asynchronously, from its own thread.
//
// Threads: `Resolve` and `Health` are called from several threads at once.
// Ownership: a `Proxy` holds a shared pointer and drops it in its destructor.
class UDPGATE_EXPORT BackendResolver {
 public:
  using Callback = absl::AnyInvocable<void(absl::StatusOr<ResolveResult>)>;

  virtual ~BackendResolver() = default;

  // Finds the backend of a new client and calls `done` with it.
  //
  // Called on a data-plane thread, once per session, and again if a disconnect
  // event makes a pending resolution stale. It must return within microseconds:
  // do not wait for a network, a disk or a contended lock. Queue the request
  // and call `done` from another thread instead.
  //
  // `done` may be called inline or later, from any thread, at most once. A late
  // result is ignored. If `done` is destroyed without a call, the session ends
  // with the resolve timeout. `done` may outlive the Proxy.
  //
  // The error code decides the reason under which the client's buffered
  // datagrams are dropped. The client's next datagram starts a new resolution:
  //   NotFound          there is no backend now       -> no_backend
  //   InvalidArgument   the result is not an address  -> invalid_backend
  //   DeadlineExceeded  no result in time             -> resolve_timed_out
  //   any other         the backend source failed     -> resolve_failed
  virtual void Resolve(const ResolveRequest& request, Callback done) = 0;

  // Looks at a datagram of a client without a session, before `Resolve` is
  // called. Called on a data-plane thread for each such datagram, so an
  // attacker decides how often: it must not allocate, block or ask anybody.
  virtual Screening Screen(const SocketAddress& client,
                           absl::Span<const char> datagram) {
    (void)client;
    (void)datagram;
    return {};
  }

  // Called for each disconnect event, before the sessions end, on the thread
  // that reports it. A resolver that remembers players forgets those that the
  // event names, and returns the client addresses of their sessions: these end
  // as well, also those that the event does not name. Not called if a relay
  // port fits several sessions, since then none ends.
  virtual std::vector<SocketAddress> HandleDisconnect(
      const DisconnectTarget& target) {
    (void)target;
    return {};
  }

  // In a takeover: returns this resolver's own tag with the key of `tag`, which
  // came from the old process, or null if it has none. `OnBegin` follows.
  virtual std::shared_ptr<SessionTag> RestoreTag(const SessionTag& tag) {
    (void)tag;
    return nullptr;
  }

  // OK if a call of `Resolve` would probably succeed now; otherwise the reason.
  // For readiness probes. Must not block.
  virtual absl::Status Health() const { return absl::OkStatus(); }
};

}  // namespace udpgate

#endif  // UDPGATE_BACKEND_RESOLVER_H_
