// A NetherNet server by libnice: signaling over HTTP, then ICE, and an echo.
#ifndef UDPGATE_TESTING_INTERNAL_ICE_ICE_BACKEND_H_
#define UDPGATE_TESTING_INTERNAL_ICE_ICE_BACKEND_H_

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "testing/internal/ice/http_stub.h"
#include "testing/internal/ice/ice_agent.h"
#include "testing/internal/ice/one_port_responder.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

enum class IcePorts { kOneForAll, kOneForEach };

struct IceBackendOptions {
  // Comes before each payload that is sent back, with a colon.
  std::string name = "backend";
  IcePorts ports = IcePorts::kOneForAll;
  // Of signaling; the IP address is that of the media, too.
  SocketAddress address = SocketAddress::Ipv4Loopback(0);
};

// Threads: any.
class IceBackend {
 public:
  explicit IceBackend(IceBackendOptions options = {});

  // Of signaling.
  const SocketAddress& address() const { return signaling_.address(); }

  // Answers each request with this status, and no offer is accepted; 0: as
  // usual.
  void SetFailure(int status);
  // Holds each answer to an offer back for so long.
  void SetAnswerDelay(absl::Duration delay);

  // Offers that came, and what came with them.
  std::vector<StubRequest> offers() const;
  int gets() const;
  // With one port for all: see OnePortResponder.
  std::set<std::string> SourcesOf(const std::string& ufrag) const;
  // The ufrags of the answers, in order.
  std::vector<std::string> ufrags() const;

 private:
  StubResponse Handle(const StubRequest& request);
  StubResponse Answer(const StubRequest& request);
  IceDescription NewPlayer(const IceDescription& offer);

  const IceBackendOptions options_;
  std::unique_ptr<OnePortResponder> responder_;
  mutable internal::Mutex mutex_;
  int failure_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration delay_ ABSL_GUARDED_BY(mutex_);
  int gets_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<StubRequest> offers_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> ufrags_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<IceAgent>> agents_ ABSL_GUARDED_BY(mutex_);
  HttpStub signaling_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_ICE_ICE_BACKEND_H_
