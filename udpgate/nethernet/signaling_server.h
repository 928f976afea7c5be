// The TCP side of NetherNet in one object: an HTTP and HTTPS server, its
// threads, a client for the backends' signaling, and a `JoinService`.
//
//   auto joins = std::make_shared<JoinTable>(JoinTableOptions(),
//                                            Clock::Monotonic());
//   dependencies.resolver =
//       std::make_shared<NetherNetResolver>(backends, joins);
//   auto proxy = Proxy::Create(options, dependencies);
//   ...
//   SignalingServerOptions signaling;
//   signaling.server.listen_address = options.listen_address;  // TCP
//   signaling.join.proxy_port = (*proxy)->listen_addresses()[0].port();
//   auto server = SignalingServer::Create(signaling, {backends, joins});
//   if (!server.ok()) return server.status();
//   if (absl::Status status = (*server)->Start(); !status.ok()) return status;
//
// examples/nethernet.cc is a whole program.
#ifndef UDPGATE_NETHERNET_SIGNALING_SERVER_H_
#define UDPGATE_NETHERNET_SIGNALING_SERVER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/base/export.h"
#include "udpgate/cidr.h"
#include "udpgate/clock.h"
#include "udpgate/http/client.h"
#include "udpgate/http/engine.h"
#include "udpgate/http/server.h"
#include "udpgate/http/server_options.h"
#include "udpgate/nethernet/join_service.h"
#include "udpgate/nethernet/join_service_options.h"
#include "udpgate/nethernet/join_table.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace nethernet {

struct UDPGATE_EXPORT SignalingServerOptions {
  http::EngineOptions engine;
  // `SignalingServer` sets `admit`, from the lists in `join`, and
  // `accepts_proxy_header`. `response_timeout` must be above the timeouts in
  // `join`.
  http::ServerOptions server;
  http::ClientOptions client;
  JoinServiceOptions join;
};

// What a reload may change.
struct UDPGATE_EXPORT SignalingReload {
  JoinServiceOptions join;
  CidrList trusted_proxies;
};

struct UDPGATE_EXPORT SignalingDependencies {
  std::shared_ptr<BackendResolver> resolver;  // required
  std::shared_ptr<JoinTable> joins;           // required
  const Clock* clock = Clock::Monotonic();
  std::function<bool()> has_room = nullptr;  // see JoinServiceDependencies
};

struct UDPGATE_EXPORT SignalingStats {
  http::ServerStats server;
  http::ClientStats client;
  JoinServiceStats join;
};

// Threads: `stats`, `SetDraining` and `SetFleetStatus` from any thread; the
// rest from one thread, which must not be one of the server's own
// ("udpgate-http-N").
class UDPGATE_EXPORT SignalingServer {
 public:
  // Binds and listens; connections wait until `Start`. Errors of the options'
  // `Validate`, of http::Server::Create, and InvalidArgument if a dependency is
  // missing. `options.server.listen_fd` is taken over even then.
  static absl::StatusOr<std::unique_ptr<SignalingServer>> Create(
      SignalingServerOptions options, SignalingDependencies dependencies);

  // Calls `Stop`.
  ~SignalingServer();
  SignalingServer(const SignalingServer&) = delete;
  SignalingServer& operator=(const SignalingServer&) = delete;

  absl::Status Start();
  // Leaves further connections in the listening socket, to another process that
  // has it; requests under way are answered. `Stop` follows.
  void StopAccepting();
  // Closes all connections and ends the threads. Joins stay in the JoinTable.
  // May be called twice.
  void Stop();

  // The bound TCP address, with the port that the kernel assigned.
  const SocketAddress& address() const;
  // The listening socket, to pass it to a new process. Owned by the server, and
  // open until `Stop`.
  int listen_fd() const;

  // See `JoinService`.
  void SetDraining(bool is_draining);
  absl::Status SetFleetStatus(absl::optional<std::string> status_json);

  // A reload: for further connections and requests. Also reads the certificate
  // again. The first error is returned; what is valid is applied.
  absl::Status Reload(SignalingReload reload);

  SignalingStats stats() const;

 private:
  explicit SignalingServer(absl::Duration response_timeout)
      : response_timeout_(response_timeout) {}

  const absl::Duration response_timeout_;
  // In the order in which they must be destroyed, the last one first.
  std::unique_ptr<http::Engine> engine_;
  std::unique_ptr<http::Client> client_;
  std::unique_ptr<JoinService> service_;
  std::unique_ptr<http::Server> server_;
};

}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_SIGNALING_SERVER_H_
