#include "udpgate/http/internal/stream.h"

#include <openssl/err.h>
#include <sys/socket.h>

#include <cerrno>

namespace udpgate {
namespace http {
namespace internal {
namespace {

Stream::Result Receive(int fd, char* bytes, size_t size_max, int flags,
                       size_t* size) {
  const ssize_t received = recv(fd, bytes, size_max, flags);
  if (received > 0) {
    *size = static_cast<size_t>(received);
    return Stream::Result::kDone;
  }
  if (received == 0) return Stream::Result::kEnd;
  return errno == EAGAIN || errno == EINTR ? Stream::Result::kWantsRead
                                           : Stream::Result::kError;
}

}  // namespace

Stream::Result Stream::Peek(char* bytes, size_t size_max, size_t* size) {
  return Receive(fd_, bytes, size_max, MSG_PEEK, size);
}

Stream::Result Stream::ReadSocket(char* bytes, size_t size_max, size_t* size) {
  return Receive(fd_, bytes, size_max, 0, size);
}

bool Stream::BeginTls(SSL_CTX* context) {
  ssl_.reset(SSL_new(context));
  if (ssl_ == nullptr || SSL_set_fd(ssl_.get(), fd_) != 1) {
    ssl_.reset();
    ERR_clear_error();
    return false;
  }
  SSL_set_accept_state(ssl_.get());
  return true;
}

Stream::Result Stream::TlsResult(int returned) {
  const int error = SSL_get_error(ssl_.get(), returned);
  switch (error) {
    case SSL_ERROR_WANT_READ:
      return Result::kWantsRead;
    case SSL_ERROR_WANT_WRITE:
      return Result::kWantsWrite;
    case SSL_ERROR_ZERO_RETURN:
      return Result::kEnd;
    default:
      // The session must not be used any further, not even to end it.
      tls_has_failed_ = true;
      ERR_clear_error();
      return Result::kError;
  }
}

Stream::Result Stream::Handshake() {
  ERR_clear_error();
  const int returned = SSL_do_handshake(ssl_.get());
  return returned == 1 ? Result::kDone : TlsResult(returned);
}

Stream::Result Stream::Read(char* bytes, size_t size_max, size_t* size) {
  if (ssl_ == nullptr) return ReadSocket(bytes, size_max, size);
  ERR_clear_error();
  const int returned = SSL_read_ex(ssl_.get(), bytes, size_max, size);
  return returned == 1 ? Result::kDone : TlsResult(returned);
}

Stream::Result Stream::Write(absl::string_view bytes, size_t* size) {
  if (ssl_ != nullptr) {
    ERR_clear_error();
    const int returned =
        SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), size);
    return returned == 1 ? Result::kDone : TlsResult(returned);
  }
  const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (sent >= 0) {
    *size = static_cast<size_t>(sent);
    return Result::kDone;
  }
  return errno == EAGAIN || errno == EINTR ? Result::kWantsWrite
                                           : Result::kError;
}

void Stream::EndWrite() {
  if (ssl_ != nullptr && !tls_has_failed_ && SSL_is_init_finished(ssl_.get())) {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());  // sends close_notify if there is room
    ERR_clear_error();
  }
  shutdown(fd_, SHUT_WR);
}

}  // namespace internal
}  // namespace http
}  // namespace udpgate
