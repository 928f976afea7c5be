#include "udpgate/http/internal/request_rules.h"

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace udpgate {
namespace http {
namespace internal {
namespace {

bool IsTarget(absl::string_view target) {
  // RFC 3986 without fragment. Bytes above 127 are tolerated nowhere.
  return std::all_of(target.begin(), target.end(), [](char c) {
    return absl::ascii_isgraph(static_cast<unsigned char>(c)) && c != '#' &&
           c != '"' && c != '<' && c != '>' && c != '\\';
  });
}

// uri-host [ ":" port ] (RFC 9110 section 7.2); a name may be empty.
bool IsAuthority(absl::string_view host) {
  if (host.size() > 300) return false;
  if (!host.empty() && host[0] == '[') {
    const size_t end = host.find(']');
    if (end == absl::string_view::npos || end < 3) return false;
    const absl::string_view ip = host.substr(1, end - 1);
    if (!std::all_of(ip.begin(), ip.end(), [](char c) {
          return absl::ascii_isxdigit(static_cast<unsigned char>(c)) ||
                 c == ':' || c == '.';
        })) {
      return false;
    }
    host.remove_prefix(end + 1);
    if (!host.empty() && host[0] != ':') return false;
  } else {
    const absl::string_view name = host.substr(0, host.find(':'));
    if (!std::all_of(name.begin(), name.end(), [](char c) {
          return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                 absl::StrContains("-._~!$&'()*+,;=%", c);
        })) {
      return false;
    }
    host.remove_prefix(name.size());
  }
  if (host.empty()) return true;
  host.remove_prefix(1);
  return host.size() <= 5 && std::all_of(host.begin(), host.end(), [](char c) {
           return absl::ascii_isdigit(static_cast<unsigned char>(c));
         });
}

bool IsHeader(const Header& header, absl::string_view name) {
  return absl::EqualsIgnoreCase(header.name, name);
}

// Splits an absolute-form into authority and origin-form.
Refusal TakeAuthority(std::string* target, std::string* authority) {
  absl::string_view rest = *target;
  rest.remove_prefix(rest.find("://") + 3);
  const size_t end = std::min(rest.find_first_of("/?"), rest.size());
  *authority = std::string(rest.substr(0, end));
  rest.remove_prefix(end);
  if (authority->empty() || !IsAuthority(*authority)) {
    return {400, "request target has no valid host"};
  }
  *target = absl::StrCat(absl::StartsWith(rest, "/") ? "" : "/", rest);
  return {};
}

Refusal CheckTarget(Request* request, std::string* authority) {
  std::string& target = request->target;
  if (!IsTarget(target)) return {400, "invalid request target"};
  if (absl::StartsWithIgnoreCase(target, "http://") ||
      absl::StartsWithIgnoreCase(target, "https://")) {
    return TakeAuthority(&target, authority);
  }
  if (absl::StartsWith(target, "/")) return {};
  if (target == "*" && request->method == "OPTIONS") return {};
  return {400, "request target is not a path"};
}

Refusal CheckLength(bool is_http10, const Request& request) {
  int length_count = 0;
  int encoding_count = 0;
  for (const Header& header : request.headers) {
    if (IsHeader(header, "content-length")) {
      ++length_count;
      if (header.value.empty() ||
          !std::all_of(header.value.begin(), header.value.end(), [](char c) {
            return absl::ascii_isdigit(static_cast<unsigned char>(c));
          })) {
        return {400, "Content-Length is not a number"};
      }
    } else if (IsHeader(header, "transfer-encoding")) {
      ++encoding_count;
      if (!absl::EqualsIgnoreCase(header.value, "chunked")) {
        return {501, "transfer coding is not supported; use chunked"};
      }
    }
  }
  if (length_count > 1) return {400, "several Content-Length headers"};
  if (encoding_count > 1) return {400, "several Transfer-Encoding headers"};
  if (encoding_count == 1 && (length_count == 1 || is_http10)) {
    return {400, "Transfer-Encoding is not allowed here"};
  }
  return {};
}

}  // namespace

bool IsTokenCharacter(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
         (c != '\0' && absl::StrContains("!#$%&'*+-.^_`|~", c));
}

absl::string_view CheckRequestLine(absl::string_view line) {
  if (!std::all_of(line.begin(), line.end(), [](char c) {
        return c == ' ' || absl::ascii_isgraph(static_cast<unsigned char>(c));
      })) {
    return "request line has control or non-ASCII characters";
  }
  if (std::count(line.begin(), line.end(), ' ') != 2) {
    return "malformed request line";
  }
  const absl::string_view version = line.substr(line.rfind(' ') + 1);
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    return "HTTP version is not supported";
  }
  return "";
}

absl::string_view CheckHeaderLine(absl::string_view line) {
  if (line[0] == ' ' || line[0] == '\t') return "folded header line";
  const size_t colon = line.find(':');
  if (colon == absl::string_view::npos) return "header line without a colon";
  const absl::string_view name = line.substr(0, colon);
  if (name.empty() ||
      !std::all_of(name.begin(), name.end(), IsTokenCharacter)) {
    return "invalid header name";
  }
  const absl::string_view value = line.substr(colon + 1);
  if (!std::all_of(value.begin(), value.end(), [](char c) {
        return c == '\t' || !absl::ascii_iscntrl(static_cast<unsigned char>(c));
      })) {
    return "header has control characters";
  }
  return "";
}

bool IsChunkLine(absl::string_view bytes) {
  if (absl::StartsWith(bytes, "\r\n")) bytes.remove_prefix(2);
  const size_t end = bytes.find('\n');
  absl::string_view line = bytes.substr(0, end);
  const bool has_return = absl::ConsumeSuffix(&line, "\r");
  if (end != absl::string_view::npos && !has_return) return false;
  return std::all_of(line.begin(), line.end(), [](char c) {
    return c == '\t' ||
           (absl::ascii_isprint(static_cast<unsigned char>(c)) && c != '"');
  });
}

Refusal CheckAndNormalize(bool is_http10, Request* request,
                          bool* expects_continue) {
  std::string authority;
  if (Refusal refusal = CheckTarget(request, &authority); refusal.status != 0) {
    return refusal;
  }
  Header* host = nullptr;
  for (Header& header : request->headers) {
    if (IsHeader(header, "expect")) {
      if (!absl::EqualsIgnoreCase(header.value, "100-continue")) {
        return {417, "expectation is not supported"};
      }
      *expects_continue = !is_http10;
    }
    if (!IsHeader(header, "host")) continue;
    if (host != nullptr) return {400, "several Host headers"};
    if (!IsAuthority(header.value)) return {400, "invalid Host header"};
    host = &header;
  }
  if (host == nullptr && !is_http10) return {400, "no Host header"};
  if (!authority.empty()) {
    if (host != nullptr) {
      host->value = authority;
    } else {
      request->headers.push_back({"Host", authority});
    }
  }
  return CheckLength(is_http10, *request);
}

}  // namespace internal
}  // namespace http
}  // namespace udpgate
