// A network namespace of a test, and what goes on in it
// (network_namespaces(7)).
//
//   absl::StatusOr<std::unique_ptr<NetworkNamespace>> gate =
//       NetworkNamespace::Create();
//   (*gate)->Command("ip link set lo up");
//   (*gate)->Run([&] { peer = LoopbackPeer::Bind(address); });
//
// Sockets and threads that are made in `Run` belong to the namespace for good.
#ifndef UDPGATE_TESTING_NETWORK_NAMESPACE_H_
#define UDPGATE_TESTING_NETWORK_NAMESPACE_H_

#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "udpgate/internal/unique_fd.h"

namespace udpgate {
namespace test {

// Threads: one at a time.
class NetworkNamespace {
 public:
  // An empty one, with `lo` down. PermissionDenied without CAP_SYS_ADMIN.
  static absl::StatusOr<std::unique_ptr<NetworkNamespace>> Create();

  // Calls `body` with this thread in the namespace.
  void Run(absl::FunctionRef<void()> body) const;

  // Moves this thread there, and with it the threads and processes that it
  // starts from now on.
  void Enter() const;

  // Runs a line of shell in the namespace. Ends the process with the line and
  // what it printed where it fails.
  void Command(const std::string& line) const;
  // The same, but a failure is no matter. What it printed.
  std::string Output(const std::string& line) const;

  // Links the two namespaces with a pair of interfaces (veth(4)), both up.
  static void Connect(const NetworkNamespace& a, const std::string& name_in_a,
                      const NetworkNamespace& b, const std::string& name_in_b);

 private:
  explicit NetworkNamespace(internal::UniqueFd fd) : fd_(std::move(fd)) {}

  internal::UniqueFd fd_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_NETWORK_NAMESPACE_H_
