// Set-up, ownership and errors of c-ares.
#ifndef UDPGATE_DNS_INTERNAL_ARES_LIBRARY_H_
#define UDPGATE_DNS_INTERNAL_ARES_LIBRARY_H_

#include <ares.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace udpgate {
namespace dns {
namespace internal {

// Initialises c-ares once per process. Threads: any.
absl::Status InitialiseAres();

struct AresDestroyer {
  void operator()(ares_channel channel) const { ares_destroy(channel); }
};
using UniqueAresChannel = std::unique_ptr<ares_channeldata, AresDestroyer>;

// As ares_init_options(3). ResourceExhausted if there is no memory or
// descriptor left.
absl::Status OpenAresChannel(ares_options* options, int mask,
                             UniqueAresChannel* channel);

// The error of a channel that could not be opened.
absl::Status AresInitError(int result);

// The status that a lookup of `host` reports for a result of c-ares: NotFound,
// DeadlineExceeded, Cancelled, or Unavailable for everything else.
absl::Status AresToStatus(int result, absl::string_view host);

// The result of a name that has no address, from those of its two families. "No
// such name" holds for both families. "No address" holds for one of them, so
// that an error of the other one comes first.
int CombineFamilyResults(int first, int second);

// True if the next name of the search list is tried after `result`, as
// res_search(3) does. A server failure may concern one name only.
bool TriesNextName(int result);

}  // namespace internal
}  // namespace dns
}  // namespace udpgate

#endif  // UDPGATE_DNS_INTERNAL_ARES_LIBRARY_H_
