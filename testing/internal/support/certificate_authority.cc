#include "testing/internal/support/certificate_authority.h"

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "absl/strings/str_cat.h"
#include "testing/internal/support/child_process.h"

namespace udpgate {
namespace test {

CertificateAuthority::CertificateAuthority() {
  OpenSsl({"req", "-x509", "-newkey", "ec", "-pkeyopt",
           "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "authority.key",
           "-out", "authority.pem", "-days", "2", "-subj", "/CN=authority"});
}

CertificateFiles CertificateAuthority::Issue(const std::string& name,
                                             const std::string& alt_names,
                                             int days) {
  const std::string extensions = directory_.WriteFile(
      name + ".extensions", absl::StrCat("subjectAltName=", alt_names, "\n"));
  OpenSsl({"req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
           "-nodes", "-keyout", name + ".key", "-out", name + ".request",
           "-subj", absl::StrCat("/CN=", name)});
  OpenSsl({"x509", "-req", "-in", name + ".request", "-CA", "authority.pem",
           "-CAkey", "authority.key", "-CAcreateserial", "-out", name + ".pem",
           "-days", absl::StrCat(days), "-extfile", extensions});
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
