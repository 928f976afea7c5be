// An HTTP endpoint for whoever operates a `Proxy`: metrics, health, and an
// interface to see and to steer it.
//
//   udpgate::admin::AdminOptions options;
//   options.listen_address = udpgate::SocketAddress::Ipv4Loopback(9132);
//   auto admin = udpgate::admin::AdminServer::Create(options, proxy.get(), {});
//   if (!admin.ok()) return admin.status();
//   if (absl::Status status = (*admin)->Start(); !status.ok()) return status;
//   ...
//   (*admin)->Stop();  // before the Proxy stops
//
// README.md here lists the paths. Plain HTTP: where the way to it is not
// private, put a proxy with TLS before it.
#ifndef UDPGATE_ADMIN_ADMIN_SERVER_H_
#define UDPGATE_ADMIN_ADMIN_SERVER_H_

#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "udpgate/admin/admin_options.h"
#include "udpgate/proxy.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {

// Threads: a loop for the sockets and `worker_count` workers; all block all
// signals and none is a thread of the Proxy. `Create`, `Start` and `Stop` from
// one thread, which must not be one of its own.
//
// Ownership: the Proxy must outlive it.
class AdminServer {
 public:
  // Binds the address. InvalidArgument from `AdminOptions::Validate`; what
  // bind(2) and the like report, with the address in the text.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Create(
      AdminOptions options, Proxy* proxy, AdminHooks hooks);

  // Stops.
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  absl::Status Start();
  // Closes all connections and ends the threads. A disconnect under way is
  // answered no more. Harmless when called twice.
  void Stop();

  // What the counters of /metrics stand at that are neither the Proxy's nor of
  // `AdminHooks::history`, by their names: the host program's, those of the
  // process and of this server, and what was added. After `Stop` they are
  // final.
  std::map<std::string, double> Counters() const;
  // Adds what another process has counted, so that no counter steps back. One
  // that this process does not have is kept for `Counters` alone. Before
  // `Start`.
  void AddCounters(const std::map<std::string, double>& counters);

  // The bound address, with the port that the kernel chose.
  const SocketAddress& address() const;
  // The listening socket, for another process that goes on with it. The
  // server's, and open until `Stop`.
  int listen_fd() const;

 private:
  class Impl;
  explicit AdminServer(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_ADMIN_SERVER_H_
