// SocketAddress: what parses prints to what parses to the same.
#include <sys/socket.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

void RequireSurvivesSockaddr(const SocketAddress& address, int family) {
  sockaddr_storage storage;
  const socklen_t size = address.ToSockaddr(family, &storage);
  Require(SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&storage),
                                      size) == address,
          "an address survives a sockaddr");
}

void RequireIsSound(const SocketAddress& address) {
  Require(address.is_valid(), "what parses is valid");
  Require(address.is_ipv4() != address.is_ipv6(), "an address has one family");
  const absl::StatusOr<SocketAddress> again =
      SocketAddress::Parse(address.ToString());
  Require(again.ok() && *again == address,
          "an address prints to what parses to the same");
  const absl::StatusOr<SocketAddress> ip =
      SocketAddress::FromIpAndPort(address.IpToString(), address.port());
  Require(ip.ok() && *ip == address, "an IP prints to what parses to the same");
  RequireSurvivesSockaddr(address, address.family());
  RequireSurvivesSockaddr(address, AF_INET6);
}

// The scope is the interface's name or its number, and nothing else counts as
// one.
void RequireTakesTheScopeAsItStands(absl::string_view ip,
                                    const SocketAddress& address) {
  if (address.scope_id() == 0) return;
  const absl::string_view scope = ip.substr(ip.find('%') + 1);
  uint32_t number;
  Require(
      absl::EndsWith(address.IpToString(), absl::StrCat("%", scope)) ||
          (absl::SimpleAtoi(scope, &number) && number == address.scope_id()),
      "a scope is the name or the number of an interface");
}

void TryAddress(absl::string_view text) {
  const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(text);
  if (!address.ok()) {
    RequireOneShortLine(address.status());
    return;
  }
  RequireIsSound(*address);
  int port;
  Require(absl::SimpleAtoi(text.substr(text.rfind(':') + 1), &port) &&
              port == address->port(),
          "the port is what stands behind the last colon");
}

void TryIp(absl::string_view text) {
  const absl::StatusOr<SocketAddress> address =
      SocketAddress::FromIpAndPort(text, 19132);
  if (!address.ok()) {
    RequireOneShortLine(address.status());
    return;
  }
  RequireIsSound(*address);
  RequireTakesTheScopeAsItStands(text, *address);
  const std::string with_port = absl::StrContains(text, ':')
                                    ? absl::StrCat("[", text, "]:19132")
                                    : absl::StrCat(text, ":19132");
  const absl::StatusOr<SocketAddress> parsed = SocketAddress::Parse(with_port);
  Require(parsed.ok() && *parsed == *address,
          "an IP parses alone as it does with a port");
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text = udpgate::test::AsText(data, size);
  udpgate::test::TryAddress(text);
  udpgate::test::TryIp(text);
  // The IP of an address too, so that one corpus serves both.
  const absl::string_view ip = text.substr(0, text.rfind(':'));
  const bool in_brackets =
      ip.size() > 1 && ip.front() == '[' && ip.back() == ']';
  udpgate::test::TryIp(in_brackets ? ip.substr(1, ip.size() - 2) : ip);
  return 0;
}
