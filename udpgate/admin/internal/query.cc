#include "udpgate/admin/internal/query.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "udpgate/admin/internal/router.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

// A percent sign without two hexadecimal digits stands for itself.
std::string Decode(absl::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() &&
        absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 1])) &&
        absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 2]))) {
      decoded += absl::HexStringToBytes(text.substr(i + 1, 2));
      i += 2;
    } else {
      decoded += text[i] == '+' ? ' ' : text[i];
    }
  }
  return decoded;
}

}  // namespace

absl::string_view PathOf(const http::Request& request) {
  return absl::string_view(request.target).substr(0, request.target.find('?'));
}

absl::optional<std::string> ParameterOf(const http::Request& request,
                                        absl::string_view name) {
  const size_t begin = PathOf(request).size();
  if (begin == request.target.size()) return absl::nullopt;
  for (const absl::string_view pair : absl::StrSplit(
           absl::string_view(request.target).substr(begin + 1), '&')) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(pair, absl::MaxSplits('=', 1));
    if (Decode(parts.first) == name) return Decode(parts.second);
  }
  return absl::nullopt;
}

bool AddressFilter::Matches(const SocketAddress& other) const {
  if (!address.has_value()) return true;
  if (!other.is_valid()) return false;
  return any_port ? *address == other.WithPort(0) : *address == other;
}

bool ParseFilter(const http::Request& request, const char* name,
                 AddressFilter* filter, http::Response* response) {
  const absl::optional<std::string> parameter = ParameterOf(request, name);
  if (!parameter.has_value()) return true;
  const std::string& text = *parameter;
  absl::StatusOr<SocketAddress> address = SocketAddress::Parse(text);
  if (!address.ok()) {
    address = SocketAddress::FromIpAndPort(text, 0);
    filter->any_port = true;
  }
  if (!address.ok()) {
    SetError(response, 400,
             absl::StrCat(name,
                          ": must be 1.2.3.4:port, [v6]:port or an IP "
                          "address"));
    return false;
  }
  filter->address = *address;
  return true;
}

bool ParseCount(const http::Request& request, const char* name,
                uint64_t minimum, uint64_t maximum, uint64_t* value,
                http::Response* response) {
  const absl::optional<std::string> parameter = ParameterOf(request, name);
  if (!parameter.has_value()) return true;
  const std::string& text = *parameter;
  const bool is_number =
      !text.empty() && text.size() <= 18 &&
      std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
  if (is_number && absl::SimpleAtoi(text, value) && *value >= minimum &&
      *value <= maximum) {
    return true;
  }
  SetError(response, 400,
           absl::StrCat(name, ": must be an integer from ", minimum, " to ",
                        maximum));
  return false;
}

}  // namespace internal
}  // namespace admin
}  // namespace udpgate
