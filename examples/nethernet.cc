// A gateway for Minecraft Bedrock as it is today, in a program of your own: TCP
// signaling (NetherNet) and UDP on the same port, with one backend. Clients
// without NetherNet reach the backend over UDP alone, as ever.
//
//   bazel run //examples:nethernet -- 203.0.113.1:19132 10.0.0.5:19132
//
// The second address is the backend's: TCP for signaling, UDP for RakNet.
// Exits at the end of its input.
#include <unistd.h>

#include <iostream>
#include <memory>

#include "udpgate/nethernet/join_table.h"
#include "udpgate/nethernet/nethernet_resolver.h"
#include "udpgate/nethernet/signaling_server.h"
#include "udpgate/proxy.h"
#include "udpgate/static_backend_resolver.h"

namespace {

using udpgate::Clock;
using udpgate::SocketAddress;
using udpgate::nethernet::JoinTable;
using udpgate::nethernet::SignalingServer;

int Fail(const absl::Status& status) {
  std::cerr << status << "\n";
  return 1;
}

int Serve(const SocketAddress& listen, const SocketAddress& backend) {
  // Both sides share the joins; the UDP side finds a player's backend there.
  auto backends = std::make_shared<udpgate::StaticBackendResolver>(backend);
  auto joins = std::make_shared<JoinTable>(
      udpgate::nethernet::JoinTableOptions(), Clock::Monotonic());

  udpgate::ProxyOptions options;
  options.listen_address = listen;
  udpgate::ProxyDependencies dependencies;
  dependencies.resolver =
      std::make_shared<udpgate::nethernet::NetherNetResolver>(backends, joins);
  auto proxy = udpgate::Proxy::Create(options, dependencies);
  if (!proxy.ok()) return Fail(proxy.status());

  udpgate::nethernet::SignalingServerOptions signaling;
  signaling.server.listen_address = (*proxy)->listen_addresses()[0];
  signaling.join.proxy_port = signaling.server.listen_address.port();
  auto server =
      SignalingServer::Create(signaling, {backends, joins, Clock::Monotonic()});
  if (!server.ok()) return Fail(server.status());

  if (auto status = (*proxy)->Start(); !status.ok()) return Fail(status);
  if (auto status = (*server)->Start(); !status.ok()) return Fail(status);
  std::cout << "listening on " << (*server)->address().ToString()
            << ", TCP and UDP" << std::endl;

  char skipped[256];
  while (read(STDIN_FILENO, skipped, sizeof(skipped)) > 0) {
  }
  (*server)->Stop();
  (*proxy)->Stop();
  const udpgate::nethernet::JoinTableStats stats = joins->stats();
  std::cout << "joins: " << stats.joins_added
            << ", with media: " << stats.joins_begun << std::endl;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: nethernet LISTEN_IP:PORT BACKEND_IP:PORT\n";
    return 2;
  }
  const auto listen = SocketAddress::Parse(argv[1]);
  const auto backend = SocketAddress::Parse(argv[2]);
  if (!listen.ok() || !backend.ok()) {
    std::cerr << (listen.ok() ? backend : listen).status() << "\n";
    return 2;
  }
  return Serve(*listen, *backend);
}
