#include "udpgate/redis/redis_url.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace udpgate {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Parts(absl::string_view text) {
  const absl::StatusOr<RedisUrl> url = RedisUrl::Parse(text);
  if (!url.ok()) return url.status().ToString();
  return absl::StrCat(
      url->is_tls ? "TLS " : "", url->address, " user=", url->username,
      " password=", url->password, " db=",
      url->database.has_value() ? absl::StrCat(*url->database) : "none");
}

TEST(RedisUrlTest, TakesEveryPart) {
  EXPECT_EQ(Parts("redis://redis.internal"),
            "redis.internal:6379 user= password= db=none");
  EXPECT_EQ(Parts("REDIS://10.0.0.1:7000/"),
            "10.0.0.1:7000 user= password= db=none");
  EXPECT_EQ(Parts("rediss://gate:secret@redis.internal:6380/2"),
            "TLS redis.internal:6380 user=gate password=secret db=2");
  EXPECT_EQ(Parts("redis://:secret@[2001:db8::1]/0"),
            "[2001:db8::1]:6379 user= password=secret db=0");
  EXPECT_EQ(Parts("redis://gate@[::1]:1"),
            "[::1]:1 user=gate password= db=none");
  EXPECT_EQ(Parts("unix:///run/redis.sock"),
            "unix:/run/redis.sock user= password= db=none");
  EXPECT_EQ(Parts("unix://gate:secret@/run/redis.sock?db=3"),
            "unix:/run/redis.sock user=gate password=secret db=3");
}

TEST(RedisUrlTest, DecodesPercentEncodedBytes) {
  EXPECT_EQ(Parts("redis://g%40te:p%2f%3A%23%25%C3%a4@host"),
            "host:6379 user=g@te password=p/:#%\xc3\xa4 db=none");
  EXPECT_EQ(Parts("unix:///run/my%20redis"),
            "unix:/run/my redis user= password= db=none");
  // Left as they are by many.
  EXPECT_EQ(Parts("redis://:a:b@host"), "host:6379 user= password=a:b db=none");
}

TEST(RedisUrlTest, RejectsWhatItCannotHonor) {
  const std::string long_secret(5000, 's');
  for (const std::string& text :
       {std::string(""), std::string("host:6379"), std::string("http://secret"),
        std::string("redis://"), std::string("redis:///1"),
        std::string("redis://secret@"), std::string("redis://host:0"),
        std::string("redis://host:port"), std::string("redis://::1"),
        std::string("redis://host/secret"), std::string("redis://host/-1"),
        std::string("redis://host/1000001"), std::string("redis://host/1/"),
        std::string("redis://secret%@host"), std::string("redis://%00@host"),
        // Not a path, though options take it for one.
        std::string("redis://unix"), std::string("rediss://e:s@unix:62"),
        // Which host is meant?
        std::string("redis://:secret@host@host"),
        std::string("redis://secret@@host"),
        std::string("unix://:secret@@/path"),
        std::string("redis://:secret%zz@host"), std::string("redis://a b"),
        std::string("rediss://host?ssl_cert_reqs=none"),
        std::string("redis://host#secret"), std::string("unix://host/path"),
        std::string("unix:///path?secret=1"), std::string("unix://"),
        "unix:///" + std::string(108, 'p'), "redis://:" + long_secret + "@host",
        std::string("redis://host\n"), std::string(1 << 20, 'x')}) {
    const absl::StatusOr<RedisUrl> url = RedisUrl::Parse(text);
    EXPECT_EQ(url.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(url.status().message(), Not(HasSubstr("secret"))) << text;
  }
}

}  // namespace
}  // namespace udpgate
