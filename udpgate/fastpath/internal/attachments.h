// The interfaces of this network namespace, and those that the program in the
// kernel is attached to.
#ifndef UDPGATE_FASTPATH_INTERNAL_ATTACHMENTS_H_
#define UDPGATE_FASTPATH_INTERNAL_ATTACHMENTS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/fastpath/internal/flow_table.h"
#include "udpgate/fastpath/internal/netlink.h"
#include "udpgate/fastpath/internal/program.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/logging.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace fastpath {
namespace internal {

// Threads: one at a time, in the network namespace of the thread that called
// `Open`. Calls may wait for the kernel.
class Attachments {
 public:
  // As in KernelFlowOffload::Options.
  struct Options {
    std::vector<std::string> interfaces;
    int interfaces_at_start_max = 64;
    std::vector<SocketAddress> listen_addresses;
    bool dont_fragment = false;
    bool may_use_tcx = true;
    LogSink log_sink;
  };

  // Reads the list of interfaces; attaches nothing. `program` must outlive the
  // result. `instance_number` is that of the InstanceLock, the handle of the
  // filters.
  static absl::StatusOr<std::unique_ptr<Attachments>> Open(
      Options options, Program* program, uint32_t instance_number);

  // Attaches to the interfaces of the options, or to those that have a listen
  // address. NotFound for an interface that does not exist; else what
  // Program::Attach reports. If the options name none, then also attaches to
  // the loopback interface and to those of routes, so that none is attached
  // while it carries datagrams of sessions; one of these that fails is logged,
  // and attached if a session needs it.
  absl::Status AttachWanted();
  // Removes filters that processes which have ended left behind.
  void RemoveLeftovers();
  // Undoes all attachments.
  void DetachAll();

  // The parts of a takeover.

  bool has_attached() const { return !attached_.empty(); }
  // Copies of the links, by interface. Interfaces with a filter are left out:
  // the filter is found by its handle. ResourceExhausted if the process has no
  // descriptors left.
  absl::StatusOr<std::map<int, udpgate::internal::UniqueFd>> CopyLinks() const;
  // The new process has copies of the links and knows the filters; this one
  // forgets them.
  void Release();
  // Continues with a link that another process has made. Ignores an interface
  // that no longer exists.
  void Adopt(int interface_index, udpgate::internal::UniqueFd link);
  // Continues with the filters that have the number of this instance.
  absl::Status AdoptFilters();
  // FailedPrecondition if nothing was adopted, or other interfaces than those
  // of the options.
  absl::Status CheckAdopted();
  // Puts this process's program in the place of the old one's, attaches to
  // interfaces that are missing, and removes leftovers. `exits` are the
  // interfaces by which adopted flows leave.
  void FinishAdoption(std::set<int> exits);

  // How a datagram from `source` to `destination` leaves. Attaches to that
  // interface if the options name none. NotFound if there is no route.
  absl::StatusOr<Exit> FindExit(const SocketAddress& source,
                                const SocketAddress& destination);

  // Changes of the network.

  // An interface is new or has changed. True if it was known and differs now,
  // so that flows by it must be withdrawn.
  bool Apply(const Link& link);
  void Forget(int interface_index);
  // Reads the list again, after changes were missed.
  void ReadAgain();

  std::vector<std::string> AttachedNames() const;

 private:
  Attachments(Options options, Program* program, uint32_t instance_number,
              Netlink netlink)
      : options_(std::move(options)),
        program_(program),
        instance_number_(instance_number),
        netlink_(std::move(netlink)) {}

  // As the options say, or the listen addresses.
  absl::StatusOr<std::set<int>> WantedInterfaces();
  // The loopback interface, and those of routes. Empty if the options name
  // interfaces.
  std::set<int> RouteInterfaces();
  // Attaches to these as far as it is possible and not done.
  void AttachRouteInterfaces();
  absl::Status Attach(const Link& link);
  void LogFiltersBehind(const Link& link);
  void Log(LogSeverity severity, absl::string_view line) const;

  const Options options_;
  Program* const program_;
  const uint32_t instance_number_;
  Netlink netlink_;
  std::map<int, Link> links_;  // by index
  std::set<int> attached_;     // indices
};

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_INTERNAL_ATTACHMENTS_H_
