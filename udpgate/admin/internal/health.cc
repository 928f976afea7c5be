#include "udpgate/admin/internal/health.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace udpgate {
namespace admin {
namespace internal {

std::vector<ComponentHealth> Health::Components() const {
  if (components_ == nullptr) return {};
  return components_();
}

std::vector<std::string> Health::UnreadyReasons() const {
  std::vector<std::string> reasons;
  if (proxy_->is_draining()) reasons.push_back("draining");
  if (proxy_->is_standby()) reasons.push_back("standby");
  for (const ComponentHealth& component : Components()) {
    if (component.is_needed && !component.status.ok()) {
      reasons.push_back(
          absl::StrCat(component.name, ": ", component.status.message()));
    }
  }
  return reasons;
}

std::vector<std::string> Health::Warnings() const {
  std::vector<std::string> warnings;
  for (const ComponentHealth& component : Components()) {
    if (!component.is_needed && !component.status.ok()) {
      warnings.push_back(absl::StrCat("warning: ", component.name, ": ",
                                      component.status.message()));
    }
  }
  return warnings;
}

Health::Report Health::Liveness() const {
  if (proxy_->IsAlive(liveness_timeout_)) return {true, "alive\n"};
  return {false, absl::StrCat("worker stalled: no event-loop iteration in ",
                              absl::FormatDuration(liveness_timeout_), "\n")};
}

Health::Report Health::Readiness() const {
  std::vector<std::string> lines = UnreadyReasons();
  const bool is_ready = lines.empty();
  if (is_ready) lines.push_back("ready");
  for (std::string& warning : Warnings()) lines.push_back(std::move(warning));
  return {is_ready, absl::StrCat(absl::StrJoin(lines, "\n"), "\n")};
}

}  // namespace internal
}  // namespace admin
}  // namespace udpgate
