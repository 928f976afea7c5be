#include "udpgate/http/internal/certificate_keeper.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace udpgate {
namespace http {
namespace internal {
namespace {

using ::udpgate::internal::MutexLock;

std::string DateText(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
}

}  // namespace

absl::Status CertificateKeeper::LoadLocked() {
  const ServerOptions& options = state_->options;
  // Before they are read, so that a change meanwhile is found later.
  certificate_version_ = FileVersion::Of(options.certificate_file);
  key_version_ = FileVersion::Of(options.private_key_file);
  absl::StatusOr<std::shared_ptr<const TlsContext>> tls =
      TlsContext::Load(options.certificate_file, options.private_key_file);
  if (!tls.ok()) return tls.status();
  const absl::string_view problem = (*tls)->DateProblem(absl::Now());
  if (!problem.empty()) {
    state_->Log(
        LogSeverity::kWarning,
        absl::StrCat("certificate ", options.certificate_file, " ", problem,
                     ": valid from ", DateText((*tls)->valid_from()), " to ",
                     DateText((*tls)->valid_until())));
  }
  state_->set_tls(*std::move(tls));
  return absl::OkStatus();
}

absl::Status CertificateKeeper::ReloadLocked() {
  absl::Status status = LoadLocked();
  ++(status.ok() ? state_->counters.certificate_reloads
                 : state_->counters.certificate_reload_failures);
  return status;
}

absl::Status CertificateKeeper::Load() {
  MutexLock lock(&mutex_);
  return LoadLocked();
}

absl::Status CertificateKeeper::Reload() {
  MutexLock lock(&mutex_);
  return ReloadLocked();
}

void CertificateKeeper::ReloadIfChanged() {
  const ServerOptions& options = state_->options;
  MutexLock lock(&mutex_);
  if (FileVersion::Of(options.certificate_file) == certificate_version_ &&
      FileVersion::Of(options.private_key_file) == key_version_) {
    return;
  }
  if (absl::Status status = ReloadLocked(); !status.ok()) {
    return state_->Log(
        LogSeverity::kError,
        absl::StrCat("certificate not reloaded, the old one stays: ",
                     status.message()));
  }
  state_->Log(LogSeverity::kInfo,
              absl::StrCat("certificate ", options.certificate_file,
                           " reloaded, valid until ",
                           DateText(state_->tls()->valid_until())));
}

}  // namespace internal
}  // namespace http
}  // namespace udpgate
