// HTTP endpoint of a `Proxy` for operators: metrics, health checks, a status
// page, and a JSON interface to inspect and control it.
//
//   udpgate::admin::AdminOptions options;
//   options.listen_address = udpgate::SocketAddress::Ipv4Loopback(9132);
//   auto admin = udpgate::admin::AdminServer::Create(options, proxy.get(), {});
//   if (!admin.ok()) return admin.status();
//   if (absl::Status status = (*admin)->Start(); !status.ok()) return status;
//   ...
//   (*admin)->Stop();  // before the Proxy stops
//
// README.md lists the paths. The endpoint speaks plain HTTP: if the network to
// it is not private, put a proxy with TLS in front of it.
#ifndef UDPGATE_ADMIN_ADMIN_SERVER_H_
#define UDPGATE_ADMIN_ADMIN_SERVER_H_

#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "udpgate/admin/admin_options.h"
#include "udpgate/base/export.h"
#include "udpgate/proxy.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {

// Threads: one for the sockets (of a `http::Engine`), and `worker_count`
// workers. They block all signals, and none is a thread of the Proxy. Call
// `Create`, `Start` and `Stop` from one thread, which must not be one of these.
//
// Ownership: the Proxy must outlive it.
class UDPGATE_EXPORT AdminServer {
 public:
  // Binds the address. InvalidArgument from `AdminOptions::Validate`, or the
  // error of bind(2) and the like, with the address in the text.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Create(
      AdminOptions options, Proxy* proxy, AdminHooks hooks);

  // Calls `Stop`.
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  absl::Status Start();
  // Closes all connections and ends the threads. A disconnect in progress gets
  // no response. May be called twice.
  void Stop();

  // Values of those counters in /metrics that belong neither to the Proxy nor
  // to `AdminHooks::history`, by name: the counters of the host program, of the
  // process and of this server, including what was added. Final after `Stop`.
  std::map<std::string, double> Counters() const;
  // Adds the counters of an old process, so that no counter decreases in a
  // takeover. A counter that this process does not have is kept for `Counters`
  // only. Call it before `Start`.
  void AddCounters(const std::map<std::string, double>& counters);

  // The bound address, with the port that the kernel assigned.
  const SocketAddress& address() const;
  // The listening socket, to pass it to a new process. Owned by the server, and
  // open until `Stop`.
  int listen_fd() const;

 private:
  class Impl;
  explicit AdminServer(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_ADMIN_SERVER_H_
