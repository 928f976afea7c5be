#include "udpgate/redis/redis_url.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/redis/redis_option_ranges.h"
#include "udpgate/redis/redis_options.h"

namespace udpgate {
namespace {

constexpr size_t kUrlBytesMax = 16384;
constexpr absl::string_view kDefaultPort = "6379";

absl::Status Invalid(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("Redis URL: ", what));
}

// False unless each % begins two hexadecimal digits, of a byte that is not 0.
bool Decode(absl::string_view text, std::string* decoded) {
  decoded->clear();
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded->push_back(text[i]);
      continue;
    }
    const absl::string_view digits = text.substr(i + 1, 2);
    if (digits.size() != 2 || !absl::ascii_isxdigit(digits[0]) ||
        !absl::ascii_isxdigit(digits[1]) || digits == "00") {
      return false;
    }
    absl::StrAppend(decoded, absl::HexStringToBytes(digits));
    i += 2;
  }
  return true;
}

absl::Status ReadCredentials(absl::string_view text, RedisUrl* url) {
  const size_t colon = text.find(':');
  if (!Decode(text.substr(0, colon), &url->username) ||
      (colon != absl::string_view::npos &&
       !Decode(text.substr(colon + 1), &url->password))) {
    return Invalid("the user name or the password is not percent-encoded");
  }
  return absl::OkStatus();
}

absl::Status ReadDatabase(absl::string_view text, RedisUrl* url) {
  int database;
  if (text.empty() ||
      !std::all_of(text.begin(), text.end(), absl::ascii_isdigit) ||
      !absl::SimpleAtoi(text, &database) ||
      database > redis_ranges::kDatabase.maximum) {
    return Invalid(absl::StrCat("the database is not a number from 0 to ",
                                redis_ranges::kDatabase.maximum));
  }
  url->database = database;
  return absl::OkStatus();
}

// `rest` is `host[:port][/database]`.
absl::Status ReadTcp(absl::string_view rest, RedisUrl* url) {
  const size_t slash = rest.find('/');
  const absl::string_view host = rest.substr(0, slash);
  // Colons in brackets belong to an IPv6 address.
  const bool has_port =
      host.rfind(':') != absl::string_view::npos && !absl::EndsWith(host, "]");
  const absl::StatusOr<HostPort> parsed = HostPort::Parse(
      absl::StrCat(host, has_port ? "" : ":", has_port ? "" : kDefaultPort));
  if (!parsed.ok()) return Invalid("the part after the scheme is no host:port");
  url->address = parsed->ToString();
  // It would be the path of a socket.
  if (absl::StartsWith(url->address, "unix:")) {
    return Invalid("a host named unix needs its domain");
  }
  if (slash == absl::string_view::npos || slash + 1 == rest.size()) {
    return absl::OkStatus();
  }
  return ReadDatabase(rest.substr(slash + 1), url);
}

// `rest` is `/path[?db=database]`.
absl::Status ReadUnix(absl::string_view rest, RedisUrl* url) {
  const size_t query = rest.find('?');
  std::string path;
  if (!absl::StartsWith(rest, "/") || !Decode(rest.substr(0, query), &path)) {
    return Invalid("a unix URL has a path, percent-encoded");
  }
  url->address = absl::StrCat("unix:", path);
  if (query == absl::string_view::npos) return absl::OkStatus();
  absl::string_view database = rest.substr(query + 1);
  if (!absl::ConsumePrefix(&database, "db=")) {
    return Invalid("the only query of a unix URL is db=");
  }
  return ReadDatabase(database, url);
}

}  // namespace

absl::StatusOr<RedisUrl> RedisUrl::Parse(absl::string_view text) {
  const auto is_in_url = [](unsigned char c) {
    return absl::ascii_isprint(c) && c != ' ';
  };
  if (text.size() > kUrlBytesMax ||
      !std::all_of(text.begin(), text.end(), is_in_url)) {
    return Invalid(absl::StrCat("not printable ASCII of at most ", kUrlBytesMax,
                                " bytes"));
  }
  const size_t scheme_end = text.find("://");
  const std::string scheme = absl::AsciiStrToLower(text.substr(0, scheme_end));
  const bool is_unix = scheme == "unix";
  RedisUrl url;
  url.is_tls = scheme == "rediss";
  if (scheme_end == absl::string_view::npos ||
      (scheme != "redis" && !url.is_tls && !is_unix)) {
    return Invalid("the scheme is not redis, rediss or unix");
  }
  absl::string_view rest = text.substr(scheme_end + 3);
  if (absl::StrContains(rest, '#') ||
      (!is_unix && absl::StrContains(rest, '?'))) {
    return Invalid("a query or a fragment is not supported");
  }
  const size_t at = rest.substr(0, rest.find('/')).rfind('@');
  if (at != absl::string_view::npos) {
    if (rest.find('@') != at) {
      return Invalid(
          "there is more than one @; in the user name and the password it is "
          "written as %40");
    }
    if (absl::Status status = ReadCredentials(rest.substr(0, at), &url);
        !status.ok()) {
      return status;
    }
    rest.remove_prefix(at + 1);
  }
  if (absl::Status status =
          is_unix ? ReadUnix(rest, &url) : ReadTcp(rest, &url);
      !status.ok()) {
    return status;
  }
  RedisOptions options;
  options.address = url.address;
  options.username = url.username;
  options.password = url.password;
  if (!options.Validate().ok()) {
    return Invalid("the address, the user name or the password is too long");
  }
  return url;
}

}  // namespace udpgate
