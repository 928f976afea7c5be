#include "testing/internal/ice/http_stub.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace udpgate {
namespace test {
namespace {

[[noreturn]] void Fail(const char* call) {
  ::perror(call);
  ::abort();
}

// Appends what comes; false at the end of the stream.
bool ReadMore(int fd, std::string* text) {
  char buffer[16384];
  const ssize_t count = ::recv(fd, buffer, sizeof(buffer), 0);
  if (count <= 0) return false;
  text->append(buffer, static_cast<size_t>(count));
  return true;
}

// Takes a PROXY header off the beginning of `text`, which holds the head of a
// request (haproxy proxy-protocol.txt, sections 2.1 and 2.2).
std::string TakePreamble(std::string* text) {
  size_t size = 0;
  if (absl::StartsWith(*text, "PROXY ")) {
    size = text->find("\r\n") + 2;
  } else if (absl::StartsWith(*text,
                              absl::string_view("\r\n\r\n\0\r\nQUIT\n", 12)) &&
             text->size() >= 16) {
    size = 16 + static_cast<unsigned char>((*text)[14]) * 256u +
           static_cast<unsigned char>((*text)[15]);
  }
  std::string preamble = text->substr(0, size);
  text->erase(0, size);
  return preamble;
}

bool ReadRequest(int fd, StubRequest* request) {
  std::string text;
  while (text.size() < 16) {
    if (!ReadMore(fd, &text)) return false;
  }
  request->preamble = TakePreamble(&text);
  size_t end = 0;
  while ((end = text.find("\r\n\r\n")) == std::string::npos) {
    if (!ReadMore(fd, &text)) return false;
  }
  const size_t line_end = text.find("\r\n");
  const std::vector<std::string> words =
      absl::StrSplit(text.substr(0, line_end), ' ');
  if (words.size() != 3) return false;
  request->method = words[0];
  request->target = words[1];
  request->headers = text.substr(line_end + 2, end - line_end);
  request->body = text.substr(end + 4);
  size_t length = 0;
  if (!absl::SimpleAtoi(HeaderOf(*request, "Content-Length"), &length)) {
    length = 0;
  }
  while (request->body.size() < length) {
    if (!ReadMore(fd, &request->body)) return false;
  }
  return true;
}

}  // namespace

HttpStub::HttpStub(const SocketAddress& address, Handler handler)
    : handler_(std::move(handler)),
      fd_(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_storage storage;
  socklen_t size = address.ToSockaddr(address.family(), &storage);
  auto* const name = reinterpret_cast<sockaddr*>(&storage);
  const int on = 1;
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (::bind(fd_.get(), name, size) != 0) Fail("bind");
  if (::listen(fd_.get(), SOMAXCONN) != 0) Fail("listen");
  size = sizeof(storage);
  if (::getsockname(fd_.get(), name, &size) != 0) Fail("getsockname");
  address_ = SocketAddress::FromSockaddr(name, size);
  acceptor_ = std::thread([this] { Accept(); });
}

HttpStub::~HttpStub() {
  std::list<std::thread> threads;
  {
    internal::MutexLock lock(&mutex_);
    is_stopping_ = true;
    for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
  }
  ::shutdown(fd_.get(), SHUT_RDWR);
  acceptor_.join();
  {
    internal::MutexLock lock(&mutex_);
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
}

void HttpStub::Accept() {
  while (true) {
    const int fd = ::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    internal::MutexLock lock(&mutex_);
    if (is_stopping_) {
      internal::UniqueFd closed(fd);
      return;
    }
    open_.push_back(fd);
    threads_.emplace_back([this, fd] { Serve(fd); });
  }
}

void HttpStub::Serve(int fd) {
  StubRequest request;
  if (ReadRequest(fd, &request)) {
    const StubResponse response = handler_(request);
    const std::string text =
        absl::StrCat("HTTP/1.1 ", response.status,
                     " Answer\r\nContent-Type: ", response.content_type,
                     "\r\nContent-Length: ", response.body.size(),
                     "\r\nConnection: close\r\n\r\n", response.body);
    size_t sent = 0;
    while (sent < text.size()) {
      const ssize_t count =
          ::send(fd, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) break;
      sent += static_cast<size_t>(count);
    }
  }
  internal::MutexLock lock(&mutex_);
  open_.remove(fd);
  internal::UniqueFd closed(fd);
}

std::string HeaderOf(const StubRequest& request, const std::string& name) {
  const std::string wanted = absl::StrCat(absl::AsciiStrToLower(name), ":");
  for (absl::string_view line : absl::StrSplit(request.headers, "\r\n")) {
    if (absl::StartsWith(absl::AsciiStrToLower(line), wanted)) {
      line.remove_prefix(wanted.size());
      return std::string(absl::StripAsciiWhitespace(line));
    }
  }
  return "";
}

}  // namespace test
}  // namespace udpgate
