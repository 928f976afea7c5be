// One or several backends, as the value of a Redis key names them:
//
//   10.0.0.5:19132 lobby-2.internal:19132*3
#ifndef UDPGATE_DNS_BACKEND_LIST_H_
#define UDPGATE_DNS_BACKEND_LIST_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/base/export.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/socket_address.h"

namespace udpgate {

// Spreads clients by weighted rendezvous hashing (Thaler and Ravishankar,
// https://doi.org/10.1109/90.663936): a client's IP address always gets the
// same backend, at every gateway. If a backend comes or goes, only the clients
// that it gets or had move.
//
// Threads: all methods from any.
class UDPGATE_EXPORT BackendList {
 public:
  static constexpr size_t kBackendsMax = 32;
  static constexpr int kWeightMax = 1000;

  struct Entry {
    ResolveResult backend;
    int weight = 1;
  };

  // `entries` is not empty; their labels differ. `text` is what names them.
  BackendList(std::string text, std::vector<Entry> entries)
      : text_(std::move(text)), entries_(std::move(entries)) {}

  // The client's backend. The addresses of the others follow as alternatives,
  // in the order in which this client gets them.
  ResolveResult Choose(const SocketAddress& client) const;

  const std::string& text() const { return text_; }

 private:
  const std::string text_;
  const std::vector<Entry> entries_;
};

using BackendListCallback = absl::AnyInvocable<void(
    absl::StatusOr<std::shared_ptr<const BackendList>>)>;

// Parses up to `kBackendsMax` backends, separated by white space, each
// `host:port` or `host:port*weight` (1 to `kWeightMax`), and looks their hosts
// up as `ResolveBackendText` does, of which it has the threads and errors too.
// InvalidArgument also if one of several is none, or is named twice. Of several
// backends, those whose lookup fails, or takes more than half of `timeout`, are
// left out if another is left.
UDPGATE_EXPORT void ResolveBackendList(absl::string_view text,
                                       absl::Duration timeout,
                                       HostLookup* lookup,
                                       BackendListCallback done);

}  // namespace udpgate

#endif  // UDPGATE_DNS_BACKEND_LIST_H_
