#include "udpgate/http/internal/response_text.h"

#include <algorithm>
#include <ctime>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "udpgate/http/internal/request_rules.h"

namespace udpgate {
namespace http {
namespace internal {
namespace {

// Formatted once a second, by each thread.
absl::string_view DateText() {
  thread_local std::time_t formatted = -1;
  thread_local std::string text;
  const std::time_t now = std::time(nullptr);
  if (now != formatted) {
    // IMF-fixdate (RFC 9110 section 5.6.7).
    text = absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", absl::FromTimeT(now),
                            absl::UTCTimeZone());
    formatted = now;
  }
  return text;
}

bool IsValue(absl::string_view value) {
  return std::all_of(value.begin(), value.end(), [](char c) {
    return c == '\t' || !absl::ascii_iscntrl(static_cast<unsigned char>(c));
  });
}

bool MayBeSent(const Header& header) {
  for (const absl::string_view own :
       {"content-length", "connection", "date", "transfer-encoding"}) {
    if (absl::EqualsIgnoreCase(header.name, own)) return false;
  }
  return !header.name.empty() &&
         std::all_of(header.name.begin(), header.name.end(),
                     IsTokenCharacter) &&
         IsValue(header.value);
}

// RFC 9110 sections 15.3.5 and 15.4.5.
bool HasBody(int status) {
  return status >= 200 && status != 204 && status != 304;
}

}  // namespace

std::string ResponseText(const Response& response,
                         const ResponseContext& context) {
  std::string text;
  text.reserve(256 + response.body.size());
  absl::StrAppend(&text, "HTTP/1.1 ", response.status, " ",
                  ReasonPhrase(response.status), "\r\nDate: ", DateText(),
                  "\r\n");
  if (!response.content_type.empty() && IsValue(response.content_type)) {
    absl::StrAppend(&text, "Content-Type: ", response.content_type, "\r\n");
  }
  for (const Header& header : response.headers) {
    if (!MayBeSent(header)) continue;
    absl::StrAppend(&text, header.name, ": ", header.value, "\r\n");
  }
  if (HasBody(response.status)) {
    absl::StrAppend(&text, "Content-Length: ", response.body.size(), "\r\n");
  }
  if (context.closes) {
    text += "Connection: close\r\n";
  } else if (context.is_http10) {
    text += "Connection: keep-alive\r\n";
  }
  text += "\r\n";
  if (!context.is_head && HasBody(response.status)) text += response.body;
  return text;
}

}  // namespace internal
}  // namespace http
}  // namespace udpgate
