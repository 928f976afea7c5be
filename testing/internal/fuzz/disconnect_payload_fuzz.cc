// What is published on the disconnect channel.
#include <algorithm>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

// An integer of the range of ports, written with digits alone.
bool IsPort(absl::string_view text, int* port) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return c >= '0' && c <= '9'; }) &&
         absl::SimpleAtoi(text, port) && *port >= 1 && *port <= 65535;
}

void Try(absl::string_view payload) {
  const absl::StatusOr<DisconnectTarget> target =
      DisconnectTarget::Parse(payload);
  const absl::string_view text = absl::StripAsciiWhitespace(payload);
  const absl::StatusOr<SocketAddress> client = SocketAddress::Parse(text);
  const bool is_client = client.ok() && client->port() != 0;
  if (!target.ok()) {
    RequireOneShortLine(target.status());
    Require(!is_client, "the address of a client names its session");
    return;
  }
  const absl::StatusOr<DisconnectTarget> again =
      DisconnectTarget::Parse(target->ToString());
  Require(again.ok() && *again == *target,
          "a target prints to what parses to the same");
  if (target->kind() == DisconnectTarget::Kind::kClient) {
    Require(is_client && target->client() == *client,
            "a client is named by its address");
  } else if (target->kind() == DisconnectTarget::Kind::kBackendText) {
    const absl::StatusOr<HostPort> backend = HostPort::Parse(target->text());
    Require(backend.ok(), "a text is what a key may hold");
    Require(!SocketAddress::Parse(target->text()).ok(),
            "an address is taken for one");
  } else if (target->kind() != DisconnectTarget::Kind::kRelayPort) {
    Require(target->address().is_valid(), "a word is followed by an address");
  } else {
    int port;
    Require(IsPort(text, &port) && target->relay_port() == port,
            "a relay port is named by its number");
  }
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  udpgate::test::Try(udpgate::test::AsText(data, size));
  return 0;
}
