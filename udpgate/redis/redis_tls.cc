#include "udpgate/redis/redis_tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <array>
#include <climits>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace {

constexpr size_t kReadBytes = 16 * 1024;  // the longest record
// The first byte of a record (RFC 8446 section 5.1).
constexpr char kAlertRecord = 21;
constexpr char kHandshakeRecord = 22;

using Context = std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)>;
using Ssl = std::unique_ptr<SSL, decltype(&SSL_free)>;

absl::Status TlsError(absl::string_view what) {
  return absl::FailedPreconditionError(absl::StrCat("TLS: ", what));
}

std::string ReasonOf(unsigned long error) {
  if (ERR_SYSTEM_ERROR(error)) return std::strerror(ERR_GET_REASON(error));
  const char* reason = ERR_reason_error_string(error);
  return reason != nullptr ? reason : "unknown error";
}

// The oldest error of this thread; the later ones are its consequences.
std::string TakeReason() {
  std::string reason = ReasonOf(ERR_peek_error());
  ERR_clear_error();
  return reason;
}

absl::Status FileError(absl::string_view what, const std::string& file) {
  return TlsError(
      absl::StrCat(what, " \"", absl::CHexEscape(file), "\": ", TakeReason()));
}

// A key with a pass phrase is an error, not a question on the terminal.
int NoPassPhrase(char*, int, int, void*) { return 0; }

absl::Status LoadFiles(const RedisTlsOptions& options, SSL_CTX* context) {
  if (options.ca_file.empty()) {
    if (SSL_CTX_set_default_verify_paths(context) != 1) {
      return TlsError(
          absl::StrCat("authorities of the system: ", TakeReason()));
    }
  } else if (SSL_CTX_load_verify_file(context, options.ca_file.c_str()) != 1) {
    return FileError("authorities", options.ca_file);
  }
  if (options.certificate_file.empty()) return absl::OkStatus();
  if (SSL_CTX_use_certificate_chain_file(
          context, options.certificate_file.c_str()) != 1) {
    return FileError("certificate", options.certificate_file);
  }
  if (SSL_CTX_use_PrivateKey_file(context, options.key_file.c_str(),
                                  SSL_FILETYPE_PEM) != 1) {
    return FileError("private key", options.key_file);
  }
  return absl::OkStatus();
}

class TlsTransport final : public RedisTransport {
 public:
  // `name` must be in the server's certificate.
  TlsTransport(Ssl ssl, std::string name)
      : ssl_(std::move(ssl)), name_(std::move(name)) {}

  absl::Status Start(std::string* to_peer) override {
    std::string none;
    return Advance(&none, to_peer);
  }
  absl::Status Receive(absl::string_view received, std::string* plain,
                       std::string* to_peer) override;
  void Send(absl::string_view plain, std::string* to_peer) override {
    SSL_write(ssl_.get(), plain.data(), static_cast<int>(plain.size()));
    TakeOutput(to_peer);
  }
  bool is_ready() const override { return is_ready_; }

 private:
  absl::Status Advance(std::string* plain, std::string* to_peer);
  void TakeOutput(std::string* to_peer);
  // The error of a call that has returned `result`; OK if it waits for more.
  absl::Status ErrorOf(int result);
  absl::Status HandshakeError(const std::string& reason) const;

  const Ssl ssl_;
  const std::string name_;
  bool is_ready_ = false;
  bool has_received_ = false;
};

absl::Status TlsTransport::Receive(absl::string_view received,
                                   std::string* plain, std::string* to_peer) {
  if (!std::exchange(has_received_, true) && received[0] != kHandshakeRecord &&
      received[0] != kAlertRecord) {
    return TlsError("the server does not speak TLS");
  }
  // A memory BIO takes everything.
  BIO_write(SSL_get_rbio(ssl_.get()), received.data(),
            static_cast<int>(received.size()));
  return Advance(plain, to_peer);
}

