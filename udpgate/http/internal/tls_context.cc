#include "udpgate/http/internal/tls_context.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace http {
namespace internal {
namespace {

constexpr char kCertificateOption[] = "certificate_file";
constexpr char kKeyOption[] = "private_key_file";

absl::Status FileError(absl::string_view option, const std::string& file,
                       absl::string_view problem) {
  return OptionError(absl::StatusCode::kInvalidArgument, option,
                     absl::StrCat(" ", file, ": ", problem));
}

// OpenSSL's reason, which names no content of the file.
std::string TakeOpenSslError(absl::string_view otherwise) {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  const char* const reason =
      code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? std::string(otherwise) : std::string(reason);
}

absl::Status CheckReadable(absl::string_view option, const std::string& file) {
  if (access(file.c_str(), R_OK) == 0) return absl::OkStatus();
  return FileError(option, file, std::strerror(errno));
}

absl::Time ToTime(const ASN1_TIME* time) {
  std::tm parts = {};
  if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1) {
    return absl::InfiniteFuture();
  }
  return absl::FromTM(parts, absl::UTCTimeZone());
}

// HTTP/1.1 is all that the server speaks: a client that offers only others gets
// an alert instead of a response that it cannot read (RFC 7301 section 3.2).
int SelectProtocol(SSL*, const unsigned char** out, unsigned char* out_size,
                   const unsigned char* in, unsigned int in_size, void*) {
  static constexpr unsigned char kHttp11[] = "\x08http/1.1";
  return SSL_select_next_proto(const_cast<unsigned char**>(out), out_size,
                               kHttp11, sizeof(kHttp11) - 1, in,
                               in_size) == OPENSSL_NPN_NEGOTIATED
             ? SSL_TLSEXT_ERR_OK
             : SSL_TLSEXT_ERR_ALERT_FATAL;
}

// A key with a pass phrase is an error, not a question on the terminal.
int NoPassPhrase(char*, int, int, void*) { return 0; }

}  // namespace

TlsContext::~TlsContext() { SSL_CTX_free(context_); }

absl::StatusOr<std::shared_ptr<const TlsContext>> TlsContext::Load(
    const std::string& certificate_file, const std::string& private_key_file) {
  ERR_clear_error();
  SSL_CTX* const raw = SSL_CTX_new(TLS_server_method());
  if (raw == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot set up TLS: ", TakeOpenSslError("no memory")));
  }
  std::shared_ptr<TlsContext> context(new TlsContext(raw));
  SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                               SSL_OP_CIPHER_SERVER_PREFERENCE |
                               SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_mode(raw, SSL_MODE_ENABLE_PARTIAL_WRITE |
                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
  // Tickets resume sessions without memory of the server.
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(raw, 1);
  SSL_CTX_set_alpn_select_cb(raw, SelectProtocol, nullptr);
  SSL_CTX_set_default_passwd_cb(raw, NoPassPhrase);

  absl::Status status = CheckReadable(kCertificateOption, certificate_file);
  if (!status.ok()) return status;
  status = CheckReadable(kKeyOption, private_key_file);
  if (!status.ok()) return status;
  if (SSL_CTX_use_certificate_chain_file(raw, certificate_file.c_str()) != 1) {
    return FileError(kCertificateOption, certificate_file,
                     absl::StrCat("no PEM certificate chain: ",
                                  TakeOpenSslError("unreadable")));
  }
  if (SSL_CTX_use_PrivateKey_file(raw, private_key_file.c_str(),
                                  SSL_FILETYPE_PEM) != 1) {
    const bool is_mismatch =
        ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH;
    const std::string reason = TakeOpenSslError("unreadable");
    return FileError(
        kKeyOption, private_key_file,
        is_mismatch
            ? absl::StrCat("does not match the certificate in ",
                           certificate_file)
            : absl::StrCat("no PEM private key without pass phrase: ", reason));
  }
  if (SSL_CTX_check_private_key(raw) != 1) {
    ERR_clear_error();
    return FileError(
        kKeyOption, private_key_file,
        absl::StrCat("does not match the certificate in ", certificate_file));
  }
  const X509* const certificate = SSL_CTX_get0_certificate(raw);
  context->valid_from_ = ToTime(X509_get0_notBefore(certificate));
  context->valid_until_ = ToTime(X509_get0_notAfter(certificate));
  return std::shared_ptr<const TlsContext>(std::move(context));
}

absl::string_view TlsContext::DateProblem(absl::Time now) const {
  if (now > valid_until_) return "has expired";
  if (now < valid_from_) return "is not valid yet";
  return "";
}

FileVersion FileVersion::Of(const std::string& path) {
  struct stat status;
  FileVersion version;
  if (stat(path.c_str(), &status) != 0) return version;
  version.exists = true;
  version.device = status.st_dev;
  version.inode = status.st_ino;
  version.size_bytes = status.st_size;
  // Of the inode: what sets a time in the past does not hide a change.
  version.changed_nanoseconds =
      absl::ToUnixNanos(absl::TimeFromTimespec(status.st_ctim));
  return version;
}

}  // namespace internal
}  // namespace http
}  // namespace udpgate
