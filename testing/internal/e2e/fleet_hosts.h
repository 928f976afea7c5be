// Hosts and networks of a fleet: each host is a network namespace, each network
// a bridge in the namespace that connects them.
#ifndef UDPGATE_TESTING_INTERNAL_E2E_FLEET_HOSTS_H_
#define UDPGATE_TESTING_INTERNAL_E2E_FLEET_HOSTS_H_

#include <map>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "testing/internal/support/child_process.h"
#include "testing/internal/support/gate_process.h"
#include "testing/internal/support/network_namespace.h"
#include "testing/internal/support/temporary_directory.h"

namespace udpgate {
namespace test {

// Threads: as NetworkNamespace.
class Networks {
 public:
  // `space` must outlive it.
  explicit Networks(NetworkNamespace* space) : space_(space) {}

  // Adds a network, up.
  void Add(const std::string& bridge);
  // Gives `host` an interface with this address, such as 10.0.0.1; `port` is
  // the other end.
  void Connect(NetworkNamespace* host, const std::string& interface,
               const std::string& address, const std::string& bridge,
               const std::string& port);
  // The host at the other end loses its carrier.
  void Cut(const std::string& port);
  void Mend(const std::string& port);
  // Nothing passes any more, and the host at the other end does not see it.
  void Isolate(const std::string& port);
  void Rejoin(const std::string& port, const std::string& bridge);

 private:
  NetworkNamespace* const space_;
};

// A host with udp-gate, whose GATEWAY_ID is the name of the host.
//
// Threads: as GateProcess.
class GatewayHost {
 public:
  GatewayHost(std::string name, std::unique_ptr<NetworkNamespace> space);

  // Whether it listens now.
  bool StartGateway(std::map<std::string, std::string> environment);

  const std::string& name() const { return name_; }
  NetworkNamespace& space() { return *space_; }
  GateProcess& gateway() { return *gateway_; }
  std::string log() const;

  // From its admin endpoint, 127.0.0.1:9132.
  std::string Get(const std::string& path);
  // With its labels; -1 if there is none.
  double Metric(const std::string& name);
  bool AwaitMetric(const std::string& name, double value);
  // The lines that count changes of records.
  std::string RecordChanges();

 private:
  const std::string name_;
  std::unique_ptr<NetworkNamespace> space_;
  std::unique_ptr<GateProcess> gateway_;
};

// A Redis at port 6379 of this address, with no protection.
//
// Threads: as ChildProcess.
class RedisHost {
 public:
  // `space` must outlive it.
  RedisHost(NetworkNamespace* space, std::string address);

  bool Start();
  // The reply to a command of redis-cli(1).
  std::string Ask(const std::string& command);
  // Records of this gateway, with the default SESSION_STORE_PREFIX.
  int RecordCount(const std::string& gateway);

 private:
  NetworkNamespace* const space_;
  const std::string address_;
  TemporaryDirectory directory_;
  std::unique_ptr<ChildProcess> process_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_E2E_FLEET_HOSTS_H_
