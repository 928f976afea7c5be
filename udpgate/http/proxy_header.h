// The header of the PROXY protocol, versions 1 (text) and 2 (binary): with it
// a load balancer says at the start of a TCP connection whose connection it
// forwards. HAProxy's proxy-protocol.txt, sections 2.1 and 2.2.
#ifndef UDPGATE_HTTP_PROXY_HEADER_H_
#define UDPGATE_HTTP_PROXY_HEADER_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"
#include "udpgate/base/export.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace http {

// Whether the first bytes of a connection are a header, and what it says.
//
//   received.append(...);  // from the socket
//   const ProxyHeader header = ProxyHeader::Parse(received);
//   switch (header.state) {
//     case ProxyHeader::State::kIncomplete: break;  // receive more
//     case ProxyHeader::State::kNone: ...           // the connection itself
//     case ProxyHeader::State::kComplete:
//       received.erase(0, header.size);
//       if (header.source.is_valid()) client = header.source;
//     case ProxyHeader::State::kRefused: ...        // log header.error, close
//   }
//
// Whoever writes a header may name any address: only connections of a trusted
// peer may be parsed.
//
// Threads: a plain value.
struct UDPGATE_EXPORT ProxyHeader {
  enum class State {
    // The bytes may be the beginning of a header.
    kIncomplete,
    // The connection does not begin with a header.
    kNone,
    kComplete,
    // It begins as a header does, but this one is malformed or names what this
    // parser does not support. The protocol demands that the connection is
    // closed.
    kRefused,
  };

  // The largest header of version 1, with its line end; and the largest one of
  // version 2 that is accepted, with additional fields (TLVs). TLVs are
  // skipped.
  static constexpr size_t kVersion1BytesMax = 107;
  static constexpr size_t kVersion2BytesMax = 4096;

  State state = State::kIncomplete;
  // Of a complete header: the end of the connection that the load balancer
  // accepted. Both are valid or neither is: `UNKNOWN` (version 1), `LOCAL` or
  // an unspecified family (version 2) mean the addresses of the connection
  // itself. Each names one host.
  SocketAddress source;
  SocketAddress destination;
  // Bytes of a complete header. The connection's own bytes follow.
  size_t size = 0;
  // Why it was refused: one line of fixed text, without bytes of the peer.
  absl::string_view error;

  // `received`: all bytes since the start of the connection. At most
  // kVersion2BytesMax are needed to decide.
  static ProxyHeader Parse(absl::string_view received);

  // The bytes of a header. Two IPv4 addresses are written as such; if one is
  // IPv6, both are, IPv4 as IPv4-mapped. A scope is left out. An invalid
  // address: a header without addresses.
  static std::string WriteV1(const SocketAddress& source,
                             const SocketAddress& destination);
  static std::string WriteV2(const SocketAddress& source,
                             const SocketAddress& destination);
};

}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_PROXY_HEADER_H_
