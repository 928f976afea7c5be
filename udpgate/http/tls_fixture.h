// Certificates and TLS clients of tests.
#ifndef UDPGATE_HTTP_TLS_FIXTURE_H_
#define UDPGATE_HTTP_TLS_FIXTURE_H_

#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "testing/internal/support/http_client.h"
#include "udpgate/http/server_fixture.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace http {

// A key, and a certificate for it that it has signed itself.
class TestCertificate {
 public:
  // Valid from now on; seconds that are negative lie in the past.
  explicit TestCertificate(const std::string& name,
                           long valid_from_seconds = -3600,
                           long valid_until_seconds = 3600)
      : key_(EVP_EC_gen("P-256")), certificate_(X509_new()) {
    X509_set_version(certificate_.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate_.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate_.get()),
                    valid_from_seconds);
    X509_gmtime_adj(X509_getm_notAfter(certificate_.get()),
                    valid_until_seconds);
    X509_NAME* const subject = X509_get_subject_name(certificate_.get());
    X509_NAME_add_entry_by_txt(
        subject, "CN", MBSTRING_ASC,
        reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    X509_set_issuer_name(certificate_.get(), subject);
    X509_set_pubkey(certificate_.get(), key_.get());
    EXPECT_GT(X509_sign(certificate_.get(), key_.get(), EVP_sha256()), 0);
  }

  // Each replaces a file in one step.
  void WriteCertificate(const std::string& path) const {
    Write(path, [this](FILE* file) {
      return PEM_write_X509(file, certificate_.get());
    });
  }
  // With a pass phrase, if there is one.
  void WriteKey(const std::string& path,
                const std::string& pass_phrase = "") const {
    Write(path, [&](FILE* file) {
      return PEM_write_PrivateKey(
          file, key_.get(), pass_phrase.empty() ? nullptr : EVP_aes_128_cbc(),
          reinterpret_cast<const unsigned char*>(pass_phrase.data()),
          static_cast<int>(pass_phrase.size()), nullptr, nullptr);
    });
  }

 private:
  template <typename WritePem>
  static void Write(const std::string& path, WritePem write_pem) {
    const std::string next = path + ".next";
    FILE* const file = std::fopen(next.c_str(), "w");
    ASSERT_NE(file, nullptr) << next;
    EXPECT_EQ(write_pem(file), 1);
    std::fclose(file);
    ASSERT_EQ(std::rename(next.c_str(), path.c_str()), 0);
  }

  struct Free {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(X509* certificate) const { X509_free(certificate); }
  };

  std::unique_ptr<EVP_PKEY, Free> key_;
  std::unique_ptr<X509, Free> certificate_;
};

// A TLS connection that trusts everybody.
class TlsClient {
 public:
  struct Options {
    int version_max = TLS1_3_VERSION;
    // As in a ClientHello (RFC 7301 section 3.1), or empty.
    std::string protocols;
    // Sent before the handshake.
    std::string preamble;
  };

  explicit TlsClient(const SocketAddress& address)
      : TlsClient(address, Options()) {}
  TlsClient(const SocketAddress& address, const Options& options)
      : client_(address), context_(SSL_CTX_new(TLS_client_method())) {
    SSL_CTX_set_security_level(context_.get(), 0);
    SSL_CTX_set_min_proto_version(context_.get(), TLS1_VERSION);
    SSL_CTX_set_max_proto_version(context_.get(), options.version_max);
    ssl_.reset(SSL_new(context_.get()));
    if (!options.protocols.empty()) {
      SSL_set_alpn_protos(
          ssl_.get(),
          reinterpret_cast<const unsigned char*>(options.protocols.data()),
          static_cast<unsigned>(options.protocols.size()));
    }
    SSL_set_fd(ssl_.get(), client_.fd());
    EXPECT_TRUE(client_.Send(options.preamble));
    is_connected_ = SSL_connect(ssl_.get()) == 1;
  }

  bool is_connected() const { return is_connected_; }
  int version() const { return SSL_version(ssl_.get()); }
  std::string protocol() const {
    const unsigned char* name = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(ssl_.get(), &name, &size);
    return std::string(reinterpret_cast<const char*>(name), size);
  }
  // The common name of the server's certificate.
  std::string server_name() const {
    char name[64] = "";
    X509* const certificate = SSL_get0_peer_certificate(ssl_.get());
    if (certificate == nullptr) return "";
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate),
                              NID_commonName, name, sizeof(name));
    return name;
  }

  bool Send(absl::string_view text) {
    size_t size = 0;
    return is_connected_ &&
           SSL_write_ex(ssl_.get(), text.data(), text.size(), &size) == 1;
  }
  // Status 0 if no response comes.
  test::HttpReply Exchange(absl::string_view text) {
    test::HttpReply reply;
    if (!Send(text)) return reply;
    size_t size = 0;
    while (true) {
      const size_t end = received_.find("\r\n\r\n");
      const size_t length = received_.find("Content-Length: ");
      size_t body_bytes = 0;
      if (end != std::string::npos && length < end &&
          absl::SimpleAtoi(
              received_.substr(length + 16,
                               received_.find('\r', length) - length - 16),
              &body_bytes) &&
          received_.size() >= end + 4 + body_bytes) {
        EXPECT_TRUE(absl::SimpleAtoi(received_.substr(9, 3), &reply.status));
        reply.head = received_.substr(0, end + 4);
        reply.body = received_.substr(end + 4, body_bytes);
        received_.erase(0, end + 4 + body_bytes);
        return reply;
      }
      char bytes[16384];
      if (SSL_read_ex(ssl_.get(), bytes, sizeof(bytes), &size) != 1) {
        return reply;
      }
      received_.append(bytes, size);
    }
  }
  // The server has said that it ends the connection, and did not just cut it.
  bool IsClosedProperly() {
    char byte;
    const int returned = SSL_read(ssl_.get(), &byte, 1);
    return SSL_get_error(ssl_.get(), returned) == SSL_ERROR_ZERO_RETURN;
  }

 private:
  struct Free {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };

  RawClient client_;
  std::unique_ptr<SSL_CTX, Free> context_;
  std::unique_ptr<SSL, Free> ssl_;
  bool is_connected_ = false;
  std::string received_;
};

}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_TLS_FIXTURE_H_
