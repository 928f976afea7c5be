#include "udpgate/admin/internal/query.h"

#include <algorithm>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "udpgate/admin/internal/router.h"

namespace udpgate {
namespace admin {
namespace internal {

bool AddressFilter::Matches(const SocketAddress& other) const {
  if (!address.has_value()) return true;
  if (!other.is_valid()) return false;
  return any_port ? *address == other.WithPort(0) : *address == other;
}

bool ParseFilter(const httplib::Request& request, const char* name,
                 AddressFilter* filter, httplib::Response* response) {
  if (!request.has_param(name)) return true;
  const std::string text = request.get_param_value(name);
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

bool ParseCount(const httplib::Request& request, const char* name,
                uint64_t minimum, uint64_t maximum, uint64_t* value,
                httplib::Response* response) {
  if (!request.has_param(name)) return true;
  const std::string text = request.get_param_value(name);
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
