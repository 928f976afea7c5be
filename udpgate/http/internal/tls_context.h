// The certificate and key of a server.
#ifndef UDPGATE_HTTP_INTERNAL_TLS_CONTEXT_H_
#define UDPGATE_HTTP_INTERNAL_TLS_CONTEXT_H_

#include <openssl/ssl.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace udpgate {
namespace http {
namespace internal {

// TLS 1.2 and later. Threads: any.
class TlsContext {
 public:
  // An error names the option at fault (option_error.h): a file that cannot be
  // read, holds no PEM certificate or key, or a key that does not match. No
  // text holds anything of the key.
  static absl::StatusOr<std::shared_ptr<const TlsContext>> Load(
      const std::string& certificate_file, const std::string& private_key_file);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  SSL_CTX* get() const { return context_; }
  // Of the first certificate of the file.
  absl::Time valid_from() const { return valid_from_; }
  absl::Time valid_until() const { return valid_until_; }
  // "has expired", "is not valid yet", or empty.
  absl::string_view DateProblem(absl::Time now) const;

 private:
  explicit TlsContext(SSL_CTX* context) : context_(context) {}

  SSL_CTX* const context_;
  absl::Time valid_from_;
  absl::Time valid_until_;
};

// What tells one version of a file from another, without reading it.
struct FileVersion {
  static FileVersion Of(const std::string& path);

  bool exists = false;
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t size_bytes = 0;
  int64_t changed_nanoseconds = 0;

  friend bool operator==(const FileVersion& a, const FileVersion& b) {
    return a.exists == b.exists && a.device == b.device && a.inode == b.inode &&
           a.size_bytes == b.size_bytes &&
           a.changed_nanoseconds == b.changed_nanoseconds;
  }
};

}  // namespace internal
}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_INTERNAL_TLS_CONTEXT_H_
