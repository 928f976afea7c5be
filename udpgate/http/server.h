// An HTTP/1.1 server for the internet: asynchronous, with a limit and a
// deadline on everything (RFC 9110, RFC 9112).
//
//   udpgate::http::ServerOptions options;
//   options.listen_address = udpgate::SocketAddress::Ipv4Any(19132);
//   auto server = udpgate::http::Server::Create(
//       engine.get(), options,
//       [](udpgate::http::Request request,
//          udpgate::http::Server::Respond respond) {
//         respond({200, "text/plain", request.target});
//       });
//   if (!server.ok()) return server.status();
//   if (absl::Status status = (*server)->Start(); !status.ok()) return status;
//   ...
//   (*server)->Stop();  // before the Engine stops
//
// With a certificate it serves HTTPS and HTTP on the same port: a connection
// whose first byte is 0x16 begins a TLS handshake (RFC 8446 section 5.1).
#ifndef UDPGATE_HTTP_SERVER_H_
#define UDPGATE_HTTP_SERVER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "udpgate/base/export.h"
#include "udpgate/cidr.h"
#include "udpgate/http/engine.h"
#include "udpgate/http/server_options.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace http {

// Reads the certificate and the key as a Server does. Errors name the option
// at fault (option_error.h).
UDPGATE_EXPORT absl::Status CheckCertificate(
    const std::string& certificate_file, const std::string& private_key_file);

// Threads: connections belong to the threads of the Engine, none of which waits
// for a client. `stats` from any thread; the rest from one thread, which must
// not be one of the Engine's.
//
// Ownership: the Engine must outlive it.
class UDPGATE_EXPORT Server {
 public:
  using Respond = http::Respond;
  using Handler = http::Handler;

  // Binds and listens; connections wait until `Start`. Errors of
  // `ServerOptions::Validate`; of bind(2) and the like, with the address in the
  // text; of the certificate and key, which name the option at fault
  // (option_error.h).
  static absl::StatusOr<std::unique_ptr<Server>> Create(Engine* engine,
                                                        ServerOptions options,
                                                        Handler handler);

  // Calls `Stop`.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  absl::Status Start();
  // Leaves further connections in the listening socket, to another process that
  // has it. Those that are open go on, and close after a response.
  // Asynchronous: one more connection may be accepted. `Stop` follows.
  void StopAccepting();
  // Closes all connections and the listening socket. Returns after the last
  // call of the handler has returned. May be called twice.
  void Stop();

  // The bound address, with the port that the kernel assigned.
  const SocketAddress& address() const;
  // The listening socket, to pass it to a new process. Owned by the server, and
  // open until `Stop`.
  int listen_fd() const;

  ServerStats stats() const;

  // Reads certificate and key again, for new connections. An error names the
  // option at fault, and what was in use stays in use. The server does the same
  // by itself if one of the files changes (`certificate_check_interval`), and
  // then writes a log line. OK without a certificate.
  absl::Status ReloadCertificate();

  // For new connections.
  void SetTrustedProxies(CidrList trusted_proxies);
  void SetAdmit(std::function<bool(const SocketAddress&)> admit);

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);

  const std::unique_ptr<Impl> impl_;
};

}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_SERVER_H_
