// A client of the admin endpoint that sends exactly what a test wants.
//
//   absl::StatusOr<HttpReply> reply = udpgate::test::HttpGet(address, "/");
//   EXPECT_EQ(reply->status, 200);
#ifndef UDPGATE_TESTING_INTERNAL_SUPPORT_HTTP_CLIENT_H_
#define UDPGATE_TESTING_INTERNAL_SUPPORT_HTTP_CLIENT_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

struct HttpReply {
  int status = 0;
  std::string head;  // with the status line
  std::string body;
};

// A connected TCP socket; sends and receives on it time out as a test does.
absl::StatusOr<internal::UniqueFd> TcpConnect(const SocketAddress& address);

// Sends `text` as it is, goes on where the peer refuses the rest, and reads
// to the end of the stream, or of the body where the response has a
// Content-Length.
absl::StatusOr<HttpReply> HttpExchange(const SocketAddress& address,
                                       absl::string_view text);

// `headers`: more lines, each with its line end. The Host is the address.
absl::StatusOr<HttpReply> HttpGet(const SocketAddress& address,
                                  absl::string_view path,
                                  absl::string_view headers = "");
// The body is JSON.
absl::StatusOr<HttpReply> HttpPost(const SocketAddress& address,
                                   absl::string_view path,
                                   absl::string_view body,
                                   absl::string_view headers = "");

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SUPPORT_HTTP_CLIENT_H_
