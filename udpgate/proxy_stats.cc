#include "udpgate/proxy_stats.h"

#include <numeric>

namespace udpgate {

#define UDPGATE_NAME(enumerator, name, help) #name,
#define UDPGATE_HELP(enumerator, name, help) help,

absl::string_view DropReasonName(DropReason reason) {
  static constexpr const char* kNames[] = {UDPGATE_DROP_REASONS(UDPGATE_NAME)};
  return kNames[static_cast<size_t>(reason)];
}

absl::string_view DropReasonHelp(DropReason reason) {
  static constexpr const char* kHelps[] = {UDPGATE_DROP_REASONS(UDPGATE_HELP)};
  return kHelps[static_cast<size_t>(reason)];
}

absl::string_view EndReasonName(EndReason reason) {
  static constexpr const char* kNames[] = {UDPGATE_END_REASONS(UDPGATE_NAME)};
  return kNames[static_cast<size_t>(reason)];
}

absl::string_view EndReasonHelp(EndReason reason) {
  static constexpr const char* kHelps[] = {UDPGATE_END_REASONS(UDPGATE_HELP)};
  return kHelps[static_cast<size_t>(reason)];
}

absl::string_view ReopenReasonName(ReopenReason reason) {
  static constexpr const char* kNames[] = {
      UDPGATE_REOPEN_REASONS(UDPGATE_NAME)};
  return kNames[static_cast<size_t>(reason)];
}

absl::string_view ReopenReasonHelp(ReopenReason reason) {
  static constexpr const char* kHelps[] = {
      UDPGATE_REOPEN_REASONS(UDPGATE_HELP)};
  return kHelps[static_cast<size_t>(reason)];
}

#undef UDPGATE_NAME
#undef UDPGATE_HELP

uint64_t ProxyStats::dropped_total() const {
  return std::accumulate(datagrams_dropped.begin(), datagrams_dropped.end(),
                         uint64_t{0});
}

uint64_t ProxyStats::ended_total() const {
  return std::accumulate(sessions_ended.begin(), sessions_ended.end(),
                         uint64_t{0});
}

absl::Span<const ProxyStatField> ProxyStatFields() {
#define UDPGATE_FIELD(kind, name, help) \
  {ProxyStatField::Kind::kind, #name, help, &ProxyStats::name},
  static constexpr ProxyStatField kFields[] = {
      UDPGATE_PROXY_STATS(UDPGATE_FIELD)};
#undef UDPGATE_FIELD
  return kFields;
}

}  // namespace udpgate
