#include "udpgate/redis/internal/session_keys.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_replace.h"
#include "udpgate/stored_session.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

constexpr absl::string_view kLeaseVersion = "1 ";
constexpr size_t kRunDigits = 16;
constexpr absl::string_view kNone = "-";

bool IsPrintable(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), absl::ascii_isgraph);
}

bool IsGatewayId(absl::string_view id) {
  return !id.empty() && id.size() <= kGatewayIdBytesMax && IsPrintable(id);
}

}  // namespace

std::string EscapeGatewayId(absl::string_view id) {
  if (id == kNone) return "%2d";
  return absl::StrReplaceAll(id, {{"%", "%25"}});
}

bool UnescapeGatewayId(absl::string_view text, std::string* id) {
  *id = text == "%2d" ? std::string(kNone)
                      : absl::StrReplaceAll(text, {{"%25", "%"}});
  return IsGatewayId(*id) && EscapeGatewayId(*id) == text;
}

bool HasHashTag(absl::string_view prefix) {
  const size_t open = prefix.find('{');
  if (open == absl::string_view::npos) return false;
  const size_t close = prefix.find('}', open + 1);
  return close != absl::string_view::npos && close > open + 1;
}

std::string RunText(uint64_t run) {
  return absl::StrCat(absl::Hex(run, absl::kZeroPad16));
}

std::string EncodeLease(const GatewayLease& lease) {
  const std::string& forward = lease.forward_address;
  const bool can_forward = !forward.empty() && IsPrintable(forward) &&
                           forward.size() <= kForwardAddressBytesMax;
  return absl::StrCat(kLeaseVersion, RunText(lease.run), " ",
                      can_forward ? absl::string_view(forward) : kNone);
}

GatewayLease DecodeLease(absl::string_view gateway_id, absl::string_view text) {
  GatewayLease lease;
  lease.gateway_id = std::string(gateway_id);
  constexpr size_t kForwardOffset = kLeaseVersion.size() + kRunDigits + 1;
  const absl::string_view digits =
      text.substr(std::min(kLeaseVersion.size(), text.size()), kRunDigits);
  uint64_t run = 0;
  if (text.size() <= kForwardOffset ||
      text.size() > kForwardOffset + kForwardAddressBytesMax ||
      text.substr(0, kLeaseVersion.size()) != kLeaseVersion ||
      text[kForwardOffset - 1] != ' ' ||
      !IsPrintable(text.substr(kForwardOffset)) ||
      !absl::SimpleHexAtoi(digits, &run) || RunText(run) != digits) {
    return lease;
  }
  lease.run = run;
  const absl::string_view forward = text.substr(kForwardOffset);
  if (forward != kNone) lease.forward_address = std::string(forward);
  return lease;
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
