// KeyTemplates: the text of a setting, a zero byte, and a stranger's datagram.
#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/redis/key_templates.h"
#include "udpgate/redis/redis_options.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

// What a datagram fills in cannot look like another part of a key.
void RequireHarmless(absl::Span<const char> datagram) {
  ResolveRequest request;
  request.first_datagram = datagram;
  const auto keys =
      KeyTemplates::Parse("{stun_ufrag} {prefix:1} {prefix:64}")->Fill(request);
  for (const std::string& key : keys) {
    Require(!key.empty() && key.size() <= 256,
            "what a datagram fills in is bounded");
    for (const char c : key) {
      Require(absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '+' ||
                  c == '/',
              "a datagram fills in letters, digits, + and /");
    }
  }
}

void Try(absl::string_view text, absl::string_view datagram) {
  RequireHarmless(datagram);
  const absl::StatusOr<KeyTemplates> keys = KeyTemplates::Parse(text);
  RedisOptions options;
  options.backend_key = std::string(text);
  if (text.size() <= 1024) {
    Require(options.Validate().ok() == keys.ok(),
            "RedisOptions take the keys that parse");
  }
  if (!keys.ok()) {
    RequireOneShortLine(keys.status());
    return;
  }
  ResolveRequest request;
  request.first_datagram = datagram;
  const std::vector<std::string> without_client = keys->Fill(request);
  request.client = *SocketAddress::Parse("[2001:db8::7]:54321");
  request.listen_port = 19132;
  const std::vector<std::string> filled = keys->Fill(request);
  Require(filled.size() <= KeyTemplates::kKeysMax, "the keys are bounded");
  Require(without_client.size() <= filled.size(),
          "who knows less fills no more keys");
  for (const std::string& key : filled) {
    Require(key.size() <= KeyTemplates::kKeyBytesMax, "a key is bounded");
  }
  if (keys->is_constant()) {
    Require(filled == without_client && !filled.empty(),
            "constant keys are the same for all");
  }
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view input = udpgate::test::AsText(data, size);
  const size_t end = input.find('\0');
  udpgate::test::Try(input.substr(0, end), end == absl::string_view::npos
                                               ? ""
                                               : input.substr(end + 1));
  return 0;
}
