// Keeps a server's certificate up to date with its files.
#ifndef UDPGATE_HTTP_INTERNAL_CERTIFICATE_KEEPER_H_
#define UDPGATE_HTTP_INTERNAL_CERTIFICATE_KEEPER_H_

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "udpgate/http/internal/server_state.h"
#include "udpgate/http/internal/tls_context.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace http {
namespace internal {

// Threads: any.
class CertificateKeeper {
 public:
  explicit CertificateKeeper(std::shared_ptr<ServerState> state)
      : state_(std::move(state)) {}

  bool has_certificate() const {
    return !state_->options.certificate_file.empty();
  }
  // Reads both files. An error keeps what was in use.
  absl::Status Load();
  absl::Status Reload();
  // Does so if a file has changed since the last attempt, and logs the result.
  void ReloadIfChanged();

 private:
  absl::Status LoadLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status ReloadLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::shared_ptr<ServerState> state_;
  udpgate::internal::Mutex mutex_;
  FileVersion certificate_version_ ABSL_GUARDED_BY(mutex_);
  FileVersion key_version_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace internal
}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_INTERNAL_CERTIFICATE_KEEPER_H_
