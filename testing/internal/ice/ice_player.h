// A player of NetherNet by libnice: joins over HTTP or HTTPS, then plays.
//
//   IcePlayer player;
//   ASSERT_TRUE(player.Join(gateway).ok());
//   EXPECT_TRUE(player.Ask("lobby").ok());
#ifndef UDPGATE_TESTING_INTERNAL_ICE_ICE_PLAYER_H_
#define UDPGATE_TESTING_INTERNAL_ICE_ICE_PLAYER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "testing/await.h"
#include "testing/internal/ice/ice_agent.h"
#include "testing/internal/support/http_client.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

struct IcePlayerOptions {
  std::vector<std::string> addresses = {"127.0.0.1"};
  std::string network_id = "4611686018427387904";
  // Not empty: HTTPS, and the server's certificate must be signed by this one
  // (PEM).
  std::string certificate_file;
};

// Threads: one at a time.
class IcePlayer {
 public:
  explicit IcePlayer(IcePlayerOptions options = {});

  // Sends the offer; nothing is sent over UDP yet. An error names the status
  // if the response is not 200.
  absl::Status Offer(const SocketAddress& signaling);
  // Begins with ICE.
  absl::Status StartMedia();
  // Both, and waits until the path is there.
  absl::Status Join(const SocketAddress& signaling);

  // Sends, and awaits the same with `backend:` in front.
  absl::Status Ask(absl::string_view backend,
                   absl::Duration timeout = kAwaitTimeout);

  // The whole response to the offer.
  const HttpReply& reply() const { return reply_; }
  const IceDescription& answer() const { return answer_; }
  IceAgent& agent() { return *agent_; }

 private:
  const IcePlayerOptions options_;
  std::unique_ptr<IceAgent> agent_;
  HttpReply reply_;
  IceDescription answer_;
};

// As `HttpExchange`, over TLS. The certificate of the server must be signed by
// `certificate_file`; its name is not looked at.
absl::StatusOr<HttpReply> TlsExchange(const SocketAddress& address,
                                      absl::string_view text,
                                      const std::string& certificate_file);

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_ICE_ICE_PLAYER_H_
