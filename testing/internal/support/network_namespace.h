// A network namespace for a test (network_namespaces(7)).
//
//   absl::StatusOr<std::unique_ptr<NetworkNamespace>> gate =
//       NetworkNamespace::Create();
//   (*gate)->Command("ip link set lo up");
//   (*gate)->Run([&] { peer = LoopbackPeer::Bind(address); });
//
// Sockets and threads that are created in `Run` stay in the namespace.
#ifndef UDPGATE_TESTING_INTERNAL_SUPPORT_NETWORK_NAMESPACE_H_
#define UDPGATE_TESTING_INTERNAL_SUPPORT_NETWORK_NAMESPACE_H_

#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace test {

// Threads: one at a time.
class NetworkNamespace {
 public:
  // Creates an empty one, with `lo` down. PermissionDenied without
  // CAP_SYS_ADMIN.
  static absl::StatusOr<std::unique_ptr<NetworkNamespace>> Create();

  // Calls `body` with this thread in the namespace.
  void Run(absl::FunctionRef<void()> body) const;

  // Moves this thread into the namespace, and with it the threads and processes
  // that it starts later.
  void Enter() const;

  // Runs a shell command in the namespace. If it fails, prints the command and
  // its output and aborts the process.
  void Command(const std::string& line) const;
  // Runs a shell command and returns its output. Ignores a failure.
  std::string Output(const std::string& line) const;

  // Connects the two namespaces with a pair of interfaces (veth(4)), both up.
  static void Connect(const NetworkNamespace& a, const std::string& name_in_a,
                      const NetworkNamespace& b, const std::string& name_in_b);

 private:
  explicit NetworkNamespace(internal::UniqueFd fd) : fd_(std::move(fd)) {}

  internal::UniqueFd fd_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SUPPORT_NETWORK_NAMESPACE_H_
