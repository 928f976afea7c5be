#include "testing/internal/support/certificate_authority.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "testing/internal/support/child_process.h"

namespace udpgate {
namespace test {

CertificateAuthority::CertificateAuthority() {
  OpenSsl({"req", "-x509", "-newkey", "ec", "-pkeyopt",
           "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "authority.key",
           "-out", "authority.pem", "-days", "2", "-subj", "/CN=authority"});
  directory_.WriteFile("ca.conf",
                       "[ca]\ndefault_ca = authority\n"
                       "[authority]\ndatabase = issued\nnew_certs_dir = .\n"
                       "certificate = authority.pem\n"
                       "private_key = authority.key\n"
                       "default_md = sha256\npolicy = names\n"
                       "unique_subject = no\nrand_serial = yes\n"
                       "[names]\ncommonName = supplied\n");
  directory_.WriteFile("issued", "");
}

CertificateFiles CertificateAuthority::Issue(const std::string& name,
                                             const std::string& alt_names) {
  return Sign(name, alt_names, {"-days", "2"});
}

CertificateFiles CertificateAuthority::IssueExpired(
    const std::string& name, const std::string& alt_names) {
  return Sign(name, alt_names,
              {"-startdate", "20200101000000Z", "-enddate", "20210101000000Z"});
}

CertificateFiles CertificateAuthority::Sign(
    const std::string& name, const std::string& alt_names,
    const std::vector<std::string>& times) {
  const std::string extensions = directory_.WriteFile(
      name + ".extensions", absl::StrCat("subjectAltName=", alt_names, "\n"));
  OpenSsl({"req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
           "-nodes", "-keyout", name + ".key", "-out", name + ".request",
           "-subj", absl::StrCat("/CN=", name)});
  // x509(1) of OpenSSL 3.0 knows days alone, and that of 3.5 no negative ones.
  std::vector<std::string> sign = {
      "ca",          "-batch",   "-notext",         "-config",
      "ca.conf",     "-in",      name + ".request", "-out",
      name + ".pem", "-extfile", extensions};
  sign.insert(sign.end(), times.begin(), times.end());
  OpenSsl(std::move(sign));
  return {absl::StrCat(directory_.path(), "/", name, ".pem"),
          absl::StrCat(directory_.path(), "/", name, ".key")};
}

void CertificateAuthority::OpenSsl(std::vector<std::string> arguments) {
  ChildProcessOptions options;
  options.arguments = std::move(arguments);
  options.arguments.insert(options.arguments.begin(), "openssl");
  // openssl writes a file of random bytes there.
  options.environment = {{"HOME", directory_.path()}};
  options.working_directory = directory_.path();
  const auto process = ChildProcess::Start(options);
  if (process.ok()) {
    const auto exit = (*process)->AwaitExit();
    if (exit.ok() && exit->exited_with(0)) return;
  }
  std::fprintf(stderr, "openssl %s failed: %s\n", options.arguments[1].c_str(),
               process.ok() ? (*process)->output().c_str()
                            : process.status().ToString().c_str());
  std::abort();
}

}  // namespace test
}  // namespace udpgate
