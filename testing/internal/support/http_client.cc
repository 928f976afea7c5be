#include "testing/internal/support/http_client.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "testing/await.h"

namespace udpgate {
namespace test {
namespace {

// Whether `answer` has all that its Content-Length promises.
bool IsWhole(const std::string& answer) {
  const size_t end = answer.find("\r\n\r\n");
  if (end == std::string::npos) return false;
  const std::string head =
      absl::AsciiStrToLower(absl::string_view(answer).substr(0, end));
  const std::string name = "\r\ncontent-length:";
  const size_t begin = head.find(name);
  if (begin == std::string::npos) return false;
  const absl::string_view line = absl::string_view(head).substr(
      begin + name.size(), head.find("\r\n", begin + 2) - begin - name.size());
  size_t length;
  return absl::SimpleAtoi(line, &length) && answer.size() >= end + 4 + length;
}

}  // namespace

absl::StatusOr<internal::UniqueFd> TcpConnect(const SocketAddress& address) {
  sockaddr_storage storage;
  const socklen_t size = address.ToSockaddr(address.family(), &storage);
  internal::UniqueFd fd(
      socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.is_open()) return absl::ErrnoToStatus(errno, "socket");
  const timeval timeout = absl::ToTimeval(kAwaitTimeout);
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&storage), size) !=
      0) {
    return absl::ErrnoToStatus(errno, address.ToString());
  }
  return fd;
}

absl::StatusOr<HttpReply> HttpExchange(const SocketAddress& address,
                                       absl::string_view text) {
  absl::StatusOr<internal::UniqueFd> fd = TcpConnect(address);
  if (!fd.ok()) return fd.status();
  while (!text.empty()) {
    const ssize_t count =
        send(fd->get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (count <= 0) break;
    text.remove_prefix(static_cast<size_t>(count));
  }
  std::string answer;
  char buffer[16384];
  ssize_t count = 0;
  while (!IsWhole(answer) &&
         (count = recv(fd->get(), buffer, sizeof(buffer), 0)) > 0) {
    answer.append(buffer, static_cast<size_t>(count));
  }
  if (count < 0 && errno == EAGAIN) {
    return absl::DeadlineExceededError("the answer does not end");
  }
  HttpReply reply;
  const size_t end = answer.find("\r\n\r\n");
  if (answer.rfind("HTTP/1.1 ", 0) != 0 || end == std::string::npos ||
      !absl::SimpleAtoi(answer.substr(9, 3), &reply.status)) {
    return absl::InternalError(absl::StrCat("no HTTP response: ", answer));
  }
  reply.head = answer.substr(0, end + 4);
  reply.body = answer.substr(end + 4);
  return reply;
}

absl::StatusOr<HttpReply> HttpGet(const SocketAddress& address,
                                  absl::string_view path,
                                  absl::string_view headers) {
  return HttpExchange(
      address, absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: ",
                            address.ToString(), "\r\n", headers, "\r\n"));
}

absl::StatusOr<HttpReply> HttpPost(const SocketAddress& address,
                                   absl::string_view path,
                                   absl::string_view body,
                                   absl::string_view headers) {
  return HttpExchange(
      address,
      absl::StrCat("POST ", path, " HTTP/1.1\r\nHost: ", address.ToString(),
                   "\r\nContent-Type: application/json\r\nContent-Length: ",
                   body.size(), "\r\n", headers, "\r\n", body));
}

}  // namespace test
}  // namespace udpgate
