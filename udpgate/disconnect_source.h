// A source of disconnect events, which end sessions from outside: for example
// an orchestrator that moves a player, or a backend that kicks one.
//
// `RedisDisconnectSource` (//udpgate/redis) listens on a pub/sub channel.
// Implement the interface to connect your own message bus.
// `MockDisconnectSource` (//testing) is for unit tests.
#ifndef UDPGATE_DISCONNECT_SOURCE_H_
#define UDPGATE_DISCONNECT_SOURCE_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/socket_address.h"

namespace udpgate {

// Names the session or sessions to end. A class with kinds, so that kinds can
// be added without breaking users.
class UDPGATE_EXPORT DisconnectTarget {
 public:
  enum class Kind {
    kClient,     // the session of this client address
    kRelayPort,  // the session with this source port of the gateway
    kRelay,      // the same, with the source address
    kClientIp,   // all sessions of this IP address
    kBackend,    // all sessions on this backend
    // all sessions with this backend label
    kBackendText,
  };

  static DisconnectTarget ForClient(const SocketAddress& client);
  // `port` is the gateway's source port towards the backend, 1 to 65535. It is
  // all that a backend can see of a client.
  static DisconnectTarget ForRelayPort(uint16_t port);
  // Unambiguous even if the gateway has several source addresses
  // (`ProxyOptions::upstream_bind_addresses`).
  static DisconnectTarget ForRelay(const SocketAddress& relay);
  // All sessions that exist when the event arrives, and none that is created
  // later. The port of `ip` is ignored.
  static DisconnectTarget ForClientIp(const SocketAddress& ip);
  // The same. Configure the new backend first: a client that reconnects
  // immediately is resolved again.
  static DisconnectTarget ForBackend(const SocketAddress& backend);

  // The same for sessions whose `ResolveResult::label` is `text`, whichever
  // address it resolved to. Case is ignored, as in host names.
  static DisconnectTarget ForBackendText(absl::string_view text);

  // Parses a payload of the Redis channel: the client's address
  // (`1.2.3.4:54321` or `[v6]:port`); the relay port, a bare integer; a word
  // and an address (`ip 1.2.3.4`, `backend 10.0.0.5:19132`, `relay
  // 10.0.0.1:40001`); or the text of the Redis key (`backend
  // lobby-3.internal:19132`). White space around it is removed. InvalidArgument
  // says what is allowed.
  static absl::StatusOr<DisconnectTarget> Parse(absl::string_view payload);

  Kind kind() const { return kind_; }
  // Valid if kind() is kClient.
  const SocketAddress& client() const { return client_; }
  // Valid if kind() is kRelay, kClientIp or kBackend; port 0 for kClientIp.
  const SocketAddress& address() const { return address_; }
  // Valid if kind() is kRelayPort.
  uint16_t relay_port() const { return relay_port_; }
  // Valid if kind() is kBackendText, else empty.
  const std::string& text() const { return text_; }

  // How long ago the event happened, by the source's knowledge; 0 unless it is
  // set. Sessions that began since, or whose backend was resolved since, are
  // not concerned, so an event that comes late or twice does not end the
  // session of a client who has come back. A negative age counts as 0.
  absl::Duration age() const { return age_; }
  void set_age(absl::Duration age) { age_ = age; }

  // `Parse` accepts it. Without the age.
  std::string ToString() const;

  // True if they name the same, whatever their age.
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
  absl::Duration age_;
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
class UDPGATE_EXPORT DisconnectSource {
 public:
  // Receives a target, or the error of an invalid payload, which is counted.
  using Handler = std::function<void(absl::StatusOr<DisconnectTarget>)>;

  virtual ~DisconnectSource() = default;

  // Starts calling `handler`, from any thread, one call at a time, until
  // `Stop`. Called at most once, from `Proxy::Start`. An error makes
  // `Proxy::Start` fail. A source that is only temporarily unreachable returns
  // OK and keeps trying.
  //
  // `handler` may block briefly if events arrive faster than sessions can end;
  // events are never dropped.
  virtual absl::Status Start(Handler handler) = 0;

  // Stops the calls and returns after the last call of the handler has
  // returned. May be called before `Start`, and twice. Must return within 100
  // ms.
  virtual void Stop() = 0;

  // OK if events are received; otherwise the reason. Must not block. Threads:
  // any.
  virtual absl::Status Health() const { return absl::OkStatus(); }
};

}  // namespace udpgate

#endif  // UDPGATE_DISCONNECT_SOURCE_H_
