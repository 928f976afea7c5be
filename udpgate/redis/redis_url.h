// The URL form in which many platforms hand out a Redis.
//
//   absl::StatusOr<udpgate::RedisUrl> url = udpgate::RedisUrl::Parse(
//       "rediss://gate:secret@redis.internal:6380/2");
#ifndef UDPGATE_REDIS_REDIS_URL_H_
#define UDPGATE_REDIS_REDIS_URL_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "udpgate/base/export.h"

namespace udpgate {

// https://www.iana.org/assignments/uri-schemes/prov/redis, and rediss and unix
// as clients of Redis read them. Threads: as a std::string.
struct UDPGATE_EXPORT RedisUrl {
  // rediss: with TLS.
  bool is_tls = false;
  // As `RedisOptions::address`; the port is 6379 if the URL has none.
  std::string address;
  // Empty if the URL has none.
  std::string username;
  std::string password;
  absl::optional<int> database;

  // `redis://[user[:password]@]host[:port][/database]`, the same with `rediss`,
  // or `unix://[user[:password]@]/path[?db=database]`. The user name, the
  // password and the path may have percent-encoded bytes (RFC 3986, section
  // 2.1). Other queries, and fragments, are errors, since to ignore one might
  // mean less security than it asked for. What parses suits `RedisOptions`.
  // Errors: InvalidArgument, which says what is wrong without quoting the URL.
  static absl::StatusOr<RedisUrl> Parse(absl::string_view text);
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_URL_H_
