// Which sessions must end now? Events from outside: an orchestrator that moves
// a player, a backend that kicks one.
//
// `RedisDisconnectSource` (//udpgate/redis) listens on a pub/sub channel. Write
// another one to bring your own bus; `MockDisconnectSource` (//testing) serves
// unit tests.
#ifndef UDPGATE_DISCONNECT_SOURCE_H_
#define UDPGATE_DISCONNECT_SOURCE_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/socket_address.h"

namespace udpgate {

// Names the session, or the sessions, that must end. A class with kinds, so
// that more kinds can come without breaking users.
class DisconnectTarget {
 public:
  enum class Kind {
    kClient,     // the session of this client address
    kRelayPort,  // the session that the gate relays from this port of its own
    kRelay,      // the same, with the gate's source address too
    kClientIp,   // all sessions of this IP address
    kBackend,    // all sessions on this backend
    // All sessions whose backend was named by this text.
    kBackendText,
  };

  static DisconnectTarget ForClient(const SocketAddress& client);
  // `port` is the gate's source port towards the backend, 1 to 65535: all that
  // a backend can see of a client.
  static DisconnectTarget ForRelayPort(uint16_t port);
  // Exact where the gate has several source addresses
  // (`ProxyOptions::upstream_bind_addresses`).
  static DisconnectTarget ForRelay(const SocketAddress& relay);
  // All sessions that live when the event comes; none that begins later. The
  // port of `ip` is of no meaning.
  static DisconnectTarget ForClientIp(const SocketAddress& ip);
  // The same. Name the new backend first: a client that comes back at once asks
  // the resolver.
  static DisconnectTarget ForBackend(const SocketAddress& backend);

  // The same for sessions whose `ResolveResult::label` is `text`, whatever
  // addresses it has led to, then or now. Case does not matter, as in host
  // names.
  static DisconnectTarget ForBackendText(absl::string_view text);

  // The payloads of the Redis channel: `1.2.3.4:54321` or `[v6]:port`, the
  // client's address, or a bare integer, the relay port; or a word and an
  // address, `ip 1.2.3.4`, `backend 10.0.0.5:19132`, `relay 10.0.0.1:40001`;
  // or the text of the Redis key, `backend lobby-3.internal:19132`. White space
  // around it is cut. InvalidArgument says what is allowed.
  static absl::StatusOr<DisconnectTarget> Parse(absl::string_view payload);

  Kind kind() const { return kind_; }
  // Valid where kind() is kClient.
  const SocketAddress& client() const { return client_; }
  // Valid where kind() is kRelay, kClientIp or kBackend; port 0 where it is
  // kClientIp.
  const SocketAddress& address() const { return address_; }
  // Valid where kind() is kRelayPort.
  uint16_t relay_port() const { return relay_port_; }
  // Where kind() is kBackendText, else empty.
  const std::string& text() const { return text_; }

  // As `Parse` takes it.
  std::string ToString() const;

  friend bool operator==(const DisconnectTarget& a, const DisconnectTarget& b) {
    return a.kind_ == b.kind_ && a.client_ == b.client_ &&
           a.address_ == b.address_ && a.relay_port_ == b.relay_port_ &&
           a.text_ == b.text_;
  }

 private:
  explicit DisconnectTarget(Kind kind) : kind_(kind) {}

  Kind kind_;
  SocketAddress client_;
  SocketAddress address_;
  uint16_t relay_port_ = 0;
  std::string text_;
};

//   class BusSource final : public udpgate::DisconnectSource {
//    public:
//     absl::Status Start(Handler handler) override {
//       return bus_.Subscribe("kicks", [handler](const std::string& payload) {
//         handler(udpgate::DisconnectTarget::Parse(payload));
//       });
//     }
//     void Stop() override { bus_.UnsubscribeAndWait(); }
//
//    private:
//     Bus bus_;
//   };
//
// Ownership: a `Proxy` holds a shared pointer. One source serves one Proxy.
class DisconnectSource {
 public:
  // A target, or the error of a payload that did not parse, which is counted.
  using Handler = std::function<void(absl::StatusOr<DisconnectTarget>)>;

  virtual ~DisconnectSource() = default;

  // Begins to call `handler`, from any thread, one call at a time, until
  // `Stop`. Called at most once, from `Proxy::Start`. An error makes
  // `Proxy::Start` fail; a source that is only unreachable for now returns OK
  // and keeps trying.
  //
  // `handler` may block for a moment where events come faster than sessions
  // can end: events are never dropped.
  virtual absl::Status Start(Handler handler) = 0;

  // Ends the calls: returns after the last call of the handler has. Harmless
  // before `Start` and when called twice. Must return within 100 ms.
  virtual void Stop() = 0;

  // OK where events arrive; otherwise says why not. Must not block. Threads:
  // any.
  virtual absl::Status Health() const { return absl::OkStatus(); }
};

}  // namespace udpgate

#endif  // UDPGATE_DISCONNECT_SOURCE_H_
