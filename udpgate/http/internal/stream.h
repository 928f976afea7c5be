// A non-blocking TCP connection, with TLS or without.
#ifndef UDPGATE_HTTP_INTERNAL_STREAM_H_
#define UDPGATE_HTTP_INTERNAL_STREAM_H_

#include <openssl/ssl.h>

#include <cstddef>
#include <memory>

#include "absl/strings/string_view.h"

namespace udpgate {
namespace http {
namespace internal {

// OpenSSL works on the socket itself: asio::ssl::stream would hold 70 KB for
// each idle connection, and copy every byte twice more.
//
// Threads: one, which must block SIGPIPE (OpenSSL writes by write(2)).
class Stream {
 public:
  enum class Result {
    kDone,
    kWantsRead,   // again when the socket is readable
    kWantsWrite,  // again when the socket is writable
    kEnd,         // the peer sends no more
    kError,       // the connection is lost
  };

  // Does not own the socket.
  explicit Stream(int fd) : fd_(fd) {}
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // Bytes of the socket, before TLS. `Peek` leaves them there.
  Result Peek(char* bytes, size_t size_max, size_t* size);
  Result ReadSocket(char* bytes, size_t size_max, size_t* size);

  // From here on `Read` and `Write` are encrypted. False without memory.
  bool BeginTls(SSL_CTX* context);
  bool is_tls() const { return ssl_ != nullptr; }
  Result Handshake();

  // One byte at least, if the result is `kDone`.
  Result Read(char* bytes, size_t size_max, size_t* size);
  Result Write(absl::string_view bytes, size_t* size);
  // Sends what says that no more bytes follow.
  void EndWrite();

 private:
  struct FreeSsl {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };

  Result TlsResult(int returned);

  const int fd_;
  std::unique_ptr<SSL, FreeSsl> ssl_;
  bool tls_has_failed_ = false;
};

}  // namespace internal
}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_INTERNAL_STREAM_H_
