// What the tests of NetherNet share: the real program with signaling, a Redis,
// and players and backends by libnice.
#ifndef UDPGATE_TESTING_INTERNAL_E2E_NETHERNET_H_
#define UDPGATE_TESTING_INTERNAL_E2E_NETHERNET_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/strings/string_view.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/ice/ice_backend.h"
#include "testing/internal/ice/ice_player.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

// Settings of a gateway that serves signaling at this address.
std::map<std::string, std::string> SignalingEnvironment(
    const SocketAddress& signaling);

// True once somebody accepts connections there.
bool AwaitListening(const SocketAddress& address);

// The value of a sample of /metrics, with its labels as they are written; 0 if
// there is none.
int64_t MetricOf(const SocketAddress& admin, absl::string_view sample);

class NetherNetTest : public GateTest {
 protected:
  // Starts the gateway with signaling and the admin endpoint, and waits for
  // both.
  void StartSignaling(std::map<std::string, std::string> environment = {});

  // Where players ask.
  const SocketAddress& signaling() const { return signaling_; }
  SocketAddress admin() { return gate().AdminAddress(); }
  int64_t Metric(absl::string_view sample) { return MetricOf(admin(), sample); }

  // Writes the key.
  static void SetBackend(const IceBackend& backend) {
    SetBackendText(backend.address().ToString());
  }

 private:
  SocketAddress signaling_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_E2E_NETHERNET_H_
