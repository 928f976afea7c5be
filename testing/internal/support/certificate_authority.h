// A certificate authority of the test's own.
//
//   const CertificateAuthority authority;
//   const auto server = authority.Issue("server", "DNS:redis.test");
//   // server.certificate_file, server.key_file, authority.file()
//
// Needs `openssl` in the PATH (Debian's package of that name).
#ifndef UDPGATE_TESTING_INTERNAL_SUPPORT_CERTIFICATE_AUTHORITY_H_
#define UDPGATE_TESTING_INTERNAL_SUPPORT_CERTIFICATE_AUTHORITY_H_

#include <string>
#include <vector>

#include "testing/internal/support/temporary_directory.h"

namespace udpgate {
namespace test {

// A PEM certificate and its private key.
struct CertificateFiles {
  std::string certificate_file;
  std::string key_file;
};

// Ends the process where openssl fails. Threads: one.
class CertificateAuthority {
 public:
  CertificateAuthority();

  // The certificate of the authority itself, PEM.
  std::string file() const { return directory_.path() + "/authority.pem"; }

  // A certificate with these subject alternative names: "DNS:redis.test,
  // IP:127.0.0.1". `name` is that of the files; the same name replaces them.
  CertificateFiles Issue(const std::string& name, const std::string& alt_names);

  // The same, one that expired in 2021.
  CertificateFiles IssueExpired(const std::string& name,
                                const std::string& alt_names);

 private:
  // `times`: options of openssl-ca(1).
  CertificateFiles Sign(const std::string& name, const std::string& alt_names,
                        const std::vector<std::string>& times);
  void OpenSsl(std::vector<std::string> arguments);

  TemporaryDirectory directory_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SUPPORT_CERTIFICATE_AUTHORITY_H_
