// The server's end of ICE for many players on one UDP port, by libnice's STUN:
// it answers checks and sends back everything else, behind a prefix.
#ifndef UDPGATE_TESTING_INTERNAL_ICE_ONE_PORT_RESPONDER_H_
#define UDPGATE_TESTING_INTERNAL_ICE_ONE_PORT_RESPONDER_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

// Threads: any.
class OnePortResponder {
 public:
  OnePortResponder(const SocketAddress& address, std::string prefix);
  ~OnePortResponder();

  const SocketAddress& address() const { return peer_.address(); }

  // Answers checks that name this ufrag first and know this password.
  void Add(const std::string& ufrag, const std::string& password);

  // Checks that were refused: of an unknown ufrag, or a wrong integrity.
  int64_t refused() const { return refused_; }
  // Addresses from which checks of this ufrag came.
  std::set<std::string> SourcesOf(const std::string& ufrag) const;

 private:
  void Run();
  // Empty if `datagram` is no check that is to be answered.
  std::string AnswerTo(const Datagram& datagram);

  LoopbackPeer peer_;
  const std::string prefix_;
  std::atomic<bool> is_stopping_{false};
  std::atomic<int64_t> refused_{0};
  mutable internal::Mutex mutex_;
  std::map<std::string, std::string> passwords_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::set<std::string>> sources_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_ICE_ONE_PORT_RESPONDER_H_
