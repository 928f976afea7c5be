// An ICE agent by libnice, with one stream of one component.
//
//   auto player = IceAgent::Create({true, {"127.0.0.1"}});
//   ... (*player)->description() goes to the other side, whose own comes back
//   (*player)->SetRemote(answer);
//   ASSERT_TRUE((*player)->AwaitConnected());
//   (*player)->Ask("hello");
#ifndef UDPGATE_TESTING_INTERNAL_ICE_ICE_AGENT_H_
#define UDPGATE_TESTING_INTERNAL_ICE_ICE_AGENT_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "testing/await.h"
#include "testing/internal/ice/description.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

struct IceAgentOptions {
  // True for who offers.
  bool is_controlling = true;
  // Local IP addresses, each of which becomes a candidate. The agent's sockets
  // belong to the network namespace of the thread that creates it.
  std::vector<std::string> addresses = {"127.0.0.1"};
};

// Threads: any. libnice runs on one thread that all agents of the process
// share.
class IceAgent {
 public:
  // Binds its sockets.
  static absl::StatusOr<std::unique_ptr<IceAgent>> Create(
      const IceAgentOptions& options);
  ~IceAgent();
  IceAgent(const IceAgent&) = delete;
  IceAgent& operator=(const IceAgent&) = delete;

  const IceDescription& description() const { return description_; }

  // Begins to check. Without candidates it waits for the other side's checks.
  absl::Status SetRemote(const IceDescription& remote);

  // Waits until there is a nominated pair.
  bool AwaitConnected(absl::Duration timeout = kAwaitTimeout) const;
  // libnice's word for the state of the component, such as "ready".
  std::string state() const;

  absl::Status Send(absl::string_view payload);
  // DeadlineExceeded if nothing comes within `timeout`.
  absl::StatusOr<std::string> Receive(absl::Duration timeout = kAwaitTimeout);
  // Sends a payload that differs from all before, and waits until the same
  // comes back behind `prefix`. Sends it anew each 200 ms: UDP may lose it.
  absl::Status Ask(absl::string_view prefix = "",
                   absl::Duration timeout = kAwaitTimeout);

  // Each payload goes to `receive` on libnice's thread, instead of `Receive`.
  void SetReceiver(std::function<void(absl::string_view)> receive);

 private:
  struct Callbacks;

  IceAgent() = default;

  void* agent_ = nullptr;  // NiceAgent
  unsigned stream_ = 0;
  IceDescription description_;
  int question_ = 0;

  mutable internal::Mutex mutex_;
  unsigned state_ ABSL_GUARDED_BY(mutex_) = 0;
  bool is_gathered_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::string> received_ ABSL_GUARDED_BY(mutex_);
  std::function<void(absl::string_view)> receive_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_ICE_ICE_AGENT_H_
