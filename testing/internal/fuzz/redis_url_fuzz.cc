// RedisUrl: what parses suits RedisOptions, and no error quotes the URL.
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/redis/redis_options.h"
#include "udpgate/redis/redis_url.h"

namespace udpgate {
namespace test {
namespace {

// Every byte percent-encoded.
std::string Encoded(absl::string_view text) {
  std::string encoded;
  for (const char c : text) {
    absl::StrAppend(&encoded, "%",
                    absl::BytesToHexString(absl::string_view(&c, 1)));
  }
  return encoded;
}

std::string Printed(const RedisUrl& url) {
  const std::string credentials =
      absl::StrCat(Encoded(url.username), ":", Encoded(url.password), "@");
  absl::string_view path = url.address;
  if (absl::ConsumePrefix(&path, "unix:")) {
    return absl::StrCat(
        "unix://", credentials, "/", Encoded(path.substr(1)),
        url.database.has_value() ? absl::StrCat("?db=", *url.database) : "");
  }
  return absl::StrCat(
      url.is_tls ? "rediss" : "redis", "://", credentials, url.address,
      url.database.has_value() ? absl::StrCat("/", *url.database) : "");
}

void Try(absl::string_view text) {
  const absl::StatusOr<RedisUrl> url = RedisUrl::Parse(text);
  if (!url.ok()) {
    RequireOneShortLine(url.status());
    return;
  }
  RedisOptions options;
  options.address = url->address;
  options.username = url->username;
  options.password = url->password;
  options.database = url->database.value_or(0);
  Require(options.Validate().ok(), "a URL that parses suits Redis");
  const std::string printed = Printed(*url);
  if (printed.size() > 16384) return;  // encoding makes it longer
  const absl::StatusOr<RedisUrl> again = RedisUrl::Parse(printed);
  Require(
      again.ok() && again->is_tls == url->is_tls &&
          again->address == url->address && again->username == url->username &&
          again->password == url->password && again->database == url->database,
      "a URL prints to what parses to the same");
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  udpgate::test::Try(udpgate::test::AsText(data, size));
  return 0;
}
