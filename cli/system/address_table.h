// Which IP addresses this machine has, from the messages of rtnetlink(7).
#ifndef UDPGATE_CLI_SYSTEM_ADDRESS_TABLE_H_
#define UDPGATE_CLI_SYSTEM_ADDRESS_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace cli {

// An address can be used if bind(2) accepts it and other hosts get it: an IPv6
// address is not usable while duplicate address detection runs (RFC 4862
// section 5.4), unless it is optimistic (RFC 4429), nor if that failed.
//
// Threads: one at a time.
class AddressTable {
 public:
  // The request for all addresses, to be sent to the kernel. What `Apply` gets
  // until the end of the answer, changes included, forms a new table, which
  // then replaces the old one.
  std::vector<char> RequestAll();

  // Takes the messages of one datagram of the kernel. Unknown ones are ignored.
  void Apply(absl::Span<const char> messages);

  // Whether the answer to the last request is complete.
  bool is_complete() const { return !is_listing_; }
  // Whether the answer was refused, or was not consistent: request again.
  bool needs_request() const { return needs_request_; }

  // Ports do not matter.
  bool HasUsable(const SocketAddress& address) const;

 private:
  // One machine may have an address several times.
  struct Entry {
    SocketAddress address;  // port 0
    uint32_t interface_index;
    int prefix_bits;
    bool is_usable;
  };

  void ApplyAddress(const char* payload, size_t bytes, bool is_removed);

  std::vector<Entry> entries_;
  std::vector<Entry> listed_;  // of the answer in progress
  uint32_t sequence_ = 0;
  bool is_listing_ = true;
  bool needs_request_ = false;
};

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SYSTEM_ADDRESS_TABLE_H_