absl::Status TlsTransport::Advance(std::string* plain, std::string* to_peer) {
  ERR_clear_error();
  absl::Status status;
  if (!is_ready_) {
    const int result = SSL_do_handshake(ssl_.get());
    is_ready_ = result == 1;
    if (!is_ready_) status = ErrorOf(result);
  }
  while (is_ready_) {
    std::array<char, kReadBytes> buffer;
    const int size =
        SSL_read(ssl_.get(), buffer.data(), static_cast<int>(buffer.size()));
    if (size <= 0) {
      status = ErrorOf(size);
      break;
    }
    plain->append(buffer.data(), static_cast<size_t>(size));
  }
  TakeOutput(to_peer);
  return status;
}

void TlsTransport::TakeOutput(std::string* to_peer) {
  BIO* const output = SSL_get_wbio(ssl_.get());
  std::array<char, kReadBytes> buffer;
  for (;;) {
    const int size =
        BIO_read(output, buffer.data(), static_cast<int>(buffer.size()));
    if (size <= 0) return;
    to_peer->append(buffer.data(), static_cast<size_t>(size));
  }
}

absl::Status TlsTransport::ErrorOf(int result) {
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return absl::OkStatus();
    case SSL_ERROR_ZERO_RETURN:
      return absl::UnavailableError("closed the connection");
    default:
      break;
  }
  const unsigned long error = ERR_peek_error();
  // Alerts of the peer have reasons of their own from here on.
  const bool is_alert = ERR_GET_LIB(error) == ERR_LIB_SSL &&
                        ERR_GET_REASON(error) >= SSL_AD_REASON_OFFSET;
  const bool wants_certificate =
      is_alert &&
      ERR_GET_REASON(error) == SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED;
  const std::string reason = TakeReason();
  if (wants_certificate) {
    return TlsError("the server requires a client certificate");
  }
  if (is_alert) {
    return TlsError(absl::StrCat("the server ends the connection: ", reason));
  }
  return is_ready_ ? TlsError(reason) : HandshakeError(reason);
}

absl::Status TlsTransport::HandshakeError(const std::string& reason) const {
  const long verified = SSL_get_verify_result(ssl_.get());
  if (verified == X509_V_OK) return TlsError(reason);
  const bool is_name = verified == X509_V_ERR_HOSTNAME_MISMATCH ||
                       verified == X509_V_ERR_IP_ADDRESS_MISMATCH;
  return TlsError(absl::StrCat(
      "the server's certificate is rejected: ",
      X509_verify_cert_error_string(verified),
      is_name ? absl::StrCat(", it is not for ", absl::CHexEscape(name_))
              : ""));
}

class TlsTransportFactory final : public RedisTransportFactory {
 public:
  explicit TlsTransportFactory(RedisTlsOptions options)
      : options_(std::move(options)) {}

  absl::StatusOr<std::unique_ptr<RedisTransport>> Create(
      const std::string& host) const override;

 private:
  const RedisTlsOptions options_;
};

absl::StatusOr<std::unique_ptr<RedisTransport>> TlsTransportFactory::Create(
    const std::string& host) const {
  ERR_clear_error();
  const Context context(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
  if (context == nullptr) return TlsError(TakeReason());
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_default_passwd_cb(context.get(), &NoPassPhrase);
  if (absl::Status status = LoadFiles(options_, context.get()); !status.ok()) {
    return status;
  }
  Ssl ssl(SSL_new(context.get()), &SSL_free);  // keeps the context
  if (ssl == nullptr) return TlsError(TakeReason());
  SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  const std::string name =
      options_.server_name.empty() ? host : options_.server_name;
  const bool is_ip = SocketAddress::FromIpAndPort(name, 1).ok();
  X509_VERIFY_PARAM* const verified = SSL_get0_param(ssl.get());
  const bool is_set =
      is_ip ? X509_VERIFY_PARAM_set1_ip_asc(verified, name.c_str()) == 1
            : SSL_set1_host(ssl.get(), name.c_str()) == 1 &&
                  SSL_set_tlsext_host_name(ssl.get(), name.c_str()) == 1;
  if (!is_set) {
    return TlsError(
        absl::StrCat("no valid server name: \"", absl::CHexEscape(name), "\""));
  }
  SSL_set_connect_state(ssl.get());
  return std::make_unique<TlsTransport>(std::move(ssl), name);
}

}  // namespace

std::shared_ptr<const RedisTransportFactory> MakeRedisTls(
    RedisTlsOptions options) {
  return std::make_shared<TlsTransportFactory>(std::move(options));
}

}  // namespace udpgate
