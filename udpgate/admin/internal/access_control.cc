#include "udpgate/admin/internal/access_control.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "udpgate/admin/internal/query.h"
#include "udpgate/admin/internal/router.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

using http::Request;
using http::Response;

// Metrics and health reveal nothing about players, and machines request them.
// The page is static; its numbers come from /api/v1.
bool IsOpen(absl::string_view path) {
  return path == "/" || path == "/metrics" || path == "/healthz" ||
         path == "/readyz";
}

std::string HostText(const SocketAddress& address, bool with_port) {
  std::string text = address.ToString();
  if (with_port) return text;
  return text.substr(0, text.rfind(':'));
}

// Empty without the header.
std::string HeaderValue(const Request& request, absl::string_view name) {
  const std::string* const value = request.FindHeader(name);
  return value == nullptr ? "" : *value;
}

bool HostMatches(const Request& request) {
  const std::string host = absl::AsciiStrToLower(HeaderValue(request, "Host"));
  const SocketAddress& local = request.local;
  if (!local.is_valid()) return false;
  // Clients omit port 80.
  for (const bool with_port : {true, false}) {
    if (!with_port && local.port() != 80) continue;
    if (host == HostText(local, with_port)) return true;
    if (local.is_loopback() &&
        host ==
            absl::StrCat("localhost",
                         with_port ? absl::StrCat(":", local.port()) : "")) {
      return true;
    }
  }
  return false;
}

}  // namespace

AccessControl::AccessControl(const AdminOptions& options)
    : has_token_(!options.token.empty()),
      needs_token_(has_token_ || !options.listen_address.is_loopback()),
      wrong_token_window_(options.wrong_token_window),
      token_guard_(options.token, options.wrong_tokens_max,
                   options.wrong_token_window) {}

bool AccessControl::Admit(const Request& request, Response* response) {
  if (IsOpen(PathOf(request))) return true;
  const bool is_post = request.method == "POST";
  // A web page in the operator's browser can reach a loopback address through a
  // name of its own (DNS rebinding), but then the Host is that name.
  if ((is_post || !needs_token_) && !HostMatches(request)) {
    SetError(response, 403,
             "the Host header must be the address of this endpoint, or "
             "localhost");
    return false;
  }
  if (needs_token_ && !CheckToken(request, response)) return false;
  if (is_post) {
    const std::string type = HeaderValue(request, "Content-Type");
    const std::string plain = absl::AsciiStrToLower(
        absl::StripAsciiWhitespace(type.substr(0, type.find(';'))));
    if (plain != "application/json") {
      SetError(response, 415, "the Content-Type must be application/json");
      return false;
    }
  }
  return true;
}

bool AccessControl::CheckToken(const Request& request, Response* response) {
  using Verdict = TokenGuard::Verdict;
  if (!has_token_) {
    SetError(response, 403,
             "no token is configured; without one, an address other than "
             "loopback serves only /, /metrics, /healthz and /readyz");
    return false;
  }
  switch (
      token_guard_.Check(request.peer, HeaderValue(request, "Authorization"))) {
    case Verdict::kRight:
      return true;
    case Verdict::kTooManyWrong:
      ++rate_limited_;
      response->headers.push_back(
          {"Retry-After", absl::StrCat(absl::ToInt64Seconds(absl::Ceil(
                              wrong_token_window_, absl::Seconds(1))))});
      SetError(response, 429, "too many invalid tokens from this address");
      return false;
    case Verdict::kWrong:
      ++wrong_tokens_;
      SetError(response, 401, "invalid token");
      break;
    case Verdict::kMissing:
      SetError(response, 401, "missing header Authorization: Bearer <token>");
      break;
  }
  response->headers.push_back({"WWW-Authenticate", "Bearer"});
  return false;
}

}  // namespace internal
}  // namespace admin
}  // namespace udpgate
